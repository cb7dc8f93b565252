// Package front runs the public listener of a gateway: it bounds connections, serves HTTP on them, and drains.
//
//	                                  ┌ TLS: package nethttp ──┐
//	connection ─► package listener ─► ┤                        ├─► gateway.Serve
//	                                  └ else: package plain ───┘
//
// Begin with [NewServer].
//
// Invariants:
//   - A node that drains turns readiness off before it accepts nothing more, so that no balancer sends a viewer in vain.
//   - Both fronts answer the same requests alike. The tests of this package run over both.
//   - In a drain the listener is closed before anything else, and what was accepted is answered: net/http drops a request that it
//     reads after Shutdown began, so that comes last.
//   - Requests in flight are cancelled shortly before drain.timeout ends, and answered so that their viewers come back.
//
// Decided: net/http serves TLS and HTTP/2, and package plain the rest, which is what set-top boxes ask: a playlist from the cache takes
// it no allocation and net/http 21, and an idle connection keeps 6 kB of heap and stack. HTTP/2 without TLS is not offered.
//
// Refused: a setting for the front, because package plain lacks nothing that a listener without TLS needs. The demo alone, whose
// pages are net/http's, serves without TLS by net/http.
package front
