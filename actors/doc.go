// Package actors holds the sessions of a node. [Registry.Find] finds the session of a request, [Registry.Open] opens it.
// Each session is one actor, which alone writes its state. Requests read the decision that it published, and never wait for
// an actor once there is one.
//
//	       first request          allowed          decision expires (± jitter)
//	(none) ─────────────► opening ───────► allowed ──────────────────────────► recheck
//	                       │   │            │   ▲                              │     │
//	            no verdict │   │ denied     │   └──── allowed, or no answer ───┘     │ denied,
//	                       ▼   ▼            │ idle                                   │ ticket revoked
//	              retryLater   denied ◄─────┼────────────────────────────────────────┘
//	                       │   │            ▼
//	                       └───┴───────► closed
//	                       expired
//
// Package session has the phases in detail: opening, allowed, recheck and denied each stand for those that begin so.
//
// Before a check, a session asks the store for a lease. The store returns what other nodes decided, or grants this node the
// right to check. Every node that a viewer's requests reach has an actor for the session. The node that checked last checks
// again; the others take its decision, and look one second after it expires whether it was renewed. A session ends when no
// node has seen it for the idle timeout, and leaves a node when that node has not.
//
// A sibling, which a ticket opens at another address than its own, is looked up together with its root, whose facts it takes
// over. The store counts the addresses of each ticket (address_limit.go); so it does those of a session that they share.
//
// An opening: admission.go admits and starts it, session_actor.go steps the state of package session, session_check.go calls
// the store and the backend, session_end.go stores what was decided. recheck_queue.go bounds re-checks, timer_wheel.go
// delivers timers, heartbeat.go reports and expires sessions, stream_limits.go counts users' streams, revocation.go ends what
// others revoked, cluster.go is what sessions need of other nodes. session_table.go and session_handle.go serve requests.
// What a session keeps is small: its request is packed by package facts, equal decisions are one value, and an actor's memory is flat.
// session_trace.go tells of a session: by its spans, by its timeline (package timeline), and by how long nobody has verified it.
//
// Invariants:
//   - An actor exists while its session has messages, one at a time. Its state is then its own, and in the session's record otherwise.
//     The lock of the mailbox hands it over. No message is lost between two activations.
//   - An actor never blocks: leases and checks run outside and come back as messages.
//   - Checks are numbered. The newest check's result counts however late; older ones are dropped.
//   - An expired decision stays published until there is a new one: a viewer never waits for a re-check, nor does one who comes
//     from another node.
//   - Every lease is released, with a decision or without.
//   - All store calls of an opening together take no longer than the store's timeout.
//   - A new address of a ticket draws on the opening rate of the address and on that of the ticket, also after a restart.
//   - While the store is unavailable, local state counts, then the ticket; a limit that cannot be counted denies no viewer.
//   - Credentials alone open a session anew that its device has left for another channel, also where the store could not be told of it.
//   - A panic costs one message: the session is rebuilt from what it published.
//   - Times count from the node's start by the monotonic clock, so a stepped clock moves no timer. A decision
//     of the store holds for no longer than a new one would, also if the store's clock was set back.
//   - A live session has a timer, or a lease request or check in flight.
//   - A reload causes no check, loses no session and changes no decision before it expires.
//
// Decided: a reload gives each session its backend anew, and keeps the queue of each backend's name. A session whose route has
// another backend belongs to that one from its next check on. A backend that is gone is not called any more: the sessions of a
// route that is gone get no request, follow its outage policy, and end by the idle timeout. Refused: closing them, because their
// viewers may be on a node that has not reloaded yet; checking them at once, because a reload would be a storm.
//
// Decided: a re-check is granted only while the store and the backend keep up, whatever the rate. Refused: a bound on those under way,
// because a session that ends or panics would have to give its place back; look-ups and the backend's queue count themselves.
//
// Decided: a viewer whose check began late, because another node held the lease, is asked to retry when the answer deadline is over:
// what a backend does not answer in the rest of it says nothing of it. Refused: to admit them where the rest was several times what
// answers usually take, because a denial may take longer, and a viewer can ask two nodes at once.
//
// Decided: the probes of a half-open breaker are of unverified and of overdue sessions in turn, because the backend may fail for an
// unverified one alone, which waits again at once. Refused: to let a session wait behind the others once a re-check of it has failed,
// because in an outage all fail, and after it the unverified ones come first.
//
// Decided: the table's slots hold numbers of places, and the places hold the sessions in the order in which they were made. So the
// collector finds neighbours beside each other: following pointers in the order of their hashes it missed the processor's caches at
// nearly each read, and took twice the time. Refused: slabs of records without pointers, since a session that ends would leave a hole
// to which readers may still point.
//
// Decided: the store hears of a stream only while it plays, and for two heartbeats of silence. The streams of a user are a ring, those
// that are due first: a set for each user took twice the memory.
//
// Decided: actors are virtual. The PID of a session is its id and its sequence number; protoactor asks the system's resolver for it,
// which finds the session in the table and lets the session run its mailbox itself. An actor that protoactor keeps takes 700 bytes
// and ten objects a session. An event of a session at rest costs nine allocations and the wake of a goroutine: BenchmarkActorSystem_Send.
// The store's and the backend's answer wake none: their sender has nothing else to do, and runs the actor. Nor does a call that an actor
// starts: the goroutine of its last message makes it. An opening takes one goroutine beside the viewer's, a re-check with Redis one.
// Mailbox, session table and timer wheel are our own: protoactor's take more memory; its ReceiveTimeout has data races, and its timers
// need a goroutine each. Refused: to spawn an actor for each activation (16 µs, and a stopped one drops what was sent meanwhile),
// protoactor's remote and cluster (a hop on the hot path; nodes share a store instead), a parent actor (its list of children), asking
// actors from requests (3–7 µs and ten allocations).
package actors
