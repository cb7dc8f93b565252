package cluster

import (
	"context"
	"errors"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/limits"
)

// limitsWithFallback counts streams over all nodes or, while Redis is unavailable, on this node alone: then a user may
// play as many streams as the limit allows on each node.
type limitsWithFallback struct {
	shared   *limits.Redis
	fallback *Memory
}

// JoinStream adds a stream to those of its user. The error is [session.ErrContended].
func (l limitsWithFallback) JoinStream(ctx context.Context, e session.StreamEntry) (session.LimitResult, error) {
	result, err := l.shared.JoinStream(ctx, e)
	if err != nil && !errors.Is(err, session.ErrContended) {
		return l.fallback.JoinStream(ctx, e)
	}
	return result, err
}

// RenewStreams reports streams of one user, at least one. Unknown ones join. The error is [session.ErrContended].
func (l limitsWithFallback) RenewStreams(ctx context.Context, entries []session.StreamEntry) (session.LimitResult, error) {
	result, err := l.shared.RenewStreams(ctx, entries)
	if err != nil && !errors.Is(err, session.ErrContended) {
		return l.fallback.RenewStreams(ctx, entries)
	}
	return result, err
}

// LeaveStream removes a stream from those of its user.
func (l limitsWithFallback) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	_ = l.fallback.LeaveStream(ctx, user, id)
	return l.shared.LeaveStream(ctx, user, id)
}
