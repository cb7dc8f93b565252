package cluster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/events"
)

const (
	// concurrentRevocations is how many tickets of kicked sessions are revoked at once: a few pipelines.
	concurrentRevocations = 128
	// revokeTimeout bounds the revocation of the tickets of all sessions that one call kicks.
	revokeTimeout = 30 * time.Second
)

// KickAll ends sessions of this node on all nodes, and refuses their viewers for a while: their users and what they presented,
// each on the channel of the session. The kick has its id, its end and its reason; Unban with that id readmits all of them.
// All are refused or, if the error is neither ErrStoreUnavailable nor ctx's, none. With those this node has applied it, and
// the others do when Redis has recovered.
func (n *Node) KickAll(ctx context.Context, kick session.Ban, sessions []session.Handle) error {
	viewers, unknown := make([]events.Viewer, len(sessions)), 0
	for i, s := range sessions {
		v := n.viewer(s.ID(), s.Request(), s.Decision())
		viewers[i] = v
		if v.Credentials == "" { // those of whom the least is known come first
			viewers[i], viewers[unknown] = viewers[unknown], viewers[i]
			unknown++
		}
	}
	err := n.refuse(ctx, kick, viewers)
	if err != nil && !errors.Is(err, backends.ErrStoreUnavailable) && ctx.Err() == nil {
		return err
	}
	kickedAt := time.Now()
	ctx = context.WithoutCancel(ctx)
	n.kicks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
		defer cancel()
		n.refuseByRecord(ctx, kick, viewers[:unknown])
		n.revokeTickets(ctx, viewers, kickedAt)
	})
	return err
}

// viewer returns who is refused when a session is kicked. The request and the decision may be nil.
func (n *Node) viewer(id backends.SessionID, r *backends.Request, d *backends.Decision) events.Viewer {
	v := events.Viewer{Session: id}
	if r != nil {
		v.Backend, v.Channel, v.Credentials = r.Backend, r.Channel, n.Credentials(r)
	}
	if d != nil {
		v.User = cmp.Or(d.UserID, d.User)
	}
	return v
}

// refuse bans viewers on all nodes.
func (n *Node) refuse(ctx context.Context, kick session.Ban, viewers []events.Viewer) error {
	groups, err := n.bans.Group(kick, viewers)
	if err != nil || len(groups) == 0 {
		return err
	}
	n.addBans(groups...)
	if n.broker == nil {
		return nil
	}
	return n.broker.StoreManyBans(ctx, groups...)
}

// refuseByRecord refuses what the store knows of kicked viewers of whom this node knows only a ticket.
func (n *Node) refuseByRecord(ctx context.Context, kick session.Ban, viewers []events.Viewer) {
	read := make([]events.Viewer, len(viewers))
	forEach(viewers, func(i int) {
		found, err := n.AcquireLease(ctx, session.LeaseRequest{ID: viewers[i].Session, KnownRevision: 1}) // no sign of the viewer
		if err == nil && found.Found {
			read[i] = n.viewer(viewers[i].Session, found.Record.Request, &found.Record.Decision)
		}
	})
	known := slices.DeleteFunc(read, func(v events.Viewer) bool { return v.Credentials == "" })
	if err := n.refuse(ctx, kick, known); err != nil && !errors.Is(err, backends.ErrStoreUnavailable) {
		n.o.Logger.Warn("credentials of kicked viewers not banned", slog.String("ban", kick.ID), slog.Any("error", err))
	}
}

// revokeTickets revokes the tickets of kicked sessions, which the ban refuses as long as it holds.
func (n *Node) revokeTickets(ctx context.Context, viewers []events.Viewer, kickedAt time.Time) {
	var failed atomic.Int64
	forEach(viewers, func(i int) {
		if err := n.RevokeSession(ctx, viewers[i].Session, kickedAt); err != nil {
			failed.Add(1)
		}
	})
	if count := failed.Load(); count > 0 {
		n.o.Logger.Warn("tickets of kicked sessions not revoked yet, they are when redis has recovered", slog.Int64("sessions", count))
	}
}

// forEach calls f with the index of each viewer, for many at once.
func forEach(viewers []events.Viewer, f func(i int)) {
	var calls errgroup.Group
	calls.SetLimit(concurrentRevocations)
	for i := range viewers {
		calls.Go(func() error {
			f(i)
			return nil
		})
	}
	_ = calls.Wait() // no call fails
}
