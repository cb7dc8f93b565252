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
	"usher/actors/timeline"
	"usher/backends"
)

// Messages of the actor alone. All others are events of the state.
type (
	// sessionCreated is the first message of a session.
	sessionCreated struct {
		session *Session
		span    trace.SpanContext // of the request that opens it
	}
	// backendReplaced reports that the session has another backend since a reload.
	backendReplaced struct{}
	// viewerWaited reports that a request has waited for as long as it may.
	viewerWaited struct{}
	// leaseAnswered is the store's answer, and until when an opening may wait for its further answers.
	leaseAnswered struct {
		event         session.LeaseAnswered
		storeDeadline time.Time
	}
)

// maxRestarts is how often an opening that panics starts again, so that one that always panics is no hot loop.
const maxRestarts = 1

// sessionActor carries out what the session's state says must be done. It never blocks.
type sessionActor struct {
	registry *Registry
	session  *Session
	state    session.State
	progress *checkProgress // of the newest check, until it is answered
	trace    sessionTrace
	// storeDeadline is until when the opening waits for the store. It is set when the store is first asked, and moves by the
	// time in which a check is waited for.
	storeDeadline time.Time
	// observed is the backend's name as of the last decision that the observer was told; empty: it was told none.
	observed string
	// unverifiedSince is since when the session is allowed without an answer; zero: it is not.
	unverifiedSince time.Time
	// unverifiedFor is for how long, until that time, the viewer has watched since the last answer.
	unverifiedFor time.Duration
	// failure is why the outage policy decided last in the backend's place.
	failure backends.FailureKind
}

// checkProgress is how far a check has come. Its times are nanoseconds since the node's start; 0: not yet.
type checkProgress struct {
	startedAt atomic.Int64
	sentAt    atomic.Int64 // when the backend was asked
	// trigger is why the check was made. took and failure are its outcome, set before the actor is told of it.
	trigger timeline.Trigger
	took    time.Duration
	failure *backends.Failure
}

// isUnanswered reports whether the backend was asked at once and has not answered since. A check that waited in a queue of
// Usher's own may still be answered well within the backend's own time.
func (p *checkProgress) isUnanswered(deadline time.Duration) bool {
	const allowance = 20 // the share of the deadline that it may take to get a free slot
	sent := p.sentAt.Load()
	return sent > 0 && time.Duration(sent-p.startedAt.Load()) <= deadline/allowance
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
	case backendReplaced:
		a.renameBackend()
	case viewerWaited:
		a.onViewerWaited(ctx, now)
	case session.TimerFired:
		a.apply(ctx, a.withFallback(m, now), now)
	case leaseAnswered:
		a.onLeaseAnswered(ctx, m, now)
	case session.Event:
		if _, isReopened := m.(session.OpenRequested); isReopened {
			a.progress = nil // of the check that denied
		}
		a.apply(ctx, m, now)
	}
}

// reportPanic logs a panic, which the supervisor answers with a new actor. Only the runtime's own errors are shown: any other
// value may hold what a viewer sent.
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
	a.registry.log.Error("BUG: session actor panicked, restoring what it had published",
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

// open starts the session's opening, also again after a panic.
func (a *sessionActor) open(ctx actor.Context, s *Session, span trace.SpanContext, now time.Time) {
	opening := s.opening.Load()
	if opening == nil {
		return
	}
	restarts := int(opening.restarts.Load())
	a.session = s
	origin := session.Origin{
		ID: s.id, HasCredentials: s.hasCredentials.Load(), Opened: now, ExtraLifetime: s.extraLifetime,
		CheckNumber: int(s.checkNumber.Load()) + restarts, // an answer still in flight belongs to the state that is lost
		RootOpened:  s.rootOpened(),
	}
	if restarts > maxRestarts {
		a.state = session.NewState(origin)
		a.waitExpired(ctx, session.WaitExpired{Fallback: session.PendingDecision(session.ErrPanicked)}, now)
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

// restore continues after a panic with what the session had published. An actor that starts for the first time gets its
// session with its first message.
func (a *sessionActor) restore(ctx actor.Context, now time.Time) {
	s := a.registry.sessionOf(ctx.Self())
	if s == nil || !s.isStarted.Load() || a.registry.life.isEnding() {
		return
	}
	if opening := s.opening.Load(); opening != nil {
		opening.restarts.Add(1)
		a.open(ctx, s, trace.SpanContext{}, now)
		return
	}
	t := s.Ticket()
	a.session = s
	a.state = session.NewState(session.Origin{
		ID: s.id, HasCredentials: s.hasCredentials.Load(), Opened: t.Opened, KeyID: t.KeyID, ExtraLifetime: s.extraLifetime,
		CheckNumber: int(s.checkNumber.Load()), RootOpened: s.rootOpened(),
	})
	d := *s.Decision()
	a.observed = s.Request().Backend
	a.countUnverified(d, now)
	a.apply(ctx, session.Restored{Decision: d}, now)
}

// sessionOf returns the session to which an actor of that name belongs, or nil.
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

// apply gives the event to the state, and does what the state says.
func (a *sessionActor) apply(ctx actor.Context, event session.Event, now time.Time) {
	if a.session == nil {
		return
	}
	if e, isRevoked := event.(session.Revoked); isRevoked && e.Kind == session.RevokedEvicted && a.state.IsAllowed() {
		a.session.evicted.Store(new(a.record(a.state.Revision)))
	}
	noted := a.beforeEvent(event)
	do := a.state.Step(&a.session.policy().Policy, event, now)
	a.note(&noted, do.Publish, now)
	a.session.expires.Store(int64(a.state.Expires))
	if do.Publish {
		a.publish(now)
	}
	a.writeToStore(do)
	if do.Lookup != session.NoLookup {
		a.lookUp(do.Lookup)
	}
	if do.ReturnSlot {
		b := a.session.backend.Load()
		b.rechecks.returnSlot()
		a.registry.options.Observer.Rechecked(b.name, nil)
	}
	if do.StartCheck {
		a.startCheck(ctx, now)
	}
	if do.Enqueue != session.NotQueued {
		a.session.enqueue(do.Enqueue)
		a.registry.options.Observer.RecheckDue(a.session.backend.Load().name)
	}
	if !do.WakeAt.IsZero() {
		a.registry.timers.arm(a.session, do.WakeAt)
	}
	if do.Close != session.NotClosing {
		a.close(ctx, do.Close, now)
	}
}

// publish shows the decision to requests, and wakes those that wait for the first one.
func (a *sessionActor) publish(now time.Time) {
	s, d := a.session, a.state.Decision
	before := s.decision.Load()
	a.countUnverified(d, now)
	a.observe(before, &d)
	a.countViewer(d.Verdict == backends.Allowed)
	s.ticket.Store(&session.Ticket{Opened: a.state.Opened(), KeyID: a.state.KeyID})
	if d.Verdict == backends.Allowed {
		s.evicted.Store(nil)
	}
	s.decision.Store(&d)
	s.addToHistory(&d)
	a.registry.streams.onDecision(s, &d)
	a.registry.users.add(s, &d)
	a.registry.addresses.onDecision(s, &d)
	a.trace.decided(a.registry.options.Tracer, s, before, &d) // before the request goes on, whose span is the parent
	if opening := s.opening.Swap(nil); opening != nil {
		close(opening.done)
		if d.Verdict == backends.Allowed {
			a.registry.heartbeats.onOpened(s)
		}
		a.registry.options.Observer.Waited(s.Request(), &d, now.Sub(opening.began))
	}
	a.logDenial(before, &d)
}

// renameBackend says of the session that it is of its present backend.
func (a *sessionActor) renameBackend() {
	if a.session == nil {
		return
	}
	s := a.session
	for isRenamed := false; !isRenamed; { // again if the viewer has shown credentials meanwhile
		before := s.Request()
		isRenamed = s.request.CompareAndSwap(before, ofBackend(before, s.backend.Load().name))
	}
	if d := s.decision.Load(); d != nil && a.observed != s.Request().Backend {
		a.observe(d, d)
	}
}

// observe tells the observer of another decision, of the backend of which it was told before.
func (a *sessionActor) observe(before, after *backends.Decision) {
	r, o := a.session.Request(), a.registry.options.Observer
	if before != nil && a.observed != "" && a.observed != r.Backend {
		o.Decided(ofBackend(r, a.observed), before, nil)
		before = nil
	}
	a.observed = r.Backend
	o.Decided(r, before, after)
}

// countViewer adds the viewer to the viewers of their channel, or removes them.
func (a *sessionActor) countViewer(isWatching bool) {
	if s := a.session; s.isCountedViewer != isWatching {
		s.isCountedViewer = isWatching
		a.registry.viewers.add(s.Request().Channel, isWatching)
	}
}

// countUnverified adds up for how long the session was allowed without an answer. d is its decision from now on.
func (a *sessionActor) countUnverified(d backends.Decision, now time.Time) {
	if !a.unverifiedSince.IsZero() {
		unverified := now.Sub(a.unverifiedSince)
		a.session.unverified.Add(int64(unverified))
		a.unverifiedSince, a.unverifiedFor = time.Time{}, a.unverifiedFor+unverified
	}
	if a.unverifiedFor > 0 && d.Source.IsAuthoritative() {
		a.registry.options.Observer.Verified(a.session.Request(), &d, a.unverifiedFor)
		a.unverifiedFor = 0
	}
	if d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		a.unverifiedSince = now
	}
}

// logDenial logs a viewer who is denied while they watch.
func (a *sessionActor) logDenial(before, after *backends.Decision) {
	if before == nil || before.Verdict != backends.Allowed || after.Verdict != backends.Denied {
		return
	}
	a.registry.log.Info("running session denied",
		slog.String("session", a.session.id.String()), slog.String("channel", a.session.Request().Channel),
		slog.String("user", after.User), slog.String("source", after.Source.String()), slog.String("reason", after.Reason))
}

// onViewerWaited answers a viewer who has waited for as long as they may. Only a backend that had all that time has failed. A
// check that waited in a queue of Usher's own is an overload, which admits no viewer.
func (a *sessionActor) onViewerWaited(ctx actor.Context, now time.Time) {
	if a.session == nil || !a.state.IsOpening() {
		return
	}
	b := a.session.backend.Load()
	if a.progress != nil && a.progress.isUnanswered(b.answerDeadline) {
		a.waitExpired(ctx, session.WaitExpired{Fallback: a.fallback(backends.FailureTimeout), IsFailure: true}, now)
		return
	}
	a.waitExpired(ctx, session.WaitExpired{Fallback: session.PendingDecision(b.answerOverdue())}, now)
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
	b := a.session.backend.Load()
	a.failure = kind
	d, err := b.Fallback(a.checkRequest(), &backends.Failure{Kind: kind, Backend: b.name})
	if err != nil {
		return session.PendingDecision(err)
	}
	return d
}

// waitExpired answers the waiting viewer with what the outage policy decides.
func (a *sessionActor) waitExpired(ctx actor.Context, e session.WaitExpired, now time.Time) {
	e.Ticket = a.session.presentedTicket()
	if opening := a.session.opening.Load(); opening != nil {
		e.MayBeBanned = opening.awaitsBans.Load()
	}
	a.apply(ctx, e, now)
}

// presentedTicket returns the ticket that the viewer presented; zero without one, and once the first decision is taken.
func (s *Session) presentedTicket() session.Ticket {
	if opening := s.opening.Load(); opening != nil {
		return opening.ticket
	}
	return session.Ticket{}
}
