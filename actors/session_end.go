package actors

import (
	"context"
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
		ID: a.session.id, Opened: a.state.Opened, KeyID: a.state.KeyID, Decision: a.state.Decision, Expires: a.state.ValidUntil,
		CheckNumber: a.state.CheckNumber, Revision: fence, Trace: a.trace.parent(),
	}
	if a.state.HasCredentials {
		r.Request = a.session.Request()
	}
	return r
}

// tellStore stores the decision, or gives the lease back. A node alone has no use for either while the session lives; but
// a limit may end it at any time, and then its yes has to be known.
func (a *sessionActor) tellStore(do session.Action) {
	r, s := a.registry, a.session
	p := session.DecisionUpdate{Record: session.Record{ID: s.id, Revision: do.Revision}, RevokeTicket: do.RevokeTicket}
	switch {
	case do.RevokeTicket:
		p.Record = a.record(do.Revision)
	case !r.o.Cluster.Shared() && s.member.Load() == nil:
		return
	case do.Save && (a.state.Decision.Verdict == backends.Allowed || r.denials.allow(time.Now())):
		p.Record = a.record(do.Revision)
	case !do.Save && !do.ReleaseLease:
		return
	}
	r.running.Go(func() {
		outcome, err := r.publish(p)
		switch {
		case outcome == session.OutcomeStale:
			r.tell(s, session.DecisionOutdated{})
			return
		case err != nil && p.RevokeTicket:
			r.o.Logger.Warn("a refused viewer's ticket could not be buried; it may be revived by a node that forgot the refusal",
				slog.String("session", s.id.String()), slog.Any("error", err))
		}
		if p.RevokeTicket {
			r.announce(session.Revocation{
				Kind: session.RevokedDenied, Session: s.id, Opened: p.Record.Opened, Decision: p.Record.Decision,
			})
		}
	})
}

// publish writes to the store. A store that is away tells of it itself, once.
func (r *Registry) publish(p session.DecisionUpdate) (session.UpdateOutcome, error) {
	ctx, cancel := r.writing()
	defer cancel()
	return r.o.Cluster.SaveDecision(ctx, p)
}

// announce tells the other nodes.
func (r *Registry) announce(v session.Revocation) {
	ctx, cancel := r.writing()
	defer cancel()
	if err := r.o.Cluster.Revoke(ctx, v); err != nil {
		r.o.Logger.Warn("the other nodes could not be told that a session has to go; they learn of it by their next look",
			slog.String("session", v.Session.String()), slog.String("kind", v.Kind.String()), slog.Any("error", err))
	}
}

// end closes the session here: remembered first, then forgotten, so that a viewer who comes back meanwhile is known. Over
// all nodes it ends when nobody has seen its viewer for long enough; see presence.go.
func (a *sessionActor) end(ctx actor.Context, e session.CloseReason, now time.Time) {
	r, s := a.registry, a.session
	a.account(backends.Decision{}, now)
	a.attend(false)
	a.trace.end()
	r.wheel.disarm(s)
	s.gone.Store(true)
	r.limits.forget(s)
	if e != session.ClosedIdle {
		r.table.remove(s)
		ctx.Stop(ctx.Self())
		if !a.state.WasAllowed {
			return
		}
	}
	record, tally, pid := a.record(a.state.Revision), s.tally(), ctx.Self()
	r.o.Logger.Debug("session left this node", slog.String("session", s.id.String()), slog.String("why", e.String()))
	r.running.Go(func() {
		// Who lost his place is known to the store with his yes, which must not be forgotten for it.
		if !r.o.Cluster.Shared() && record.Decision.Source != backends.FromLimit {
			if _, err := r.publish(session.DecisionUpdate{Record: record}); err != nil {
				r.o.Logger.Warn("a session that ended could not be remembered", slog.String("session", s.id.String()),
					slog.Any("error", err))
			}
		}
		r.leave(s, tally)
		if e == session.ClosedIdle {
			r.table.remove(s)
			r.system.Root.Stop(pid)
		}
	})
}

// tally is what was counted here.
func (s *Session) tally() session.Counters {
	return session.Counters{
		Requests: s.Requests(), Bytes: s.Bytes(), Unverified: time.Duration(s.stopgap.Load()), History: s.History(),
	}
}

// leave hands over what this node knows of a session that it lets go.
func (r *Registry) leave(s *Session, t session.Counters) {
	ctx, cancel := r.writing()
	defer cancel()
	if err := r.o.Cluster.AddCounters(ctx, s.id, t); err != nil {
		r.o.Logger.Debug("a session's counters could not be stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
	if _, err := r.o.Cluster.RecordHeartbeats(ctx, []session.Heartbeat{s.present()}); err != nil {
		r.o.Logger.Debug("a session's end could not be stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
}

// writing is the context of a write to the store. It outlives the registry: a denial just before a restart must be known
// after it.
func (r *Registry) writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.life), writeDeadline)
}
