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
// session.go, with session_timer.go for what time drives, is the whole of the state's logic, as a pure function
// step(event, now) → action, without clock, I/O or locks; session_actor.go is the thin shell that carries out what step
// says. registry.go finds sessions, table.go is the lock-free read that requests use, wheel.go delivers timers for all
// of them, pacer.go bounds the re-checks that a backend sees.
//
// Invariants:
//   - An actor never blocks: look-ups and checks run outside and come back as messages.
//   - Each check has a number; the newest check's answer counts however late, an older one's is dropped.
//   - A decision that ran out stays published until its actor has a better one: a re-check never makes a viewer wait.
//   - A panic costs one message: the session is rebuilt from what it published.
//   - Time is counted from the node's start by the monotonic clock: a stepped clock moves no timer.
//   - Whoever lives has a timer, or a look-up or check on its way that ends.
//
// Decided: own mailbox, table and wheel, because protoactor's defaults cost three times the memory and, for timers,
// data races (its ReceiveTimeout) or a goroutine each. Refused: protoactor's remote and cluster (a hop on the hot
// path), a parent actor of all sessions (its child list), asking actors from requests (3–7 µs and ten allocations).
package actors
