package session

import (
	"strings"
	"time"

	"usher/backends"
)

// Record is what the store keeps of a session: enough for any node to continue or to check it without its viewer. It is a
// value; its Request is not changed.
type Record struct {
	ID backends.SessionID
	// Opened is when the session was opened, to the second, as in its ticket.
	Opened time.Time
	// KeyID is the id of the key that signed the session's ticket.
	KeyID string
	// Decision is the newest decision. After Expires, by this node's clock, it is no longer valid.
	Decision backends.Decision
	Expires  time.Time
	// CheckNumber is the number of the session's newest check.
	CheckNumber int
	// Revision orders the session's decisions over all nodes. It is the revision of the lease under which Decision was taken;
	// zero: it was taken without one.
	Revision uint64
	// Request is the request that opened the session; nil: it is unknown.
	Request *backends.Request
	// Trace is the span of the opening, as a W3C traceparent; empty: it was not sampled.
	Trace string
	// RevokedBefore refuses every ticket of the session that was opened at that time or before, because the session was denied
	// while it ran; zero: none is refused.
	RevokedBefore time.Time
	// IsEvicted reports that the user's limit evicted the session. It may play again when a stream is free.
	IsEvicted bool
	// IsClosed reports that no node had seen the viewer for the idle timeout when the session was read.
	IsClosed bool
}

// Counters is what one node has counted of a session.
type Counters struct {
	// Since is when the node began to count; zero: the store knows better.
	Since           time.Time
	Requests, Bytes int64
	// Unverified is how long the session was allowed without an answer, as in an outage.
	Unverified time.Duration
	// History lists the session's decisions, the oldest first: "allowed/backend,allowed/cached".
	History string
}

// ClosingRecord describes a session that has ended on all nodes.
type ClosingRecord struct {
	Record   Record
	Counters Counters
	// Since is when the session began, or began again after an earlier end.
	Since time.Time
	// LastSeen is when any node last saw its viewer.
	LastSeen time.Time
	// Period tells the periods of one session apart. A record that the store returns again has the same one.
	Period uint64
	// IsEstimated reports that a node ended without reporting what it had counted, so that the counters lack that, and the
	// viewer may have been seen up to one heartbeat later.
	IsEstimated bool
	// IsNodeStopped reports that the session ended with the only node that knew it.
	IsNodeStopped bool
	// HasReturned reports that the viewer has come back since, whose session goes on.
	HasReturned bool
	// Sequence tells the stays of one session on its node apart, while it is open.
	Sequence uint64
	// Mark is the store's own.
	Mark int64
}

// Reason returns why the session ended, as far as the store tells: it knows that the tickets of a superseded session are
// revoked, and the nodes' history says by whom, and of bans, which are not stored.
func (c *ClosingRecord) Reason() CloseReason {
	const byLimit = "denied/limit"
	r, last := &c.Record, c.Counters.History[strings.LastIndexByte(c.Counters.History, ',')+1:]
	isRevoked := !r.Opened.After(r.RevokedBefore)
	switch {
	case r.Decision.Verdict == backends.Denied, r.IsEvicted, strings.HasPrefix(last, "denied/") && last != byLimit:
		return closedDenied
	case c.IsNodeStopped:
		return closedNodeStopped
	case isRevoked && last == byLimit:
		return closedSuperseded
	case isRevoked:
		return closedDenied
	default:
		return ClosedIdle
	}
}

// Heartbeat reports when a node last saw a session's viewer.
type Heartbeat struct {
	ID       backends.SessionID
	LastSeen time.Time
}
