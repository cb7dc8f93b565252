// Package plain serves a gateway by HTTP/1.1 and HTTP/1.0 without TLS, at the least cost for each request and each idle connection.
//
//	idle: a goroutine, no buffer ─► readable ─► head ─► Handler ─► Exchange.Answer ─► one write of header and body
//
// Begin with [New].
//
// Invariants:
//   - A request is refused unless it can be read in one way only: lines end in CRLF, one Host, one length, no folded fields, no
//     version but 1.0 and 1.1. The connection ends then.
//   - After a request with a body the connection ends, so that nothing behind a body is ever taken for a request.
//   - What a gateway gets of a request are copies. It may keep them.
//   - A viewer who disconnects ends what waits for them.
//
// Decided: the head is parsed here and by net/url, net/textproto and httpguts; a fuzz test compares what is accepted with what
// net/http reads. A line and header that are the same as those before on the connection are not parsed or copied again, so that
// a player who reloads a playlist costs no allocation. The connection is watched only while somebody waits for long, because a goroutine
// for each request costs a third of what the request does. A socket is written to without a deadline until it is full. HTTP/1.0
// gets one response a connection, as from net/http.
//
// Refused: fasthttp. It gives no signal when a viewer disconnects, keeps 12 kB more for an idle connection or reads byte by
// byte, hands out strings that change while they are kept, and accepts what no request should have: TE: identity, HTTP/2.0
// in a line, bare LF, folded fields. What would be left of it is its parsing of heads. A bare handler of playlists took 10.6 µs
// of processor time on it, 9.0 µs on a loop of our own, and 18.9 µs on net/http.
//
// Decided: what serves a cached playlist fits a stack of 4 kB. A function on the way that returns a large struct, or copies one, doubles
// what every connection holds until the collector shrinks it: a test of package front measures it.
//
// Refused: loops of our own over epoll, one a processor, instead of a goroutine a connection. By wrk with 64 connections two of them
// answered a fixed text 48,000 times a second at 21 µs of processor time, goroutines 63,000 to 76,000 times at 12 to 14 µs, and nginx
// 63,000 times at 14 µs.
//
// Refused: a connection without a goroutine while it is silent, which one of our own over epoll gives one when there is something to
// read. With 8,000 connections that ask every 3 s a connection took 3 to 4 kB less, and a request 1.6 times the processor time, most of
// it for threads that are woken.
//
// Refused: to serve inside the callback of RawConn.Read, which would save the read that finds nothing behind a response. The callback
// locks other readers out, so that nobody could watch for a viewer who leaves.
//
// Refused: to let others run before each request is read. By wrk with 64 connections it made 5 % fewer playlists and 3 % fewer
// questions of an edge.
//
// Refused: a connection that stays after a body. Players send none, and an edge that does pays a connection a question. Refused:
// to wait for the next request without trying to read: what arrives between the response and the wait would be seen by nobody.
package plain
