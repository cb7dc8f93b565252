package actors

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
	"unique"

	"go.opentelemetry.io/otel/trace"

	"usher/actors/admission"
	"usher/actors/session"
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
		known         knownRecord
	}
)

// maxRestarts is how often an opening that panics starts again, so that one that always panics is no hot loop.
const maxRestarts = 1

// sessionActor carries out what the session's state says must be done. It never blocks. It exists while its session has
// messages: then its state is here, and otherwise in the session's record.
type sessionActor struct {
	registry *Registry
	session  *Session
	state    session.State
	*actorMemory
	rareMemory

	known knownRecord // while the answer to a re-check's look-up, or to a check, is handled

	queue   []any // messages; guarded by the session's mailbox
	handled int   // how many of them were handled
	started task  // to be run once no message is left; nil: none
}

// actorMemory is what is kept of an actor while its session has no messages. Only the session's actor uses it.
type actorMemory struct {
	// flat is the state as the last activation left it, without its decision: that is the one that requests read.
	flat session.Flat
	// rare is kept of few sessions; nil: all of it is zero.
	rare *rareMemory
	// observed is the backend of which the observer was told the last decision; zero: it was told none.
	observed unique.Handle[string]
}

// rareMemory is what an actor remembers of a session that is being checked, is traced, has opened again, or is or was unverified.
type rareMemory struct {
	// unpublished is the state's decision where it is not the published one; nil: it is.
	unpublished *backends.Decision
	check       *sessionCheck // the newest one, until it is answered
	trace       sessionTrace
	// isUnverified: the session is allowed without an answer, since unverifiedSince after the node's start.
	isUnverified    bool
	unverifiedSince time.Duration
	// unverifiedFor is for how long, until that time, the viewer has watched since the last answer.
	unverifiedFor time.Duration
	// expiredAt is the backend for which the observer counts the session as unverified with an expired token; zero: it does not.
	expiredAt unique.Handle[string]
	// failure is why the outage policy decided last in the backend's place.
	failure backends.FailureKind
	// pass is what a stranger has drawn on, while their backend has neither answered nor failed.
	pass admission.Pass
	// reopenedFor is the time of the newest ticket for which the session has opened again, and that was judged; zero: none was.
	reopenedFor time.Time
}

// knownRecord is the session as it was when the look-up of a re-check began. Its zero value is of none.
type knownRecord struct {
	record *session.Record
	// fingerprint is [session.LeaseResult]'s: 0 if the store was not asked whether it holds the record, or holds another.
	fingerprint uint64
}

// receive handles one message.
func (a *sessionActor) receive(message any, now time.Time) {
	switch m := message.(type) {
	case sessionCreated:
		a.session.flags.set(flagStarted, true)
		a.open(m.session, m.span, now)
	case backendReplaced:
		a.renameBackend()
		a.countExpired(now)
	case viewerWaited:
		a.onViewerWaited(now)
	case session.TimerFired:
		a.apply(a.withFallback(m, now), now)
	case *leaseAnswered:
		a.known = m.known
		a.onLeaseAnswered(m, now)
		a.known = knownRecord{}
		*m = leaseAnswered{}
		a.registry.actors.answers.Put(m)
	case session.Event:
		if e, isReopened := m.(session.OpenRequested); isReopened {
			a.reopen(e, now)
			return
		}
		if a.check != nil {
			a.known = a.check.known
		}
		a.apply(m, now)
		a.known = knownRecord{}
	}
}

// reportPanic logs a panic. Only the runtime's own errors are shown: any other value may hold what a viewer sent.
func (a *sessionActor) reportPanic(reason any) {
	a.registry.log.Error("BUG: session actor panicked, restoring what it had published",
		slog.String("session", a.session.id.String()), slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
}

func panicError(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return known
	}
	return fmt.Errorf("panic of type %T", reason)
}

// open starts the session's opening, also again after a panic.
func (a *sessionActor) open(s *Session, span trace.SpanContext, now time.Time) {
	opening := s.opening.Load()
	if opening == nil {
		return
	}
	restarts := int(opening.restarts.Load())
	origin := session.Origin{
		ID: s.id, HasCredentials: s.flags.has(flagCredentials), Opened: now, ExtraLifetime: s.extraTime(),
		CheckNumber: int(s.checkNumber.Load()) + restarts, // an answer still in flight belongs to the state that is lost
		RootOpened:  s.rootOpened(), Denial: opening.denial,
	}
	if restarts > maxRestarts {
		a.state = session.NewState(origin)
		a.waitExpired(session.WaitExpired{Fallback: session.PendingDecision(session.ErrPanicked)}, now)
		return
	}
	origin.KeyID = a.registry.options.SigningKey()
	a.state = session.NewState(origin)
	a.trace.open(a.registry.options.Tracer, s, span)
	if ban, banned := a.registry.cluster.Banned(a.request(), opening.denial); banned {
		a.apply(session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)}, now)
		return
	}
	a.apply(session.OpenRequested{}, now)
}

// restore continues after a panic with what the session had published.
func (a *sessionActor) restore(now time.Time) {
	s := a.session
	a.countUnverified(backends.Decision{}, now)
	a.countExpired(now)
	a.trace.end()
	*a.actorMemory, a.rareMemory, a.state = actorMemory{}, rareMemory{}, session.State{}
	if !s.flags.has(flagStarted) || a.registry.life.isEnding() {
		return
	}
	if opening := s.opening.Load(); opening != nil {
		opening.restarts.Add(1)
		a.open(s, trace.SpanContext{}, now)
		return
	}
	t := s.Ticket()
	a.state = session.NewState(session.Origin{
		ID: s.id, HasCredentials: s.flags.has(flagCredentials), Opened: t.Opened, KeyID: t.KeyID, ExtraLifetime: s.extraTime(),
		CheckNumber: int(s.checkNumber.Load()), RootOpened: s.rootOpened(),
	})
	d := *s.Decision()
	a.observed = unique.Make(s.request.Backend())
	a.countUnverified(d, now)
	a.apply(session.Restored{Decision: d}, now)
}

// isOpen reports whether the session has begun to open. Until then its state is empty, and no event concerns it.
func (a *sessionActor) isOpen() bool { return a.state.HasBegun }

// apply gives the event to the state, and does what the state says.
func (a *sessionActor) apply(event session.Event, now time.Time) {
	if !a.isOpen() {
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
	a.forgetDeniedBefore(event, do)
	a.settlePass()
	a.countExpired(now)
	a.writeToStore(event, do)
	if do.Lookup != session.NoLookup {
		a.lookUp(do.Lookup)
	}
	if do.ReturnSlot {
		b := a.session.backend.Load()
		b.rechecks.returnSlot()
		a.registry.options.Observer.Rechecked(b.name, nil)
	}
	if do.StartCheck {
		a.startCheck(now)
	}
	if do.Enqueue != session.NotQueued {
		a.session.enqueue(do.Enqueue)
		a.registry.options.Observer.RecheckDue(a.session.backend.Load().name)
	}
	if !do.WakeAt.IsZero() {
		a.registry.timers.arm(a.session, do.WakeAt)
	}
	if do.Close != session.NotClosing {
		a.close(do.Close, now)
	}
}

// publish shows the decision to requests, and wakes those that wait for the first one.
func (a *sessionActor) publish(now time.Time) {
	s, before := a.session, a.session.decision.Load()
	d := before
	if d == nil || *d != a.state.Decision { // most re-checks change nothing
		d = a.registry.shown.share(new(a.state.Decision))
	}
	a.countUnverified(*d, now)
	request := a.request()
	a.observe(request, before, d)
	a.countViewer(d.Verdict == backends.Allowed)
	s.ticket.set(s.policy().keys, session.Ticket{Opened: a.state.Opened(), KeyID: a.state.KeyID})
	if d.Verdict == backends.Allowed {
		s.evicted.Store(nil)
	}
	s.decision.Store(d)
	a.denyIfBanned(request, before, d)
	s.addToHistory(d)
	a.registry.streams.onDecision(s, request, d)
	a.registry.users.add(s, d)
	a.registry.addresses.onDecision(s, before, d)
	a.trace.decided(a.registry.options.Tracer, s, before, d) // before the request goes on, whose span is the parent
	opening := s.opening.Swap(nil)
	if opening != nil {
		a.pass = opening.pass
	}
	a.registry.opener.onDecision(s, request, opening, before, d)
	if opening != nil {
		close(opening.done)
		if d.Verdict == backends.Allowed {
			a.registry.heartbeats.onOpened(s)
		}
		a.registry.options.Observer.Waited(request, d, now.Sub(opening.began))
	}
	a.logDenial(before, d)
}

// denyIfBanned has a new yes denied that a ban concerns: the ban may have begun since the answer, and its pass over all sessions have
// missed this one, of which only the answer tells the user.
func (a *sessionActor) denyIfBanned(r *backends.Request, before, after *backends.Decision) {
	if after == before || after.Verdict != backends.Allowed {
		return
	}
	if ban, isBanned := a.registry.cluster.Banned(r, after); isBanned {
		a.registry.send(a.session, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)})
	}
}

// renameBackend says of the session that it is of its present backend.
func (a *sessionActor) renameBackend() {
	if !a.isOpen() {
		return
	}
	s := a.session
	s.request.SetBackend(s.backend.Load().name)
	if d := s.decision.Load(); d != nil {
		a.observeBackend(s.Request(), d)
	}
}

// observe tells the observer of another decision on the request.
func (a *sessionActor) observe(r *backends.Request, before, after *backends.Decision) {
	a.observeBackend(r, before)
	a.registry.options.Observer.Decided(r, before, after)
}

// observeBackend tells the observer if the request is of another backend than the one that it was told of with the decision d.
func (a *sessionActor) observeBackend(r *backends.Request, d *backends.Decision) {
	told, of := a.observed, unique.Make(r.Backend)
	a.observed = of
	if d != nil && told != (unique.Handle[string]{}) && told != of {
		a.registry.options.Observer.Moved(r, told.Value(), d)
	}
}

// countViewer adds the viewer to the viewers of their channel, or removes them.
func (a *sessionActor) countViewer(isWatching bool) {
	if s := a.session; s.flags.has(flagCountedViewer) != isWatching {
		s.flags.set(flagCountedViewer, isWatching)
		a.registry.viewers.add(s.request.Channel(), isWatching)
	}
}

// logDenial logs a viewer who is denied while they watch.
func (a *sessionActor) logDenial(before, after *backends.Decision) {
	if before == nil || before.Verdict != backends.Allowed || after.Verdict != backends.Denied {
		return
	}
	a.registry.log.Info("running session denied",
		slog.String("session", a.session.id.String()), slog.String("channel", a.session.request.Channel()),
		slog.String("user", after.User), slog.String("user_id", after.UserID), slog.String("source", after.Source.String()), slog.String("reason", after.Reason))
}

// onViewerWaited answers a viewer who has waited for as long as they may. Only a backend that had all that time has failed. A
// check that waited in a queue of Usher's own, or for another node's, is an overload, which admits no viewer.
func (a *sessionActor) onViewerWaited(now time.Time) {
	if !a.state.IsOpening() {
		return
	}
	b := a.session.backend.Load()
	if a.check != nil && a.check.isUnanswered(b.answerDeadline, time.Duration(b.answers.mean.Load())) {
		a.waitExpired(session.WaitExpired{Fallback: a.fallback(backends.FailureTimeout), IsFailure: true}, now)
		return
	}
	a.waitExpired(session.WaitExpired{Fallback: session.PendingDecision(b.answerOverdue())}, now)
}

// onLeaseAnswered takes the store's answer.
func (a *sessionActor) onLeaseAnswered(m *leaseAnswered, now time.Time) {
	e := &m.event
	if e.Kind == session.LookupForOpening {
		a.trace.comesFrom(e.Record.Trace)
		if opening := a.session.opening.Load(); opening != nil {
			opening.storeDeadline, e.Denied = m.storeDeadline, opening.deniedOpening
			a.noteReopened(opening, e)
		}
	}
	e.Ticket = a.session.presentedTicket()
	e.Timer = a.withFallback(e.Timer, now)
	a.apply(e, now)
}

// withFallback adds to the timer's event what the outage policy decides on a running session whose backend is down.
func (a *sessionActor) withFallback(e session.TimerFired, now time.Time) session.TimerFired {
	isRunning := a.isOpen() && a.state.IsAllowed()
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
func (a *sessionActor) waitExpired(e session.WaitExpired, now time.Time) {
	e.Ticket = a.session.presentedTicket()
	if opening := a.session.opening.Load(); opening != nil {
		e.MayBeBanned = opening.awaitsBans.Load()
	}
	a.apply(e, now)
}

// presentedTicket returns the ticket that the viewer presented; zero without one, and once the first decision is taken.
func (s *Session) presentedTicket() session.Ticket {
	if opening := s.opening.Load(); opening != nil {
		return opening.ticket
	}
	return session.Ticket{}
}
