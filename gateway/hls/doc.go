// Package hls scans an HLS playlist and makes every URI in it lead back to the gateway, with the viewer's ticket. Bytes
// in, bytes out: no I/O, no clock, no goroutine.
//
//	origin's playlist ─ Parse ─► Template ─ Append(ticket) ─► a viewer's copy
//	  (once per refresh)         (shared)   (per request: copies and splices, no allocation)
//
// Invariants:
//   - Every byte that is not a rewritten URI stays as it was: CRLF, BOM, unknown tags, order, a missing last newline.
//   - A URI is rewritten only if it is on an origin of ours and a route serves it. Foreign hosts and other schemes (skd,
//     data, urn, …) never see a ticket.
//   - What is written never names scheme or host, so it holds behind any balancer, name and TLS terminator.
//   - A playlist below "/~<ticket>" holds no ticket at all: relative URIs inherit it, so all viewers share one body.
//   - The same playlist and options give the same bytes: a URI does not change between reloads (RFC 8216 §6.2.1).
//
// Decided:
//   - Line by line over the original text. Parsing into a model and encoding it again loses the tags that the model
//     does not know, and formatting.
//   - References are resolved by RFC 3986 on the text itself: percent-encoding and non-ASCII stay byte-exact. A reference
//     that climbs above the root is right for the origin, but below a ticket it would climb out of it: it is rewritten.
//   - An empty URI, or a fragment alone, names the playlist itself and stays: it is right in every mode.
//   - {$variables} (EXT-X-DEFINE) keep their text wherever only a prefix or a parameter is added. What the playlist
//     does not define (IMPORT, QUERYPARAM) is opaque: a URI that begins with it could lead anywhere and stays.
//   - User information in a URI on our origin is dropped: the origin's password is not the viewers' business.
//   - A URI with control characters, or that begins with a backslash, stays: browsers read another URI in it than
//     RFC 3986 does, perhaps on another host.
//   - An unquoted URI value, which the standard does not know but players accept, is rewritten like a quoted one.
//
// Refused: the JSON documents that a playlist may name (asset lists, session data, steering manifests) are passed on,
// not rewritten; adding an EXT-X-DEFINE:QUERYPARAM, which most players send literally or refuse.
package hls
