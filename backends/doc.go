// Package backends is the vocabulary that the whole gateway shares: what is asked about a viewer ([Request]), what
// comes back ([Decision]), who can be asked ([Backend]), and what went wrong when nobody answered ([Failure],
// [Overload]). Each decorator of a backend is one file here; each adapter to a middleware is one folder below.
//
//	session actor ─► FailOpen ─► Bulkhead ─► Breaker ─► Tracing ─► adapter ─► middleware
//
// Invariants:
//   - A No is a Decision, never an error. An error means that nobody answered within the contract. So neither the
//     breaker nor fail-open knows of HTTP statuses.
//   - Overload (a bound of our own was reached) is neither: it moves no breaker and lets nobody in.
//   - The package imports nothing of the gateway; everybody may import it.
//
// Decided: the bulkhead stands outside the breaker, because a breaker that opens must release those who still wait
// for a slot. Refused: retries inside a check; the session's own timer asks again, and players retry by themselves.
package backends
