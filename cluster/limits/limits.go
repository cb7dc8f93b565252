package limits

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// methods are what Memory and Redis have in common. The functions apply reports of a user's streams, and of the addresses
// that use a ticket.
type methods struct {
	apply, applyAddresses func(ctx context.Context, name string, reports []report) (session.LimitResult, error)
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

// JoinAddress adds an address to those that use a ticket, and reports whether they are not too many. The entry's user is
// the ticket. root is the ticket's own session, if that is believed to play; nil otherwise.
func (m methods) JoinAddress(ctx context.Context, e session.StreamEntry, root *session.StreamEntry) (isAllowed bool, err error) {
	var reports []report
	if root != nil {
		reports = newReports(false, *root)
		reports[0].isAssumed = true
	}
	reports = append(reports, newReports(true, e)...)
	got, err := m.applyAddresses(ctx, e.User, reports)
	return err != nil || got.IsContended || got.States[len(reports)-1] == session.StreamActive, err
}

// RenewAddresses reports addresses that use one ticket, at least one.
func (m methods) RenewAddresses(ctx context.Context, entries []session.StreamEntry) error {
	_, err := m.applyAddresses(ctx, entries[0].User, newReports(false, entries...))
	return err
}

// LeaveAddress removes an address from those that use a ticket.
func (m methods) LeaveAddress(ctx context.Context, ticket string, id backends.SessionID) error {
	_, err := m.applyAddresses(ctx, ticket, []report{{isLeaving: true, id: id}})
	return err
}

func newReports(isJoin bool, entries ...session.StreamEntry) []report {
	reports := make([]report, len(entries))
	for i, e := range entries {
		reports[i] = report{
			isJoin: isJoin, id: e.Session, group: e.Group, isIPv6: e.IsIPv6, opened: e.Opened.Unix(), age: max(time.Since(e.LastSeen).Milliseconds(), 0),
			isPlaying: e.IsPlaying, zapTimeout: e.ZapTimeout.Milliseconds(), maxStreams: max(e.MaxStreams, 1), device: e.Device,
		}
		if e.Group.IsZero() {
			reports[i].group = e.Session
		}
	}
	return reports
}
