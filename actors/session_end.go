package actors

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/actors/session"
	"usher/backends"
)

// This file is what a session leaves in the store, while it lives and when it ends.

// record is what another node needs to go on with the session as it stands, or to ask about it.
func (a *sessionActor) record(fence uint64) session.Record {
	r := session.Record{
		ID: a.session.id, Opened: a.state.Opened(), KeyID: a.state.KeyID, Decision: a.state.Decision,
		Expires: a.session.policy.Start.Add(a.state.ValidUntil), CheckNumber: int(a.state.CheckNumber), Revision: fence, Trace: a.trace.parent(),
	}
	if a.state.HasCredentials {
		r.Request = a.session.Request()
	}
	return r
}

// writeToStore stores the decision, or gives the lease back. A node alone has no use for either while the session lives; but
// a limit may end it at any time, and then its yes has to be known.
func (a *sessionActor) writeToStore(do session.Action) {
	r, s := a.registry, a.session
	p := session.DecisionUpdate{Record: session.Record{ID: s.id, Revision: do.Revision}, RevokeTicket: do.RevokeTicket}
	switch {
	case do.RevokeTicket:
		p.Record = a.record(do.Revision)
	case !r.cluster.Shared() && s.stream.Load() == nil:
		return
	case do.Save && (a.state.Decision.Verdict == backends.Allowed || r.cluster.denials.allow(time.Now())):
		p.Record = a.record(do.Revision)
	case !do.Save && !do.ReleaseLease:
		return
	}
	r.life.run(func() {
		outcome, err := r.cluster.saveDecision(p)
		switch {
		case outcome == session.OutcomeStale:
			r.send(s, session.DecisionOutdated{})
			return
		case err != nil && p.RevokeTicket:
			r.log.Warn("a refused viewer's ticket could not be buried; it may be revived by a node that forgot the refusal",
				slog.String("session", s.id.String()), slog.Any("error", err))
		}
		if p.RevokeTicket {
			r.cluster.announce(session.Revocation{
				Kind: session.RevokedDenied, Session: s.id, Opened: p.Record.Opened, Decision: p.Record.Decision,
			})
		}
	})
}

// close closes the session here: remembered first, then forgotten, so that a viewer who comes back meanwhile is known. Over
// all nodes it ends when nobody has seen its viewer for long enough; see presence.go.
func (a *sessionActor) close(ctx actor.Context, e session.CloseReason, now time.Time) {
	r, s := a.registry, a.session
	a.countUnverified(backends.Decision{}, now)
	a.countViewer(false)
	a.trace.end()
	r.timers.disarm(s)
	s.isClosed.Store(true)
	r.streams.remove(s)
	if e != session.ClosedIdle {
		r.table.remove(s)
		ctx.Stop(ctx.Self())
		if !a.state.WasAllowed {
			return
		}
	}
	record, tally := a.record(a.state.Revision), s.counters()
	r.log.Debug("session left this node", slog.String("session", s.id.String()), slog.String("why", e.String()))
	r.life.run(func() {
		// Who lost his place is known to the store with his yes, which must not be forgotten for it.
		if !r.cluster.Shared() && record.Decision.Source != backends.FromLimit {
			if _, err := r.cluster.saveDecision(session.DecisionUpdate{Record: record}); err != nil {
				r.log.Warn("a session that ended could not be remembered", slog.String("session", s.id.String()),
					slog.Any("error", err))
			}
		}
		r.cluster.handOver(s, tally)
		if e == session.ClosedIdle {
			r.table.remove(s)
			r.actors.stop(s)
		}
	})
}
