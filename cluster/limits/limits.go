package limits

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// methods are what Memory and Redis have in common. The function applies reports of a user's streams.
type methods struct {
	apply func(ctx context.Context, user string, reports []report) (session.LimitResult, error)
}

// JoinStream adds a stream to those of its user.
func (m methods) JoinStream(ctx context.Context, e session.StreamEntry) (session.LimitResult, error) {
	return m.apply(ctx, e.User, newReports(true, e))
}

// RenewStreams reports streams of one user, at least one. Unknown ones join.
func (m methods) RenewStreams(ctx context.Context, entries []session.StreamEntry) (session.LimitResult, error) {
	return m.apply(ctx, entries[0].User, newReports(false, entries...))
}

// LeaveStream removes a stream from those of its user.
func (m methods) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	_, err := m.apply(ctx, user, []report{{isLeaving: true, id: id}})
	return err
}

func newReports(isJoin bool, entries ...session.StreamEntry) []report {
	reports := make([]report, len(entries))
	for i, e := range entries {
		reports[i] = report{
			isJoin: isJoin, id: e.Session, opened: e.Opened.Unix(), age: max(time.Since(e.LastSeen).Milliseconds(), 0),
			isPlaying: e.IsPlaying, zapTimeout: e.ZapTimeout.Milliseconds(), maxStreams: max(e.MaxStreams, 1), device: e.Device,
		}
	}
	return reports
}
