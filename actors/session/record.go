package session

import (
	"time"

	"usher/backends"
)

// Record is what outlives a session's actor: enough for any node to go on with the session, or to ask again about it,
// without hearing from the viewer. It is a value; its Facts are not changed.
type Record struct {
	ID backends.SessionID
	// Opened is when the session began, to the second: its ticket says the same.
	Opened time.Time
	// Key is the id of the key that signed the session's ticket.
	Key string
	// Decision is the last one taken, and Expires when it ends, by this node's clock. Later it is only what the session
	// stood on.
	Decision backends.Decision
	Expires  time.Time
	// Check is the number of the session's newest check.
	Check int
	// Fence orders the decisions on a session over all nodes: it is the number of the lease under which Decision was
	// taken. Zero: it was taken without one.
	Fence uint64
	// Facts are those of the opening request; nil if nobody knows them any more.
	Facts *backends.Request
	// Trace is the opening's place in its trace, as a W3C traceparent; empty: it was not sampled.
	Trace string
	// Buried, if not zero, refuses every ticket of this id that was opened at or before it: the session was denied
	// while it ran, so its old ticket must not revive it.
	Buried time.Time
	// Kicked, if it is to come, is until when the session is refused, whatever its viewer shows.
	Kicked time.Time
	// Evicted: the session lost its place among its user's. It may go on if the user's limit gives it one again.
	Evicted bool
}

// Tally is what a node adds up of a session while it holds it.
type Tally struct {
	Requests, Bytes int64
	// Stopgap is for how long the session was allowed without an answer, as in an outage.
	Stopgap time.Duration
	// History are the decisions that the session stood on, in their order, as "allowed/backend,allowed/last-known".
	History string
}

// Closed is a session that is over on all nodes: the closing record.
type Closed struct {
	Record Record
	Tally  Tally
	// Since is when the session began, or began again after an earlier end. Seen is when it was last used anywhere.
	Since, Seen time.Time
}

// Presence is that a session's viewer was seen.
type Presence struct {
	ID   backends.SessionID
	Seen time.Time
}
