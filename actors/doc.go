// Package actors holds the viewers' sessions. Each session is one protoactor actor that owns its auth state and its
// re-check timer; nobody else writes that state. Requests never ask an actor: they read the immutable decision that
// it published.
//
//	          first request                 allowed                     validity over (± jitter)
//	(none) ──────────────► opening ──────────────────► allowed ──────────────────────► rechecking
//	                         │  │ denied                 ▲ │ ▲   allowed, or nobody answered │
//	           nobody could  │  ▼                        │ │ └──────────────────────────────┤
//	               say       │ denied ── memory over ──► (none)                             │ denied
//	                         ▼                             │ idle                           ▼
//	                     undecided ── retry ──► (none)   closed                 denied, its ticket buried
//
// Before it asks, a session claims: the store says what is known, or that this node is to ask, under a lease. On each node
// that a viewer's requests reach there is an actor, a copy; the one that asked last asks again, the others take its answer,
// and look a second later than it would have asked whether it has. A session of many nodes ends when nobody has seen it on
// any; the copies go when their own node has not.
//
// session.go is the whole of the state's logic, as a pure function step(event, now) → action, without clock, I/O or locks:
// session_claim.go is its part about the store, session_timer.go what time drives. session_actor.go is the thin shell that
// carries out what step says, session_check.go asks for it, session_end.go stores. registry.go finds sessions, table.go is
// the lock-free read that requests use, wheel.go delivers timers for all of them, pacer.go bounds the re-checks that a
// backend sees, presence.go says who was seen and closes who was not, limits.go keeps the places of users' sessions,
// revoke.go ends what others revoked.
//
// Invariants:
//   - An actor never blocks: claims and checks run outside and come back as messages.
//   - Each check has a number; the newest check's answer counts however late, an older one's is dropped.
//   - A decision that ran out stays published until its actor has a better one: a re-check never makes a viewer wait.
//   - A lease is always given back, with an answer or without.
//   - All calls of an opening together wait for the store no longer than its deadline.
//   - A store that is away costs nobody his view: what is known here counts, then the ticket's word, and nobody is refused
//     for a limit that cannot be counted.
//   - A panic costs one message: the session is rebuilt from what it published.
//   - Time is counted from the node's start by the monotonic clock: a stepped clock moves no timer.
//   - Whoever lives has a timer, or a claim or check on its way that ends.
//
// Decided: own mailbox, table and wheel, because protoactor's defaults cost three times the memory and, for timers,
// data races (its ReceiveTimeout) or a goroutine each. Refused: protoactor's remote and cluster (a hop on the hot
// path; nodes share a store instead, and none owns a viewer), a parent actor of all sessions (its child list), asking
// actors from requests (3–7 µs and ten allocations).
package actors
