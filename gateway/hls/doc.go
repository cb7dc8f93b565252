// Package hls rewrites an HLS playlist so that every URI in it leads back to the gateway with the viewer's ticket. It
// does no I/O, reads no clock and starts no goroutine.
//
// Begin with [Parse] and [Template.Append]; [Scan] reads the [Info] alone.
//
//	origin's playlist ─ Parse ─► Template ─ Append(ticket) ─► a viewer's copy
//	  (once per refresh)         (shared)   (per request: copies, does not allocate)
//
// [ParseDocument] does the same for the JSON documents that a playlist names.
//
// Invariants:
//   - Every byte outside a rewritten URI is unchanged: CRLF, BOM, unknown tags, order, a missing last newline. The names that are
//     decided on below are the exception.
//   - A URI is rewritten only if Options.Locate has a place for it. It gets what the tag and the resolved URI say, whatever
//     the host. Other schemes (skd, data, urn, …) are not asked about and never receive a ticket.
//   - A rewritten URI names no scheme or host, so it works behind any load balancer, name and TLS terminator. Those of interstitials and of
//     pathway clones that the origin lists with a host are the exception. The standard wants them absolute, and players resolve them against
//     nothing (Media3), or against the web page (hls.js). They get those by which the viewer reaches the gateway, at each request: a
//     template holds no viewer's host.
//   - A text below "/~<ticket>" contains no ticket but in these: relative URIs inherit it, so all viewers share one body.
//   - The same text and options give the same bytes: a URI does not change between reloads (RFC 8216 §6.2.1).
//
// Decided:
//   - The scanner works line by line on the original text. Parsing into a model and encoding it again loses formatting
//     and the tags that the model does not know.
//   - A carriage return alone ends a line, as most players read it.
//   - References are resolved by RFC 3986 on the text itself, so percent-encoding and non-ASCII stay byte-exact. A
//     reference that climbs above the root is valid at the origin, but would climb out of a ticket: it is rewritten.
//   - An empty URI, or a fragment alone, names the playlist itself and stays unchanged: it works with every transport.
//   - A URI with {$variables} (EXT-X-DEFINE) is written with their values, because a viewer's own query may give
//     QUERYPARAM other ones. The definitions stay. A variable whose value is not known is opaque: a URI that begins with
//     one could lead anywhere and stays unchanged.
//   - A viewer does not decide where a URI leads. So a value that they chose (Options.IsViewersQuery) is written into a path only
//     if it has none of / \ : ? # % and makes no name empty or a dot segment, and never into a host. Otherwise the URI stays
//     unchanged, as with an unknown value. In a query it may be anything. Variables that other playlists import, and queries
//     of which they take some, say what a viewer chose.
//   - The version of a segment is its sequence number and the keys that apply to it (the last of each KEYFORMAT). A delta
//     update may leave out the tags of the keys with the segments that it skips. So keys do not count in a playlist that
//     offers delta updates. A byte range of a file is not numbered, because the file has many numbers. A part that is
//     a range has another version than its segment, because the file grows until it is the segment.
//   - An EXT-X-MEDIA-SEQUENCE that comes late numbers the segments before it too.
//   - A pathway's HOST is renamed to X-HOST, which players ignore, so that all bytes around it stay. So do PARAMS stay.
//   - A steering manifest from elsewhere, of a host that no setting allows or in a data URI, would have players take their tickets to the
//     pathways' hosts. So they are not steered by one: EXT-X-CONTENT-STEERING gets a name that they ignore, and so does RELOAD-URI.
//   - User information in a URI on the origin is dropped, so that viewers do not see the origin's password.
//   - A URI with control characters, or one that begins with a backslash, stays unchanged: browsers read it differently
//     from RFC 3986, perhaps with another host.
//   - X-URI of a date range is rewritten in the two classes of the standard that have it. In others it is the application's own.
//   - An unquoted URI value, which the standard does not allow but players accept, is rewritten like a quoted one.
//
// Refused: rewriting session data (EXT-X-SESSION-DATA), whose content is the application's own; adding an
// EXT-X-DEFINE:QUERYPARAM, which most players send literally or refuse.
package hls
