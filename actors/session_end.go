package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/backends"
)

// This file is what a session leaves in the store, while it lives and when it ends.

// record is what another node needs to go on with the session as it stands, or to ask about it.
func (a *sessionActor) record(fence uint64) backends.Record {
	r := backends.Record{
		ID: a.session.id, Opened: a.state.opened, Key: a.state.key, Decision: a.state.decision, Expires: a.state.until,
		Check: a.state.check, Fence: fence, Trace: a.trace.parent(),
	}
	if a.state.hasFacts {
		r.Facts = a.session.Facts()
	}
	return r
}

// tellStore stores the decision, or gives the lease back. A node alone has no use for either while the session lives; but
// a limit may end it at any time, and then its yes has to be known.
func (a *sessionActor) tellStore(do action) {
	r, s := a.registry, a.session
	p := backends.Publication{Record: backends.Record{ID: s.id, Fence: do.fence}, Bury: do.bury}
	switch {
	case do.bury:
		p.Record = a.record(do.fence)
	case !r.o.Shared && s.member.Load() == nil:
		return
	case do.save && (a.state.decision.Verdict == backends.Allowed || r.denials.allow(time.Now())):
		p.Record = a.record(do.fence)
	case !do.save && !do.release:
		return
	}
	r.running.Go(func() {
		outcome, err := r.publish(p)
		switch {
		case outcome == backends.PublishedStale:
			r.tell(s, overtaken{})
			return
		case err != nil && p.Bury:
			r.o.Logger.Warn("a refused viewer's ticket could not be buried; it may be revived by a node that forgot the refusal",
				slog.String("session", s.id.String()), slog.Any("error", err))
		}
		if p.Bury {
			r.announce(backends.Revocation{
				Kind: backends.RevokedDenied, Session: s.id, Opened: p.Record.Opened, Decision: p.Record.Decision,
			})
		}
	})
}

// publish writes to the store. A store that is away tells of it itself, once.
func (r *Registry) publish(p backends.Publication) (backends.Published, error) {
	ctx, cancel := r.writing()
	defer cancel()
	return r.o.Store.Publish(ctx, p)
}

// announce tells the other nodes.
func (r *Registry) announce(v backends.Revocation) {
	if err := r.o.Announce(v); err != nil {
		r.o.Logger.Warn("the other nodes could not be told that a session has to go; they learn of it by their next look",
			slog.String("session", v.Session.String()), slog.String("kind", v.Kind.String()), slog.Any("error", err))
	}
}

// end closes the session here: remembered first, then forgotten, so that a viewer who comes back meanwhile is known. Over
// all nodes it ends when nobody has seen its viewer for long enough; see presence.go.
func (a *sessionActor) end(ctx actor.Context, e ending, now time.Time) {
	r, s := a.registry, a.session
	a.account(backends.Decision{}, now)
	a.attend(false)
	a.trace.end()
	r.wheel.disarm(s)
	s.gone.Store(true)
	r.limits.forget(s)
	if e != endedIdle {
		r.table.remove(s)
		ctx.Stop(ctx.Self())
		if !a.state.ran {
			return
		}
	}
	record, tally, pid := a.record(a.state.fence), s.tally(), ctx.Self()
	r.o.Logger.Debug("session left this node", slog.String("session", s.id.String()), slog.String("why", e.String()))
	r.running.Go(func() {
		// Who lost his place is known to the store with his yes, which must not be forgotten for it.
		if !r.o.Shared && record.Decision.Source != backends.FromLimit {
			if _, err := r.publish(backends.Publication{Record: record}); err != nil {
				r.o.Logger.Warn("a session that ended could not be remembered", slog.String("session", s.id.String()),
					slog.Any("error", err))
			}
		}
		r.leave(s, tally)
		if e == endedIdle {
			r.table.remove(s)
			r.system.Root.Stop(pid)
		}
	})
}

// tally is what was counted here.
func (s *Session) tally() backends.Tally {
	return backends.Tally{
		Requests: s.Requests(), Bytes: s.Bytes(), Stopgap: time.Duration(s.stopgap.Load()), History: s.History(),
	}
}

// leave hands over what this node knows of a session that it lets go.
func (r *Registry) leave(s *Session, t backends.Tally) {
	ctx, cancel := r.writing()
	defer cancel()
	if err := r.o.Store.Flush(ctx, s.id, t); err != nil {
		r.o.Logger.Debug("a session's counters could not be stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
	if _, err := r.o.Presence.Beat(ctx, []backends.Presence{s.present()}); err != nil {
		r.o.Logger.Debug("a session's end could not be stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
}

// writing is the context of a write to the store. It outlives the registry: a denial just before a restart must be known
// after it.
func (r *Registry) writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.life), writeDeadline)
}
