package cluster

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Store is where sessions outlive their actors and where nodes agree on them. [Memory] is the store of one node, [Redis]
// that of any number; one suite of tests runs both. All methods are safe for concurrent use. Their errors are
// ErrStoreUnavailable or ctx's; then the caller does not know whether anything was stored.
type Store interface {
	// AcquireLease reads a session and, if no decision on it holds, gives the caller a lease; see
	// [session.LeaseRequest]. It takes one round trip, unless it waits for the holder of another lease.
	AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error)
	// SaveDecision stores a decision under the revision of its lease, and releases the lease.
	SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error)
	// RevokeSession revokes the session's tickets that were opened at that time or before. If opened is zero, it revokes all
	// that exist.
	RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time) error
	// SetEvicted marks the session as evicted by the stream limit, or removes the mark.
	SetEvicted(ctx context.Context, id backends.SessionID, evicted bool) error
	// AddCounters adds to the counters of a session.
	AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error

	// RecordHeartbeats stores when sessions were last seen. It returns those that the store does not know: their decisions
	// must be saved again.
	RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error)
	// ExpireIdle closes sessions that no node has seen for that long, about that many at most; with an error too, it returns
	// those that were closed. Over all nodes each is returned once, or again after a while until it is confirmed.
	ExpireIdle(ctx context.Context, idle time.Duration, limit int) ([]session.ClosingRecord, error)
	// ConfirmClosed tells that what ExpireIdle returned is kept elsewhere, so that the store may forget it.
	ConfirmClosed(ctx context.Context, closed []session.ClosingRecord) error

	// ReportStreams reports streams of one user, at least one. Unknown ones join. It does not fail.
	ReportStreams(ctx context.Context, entries ...session.StreamEntry) session.LimitResult
	// ReportAddresses reports addresses that use one ticket, which is the entries' user. A new one beyond the limit does not
	// join, and is evicted. It does not fail.
	ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult
}

// bucketCount is how many buckets the sessions are spread over: in Redis, so that they lie on all masters of a Redis
// Cluster and no script takes long; in memory, so that different sessions seldom contend for a lock.
const bucketCount = 64

// bucketOf returns the bucket of a session.
func bucketOf(id backends.SessionID) int { return int(id[0]) % bucketCount }
