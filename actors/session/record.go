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
	// KeyID is the id of the key that signed the session's ticket.
	KeyID string
	// Decision is the last one taken, and Expires when it ends, by this node's clock. Later it is only what the session
	// stood on.
	Decision backends.Decision
	Expires  time.Time
	// CheckNumber is the number of the session's newest check.
	CheckNumber int
	// Revision orders the decisions on a session over all nodes: it is the number of the lease under which Decision was
	// taken. Zero: it was taken without one.
	Revision uint64
	// Request are those of the opening request; nil if nobody knows them any more.
	Request *backends.Request
	// Trace is the opening's place in its trace, as a W3C traceparent; empty: it was not sampled.
	Trace string
	// RevokedBefore, if not zero, refuses every ticket of this id that was opened at or before it: the session was denied
	// while it ran, so its old ticket must not revive it.
	RevokedBefore time.Time
	// KickedUntil, if it is to come, is until when the session is refused, whatever its viewer shows.
	KickedUntil time.Time
	// IsEvicted: the session lost its place among its user's. It may go on if the user's limit gives it one again.
	IsEvicted bool
}

// Counters is what a node adds up of a session while it holds it.
type Counters struct {
	Requests, Bytes int64
	// Unverified is for how long the session was allowed without an answer, as in an outage.
	Unverified time.Duration
	// History are the decisions that the session stood on, in their order, as "allowed/backend,allowed/cached".
	History string
}

// ClosingRecord is a session that is over on all nodes: the closing record.
type ClosingRecord struct {
	Record   Record
	Counters Counters
	// Since is when the session began, or began again after an earlier end. Seen is when it was last used anywhere.
	Since, LastSeen time.Time
}

// Heartbeat is that a session's viewer was seen.
type Heartbeat struct {
	ID       backends.SessionID
	LastSeen time.Time
}
