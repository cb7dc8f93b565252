package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/backends"
)

// This file is how a session ends, and what is left of it.

// bury makes the session's ticket useless, here and wherever the store is shared.
func (a *sessionActor) bury() {
	r, id, opened := a.registry, a.session.id, a.state.opened
	r.running.Go(func() {
		ctx, cancel := r.writing()
		defer cancel()
		if err := r.o.Store.Bury(ctx, id, opened); err != nil {
			r.o.Logger.Warn("a refused viewer's ticket could not be buried; it may be revived by a node that forgot the refusal",
				slog.String("session", id.String()), slog.Any("error", err))
		}
	})
}

// end closes the session: remembered first, then forgotten here, so that a viewer who comes back meanwhile is known.
func (a *sessionActor) end(ctx actor.Context, e ending, now time.Time) {
	r, s := a.registry, a.session
	a.account(backends.Decision{}, now)
	a.attend(false)
	a.trace.end()
	r.wheel.disarm(s)
	s.gone.Store(true)
	if e != endedIdle {
		r.table.remove(s)
		ctx.Stop(ctx.Self())
		if a.state.ran {
			r.logClosed(s, e, now)
		}
		return
	}
	record := backends.Record{
		ID: s.id, Opened: a.state.opened, Key: a.state.key, Decision: a.state.decision, Expires: a.state.expires,
		Check: a.state.check,
	}
	if a.state.hasFacts {
		record.Facts = s.Facts()
	}
	pid := ctx.Self()
	r.running.Go(func() {
		ctx, cancel := r.writing()
		defer cancel()
		if err := r.o.Store.Save(ctx, record); err != nil {
			r.o.Logger.Warn("an idle session could not be remembered", slog.String("session", s.id.String()),
				slog.Any("error", err))
		}
		r.table.remove(s)
		r.system.Root.Stop(pid)
	})
	r.logClosed(s, e, now)
}

// writing is the context of a write to the store. It outlives the registry: a denial just before a restart must be known
// after it.
func (r *Registry) writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.life), writeDeadline)
}

// logClosed is the session's closing record.
func (r *Registry) logClosed(s *Session, e ending, now time.Time) {
	d, f, t := s.Decision(), s.Facts(), s.Ticket()
	r.o.Logger.Info("session closed",
		slog.String("session", s.id.String()), slog.String("why", e.String()),
		slog.String("route", f.Route), slog.String("channel", f.Channel),
		slog.String("user", d.User), slog.String("user_id", d.UserID),
		slog.String("verdict", d.Verdict.String()), slog.String("source", d.Source.String()),
		slog.Duration("duration", now.Sub(t.Opened)), slog.Duration("without_answer", time.Duration(s.stopgap.Load())),
		slog.Int64("requests", s.Requests()), slog.Int64("bytes", s.Bytes()))
}
