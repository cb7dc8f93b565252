package actors

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/attribute"

	"usher/actors/session"
	"usher/backends"
)

// This file is what a session asks others: the store, its backend, its user's limit. All of it happens off the mailbox.

// lookUp asks the store.
func (a *sessionActor) lookUp(kind session.LookupKind) {
	r, s := a.registry, a.session
	g := r.backends[s.backend]
	c := session.LeaseRequest{ID: s.id, KnownRevision: a.state.Revision}
	if kind != session.LookupForOpening {
		c.KnownRevision = max(c.KnownRevision, 1) // who stands on a stopgap wants somebody's answer, and no other stopgap
	}
	switch {
	case !r.cluster.Shared():
	case kind == session.LookupForRecheck:
		c.Lease, c.Wait = g.policy.LeaseFor, g.policy.LeaseFor
	case kind == session.LookupForOpening && g.State() == backends.BreakerClosed:
		c.Lease, c.Wait = g.policy.LeaseFor, g.policy.WaitFor
	default: // it only looks; so does a node that could not ask, as another one may
	}
	ctx := a.trace.context(r.life.ctx)
	r.life.run(func() {
		ctx, span := startSpan(ctx, r.options.Tracer, "cluster.claim")
		found, storeDeadline, err := r.acquireLease(ctx, c)
		if err != nil {
			span.RecordError(err)
		}
		span.SetAttributes(attribute.Bool("usher.found", found.Found), attribute.Bool("usher.lease", found.Revision != 0))
		span.End()
		e := session.LeaseAnswered{
			Kind: kind, LeaseResult: found, IsUnavailable: err != nil,
			Timer: session.TimerFired{LastSeen: s.LastSeen(), Breaker: g.State()},
		}
		if found.Found {
			if found.Record.Request != nil {
				s.setCredentials(found.Record.Request)
			}
			storeCtx, cancel := context.WithDeadline(ctx, storeDeadline)
			e.Refused = r.refusalOf(storeCtx, s, &found.Record)
			cancel()
		}
		r.send(s, leaseAnswered{event: e, storeDeadline: storeDeadline})
	})
}

// acquireLease asks the store, and returns until when an opening may wait for its further answers: all of them together take
// no longer than the store's timeout. A wait for another node's check does not count. A store that failed is not waited for
// again.
func (r *Registry) acquireLease(ctx context.Context, c session.LeaseRequest) (found session.LeaseResult, storeDeadline time.Time, err error) {
	storeDeadline = time.Now().Add(r.options.StoreTimeout)
	ctx, cancel := context.WithDeadline(ctx, storeDeadline.Add(c.Wait))
	defer cancel()
	found, err = r.cluster.AcquireLease(ctx, c)
	switch now := time.Now(); {
	case err != nil:
		storeDeadline = now
	case now.After(storeDeadline):
		storeDeadline = now.Add(r.options.StoreTimeout)
	}
	return found, storeDeadline, err
}

// refusalOf is why a session that the store knows may not go on: its viewer is banned, or it lost its place and there is
// none for it. nil if it may.
func (r *Registry) refusalOf(ctx context.Context, s *Session, record *session.Record) *backends.Decision {
	d := &record.Decision
	if d.Verdict != backends.Allowed {
		return nil
	}
	if ban, banned := r.cluster.Banned(s.Request(), d); banned {
		return new(banDecision(ban))
	}
	if !record.IsEvicted {
		return nil
	}
	if r.streams.join(ctx, s, record.Opened, d) == session.StreamEvicted {
		return new(evictedDecision(d))
	}
	if err := r.cluster.SetEvicted(ctx, s.id, false); err != nil {
		r.log.Debug("the store could not be told that a session has its place again", slog.Any("error", err))
	}
	return nil
}

// startCheck starts the state's newest check off the mailbox. A viewer who waits while the backend is known to be failing is
// answered at once: probes are not on his clock.
func (a *sessionActor) startCheck(ctx actor.Context, now time.Time) {
	r, s := a.registry, a.session
	g := r.backends[s.backend]
	number := int(a.state.CheckNumber)
	s.checkNumber.Store(int64(number))
	p := new(checkProgress)
	a.progress = p
	question := a.checkRequest()
	question.OnSent = func() { p.sentAt.Store(max(1, int64(time.Since(s.policy.Start)))) }
	checkCtx, done := a.trace.check(r.life.ctx, r.options.Tracer, s, number)
	record, storeDeadline := a.record(a.state.LeaseRevision), now.Add(r.options.StoreTimeout)
	if a.state.IsOpening() {
		storeDeadline = a.storeDeadline
	}
	r.life.run(func() {
		began := time.Now()
		p.startedAt.Store(int64(began.Sub(s.policy.Start)))
		d, err := r.check(checkCtx, g, question)
		done(&d, err)
		if err != nil {
			d = session.Undecided(err)
		}
		answer := session.BackendAnswered{Number: number, Decision: d}
		if d.Verdict == backends.Allowed {
			storeCtx, cancel := context.WithDeadline(checkCtx, storeDeadline.Add(time.Since(began)))
			r.joinStreams(storeCtx, s, record, &answer)
			cancel()
		}
		if r.life.isEnding() {
			// The lease ends by itself if nobody can be told.
			_, _ = r.cluster.saveDecision(session.DecisionUpdate{Record: session.Record{ID: s.id, Revision: record.Revision}}) //nolint:contextcheck // it outlives the registry
		}
		answer.IsBackendDown = g.State() != backends.BreakerClosed
		r.send(s, answer)
	})
	if a.state.IsOpening() && g.State() != backends.BreakerClosed {
		a.waitExpired(ctx, a.fallback(backends.FailureBreakerOpen), now)
	}
}

// joinStreams sees whether a viewer may watch whom his backend allows: he may be banned, or his user may watch enough already.
func (r *Registry) joinStreams(ctx context.Context, s *Session, record session.Record, answer *session.BackendAnswered) {
	d := answer.Decision
	if ban, banned := r.cluster.Banned(s.Request(), &d); banned {
		answer.Decision = banDecision(ban)
		return
	}
	if r.streams.join(ctx, s, record.Opened, &d) != session.StreamEvicted {
		return
	}
	answer.Decision, answer.IsSaved = evictedDecision(&d), true
	// The yes is what the store remembers, so that nobody is asked again when there is a place. The viewer need not wait.
	record.Decision, record.Expires = d, time.Now().Add(s.policy.Clamped(d.ValidFor))
	r.life.run(func() {
		_, _ = r.cluster.saveDecision(session.DecisionUpdate{Record: record}) //nolint:contextcheck // without it there is one question more
		r.cluster.markEvicted(ctx, s.id)
	})
}

// check asks, and survives an adapter that does not.
func (r *Registry) check(ctx context.Context, g *backendRuntime, q *backends.Request) (d backends.Decision, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			r.log.Error("BUG: a backend's check panicked", slog.String("backend", g.name),
				slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
			d, err = backends.Decision{}, session.ErrPanicked
		}
	}()
	return g.Check(ctx, q)
}

// checkRequest is what to ask now: the facts of the opening, and where the session stands.
func (a *sessionActor) checkRequest() *backends.Request {
	q := *a.session.Request()
	q.Number, q.Opened, q.Bytes = int(a.state.CheckNumber), a.state.Opened(), a.session.Bytes()
	q.Current = a.state.Standing()
	return &q
}
