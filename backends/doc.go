// Package backends is the vocabulary that the whole gateway shares: what is asked about a viewer ([Request]), what
// comes back ([Decision]), who can be asked ([Backend]), and what went wrong when nobody answered ([Failure],
// [Overload]). Each decorator of a backend is one file here; each adapter to a middleware is one folder below.
//
//	session actor ─► FailOpen ─► Bulkhead ─► Breaker ─► Tracing ─► adapter ─► middleware
//
// [Chain] joins them. Adapters that speak HTTP share [Client], which joins queries, sorts errors and reads answers
// by a [StatusTable]: a preset, and what the config overrides of it. [ContractViolations] counts what a middleware does wrong.
//
// Invariants:
//   - A No is a Decision, never an error. An error means that nobody answered within the contract. So neither the
//     breaker nor fail-open knows of HTTP statuses.
//   - Overload (a bound of our own was reached) is neither: it moves no breaker and lets nobody in.
//   - No viewer can bring about a failure that lets him in: his own leaving is none, and what his words may cause
//     (a status, a malformed answer, a panic) counts once per household and window and admits nobody by itself.
//   - No error, log line or span holds what a viewer or the config proves itself with.
//   - The package imports nothing of the gateway; everybody may import it.
//
// Decided: the bulkhead stands outside the breaker, because a breaker that opens must release those who still wait
// for a slot. Failures in a row are counted by us, because gobreaker's count forgets those that left its window, and
// five calls that hang one after another would never reach it. Tries of a half-open breaker run in the background, so
// that no viewer pays for them; their deadline holds even if the adapter ignores its own. A 403 that names a place on
// the backend's own host stays a No; a 3xx that does is a failure.
//
// Refused: retries inside a check; the session's own timer asks again, and players retry by themselves. HTTP/2 and
// proxies towards a middleware; see newTransport.
package backends
