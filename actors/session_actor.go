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
	// sessionCreated is the first message of a session's life.
	sessionCreated struct {
		session *Session
		span    trace.SpanContext // of the request that opened it
	}
	// onViewerWaited: a request has waited as long as it may.
	viewerWaited struct{}
	// onLeaseAnswered is the store's answer, and how long an opening may wait for the store's further ones.
	leaseAnswered struct {
		event         session.LeaseAnswered
		storeDeadline time.Time
	}
)

// maxRestarts is how often an opening that panics begins again, so that one that always does is no hot loop.
const maxRestarts = 1

// sessionActor is the shell around a session's state: it carries out what step says. It never blocks.
type sessionActor struct {
	registry *Registry
	session  *Session
	state    session.State
	progress *checkProgress // of the newest check
	trace    sessionTrace
	// storeDeadline is until when the opening waits for the store. It is made once, when the store is first asked, and moves
	// by the time in which a check is waited for.
	storeDeadline   time.Time
	unverifiedSince time.Time // since when the session stands on no answer
}

// checkProgress is how far a check has come. Its times are in nanoseconds since the node's start; 0: not yet.
type checkProgress struct {
	startedAt, sentAt atomic.Int64 // when it was begun, and when the question went out
}

// isUnanswered reports whether the question went out without waiting for anything of ours, and has had no answer since.
// One that waited in a queue may still be answered well within the backend's own time.
func (p *checkProgress) isUnanswered(deadline time.Duration) bool {
	const allowance = 20 // the share of the deadline that a free slot may take to get
	asked := p.sentAt.Load()
	return asked > 0 && time.Duration(asked-p.startedAt.Load()) <= deadline/allowance
}

// Receive handles one message.
func (a *sessionActor) Receive(ctx actor.Context) {
	defer a.reportPanic()
	now := time.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.restore(ctx, now)
	case *actor.Stopped:
		a.registry.life.actors.Done()
	case *actor.Stopping, *actor.Restarting:
	case sessionCreated:
		a.start(ctx, m, now)
	case viewerWaited:
		a.onViewerWaited(ctx, now)
	case session.TimerFired:
		a.apply(ctx, a.withFallback(m, now), now)
	case leaseAnswered:
		a.onLeaseAnswered(ctx, m, now)
	case session.Event:
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
		a.countUnverified(backends.Decision{}, time.Now())
		a.trace.end()
	}
	a.registry.log.Error("BUG: a session's actor panicked; it is rebuilt from what it had published",
		slog.String("session", id), slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
	panic(reason)
}

func panicError(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return known
	}
	return fmt.Errorf("panic of type %T", reason)
}

func (a *sessionActor) start(ctx actor.Context, m sessionCreated, now time.Time) {
	m.session.isStarted.Store(true)
	a.open(ctx, m.session, m.span, now)
}

// open starts the session's opening, also for the second time if the first one panicked.
func (a *sessionActor) open(ctx actor.Context, s *Session, span trace.SpanContext, now time.Time) {
	first := s.opening.Load()
	if first == nil {
		return
	}
	restarts := int(first.restarts.Load())
	a.session = s
	origin := session.Origin{
		ID: s.id, HasCredentials: s.hasCredentials.Load(), Opened: now, ExtraLifetime: s.extraLifetime,
		CheckNumber: int(s.checkNumber.Load()) + restarts, // an answer still in flight belongs to the state that is lost
	}
	if restarts > maxRestarts {
		a.state = session.NewState(origin)
		a.waitExpired(ctx, session.Undecided(session.ErrPanicked), now)
		return
	}
	origin.KeyID = a.registry.options.SigningKey()
	a.state = session.NewState(origin)
	a.trace.open(a.registry.options.Tracer, s, span)
	if ban, banned := a.registry.cluster.Banned(s.Request(), nil); banned {
		a.apply(ctx, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)}, now)
		return
	}
	a.apply(ctx, session.OpenRequested{}, now)
}

// restore goes on after a panic, with what the session had published. The session of an actor that starts for the
// first time comes with its first message.
func (a *sessionActor) restore(ctx actor.Context, now time.Time) {
	s := a.registry.sessionOf(ctx.Self())
	if s == nil || !s.isStarted.Load() || a.registry.life.isEnding() {
		return
	}
	if first := s.opening.Load(); first != nil {
		first.restarts.Add(1)
		a.open(ctx, s, trace.SpanContext{}, now)
		return
	}
	t := s.Ticket()
	a.session = s
	a.state = session.NewState(session.Origin{
		ID: s.id, HasCredentials: s.hasCredentials.Load(), Opened: t.Opened, KeyID: t.KeyID, ExtraLifetime: s.extraLifetime,
		CheckNumber: int(s.checkNumber.Load()),
	})
	d := *s.Decision()
	a.countUnverified(d, now)
	a.apply(ctx, session.Restored{Decision: d}, now)
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
func (a *sessionActor) apply(ctx actor.Context, event session.Event, now time.Time) {
	if a.session == nil {
		return
	}
	do := a.state.Step(&a.session.policy.Policy, event, now)
	a.session.expires.Store(int64(a.state.Expires))
	if do.Publish {
		a.publish(now)
	}
	a.writeToStore(do)
	if do.Lookup != session.NoLookup {
		a.lookUp(do.Lookup)
	}
	if do.ReturnSlot {
		a.registry.backends[a.session.backend].rechecks.returnSlot()
	}
	if do.StartCheck {
		a.startCheck(ctx, now)
	}
	if do.Enqueue != session.NotQueued {
		a.registry.backends[a.session.backend].rechecks.enqueue(a.session, do.Enqueue)
	}
	if !do.WakeAt.IsZero() {
		a.registry.timers.arm(a.session, do.WakeAt)
	}
	if do.Close != session.NotClosing {
		a.close(ctx, do.Close, now)
	}
}

// publish shows the decision to requests, and wakes those who wait for the first one.
func (a *sessionActor) publish(now time.Time) {
	s, d := a.session, a.state.Decision
	before := s.decision.Load()
	a.countUnverified(d, now)
	a.countViewer(d.Verdict == backends.Allowed)
	s.ticket.Store(&session.Ticket{Opened: a.state.Opened(), KeyID: a.state.KeyID})
	s.decision.Store(&d)
	s.addToHistory(&d)
	a.registry.streams.onDecision(s, &d)
	if first := s.opening.Swap(nil); first != nil {
		close(first.done)
	}
	a.trace.decided(&d)
	a.logDenial(before, &d)
}

// countViewer counts the viewer among the audience, or no longer.
func (a *sessionActor) countViewer(watching bool) {
	if s := a.session; s.isCountedViewer != watching {
		s.isCountedViewer = watching
		a.registry.viewers.add(s.Request().Channel, watching)
	}
}

// countUnverified adds up how long the session stood on no answer.
func (a *sessionActor) countUnverified(d backends.Decision, now time.Time) {
	if !a.unverifiedSince.IsZero() {
		a.session.unverified.Add(int64(now.Sub(a.unverifiedSince)))
		a.unverifiedSince = time.Time{}
	}
	if d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		a.unverifiedSince = now
	}
}

// logDenial notes what an operator would search for: a running viewer who was cut.
func (a *sessionActor) logDenial(before, now *backends.Decision) {
	if before == nil || before.Verdict != backends.Allowed || now.Verdict != backends.Denied {
		return
	}
	a.registry.log.Info("viewer was refused while watching",
		slog.String("session", a.session.id.String()), slog.String("channel", a.session.Request().Channel),
		slog.String("user", now.User), slog.String("source", now.Source.String()), slog.String("reason", now.Reason))
}

// onViewerWaited answers a viewer who has waited as long as he may. Only a question that the backend has had all that time
// counts as unanswered; one that waited in a queue of ours is an overload, which lets nobody in.
func (a *sessionActor) onViewerWaited(ctx actor.Context, now time.Time) {
	if a.session == nil || !a.state.IsOpening() {
		return
	}
	g := a.registry.backends[a.session.backend]
	if a.progress != nil && a.progress.isUnanswered(g.answerDeadline) {
		a.waitExpired(ctx, a.fallback(backends.FailureTimeout), now)
		return
	}
	a.waitExpired(ctx, session.Undecided(g.answerOverdue()), now)
}

// onLeaseAnswered takes the store's answer.
func (a *sessionActor) onLeaseAnswered(ctx actor.Context, m leaseAnswered, now time.Time) {
	e := m.event
	if e.Kind == session.LookupForOpening {
		a.trace.comesFrom(e.Record.Trace)
		a.storeDeadline = m.storeDeadline
	}
	if a.session != nil {
		e.Ticket = a.session.presentedTicket()
	}
	e.Timer = a.withFallback(e.Timer, now)
	a.apply(ctx, e, now)
}

// withFallback adds to the timer's event what the outage policy decides on a running session whose backend is down.
func (a *sessionActor) withFallback(e session.TimerFired, now time.Time) session.TimerFired {
	isRunning := a.session != nil && a.state.IsAllowed()
	if !isRunning || e.Breaker == backends.BreakerClosed || now.Before(a.session.Expires()) {
		return e
	}
	e.Fallback = a.fallback(backends.FailureBreakerOpen)
	return e
}

// fallback returns what the outage policy decides after such a failure.
func (a *sessionActor) fallback(kind backends.FailureKind) backends.Decision {
	g := a.registry.backends[a.session.backend]
	d, err := g.Fallback(a.checkRequest(), &backends.Failure{Kind: kind, Backend: g.name})
	if err != nil {
		return session.Undecided(err)
	}
	return d
}

// waitExpired answers the waiting viewer with what the outage policy decides.
func (a *sessionActor) waitExpired(ctx actor.Context, fallback backends.Decision, now time.Time) {
	a.apply(ctx, session.WaitExpired{Fallback: fallback, Ticket: a.session.presentedTicket()}, now)
}

// presentedTicket returns the ticket that the viewer presented; zero without one, and once the first decision is taken.
func (s *Session) presentedTicket() session.Ticket {
	if first := s.opening.Load(); first != nil {
		return first.ticket
	}
	return session.Ticket{}
}
