// Package hls rewrites an HLS playlist so that every URI in it leads back to the gateway with the viewer's ticket. It
// does no I/O, reads no clock and starts no goroutine.
//
// Begin with [Parse] and [Template.Append]; [Scan] reads the [Info] alone.
//
//	origin's playlist ─ Parse ─► Template ─ Append(ticket) ─► a viewer's copy
//	  (once per refresh)         (shared)   (per request: copies, does not allocate)
//
// Invariants:
//   - Every byte outside a rewritten URI is unchanged: CRLF, BOM, unknown tags, order, a missing last newline.
//   - A URI is rewritten only if it is on the playlist's origin and a route serves it. Foreign hosts and other schemes
//     (skd, data, urn, …) never receive a ticket.
//   - A rewritten URI never names a scheme or host, so it works behind any load balancer, name and TLS terminator.
//   - A playlist below "/~<ticket>" contains no ticket: relative URIs inherit it, so all viewers share one body. Only URIs
//     that this ticket does not open are written with their own, path-absolute.
//   - The same playlist and options give the same bytes: a URI does not change between reloads (RFC 8216 §6.2.1).
//
// Decided:
//   - The scanner works line by line on the original text. Parsing into a model and encoding it again loses formatting
//     and the tags that the model does not know.
//   - References are resolved by RFC 3986 on the text itself, so percent-encoding and non-ASCII stay byte-exact. A
//     reference that climbs above the root is valid at the origin, but would climb out of a ticket: it is rewritten.
//   - Which ticket a URI needs is the caller's to say (Options.TicketScope). A template holds the scopes, not the tickets, so
//     that all viewers share it.
//   - An empty URI, or a fragment alone, names the playlist itself and stays unchanged: it works with every transport.
//   - {$variables} (EXT-X-DEFINE) keep their text wherever only a prefix or a parameter is added. A variable that the
//     playlist does not define (IMPORT, QUERYPARAM) is opaque: a URI that begins with one could lead anywhere and stays
//     unchanged.
//   - User information in a URI on the origin is dropped, so that viewers do not see the origin's password.
//   - A URI with control characters, or one that begins with a backslash, stays unchanged: browsers read it differently
//     from RFC 3986, perhaps with another host.
//   - An unquoted URI value, which the standard does not allow but players accept, is rewritten like a quoted one.
//
// Refused: rewriting the JSON documents that a playlist may name (asset lists, session data, steering manifests);
// adding an EXT-X-DEFINE:QUERYPARAM, which most players send literally or refuse.
package hls
