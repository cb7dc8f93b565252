// Package chain wraps a backend in the decorators that keep it from harming the gateway, and the gateway from harming it.
//
// Entry points: [New] for a backend asked over a network, [NewLocal] for one that decides in this process or asks other
// backends; then [Chain.Run] once, and [Chain.Check] and [Chain.Fallback] for each check. A check travels from left to
// right, as the constructors list the decorators:
//
//	New:      FailOpen ─► Bulkhead ─► Breaker ─► tracing ─► adapter ─► middleware
//	             │            │          │          └─ one span for each call that goes out
//	             │            │          └─ rejects while the backend fails, ends each call after timeout, probes
//	             │            └─ bounds the calls in flight, openings and re-checks apart
//	             └─ applies on_failure: what holds without an answer
//
//	NewLocal: FailOpen ─► deniesPending ─► tracing ─► notifiesOnSent ─► adapter ─► chains of its members, if any
//
// Files: chain.go and local.go (constructors), failopen.go, bulkhead.go, breaker.go and breaker_call.go (with
// failure_dedup.go and broadcast.go), tracing.go, config.go and the other *_config.go.
//
// Invariants:
//   - A denial passes through every decorator unchanged. Only an error is counted, or replaced by a fallback.
//   - A [backends.Overload] and a viewer who leaves move no breaker and admit no viewer.
//   - No viewer can cause a failure that admits them: what a request can cause (a status, a malformed answer, a panic)
//     counts once per subscriber prefix and window, and admits no viewer while the breaker is closed.
//   - A probe ends in time even if the adapter ignores its context.
//
// Decided: the bulkhead stands outside the breaker, because a breaker that opens must release the checks that wait for a
// slot. Consecutive failures are counted here, because gobreaker's count forgets those that left its window, and five
// calls that hang one after another would never reach it. Probes run in the background, so that no opening waits for one.
//
// Refused: retries inside a check; the session's timer checks again, and players retry by themselves.
package chain
