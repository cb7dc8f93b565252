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

// claim asks the store.
func (a *sessionActor) claim(kind session.LookupKind) {
	r, s := a.registry, a.session
	g := r.guarded[s.backend]
	c := session.LeaseRequest{ID: s.id, KnownRevision: a.state.Revision}
	if kind != session.LookupForOpening {
		c.KnownRevision = max(c.KnownRevision, 1) // who stands on a stopgap wants somebody's answer, and no other stopgap
	}
	switch {
	case !r.o.Cluster.Shared():
	case kind == session.LookupForRecheck:
		c.Lease, c.Wait = g.rules.LeaseFor, g.rules.LeaseFor
	case kind == session.LookupForOpening && g.State() == backends.BreakerClosed:
		c.Lease, c.Wait = g.rules.LeaseFor, g.rules.WaitFor
	default: // it only looks; so does a node that could not ask, as another one may
	}
	ctx := a.trace.context(r.life)
	r.running.Go(func() {
		ctx, span := startSpan(ctx, r.o.Tracer, "cluster.claim")
		found, took, err := r.claimed(ctx, c)
		if err != nil {
			span.RecordError(err)
		}
		span.SetAttributes(attribute.Bool("usher.found", found.Found), attribute.Bool("usher.lease", found.Revision != 0))
		span.End()
		e := session.LeaseAnswered{
			Kind: kind, LeaseResult: found, Away: err != nil, Took: took,
			TimerFired: session.TimerFired{LastSeen: s.LastSeen(), Breaker: g.State()},
		}
		if found.Found {
			if found.Record.Request != nil {
				s.introduce(found.Record.Request)
			}
			e.Refused = r.refusal(ctx, s, &found.Record, took)
		}
		r.tell(s, e)
	})
}

// claimed asks the store for no longer than a viewer may wait for it. took is how much of that is used up: none where it
// was another node's answer that was waited for.
func (r *Registry) claimed(ctx context.Context, c session.LeaseRequest) (found session.LeaseResult, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Wait+r.o.StoreTimeout)
	defer cancel()
	began := time.Now()
	found, err = r.o.Cluster.AcquireLease(ctx, c)
	switch took = time.Since(began); {
	case err != nil:
		took = r.o.StoreTimeout
	case took > r.o.StoreTimeout:
		took = 0
	}
	return found, took, err
}

// storeTime bounds what a viewer waits for the store who has waited for it so long already. When the time is over, what this
// node knows by itself counts.
func (r *Registry) storeTime(ctx context.Context, took time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.o.StoreTimeout-took)
}

// refusal is why a session that the store knows may not go on: its viewer is banned, or it lost its place and there is
// none for it. nil if it may.
func (r *Registry) refusal(ctx context.Context, s *Session, record *session.Record, took time.Duration) *backends.Decision {
	d := &record.Decision
	if d.Verdict != backends.Allowed {
		return nil
	}
	if ban, banned := r.o.Cluster.Banned(s.Request(), d); banned {
		return new(bannedBy(ban))
	}
	if !record.IsEvicted {
		return nil
	}
	ctx, cancel := r.storeTime(ctx, took)
	defer cancel()
	if r.limits.join(ctx, s, record.Opened, d) == session.StreamEvicted {
		return new(evicted(d))
	}
	if err := r.o.Cluster.SetEvicted(ctx, s.id, false); err != nil {
		r.o.Logger.Debug("the store could not be told that a session has its place again", slog.Any("error", err))
	}
	return nil
}

// ask starts the state's newest check off the mailbox. A viewer who waits while the backend is known to be failing is
// answered at once: probes are not on his clock.
func (a *sessionActor) ask(ctx actor.Context, now time.Time) {
	r, s := a.registry, a.session
	g := r.guarded[s.backend]
	number := a.state.CheckNumber
	s.check.Store(int64(number))
	p := new(progress)
	a.progress = p
	question := a.question()
	question.OnSent = func() { p.asked.Store(max(1, int64(time.Since(r.start)))) }
	checkCtx, done := a.trace.check(r.life, r.o.Tracer, s, number)
	record, took := a.record(a.state.LeaseRevision), time.Duration(0)
	if a.state.Phase == session.Opening {
		took = a.claimTook
	}
	r.running.Go(func() {
		p.begun.Store(int64(time.Since(r.start)))
		d, err := r.check(checkCtx, g, question)
		done(&d, err)
		answer := session.BackendAnswered{Number: number, Decision: d, Err: err}
		if err == nil && d.Verdict == backends.Allowed {
			r.place(checkCtx, s, record, took, &answer)
		}
		if r.life.Err() != nil {
			// The lease ends by itself if nobody can be told.
			_, _ = r.publish(session.DecisionUpdate{Record: session.Record{ID: s.id, Revision: record.Revision}}) //nolint:contextcheck // it outlives the registry
		}
		answer.Down = g.State() != backends.BreakerClosed
		r.tell(s, answer)
	})
	if a.state.Phase == session.Opening && g.State() != backends.BreakerClosed {
		a.answerWithFallback(ctx, backends.FailureBreakerOpen, now)
	}
}

// place sees whether a viewer may watch whom his backend allows: he may be banned, or his user may watch enough already.
// He may have waited for the store so long already as it took.
func (r *Registry) place(
	ctx context.Context, s *Session, record session.Record, took time.Duration, answer *session.BackendAnswered,
) {
	d := answer.Decision
	if ban, banned := r.o.Cluster.Banned(s.Request(), &d); banned {
		answer.Decision = bannedBy(ban)
		return
	}
	joining, cancel := r.storeTime(ctx, took)
	defer cancel()
	if r.limits.join(joining, s, record.Opened, &d) != session.StreamEvicted {
		return
	}
	answer.Decision, answer.Saved = evicted(&d), true
	// The yes is what the store remembers, so that nobody is asked again when there is a place. The viewer need not wait.
	record.Decision, record.Expires = d, time.Now().Add(s.rules.Clamped(d.ValidFor))
	r.running.Go(func() {
		_, _ = r.publish(session.DecisionUpdate{Record: record}) //nolint:contextcheck // without it there is one question more
		r.evict(ctx, s.id)
	})
}

// check asks, and survives an adapter that does not.
func (r *Registry) check(ctx context.Context, g *guarded, q *backends.Request) (d backends.Decision, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			r.o.Logger.Error("BUG: a backend's check panicked", slog.String("backend", g.name),
				slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
			d, err = backends.Decision{}, session.ErrPanicked
		}
	}()
	return g.Check(ctx, q)
}

// question is what to ask now: the facts of the opening, and where the session stands.
func (a *sessionActor) question() *backends.Request {
	q := *a.session.Request()
	q.Number, q.Opened, q.Bytes = a.state.CheckNumber, a.state.Opened, a.session.Bytes()
	q.Current = a.state.Standing()
	return &q
}
