// Package chain wraps a backend in the decorators that keep it from harming the gateway, and the gateway from harming it.
//
// Entry points: [New] for a backend asked over a network, [NewLocal] for one that decides in this process or asks other
// backends; then [Chain.Run] once, and [Chain.Check] and [Chain.Fallback] for each check. A check travels from left to
// right, as the constructors list the decorators:
//
//	New:      FailOpen ─► possibleDenial ─► Bulkhead ─► Breaker ─► tracing ─► adapter ─► middleware
//	             │           │                 │           │         └─ one span for each call that goes out
//	             │           │                 │           └─ rejects while the backend fails, ends each call after timeout, probes
//	             │           │                 └─ bounds the calls in flight, openings and re-checks apart
//	             │           └─ denies for a 404, or a 401 to Usher, that concerns one viewer
//	             └─ applies on_failure: what holds without an answer
//
//	NewLocal: FailOpen ─► deniesPending ─► tracing ─► notifiesOnSent ─► adapter ─► chains of its members, if any
//
// Files: chain.go and local.go (constructors), failopen.go, possible_denial.go, bulkhead.go (with slot_queue.go and slot_limit.go),
// breaker.go, breaker_call.go, breaker_force.go and breaker_opinion.go (with call_history.go, failure_dedup.go, recent_addresses.go and
// broadcast.go), tracing.go, config.go and the other *_config.go.
//
// Invariants:
//   - A denial passes through every decorator unchanged. Only an error is counted, or replaced by a fallback.
//   - What an adapter decides on a viewer without a call holds in an outage too, whatever the outage policy says. So does what a
//     composite decides while its members do not answer.
//   - A [backends.Overload] and a viewer who leaves move no breaker and admit no viewer.
//   - No single viewer opens the breaker. A failure to connect counts always. Any other one may be the request's own doing
//     (a status, a malformed answer, a panic, a reset or a timeout after it was sent): it counts once per subscriber prefix
//     and window while other prefixes get answers in it. Before the failures of fewer than three prefixes open the breaker,
//     or failures that may be denials, an answered request is asked again and must fail too. Where it may be denied by now,
//     that of another prefix is asked as well, and where that may be too, three prefixes must fail. Where nobody was ever
//     answered, every failure counts.
//   - A backend that fails for everybody behind one address opens the breaker with as many failures, and as soon, as one
//     that fails for many addresses.
//   - A status, a malformed answer and a panic admit no viewer while the breaker is closed.
//   - One viewer's wrong path (404), or 401 that may refuse Usher itself, is one failure, however often they ask.
//   - While other prefixes ask, one prefix holds at most three quarters of the slots.
//   - A probe ends in time even if the adapter ignores its context.
//   - What an operator forces holds until its order ends, and moves the breaker's own state in no way.
//
// Decided: the bulkhead stands outside the breaker, because a breaker that opens must release the checks that wait for a
// slot. Consecutive failures are counted here, because gobreaker's count forgets those that left its window, and five
// calls that hang one after another would never reach it. Probes and second opinions run in the background, so that no
// viewer waits for one. A second opinion begins when as many calls as open the breaker have waited for half of their timeout,
// so that it ends with the calls that it is about. It asks as a re-check, and a denial is an answer: its credentials may be
// old. In a half-open breaker each prefix counts once per window, so that the viewer who fails one probe does not fail the
// next. A reset or a timeout admits the viewer who may have caused it: no sign tells them from the first viewer of an outage,
// who must not wait. A 404 is not held back for another viewer's answer: the viewer's next try finds it.
//
// Decided: a breaker that is forced closed lets a status or a malformed answer admit nobody, as any closed one does. An
// operator's probe asks again about the viewer who was answered last, as a second opinion does: no request is invented.
//
// Decided: the limit of calls in flight is computed here. failsafe-go's adaptive limiter, the one library that is kept, moves by the
// logarithm of its limit once in two calls' time, so by its code it takes three minutes (256, 258.4, …, each 3.8 s) to the 380 calls
// that 200 openings a second need of a middleware that takes 1.9 s, and all the while viewers are refused. It has no place for
// shares of addresses and strangers either.
//
// Refused: a composite that is closed while it decides on some viewers itself. All that an outage means for the others would be lost:
// their denials would be forgotten, and those who were let in would not be checked first.
//
// Refused: to remember a running session's first 404 for as long as sessions.recheck.min says, which no queue is part of: after an outage
// that let many in, a session waits longer for its next re-check. To forget the oldest of them where there is no room: the sessions are
// asked about in turn, so that each would be forgotten just before its second 404, and none denied.
//
// Refused: retries inside a check; the session's timer checks again, and players retry by themselves.
package chain
