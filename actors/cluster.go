package actors

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Cluster is the store of sessions and the other nodes that share it. A node without others has one too. It is safe for
// concurrent use.
type Cluster interface {
	sessionStore
	heartbeatStore
	streamStore

	// Shared reports whether other nodes use the store. Then decisions are stored when they are taken, and one node checks
	// a session for all. Otherwise a session is stored when it ends.
	Shared() bool
	// Live returns how many nodes live, this one included. It does not block.
	Live() int
	// UserHash returns the name of a user that the other nodes know too.
	UserHash(user string) string
	// Banned returns the ban that the viewer is under, if any. The decision may be nil. It does not block.
	Banned(r *backends.Request, d *backends.Decision) (ban session.Ban, isBanned bool)
	// BanCredentials bans the credentials that the viewer of a banned user presented, until that ban ends.
	BanCredentials(ctx context.Context, of session.Ban, presented *backends.Request) error
	// Revoke announces a revocation to all nodes.
	Revoke(ctx context.Context, v session.Revocation) error
}

// sessionStore keeps sessions beyond the life of their actors. A method may take a round trip.
type sessionStore interface {
	// AcquireLease reads a session, or grants this node the right to check it.
	AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error)
	// SaveDecision stores a decision and releases the lease under which it was taken.
	SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error)
	// AddCounters adds what this node counted of a session.
	AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error
}

// heartbeatStore keeps when sessions were last seen on any node.
type heartbeatStore interface {
	// RecordHeartbeats stores when sessions were last seen, and returns those that the store does not know.
	RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error)
	// ExpireIdle returns up to about limit sessions that no node has seen for the given time, each of them once over all
	// nodes.
	ExpireIdle(ctx context.Context, idle time.Duration, limit int) ([]session.ClosingRecord, error)
}

// streamStore counts the streams of each user over all nodes.
type streamStore interface {
	// JoinStream adds a stream to its user's, RenewStreams keeps streams of one user, LeaveStream removes one.
	JoinStream(ctx context.Context, e session.StreamEntry) (session.LimitResult, error)
	RenewStreams(ctx context.Context, entries []session.StreamEntry) (session.LimitResult, error)
	LeaveStream(ctx context.Context, user string, id backends.SessionID) error
	// SetEvicted marks the session as evicted, or removes the mark.
	SetEvicted(ctx context.Context, id backends.SessionID, isEvicted bool) error
	// RevokeSession refuses the session's tickets that were opened at that time or before, and the session itself for the
	// given time; zero: not at all.
	RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time, refuseFor time.Duration) error
}
