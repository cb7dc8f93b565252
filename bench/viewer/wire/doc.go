// Package wire sends HTTP requests of viewers and says exactly what became of each: HTTP/1.1 on connections of its own, HTTP/2 by
// net/http.
//
// Begin with [NewClient]. A [Conn] is a viewer's connection, an [Exchange] a request and its answer.
//
// Invariants:
//   - No request is sent twice. A connection that the server closed while it was idle is found before the request is sent.
//   - A failure is named after what a viewer meets: see the Failure constants.
//   - An idle connection holds no buffer and no goroutine with HTTP/1.1. Buffers belong to the exchange.
//
// Decided: fasthttp's header reads the head of an answer. The request is written and the body read here, so that the time of the
// first byte is known, a long body needs no memory, and failures are told apart.
//
// Refused: fasthttp.HostClient and http.Transport.RoundTrip. Both send some requests again without a word.
package wire
