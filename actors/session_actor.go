package actors

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

// Messages of the shell alone; all others are events of the state.
type (
	// begin is the first message of a session's life.
	begin struct {
		session *Session
		ticket  backends.Ticket
		span    trace.SpanContext // of the request that opened it
	}
	// viewerWaited: a request has waited as long as it may.
	viewerWaited struct{}
)

// storeDeadline bounds a look-up, so that a store that hangs costs an opening no more than this.
const storeDeadline = 100 * time.Millisecond

// sessionActor is the shell around a session's state: it carries out what step says. It never blocks.
type sessionActor struct {
	registry *Registry
	session  *Session
	state    session
	asked    *atomic.Int64 // Unix nanoseconds since which the newest check has been with the backend; 0: not yet
	trace    sessionTrace
	stopgap  time.Time // since when the session stands on no answer
}

// Receive handles one message.
func (a *sessionActor) Receive(ctx actor.Context) {
	now := time.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.recover(ctx, now)
	case *actor.Stopped:
		a.registry.alive.Done()
	case *actor.Stopping, *actor.Restarting:
	case begin:
		a.begin(ctx, m, now)
	case viewerWaited:
		a.viewerWaited(ctx, now)
	default:
		a.apply(ctx, m, now)
	}
}

func (a *sessionActor) begin(ctx actor.Context, m begin, now time.Time) {
	s := m.session
	a.session = s
	s.begun.Store(true)
	a.state = session{
		rules: s.rules, id: s.id, hasFacts: s.introduced.Load(),
		opened: now.Truncate(time.Second), key: a.registry.o.SigningKey(), ticketOpened: m.ticket.Opened,
	}
	if m.ticket.Key != "" {
		a.state.key = m.ticket.Key // one session, one ticket, whichever key signs new ones
	}
	a.trace.open(a.registry.o.Tracer, s, m.span)
	a.apply(ctx, opened{}, now)
}

// recover goes on after a panic, with what the session had published. The session of an actor that starts for the
// first time comes with its first message.
func (a *sessionActor) recover(ctx actor.Context, now time.Time) {
	s := a.registry.sessionOf(ctx.Self())
	if s == nil || !s.begun.Load() {
		return
	}
	a.registry.o.Logger.Error("session actor panicked; rebuilt it from what it had published",
		slog.String("session", s.id.String()))
	a.session = s
	t := s.Ticket()
	a.state = session{
		rules: s.rules, id: s.id, hasFacts: s.introduced.Load(),
		opened: t.Opened, key: t.Key, check: int(s.check.Load()),
	}
	d := s.Decision()
	if d == nil {
		a.state.opened, a.state.key, a.state.check = now.Truncate(time.Second), a.registry.o.SigningKey(), a.state.check+1
		a.apply(ctx, opened{}, now)
		return
	}
	a.state.decision = *d
	a.apply(ctx, rebuilt{}, now)
}

// sessionOf finds the session that an actor belongs to, by its name.
func (r *Registry) sessionOf(pid *actor.PID) *Session {
	name, _, _ := strings.Cut(pid.Id, ".")
	id, err := backends.ParseSessionID(name)
	if err != nil {
		return nil
	}
	if s := r.table.find(id); s != nil && s.actorName() == pid.Id {
		return s
	}
	return nil
}

// apply lets the state take the event, and does what it says.
func (a *sessionActor) apply(ctx actor.Context, event any, now time.Time) {
	if a.session == nil {
		return
	}
	before := a.state.phase
	do := a.state.step(event, now)
	if before != a.state.phase {
		a.registry.count(before, a.state.phase)
	}
	if do.publish {
		a.publish(now)
	}
	if do.bury {
		a.bury()
	}
	if do.lookUp {
		a.lookUp()
	}
	if do.ask {
		a.ask(ctx, now)
	}
	if do.queue != noLane {
		a.registry.guarded[a.session.backend].pacer.enqueue(a.session, do.queue)
	}
	if !do.wake.IsZero() {
		a.registry.wheel.arm(a.session, do.wake)
	}
	if do.ending != notEnding {
		a.end(ctx, do.ending, now)
	}
}

// publish shows the decision to requests, and wakes those who wait for the first one.
func (a *sessionActor) publish(now time.Time) {
	s, d := a.session, a.state.decision
	before := s.decision.Load()
	a.account(d, now)
	s.ticket.Store(&backends.Ticket{Opened: a.state.opened, Key: a.state.key})
	s.decision.Store(&d)
	if first := s.first.Swap(nil); first != nil {
		close(first.taken)
	}
	a.trace.decided(&d)
	a.logChange(before, &d)
}

// account adds up how long the session stood on no answer.
func (a *sessionActor) account(d backends.Decision, now time.Time) {
	if !a.stopgap.IsZero() {
		a.session.stopgap.Add(int64(now.Sub(a.stopgap)))
		a.stopgap = time.Time{}
	}
	if d.Verdict == backends.Allowed && !d.Source.Asked() {
		a.stopgap = now
	}
}

// logChange notes what an operator would search for: a running viewer who was cut.
func (a *sessionActor) logChange(before, now *backends.Decision) {
	if before == nil || before.Verdict != backends.Allowed || now.Verdict != backends.Denied {
		return
	}
	a.registry.o.Logger.Info("viewer was refused while watching",
		slog.String("session", a.session.id.String()), slog.String("channel", a.session.Facts().Channel),
		slog.String("user", now.User), slog.String("source", now.Source.String()), slog.String("reason", now.Reason))
}

// lookUp reads the store off the mailbox.
func (a *sessionActor) lookUp() {
	r, s := a.registry, a.session
	ctx := a.trace.context(r.life)
	r.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, storeDeadline)
		defer cancel()
		ctx, span := startSpan(ctx, r.o.Tracer, "cluster.lookup")
		record, found, err := r.o.Store.Load(ctx, s.id)
		if err != nil {
			span.RecordError(err)
		}
		span.SetAttributes(attribute.Bool("usher.found", found))
		span.End()
		if found && record.Facts != nil && s.introduced.CompareAndSwap(false, true) {
			s.facts.Store(record.Facts)
		}
		r.tell(s, recordLoaded{record: record, found: found})
	})
}

// ask starts the state's newest check off the mailbox. A viewer who waits while the backend is known to be failing is
// answered at once: probes are not on his clock.
func (a *sessionActor) ask(ctx actor.Context, now time.Time) {
	r, s := a.registry, a.session
	g := r.guarded[s.backend]
	number := a.state.check
	s.check.Store(int64(number))
	asked := new(atomic.Int64)
	a.asked = asked
	question := a.question()
	question.Asking = func() { asked.Store(time.Now().UnixNano()) }
	checkCtx, done := a.trace.check(r.life, r.o.Tracer, s, number)
	r.running.Go(func() {
		d, err := g.Check(checkCtx, question)
		done(&d, err)
		r.tell(s, backendAnswered{number: number, decision: d, err: err, down: g.Health() != Healthy})
	})
	if a.state.phase == opening && g.Health() != Healthy {
		a.answerInstead(ctx, backends.FailureBreakerOpen, now)
	}
}

// question is what to ask now: the facts of the opening, and where the session stands.
func (a *sessionActor) question() *backends.Request {
	q := *a.session.Facts()
	q.Number, q.Opened, q.Bytes = a.state.check, a.state.opened, a.session.Bytes()
	if a.state.ran {
		q.Standing = a.state.decision
	}
	return &q
}

// viewerWaited answers a viewer who has waited as long as he may. Only a question that has been with the backend for
// that long counts as unanswered; one that waited in a queue of ours is an overload, which lets nobody in.
func (a *sessionActor) viewerWaited(ctx actor.Context, now time.Time) {
	if a.session == nil || a.state.phase != opening {
		return
	}
	g := a.registry.guarded[a.session.backend]
	if a.asked != nil {
		if since := a.asked.Load(); since > 0 && now.Sub(time.Unix(0, since)) >= g.deadline*9/10 {
			a.answerInstead(ctx, backends.FailureTimeout, now)
			return
		}
	}
	a.apply(ctx, answerOverdue{err: &backends.Overload{
		Setting: "backends." + g.name + ".answer_deadline (ms)", Value: int(g.deadline.Milliseconds()),
	}}, now)
}

func (a *sessionActor) answerInstead(ctx actor.Context, kind backends.FailureKind, now time.Time) {
	g := a.registry.guarded[a.session.backend]
	d, err := g.Instead(a.question(), &backends.Failure{Kind: kind, Backend: g.name})
	a.apply(ctx, answerOverdue{instead: d, err: err}, now)
}

// bury makes the session's ticket useless, here and wherever the store is shared.
func (a *sessionActor) bury() {
	r, id, opened := a.registry, a.session.id, a.state.opened
	r.running.Go(func() {
		if err := r.o.Store.Bury(r.life, id, opened); err != nil {
			r.o.Logger.Warn("a refused viewer's ticket could not be buried; it may be revived by a node that forgot the refusal",
				slog.String("session", id.String()), slog.Any("error", err))
		}
	})
}

// end closes the session: remembered first, then forgotten here, so that a viewer who comes back meanwhile is known.
func (a *sessionActor) end(ctx actor.Context, e ending, now time.Time) {
	r, s := a.registry, a.session
	a.account(backends.Decision{}, now)
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
		if err := r.o.Store.Save(r.life, record); err != nil {
			r.o.Logger.Warn("an idle session could not be remembered", slog.String("session", s.id.String()),
				slog.Any("error", err))
		}
		r.table.remove(s)
		r.system.Root.Stop(pid)
	})
	r.logClosed(s, e, now)
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
