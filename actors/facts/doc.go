// Package facts keeps the request that opened a session, for as long as the session lives. Begin with [Opening].
//
//	route, channel, backend, scheme, host ─► one value, shared by all sessions of the place
//	user agent                            ─► one value, shared by all players of the kind
//	query, path, address, group …         ─► one string of the session's own, without a pointer in it
//
// A request of 64 characters of token takes some 170 bytes so, and two objects of which the collector follows none: see
// BenchmarkOpening. As the gateway makes it, it takes 800 bytes in ten objects, and keeps the buffers alive from which its texts
// were cut.
//
// Invariants:
//   - What is read equals what was stored, but for what belongs to one check: number, opening time, bytes, decision, callbacks.
//   - No text shares its bytes with what was stored.
//   - A value that no session holds any more is collected.
//
// Decided: the whole request is made anew for each caller, which takes one allocation. That is an event of the session or a
// call of an operator, never a viewer's request.
//
// Refused: an arena of all sessions' texts (who closes leaves a hole, and moving what is left needs a stop of all readers), numbers
// in place of texts (a table of our own with a count of users each, which package unique has already).
package facts
