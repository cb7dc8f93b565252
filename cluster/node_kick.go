package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
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
	// sessionsPerTurn is how many sessions are kicked before it is looked what other nodes have kicked meanwhile.
	sessionsPerTurn = 5000
	// revokeTimeout bounds the revocation of the tickets of all sessions that one call kicks. The end of the node bounds it too.
	revokeTimeout = 30 * time.Second
	// closeTimeout is how long the end of the node waits for that: a third of what service managers give it beside the drain.
	closeTimeout = 5 * time.Second
)

// KickAll ends sessions of this node on all nodes, and refuses their viewers for a while: their users and what they presented,
// each on the channel of the session. The kick has its id, its end and its reason; Unban with that id readmits all of them.
// All are refused, also if ctx ends meanwhile, or none, unless the error is ErrStoreUnavailable: then this node has applied it,
// and the others do when Redis has recovered.
func (n *Node) KickAll(ctx context.Context, kick session.Ban, sessions []session.Handle) error {
	channels := sortByChannel(sessions)
	if err := n.bans.HasRoom(len(sessions), channels); err != nil || len(sessions) == 0 {
		return err
	}
	ctx, kickedAt := context.WithoutCancel(ctx), time.Now()
	// Nodes that hold the same sessions begin at different ones, and leave out what another one has kicked meanwhile.
	begin := rand.IntN(len(sessions)) //nolint:gosec // spreads nodes, not a secret
	kicked, err := n.kickInTurn(ctx, kick, slices.Concat(sessions[begin:], sessions[:begin]))
	n.kicks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
		defer cancel()
		defer context.AfterFunc(n.kicking, cancel)() //nolint:contextcheck // the end of the node ends it too
		n.refuseByRecord(ctx, kick, kicked)
		n.revokeTickets(ctx, kicked, kickedAt)
	})
	return err
}

// sortByChannel sorts sessions in the same order on all nodes, and counts their channels.
func sortByChannel(sessions []session.Handle) (channels int) {
	slices.SortFunc(sessions, func(a, b session.Handle) int {
		x, y := a.Request(), b.Request()
		idX, idY := a.ID(), b.ID()
		return cmp.Or(strings.Compare(x.Backend, y.Backend), strings.Compare(x.Channel, y.Channel), bytes.Compare(idX[:], idY[:]))
	})
	for i, s := range sessions {
		if r := s.Request(); i == 0 || r.Backend != sessions[i-1].Request().Backend || r.Channel != sessions[i-1].Request().Channel {
			channels++
		}
	}
	return channels
}

// kickInTurn refuses the viewers of some sessions after those of the others, and returns those that no other node had kicked.
// What was not stored is stored with what follows.
func (n *Node) kickInTurn(ctx context.Context, kick session.Ban, sessions []session.Handle) (kicked []events.Viewer, err error) {
	var unstored []session.Ban
	for turn := range slices.Chunk(sessions, sessionsPerTurn) {
		begun := len(kicked)
		for _, s := range turn {
			if !n.bans.IsKicked(kick.ID, s.ID()) {
				v := n.viewer(s.ID(), s.Request(), s.Decision())
				v.Opened = s.Ticket().Opened
				kicked = append(kicked, v)
			}
		}
		groups := events.Group(kick, kicked[begun:])
		n.addBans(groups...)
		if unstored = append(unstored, groups...); err != nil {
			continue
		}
		if err = n.storeManyBans(ctx, unstored); err == nil {
			unstored = nil
		}
	}
	if err != nil {
		err = n.storeManyBans(ctx, unstored)
	}
	return kicked, err
}

func (n *Node) storeManyBans(ctx context.Context, bans []session.Ban) error {
	if n.broker == nil || len(bans) == 0 {
		return nil
	}
	return n.broker.StoreManyBans(ctx, bans...)
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

// refuseByRecord refuses what the store knows of kicked viewers of whom this node knows only a ticket.
func (n *Node) refuseByRecord(ctx context.Context, kick session.Ban, kicked []events.Viewer) {
	hasCredentials := func(v events.Viewer) bool { return v.Credentials != "" }
	viewers := slices.DeleteFunc(slices.Clone(kicked), hasCredentials)
	forEach(viewers, func(i int) {
		found, err := n.AcquireLease(ctx, session.LeaseRequest{ID: viewers[i].Session, KnownRevision: 1}) // no sign of the viewer
		if err == nil && found.Found {
			viewers[i] = n.viewer(viewers[i].Session, found.Record.Request, &found.Record.Decision)
		}
	})
	viewers = slices.DeleteFunc(viewers, func(v events.Viewer) bool { return !hasCredentials(v) })
	groups := events.Group(kick, viewers)
	n.addBans(groups...)
	if err := n.storeManyBans(ctx, groups); err != nil {
		n.o.Logger.Debug("credentials of kicked viewers not stored yet", slog.String("ban", kick.ID), slog.Any("error", err))
	}
}

// revokeTickets revokes the tickets of kicked sessions, which the ban refuses as long as it holds.
func (n *Node) revokeTickets(ctx context.Context, viewers []events.Viewer, kickedAt time.Time) {
	var failed atomic.Int64
	forEach(viewers, func(i int) {
		opened := kickedAt
		if v := &viewers[i]; v.Opened.After(opened) { // by a node whose clock is ahead
			opened = v.Opened
		}
		if err := n.RevokeSession(ctx, viewers[i].Session, opened); err != nil {
			failed.Add(1)
		}
	})
	if count := failed.Load(); count > 0 {
		n.o.Logger.Warn("tickets of kicked sessions not revoked yet, they are when redis has recovered", slog.Int64("sessions", count))
	}
}

// revokeTicketsOf revokes all tickets of a session that was opened at that time: by the clock of the node that opened it, which may be
// ahead of the store's.
func (n *Node) revokeTicketsOf(ctx context.Context, id backends.SessionID, opened time.Time) error {
	err := n.RevokeSession(ctx, id, time.Time{})
	if opened.After(time.Now()) {
		err = errors.Join(err, n.RevokeSession(ctx, id, opened))
	}
	return err
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
