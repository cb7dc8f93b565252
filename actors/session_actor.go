package actors

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"usher/actors/session"
	"usher/backends"
)

// Messages of the shell alone; all others are events of the state.
type (
	// begin is the first message of a session's life.
	begin struct {
		session *Session
		span    trace.SpanContext // of the request that opened it
	}
	// viewerWaited: a request has waited as long as it may.
	viewerWaited struct{}
)

// writeDeadline bounds what no viewer waits for: a session that ended stays findable until it is saved.
const writeDeadline = 2 * time.Second

// maxRestarts is how often an opening that panics begins again, so that one that always does is no hot loop.
const maxRestarts = 1

// sessionActor is the shell around a session's state: it carries out what step says. It never blocks.
type sessionActor struct {
	registry *Registry
	session  *Session
	state    session.State
	progress *progress // of the newest check
	trace    sessionTrace
	// claimTook is how much of the time that a viewer may wait for the store the opening has used up.
	claimTook time.Duration
	stopgap   time.Time // since when the session stands on no answer
}

// progress is how far a check has come. Its times are in nanoseconds since the node's start; 0: not yet.
type progress struct {
	begun, asked atomic.Int64 // when it was begun, and when the question went out
}

// unanswered reports whether the question went out without waiting for anything of ours, and has had no answer since.
// One that waited in a queue may still be answered well within the backend's own time.
func (p *progress) unanswered(deadline time.Duration) bool {
	const allowance = 20 // the share of the deadline that a free slot may take to get
	asked := p.asked.Load()
	return asked > 0 && time.Duration(asked-p.begun.Load()) <= deadline/allowance
}

// Receive handles one message.
func (a *sessionActor) Receive(ctx actor.Context) {
	defer a.reportPanic()
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
	case session.TimerFired:
		a.apply(ctx, a.withStandIn(m, now), now)
	case session.LeaseAnswered:
		if m.Kind == session.LookupForOpening {
			a.trace.comesFrom(m.Record.Trace)
			a.claimTook = m.Took
		}
		m.TimerFired = a.withStandIn(m.TimerFired, now)
		a.apply(ctx, m, now)
	default:
		a.apply(ctx, m, now)
	}
}

// reportPanic notes a panic on its way to the supervisor, which has the actor started afresh. A value that is not the
// runtime's own is not shown: it may hold a viewer's words.
func (a *sessionActor) reportPanic() {
	reason := recover()
	if reason == nil {
		return
	}
	id := "unknown"
	if a.session != nil {
		id = a.session.id.String()
		a.account(backends.Decision{}, time.Now())
		a.trace.end()
	}
	a.registry.o.Logger.Error("BUG: a session's actor panicked; it is rebuilt from what it had published",
		slog.String("session", id), slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
	panic(reason)
}

func panicError(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return known
	}
	return fmt.Errorf("panic of type %T", reason)
}

func (a *sessionActor) begin(ctx actor.Context, m begin, now time.Time) {
	m.session.begun.Store(true)
	a.open(ctx, m.session, m.span, now)
}

// open starts the session's opening, also for the second time if the first one panicked.
func (a *sessionActor) open(ctx actor.Context, s *Session, span trace.SpanContext, now time.Time) {
	first := s.first.Load()
	if first == nil {
		return
	}
	restarts := int(first.restarts.Load())
	a.session = s
	a.state = session.State{
		Policy: &s.rules.Policy, ID: s.id, HasCredentials: s.introduced.Load(), Opened: now.Truncate(time.Second),
		PresentedTicket: first.ticket, ExtraLifetime: s.margin,
		CheckNumber: int(s.check.Load()) + restarts, // an answer still on its way belongs to the state that is gone
	}
	if restarts > maxRestarts {
		a.apply(ctx, session.WaitExpired{Err: session.ErrPanicked}, now)
		return
	}
	a.state.KeyID = a.registry.o.SigningKey()
	a.trace.open(a.registry.o.Tracer, s, span)
	if ban, banned := a.registry.o.Cluster.Banned(s.Request(), nil); banned {
		a.apply(ctx, session.Revoked{Kind: session.RevokedBanned, Decision: bannedBy(ban)}, now)
		return
	}
	a.apply(ctx, session.OpenRequested{}, now)
}

// recover goes on after a panic, with what the session had published. The session of an actor that starts for the
// first time comes with its first message.
func (a *sessionActor) recover(ctx actor.Context, now time.Time) {
	s := a.registry.sessionOf(ctx.Self())
	if s == nil || !s.begun.Load() || a.registry.life.Err() != nil {
		return
	}
	if first := s.first.Load(); first != nil {
		first.restarts.Add(1)
		a.open(ctx, s, trace.SpanContext{}, now)
		return
	}
	t := s.Ticket()
	a.session = s
	a.state = session.State{
		Policy: &s.rules.Policy, ID: s.id, HasCredentials: s.introduced.Load(),
		Opened: t.Opened, KeyID: t.KeyID, ExtraLifetime: s.margin, CheckNumber: int(s.check.Load()), Decision: *s.Decision(),
	}
	a.account(a.state.Decision, now)
	a.apply(ctx, session.Restored{}, now)
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
	do := a.state.Step(event, now)
	a.session.expires.Store(int64(a.state.Expires.Sub(a.registry.start)))
	if do.Publish {
		a.publish(now)
	}
	a.tellStore(do)
	if do.Lookup != session.NoLookup {
		a.claim(do.Lookup)
	}
	if do.ReturnSlot {
		a.registry.guarded[a.session.backend].pacer.refund()
	}
	if do.StartCheck {
		a.ask(ctx, now)
	}
	if do.Enqueue != session.NotQueued {
		a.registry.guarded[a.session.backend].pacer.enqueue(a.session, do.Enqueue)
	}
	if !do.WakeAt.IsZero() {
		a.registry.wheel.arm(a.session, do.WakeAt)
	}
	if do.Close != session.NotClosing {
		a.end(ctx, do.Close, now)
	}
}

// publish shows the decision to requests, and wakes those who wait for the first one.
func (a *sessionActor) publish(now time.Time) {
	s, d := a.session, a.state.Decision
	before := s.decision.Load()
	a.account(d, now)
	a.attend(d.Verdict == backends.Allowed)
	s.ticket.Store(&session.Ticket{Opened: a.state.Opened, KeyID: a.state.KeyID})
	s.decision.Store(&d)
	s.remember(&d)
	a.registry.limits.note(s, &d)
	if first := s.first.Swap(nil); first != nil {
		close(first.taken)
	}
	a.trace.decided(&d)
	a.logChange(before, &d)
}

// attend counts the viewer among the audience, or no longer.
func (a *sessionActor) attend(watching bool) {
	if s := a.session; s.attending != watching {
		s.attending = watching
		a.registry.audience.change(s.Request().Channel, watching)
	}
}

// account adds up how long the session stood on no answer.
func (a *sessionActor) account(d backends.Decision, now time.Time) {
	if !a.stopgap.IsZero() {
		a.session.stopgap.Add(int64(now.Sub(a.stopgap)))
		a.stopgap = time.Time{}
	}
	if d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		a.stopgap = now
	}
}

// logChange notes what an operator would search for: a running viewer who was cut.
func (a *sessionActor) logChange(before, now *backends.Decision) {
	if before == nil || before.Verdict != backends.Allowed || now.Verdict != backends.Denied {
		return
	}
	a.registry.o.Logger.Info("viewer was refused while watching",
		slog.String("session", a.session.id.String()), slog.String("channel", a.session.Request().Channel),
		slog.String("user", now.User), slog.String("source", now.Source.String()), slog.String("reason", now.Reason))
}

// viewerWaited answers a viewer who has waited as long as he may. Only a question that the backend has had all that time
// counts as unanswered; one that waited in a queue of ours is an overload, which lets nobody in.
func (a *sessionActor) viewerWaited(ctx actor.Context, now time.Time) {
	if a.session == nil || a.state.Phase != session.Opening {
		return
	}
	g := a.registry.guarded[a.session.backend]
	if a.progress != nil && a.progress.unanswered(g.deadline) {
		a.answerWithFallback(ctx, backends.FailureTimeout, now)
		return
	}
	a.apply(ctx, session.WaitExpired{Err: g.tooLate()}, now)
}

// withStandIn adds to the timer's event what the outage policy says of a running session, while nobody can be asked.
func (a *sessionActor) withStandIn(e session.TimerFired, now time.Time) session.TimerFired {
	running := a.session != nil && (a.state.Phase == session.Allowed || a.state.Phase == session.Rechecking)
	if !running || e.Breaker == backends.BreakerClosed || now.Before(a.state.Expires) {
		return e
	}
	g := a.registry.guarded[a.session.backend]
	e.Fallback, e.Err = g.Fallback(a.question(), &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: g.name})
	return e
}

func (a *sessionActor) answerWithFallback(ctx actor.Context, kind backends.FailureKind, now time.Time) {
	g := a.registry.guarded[a.session.backend]
	d, err := g.Fallback(a.question(), &backends.Failure{Kind: kind, Backend: g.name})
	a.apply(ctx, session.WaitExpired{Fallback: d, Err: err}, now)
}
