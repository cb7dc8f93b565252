package cluster

import (
	"context"
	"time"
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
