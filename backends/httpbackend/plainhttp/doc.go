// Package plainhttp is an HTTP/1.1 client for one server without TLS. A call costs a third less CPU than one of net/http's
// transport (BenchmarkTransport_RoundTrip): the calling goroutine itself writes the request and reads the answer, where a
// connection of net/http has two goroutines of its own and hands each call to both. Requests are written and answers are parsed
// by net/http.
//
// Entry points: [New], and [Transport.RoundTrip].
//
//	transport.go  a call: takes a connection, writes, reads the header, repeats the call where that is safe
//	conn.go       one connection, its bounds and its abort
//	body.go       the answer's body, whose end returns the connection
//	idle.go       the connections that no call uses
//
// Invariants:
//   - A connection serves one call at a time. It is kept only if the answer was read to its end and nothing follows it.
//   - The end of a call's context aborts it wherever it is, until the body is read or closed.
//   - A call is repeated only if its connection was a kept one and not a byte of an answer arrived, as net/http does: the
//     server had closed it. Calls have no body, so that repeating one changes nothing more than asking again.
//
// Decided: a kept connection is looked at before it is used, since no goroutine waits for its end meanwhile. What has arrived by
// then is its end, or an answer to nothing; it is closed in both cases. The look, the request and the wait for the answer are one
// use of the socket: to read right behind the request, which finds nothing, would cost a twentieth of the call. A new connection is
// read there once, since the server may have ended it already.
//
// Refused: TLS, whose records cannot be looked at without reading them; pipelining, since an answer that is late would delay
// those behind it; connections in reserve.
package plainhttp
