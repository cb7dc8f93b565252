package cluster

import (
	"context"
	"errors"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// ErrAway says that what nodes share cannot be reached, or was not asked because of that. It comes within
// cluster.redis_timeout.
var ErrAway = errors.New("the cluster's store is away")

// Store is where sessions outlive their actors and where nodes agree on them. [Memory] is one for a node alone, [Redis]
// one for any number of nodes; one suite of tests runs both. All methods are safe for concurrent use. Their errors are
// ErrAway or ctx's; then nothing is known of what was stored.
type Store interface {
	// AcquireLease reads a session and, if no decision on it holds, lets one node ask. See [backends.AcquireLease]. It takes one round
	// trip, unless it has to wait for somebody else who asks.
	AcquireLease(ctx context.Context, c session.LeaseRequest) (session.LeaseResult, error)
	// SaveDecision stores a decision under the number of its lease, and gives the lease back.
	SaveDecision(ctx context.Context, p session.DecisionUpdate) (session.UpdateOutcome, error)
	// RevokeSession refuses the session for so long, whatever its viewer shows, and for as long as they could be revived the tickets
	// that were opened at that time or before. Zero for opened means all there are.
	RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time, d time.Duration) error
	// SetEvicted marks the session as one that lost its place, or takes that back.
	SetEvicted(ctx context.Context, id backends.SessionID, evicted bool) error
	// AddCounters adds up what nodes counted of a session.
	AddCounters(ctx context.Context, id backends.SessionID, t session.Counters) error

	// RecordHeartbeats says when sessions were seen. It returns those of which the store knew nothing: their records are to be
	// published again.
	RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error)
	// ExpireIdle closes sessions that nobody has seen for so long, about so many of them. Over all nodes each is returned once.
	ExpireIdle(ctx context.Context, idle time.Duration, most int) ([]session.ClosingRecord, error)

	// JoinStream asks for a place among the user's sessions, Hold keeps those of one user, of which there must be one at least,
	// Leave gives a place back.
	JoinStream(ctx context.Context, m session.StreamEntry) (session.LimitResult, error)
	RenewStreams(ctx context.Context, of []session.StreamEntry) (session.LimitResult, error)
	LeaveStream(ctx context.Context, user string, id backends.SessionID) error
}
