package cluster

import (
	"context"
	"errors"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// ErrAway says that what nodes share cannot be reached, or was not asked because of that. It comes within
// cluster.deadline.
var ErrAway = errors.New("the cluster's store is away")

// Store is where sessions outlive their actors and where nodes agree on them. [Memory] is one for a node alone, [Redis]
// one for any number of nodes; one suite of tests runs both. All methods are safe for concurrent use. Their errors are
// ErrAway or ctx's; then nothing is known of what was stored.
type Store interface {
	// Claim reads a session and, if no decision on it holds, lets one node ask. See [backends.Claim]. It takes one round
	// trip, unless it has to wait for somebody else who asks.
	Claim(ctx context.Context, c session.Claim) (session.Claimed, error)
	// Publish stores a decision under the number of its lease, and gives the lease back.
	Publish(ctx context.Context, p session.Publication) (session.Published, error)
	// Kick refuses the session for so long, whatever its viewer shows, and for as long as they could be revived the tickets
	// that were opened at that time or before. Zero for opened means all there are.
	Kick(ctx context.Context, id backends.SessionID, opened time.Time, d time.Duration) error
	// Evict marks the session as one that lost its place, or takes that back.
	Evict(ctx context.Context, id backends.SessionID, evicted bool) error
	// Flush adds up what nodes counted of a session.
	Flush(ctx context.Context, id backends.SessionID, t session.Tally) error

	// Beat says when sessions were seen. It returns those of which the store knew nothing: their records are to be
	// published again.
	Beat(ctx context.Context, seen []session.Presence) (unknown []backends.SessionID, err error)
	// Sweep closes sessions that nobody has seen for so long, about so many of them. Over all nodes each is returned once.
	Sweep(ctx context.Context, idle time.Duration, most int) ([]session.Closed, error)

	// Join asks for a place among the user's sessions, Hold keeps those of one user, of which there must be one at least,
	// Leave gives a place back.
	Join(ctx context.Context, m session.Membership) (session.Limited, error)
	Hold(ctx context.Context, of []session.Membership) (session.Limited, error)
	Leave(ctx context.Context, user string, id backends.SessionID) error
}
