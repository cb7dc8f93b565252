// Package session is the vocabulary of sessions that all packages share, and the pure logic of one session. It has no
// clock, no I/O and no locks.
//
// The vocabulary: [OpenRequest] opens a session, [Handle] is a live one. [LeaseRequest], [LeaseResult] and [DecisionUpdate]
// are its calls to the store, [Record] is what the store keeps. [Heartbeat], [Counters] and [ClosingRecord] tell of its life
// over all nodes. [StreamEntry] and [LimitResult] are a user's streams, [Revocation] and [Ban] end sessions everywhere.
// [NodeInfo] is a node.
//
// A ticket that is used at another address opens a sibling of its session, the root. It is asked about with the root's
// credentials, and then it is a session like any other: its own answers, lease, record and tombstone. Only while it opens
// the root matters. Where nobody can be asked, a root that may play admits the sibling, and one that was denied does not.
//
// The logic: [State.Step] takes one [Event] and returns one [Action]. A phase (state.go) says what holds for the viewer and
// what is in flight. check.go handles answers, lookup.go the store, timer.go time and slots, end.go revocations and panics.
//
//	opening     openingNew ─► openingLeasing ─► openingChecking ─► allowedFresh
//	              a record or a ticket decides:  openingLeasing ─► allowedFresh
//	              the viewer has waited enough:  openingLeasing ─► allowedLooking, openingChecking ─► allowedChecking
//	              and there is no verdict:       ─► retryLater, or retryLaterChecking while the check continues
//	renewal     allowedFresh ─► recheckQueued ─► recheckLeasing ─► recheckChecking ─► allowedFresh
//	              on a node without others:      recheckQueued ─► recheckChecking
//	look        allowedFresh ─► allowedLooking ─► allowedFresh
//	              while queued for a slot:       recheckQueued ─► recheckLooking ─► recheckQueued
//	              and the slot comes meanwhile:  recheckLooking ─► recheckSlotMissed ─► recheckQueued
//	denial      any ─► deniedRemembered, and while the check continues ─► deniedChecking ─► by the answer
//	end         any ─► closed, when the viewer is idle, or what is remembered is forgotten
//
// Invariants:
//   - A session waits for at most one lookup or check. Its phase says for which, and each of them ends.
//   - A slot is used or returned, a lease is used or released, also when the session closes.
//   - A session with a decision has a timer. A session in a queue is queued again if it misses its slot.
//   - A playing viewer is cut only by an authoritative denial, an operator, a limit, or what the config says.
//   - A valid answer outlasts failures under every outage policy, and a denial outlasts an outage, also that of a part of the
//     backend for as long as the viewer asks, and what a limit, a ban or a kick says meanwhile.
//   - An opening that begins with a denial admits its viewer by an answer alone: by no ticket, fallback or outage policy. The denial holds
//     until the look-up shows that their ticket is older than the opening that was denied, spared by it, and not revoked. A ticket of
//     which neither the store nor the backend can tell changes nothing, and is asked about again with the next request.
//   - Only a backend's own denial is stored, and revokes a ticket: bans and limits may end at any time.
//   - An opening is as old as the ticket that holds, or as the record of a session that has not closed. Otherwise it is new, whatever
//     record there is: as of then backends judge tokens that expire.
//   - A sibling is asked about before it is admitted, unless nobody can be asked. A bound of Usher's own admits none.
//   - Step does not allocate.
//
// Decided: the state is a flat value of durations since the node's start. What it still points to are strings: the key's id,
// and the decision's reason, user and redirect, whose bytes are shared with what was published. The policy is passed to Step,
// the presented ticket comes with the events of an opening. Events are a closed set: each has one handler, its apply method,
// and each pair of phase and event has a row in the test's table. A sibling has its own opening time, by which streams are
// ordered, while its ticket and its token are as old as its root's.
//
// Decided: whether a denial says nothing of an older ticket follows from the denial's source and the backend's settings. A composite's
// denial has the source of one member: if that is a portal's, or a member has a token_life, a link that has expired denies the viewer
// until denial_ttl is over, though another member would admit them as of their ticket.
//
// Decided: a denial that an outage keeps beyond denial_ttl is no state of its own. The viewer's next request opens another session in its
// place, with the bounds, lease, look-up and ticket of any opening, and with the denial in place of the outage policy: see Origin.Denial.
// That one without an answer is this node's alone, as an outage may be: so such a viewer is asked about by each node that they reach.
//
// Decided: a ban or kick that is over by itself leaves its denial remembered, for denial_ttl at most, because to end it at once would look at
// all sessions each time. When an operator lifts one, that is done.
//
// Refused: phases of siblings' own (each rule would be there twice), booleans beside the phase for what is in flight
// (combinations without a row), keeping a slot that comes during a look (the backend would idle for as long as that takes).
package session
