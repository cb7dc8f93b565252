package cluster

import (
	"context"
	"time"

	"usher/cluster/matches"
)

// SaveReport stores this node's part of a report on the subject, in place of the one that had the id, for as long as the
// retention. At most so many parts are kept of each live node. The error says that Redis did not answer.
func (n *Node) SaveReport(ctx context.Context, subject, id string, part []byte, limit int, retention time.Duration) error {
	return n.reports.Save(ctx, subject, id, part, limit*n.Live(), retention)
}

// Reports returns the parts of the reports on the subject, of all nodes, by their ids. The error says that Redis did not
// answer.
func (n *Node) Reports(ctx context.Context, subject string, retention time.Duration) (map[string][]byte, error) {
	return n.reports.List(ctx, subject, retention)
}

// ShareKnown tells the other nodes that a viewer was allowed. It does not block.
func (n *Node) ShareKnown(key uint64) {
	if n.known != nil {
		n.known.Add(key)
	}
}

// Matches returns the tickets of viewers at edges who show none; nil: no other node shares them.
func (n *Node) Matches() *matches.Sharing { return n.matches }

// BoundsReached returns how often each bound of what the node keeps for Redis and the other nodes was reached, by its name.
func (n *Node) BoundsReached() map[string]uint64 {
	reached := map[string]uint64{"ban_tombstones": n.bans.TombstonesDropped()}
	if n.redis != nil {
		reached["deferred_writes"], reached["known_viewers_unshared"] = n.redis.deferred.allDropped.Load(), n.known.Dropped()
		reached["edge_matches_unshared"] = n.matches.Dropped()
		reached["queued_revocations"] = n.broker.RevocationsDropped()
	}
	return reached
}
