package actors

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

// This file is what a session asks others: the store, its backend, its user's stream limit. None of it blocks the actor.

// lookUp asks the store for the session, and for the lease of a check where one is wanted.
func (a *sessionActor) lookUp(kind session.LookupKind) {
	r, s := a.registry, a.session
	b := s.backend.Load()
	request := session.LeaseRequest{ID: s.id, KnownRevision: a.state.Revision}
	if kind == session.LookupForRecheck && r.cluster.Shared() && a.state.HasCredentials {
		request.Known = new(a.record(0))
	}
	if kind != session.LookupForOpening {
		request.KnownRevision = max(request.KnownRevision, 1) // an unverified session wants an answer, and no other fallback
	}
	switch {
	case !r.cluster.Shared():
	case kind == session.LookupForRecheck:
		request.Lease, request.Wait = b.policy.LeaseTTL, b.policy.LeaseTTL
	case kind == session.LookupForOpening && b.State() == backends.BreakerClosed:
		request.Lease, request.Wait = b.policy.LeaseTTL, b.policy.LeaseWait
	default: // without a lease; so does a node whose backend is down, as another node's may not be
	}
	ctx := a.trace.context(r.life.branchOf(s.id))
	a.call(r.lookups(kind, b), func() task {
		return r.actors.sendLast(s, r.answerLookup(ctx, s, kind, request)) //nolint:contextcheck // a lease is given back whatever ends
	})
}

// lookups returns how many look-ups of the kind are under way.
func (r *Registry) lookups(kind session.LookupKind, b *backendRuntime) *atomic.Int32 {
	switch kind {
	case session.LookupForRecheck:
		return &b.rechecks.lookups
	case session.LookupOnly:
		return &r.cluster.reloads
	default:
		return &r.cluster.openings
	}
}

// answerLookup asks the store, and what else must be known to continue.
func (r *Registry) answerLookup(
	ctx context.Context, s *Session, kind session.LookupKind, request session.LeaseRequest,
) *leaseAnswered {
	ctx, span := startSpan(ctx, r.options.Tracer, "cluster.acquire_lease")
	findRoot := r.startFindRoot(ctx, s, kind)
	started := time.Now()
	result, storeDeadline, err := r.acquireLease(ctx, kind, request)
	took := time.Since(started)
	s.noteLookup(kind, &result, err)
	if err != nil {
		span.RecordError(err)
	}
	span.SetAttributes(attribute.Bool("usher.found", result.Found), attribute.Bool("usher.lease", result.Revision != 0))
	span.End()
	answered, _ := r.actors.answers.Get().(*leaseAnswered)
	answered.storeDeadline = storeDeadline
	answered.known = knownRecord{record: request.Known, fingerprint: result.Fingerprint}
	event := &answered.event
	*event = session.LeaseAnswered{
		Kind: kind, LeaseResult: result, IsUnavailable: err != nil,
		Timer: s.timerFired(), Took: took,
	}
	switch {
	case result.Fingerprint != 0 && findRoot == nil:
		event.Refused = r.banOf(request.Known.Request, &request.Known.Decision)
	case result.Found || findRoot != nil:
		storeCtx, cancel := r.cluster.until(ctx, storeDeadline)
		defer cancel()
		r.addKnown(storeCtx, s, findRoot, event)
	}
	opening := s.opening.Load()
	if isUnknown := err == nil && !result.Found; isUnknown && event.Refused == nil && opening.needsTicket(s) {
		event.Refused, event.MayBeBanned = r.awaitBans(ctx, s, opening)
	}
	return answered
}

// noteLookup notes what a look-up leaves to be asked, or told, later.
func (s *Session) noteLookup(kind session.LookupKind, result *session.LeaseResult, err error) {
	r := &result.Record
	isOpen := result.Found && r.Decision.Verdict == backends.Allowed && !r.IsClosed && r.Opened.After(r.RevokedBefore)
	if kind == session.LookupForOpening && isOpen {
		s.flags.set(flagReturned, true)
	}
	switch {
	case err == nil:
		s.flags.set(flagUnsaved, false) // the session is stored now, if the store lacks it
	case kind == session.LookupOnly:
		s.flags.set(flagUnsaved, true) // no write follows that would tell
	}
	if err != nil {
		s.flags.set(flagTicketUnseen, true)
	} else if kind == session.LookupForRecheck {
		s.flags.set(flagTicketUnseen, false)
	}
}

// addKnown adds to the store's answer what the record and a sibling's root say of the viewer.
func (r *Registry) addKnown(ctx context.Context, s *Session, findRoot <-chan rootFacts, e *session.LeaseAnswered) {
	if e.Found {
		if e.Record.Request != nil {
			s.setCredentials(e.Record.Request)
		}
		if e.Refused = r.refusalOf(ctx, s, &e.Record); e.Refused == nil {
			r.zapBack(ctx, s, &e.Record)
		}
	}
	if findRoot != nil {
		r.applyRoot(ctx, s, <-findRoot, e)
	}
}

// acquireLease asks the store, and returns until when an opening may wait for its further answers: all of them together take
// no longer than the store's timeout. A wait for another node's check does not count. A store that failed is not waited for
// again. No viewer waits for a re-check's look-up: the store's own timeout is its bound.
func (r *Registry) acquireLease(
	ctx context.Context, kind session.LookupKind, request session.LeaseRequest,
) (result session.LeaseResult, storeDeadline time.Time, err error) {
	storeDeadline = time.Now().Add(r.options.StoreTimeout)
	if kind != session.LookupForRecheck {
		bounded, cancel := r.cluster.until(ctx, storeDeadline.Add(request.Wait))
		defer cancel()
		ctx = bounded
	}
	result, err = r.cluster.AcquireLease(ctx, request)
	switch now := time.Now(); {
	case err != nil:
		storeDeadline = now
	case now.After(storeDeadline):
		storeDeadline = now.Add(r.options.StoreTimeout)
	}
	return result, storeDeadline, err
}

// needsTicket reports whether the ticket alone may speak for the viewer: they present no credentials, or a token that may be
// spent.
func (o *pendingOpening) needsTicket(s *Session) bool {
	return o != nil && !o.ticket.IsZero() && (!s.flags.has(flagCredentials) || s.policy().TokenLife > 0)
}

// awaitBans waits until this node knows all bans, since only the ticket speaks for a viewer whose session the store does not
// know. It returns why the viewer is refused. mayBeBanned: this took too long. While the store is unavailable it says
// nothing: the node serves on with what it knows.
func (r *Registry) awaitBans(
	ctx context.Context, s *Session, opening *pendingOpening,
) (refused *backends.Decision, mayBeBanned bool) {
	opening.awaitsBans.Store(true)
	ctx, cancel := context.WithTimeout(ctx, s.policy().LeaseWait)
	defer cancel()
	err := r.cluster.AwaitBans(ctx)
	for _, request := range s.bannedAs() {
		if ban, isBanned := r.cluster.Banned(request, nil); isBanned {
			return new(banDecision(ban)), false
		}
	}
	mayBeBanned = err != nil && !errors.Is(err, backends.ErrStoreUnavailable)
	opening.awaitsBans.Store(mayBeBanned)
	return nil, mayBeBanned
}

// bannedAs returns what a ban of the viewer may name: the session, and that of the ticket that opened it.
func (s *Session) bannedAs() []*backends.Request {
	requests := []*backends.Request{s.Request()}
	if s.ticketUse.isSibling() {
		requests = append(requests, s.request.Request(s.ticketUse.root))
	}
	return requests
}

// refusalOf returns why a session that the store knows is refused: its viewer is banned, or the session was evicted and its
// user's limit is still reached. It returns nil if neither is so.
func (r *Registry) refusalOf(ctx context.Context, s *Session, record *session.Record) *backends.Decision {
	d, request := &record.Decision, s.Request()
	if refused := r.banOf(request, d); refused != nil || d.Verdict != backends.Allowed || !record.IsEvicted {
		return refused
	}
	state := session.StreamActive
	if u := r.streams.streamOf(request, d); u.maxStreams > 0 {
		state = r.streams.report(ctx, s, u, record.Opened)
	}
	if state == session.StreamEvicted {
		evicted := *record
		s.evicted.Store(&evicted)
		return new(evictedDecision(d))
	}
	if state != session.StreamActive {
		return nil
	}
	if err := r.cluster.SetEvicted(ctx, s.id, false); err != nil {
		r.log.Debug("eviction mark not removed", slog.String("session", s.id.String()), slog.Any("error", err))
	}
	return nil
}

// banOf returns the refusal of a viewer who is banned, or nil.
func (r *Registry) banOf(request *backends.Request, d *backends.Decision) *backends.Decision {
	if ban, isBanned := r.cluster.Banned(request, d); isBanned {
		return new(banDecision(ban))
	}
	return nil
}

// zapBack makes a record one of a session that has ended, if its viewer has since played another channel on the same device, and
// shows credentials alone now. Mostly the store knows that end. If it could not be reached then, the session would go on, be the
// older one of the device, and end under its viewer.
func (r *Registry) zapBack(ctx context.Context, s *Session, record *session.Record) {
	opening, d := s.opening.Load(), &record.Decision
	isByCredentials := opening != nil && opening.ticket.IsZero() && s.flags.has(flagCredentials)
	if !isByCredentials || d.Verdict != backends.Allowed || !record.Opened.After(record.RevokedBefore) {
		return
	}
	request := s.Request()
	u := r.streams.streamOf(request, d)
	if u.device == "" || r.streams.join(ctx, s, request, record.Opened, d) != session.StreamSuperseded {
		return
	}
	record.RevokedBefore = record.Opened
	if err := r.cluster.RevokeSession(ctx, s.id, record.Opened); err != nil {
		r.log.Debug("end of a zapped session not stored", slog.String("session", s.id.String()), slog.Any("error", err))
	}
}

// startCheck starts the state's newest check. A viewer who waits while the backend is known to fail is answered at once, so
// that no viewer waits for a breaker's probe.
func (a *sessionActor) startCheck(now time.Time) {
	r, s := a.registry, a.session
	b := s.backend.Load()
	c := &sessionCheck{
		registry: r, session: s, backend: b, number: int(a.state.CheckNumber), known: a.known,
		opened: a.state.Opened(), keyID: a.state.KeyID, trace: a.trace.parent(), dueAt: now.Sub(b.policy.Start),
		revision: a.state.LeaseRevision, storeDeadline: now.Add(r.options.StoreTimeout), trigger: timeline.Recheck,
	}
	if a.state.IsOpening() {
		c.trigger = timeline.Opening
		if opening := s.opening.Load(); opening != nil { // a reopened session may have been answered meanwhile
			c.storeDeadline = opening.storeDeadline
			c.dueAt = min(c.dueAt, opening.began.Add(r.options.StoreTimeout).Sub(b.policy.Start))
		}
	}
	s.checkNumber.Store(int32(c.number))
	a.check = c
	request := a.checkRequest()
	request.OnFailure = func(f *backends.Failure) { c.failure = f }
	request.OnSent = func() { c.sentAt.Store(max(1, int64(time.Since(s.policy().Start)))) }
	ctx, endTrace := a.trace.check(r.life.branchOf(s.id), r.options.Tracer, s, c.number)
	a.start(r.life.task(func() task {
		d, err := c.ask(ctx, request)
		endTrace(&d, err)
		return c.answer(ctx, request, d, err)
	}))
	if a.state.IsOpening() && b.State() != backends.BreakerClosed {
		a.waitExpired(session.WaitExpired{Fallback: a.fallback(backends.FailureBreakerOpen), IsFailure: true}, now)
	}
}

// sessionCheck is a check of a session, from when it is started until the actor has handled its answer. Its times are nanoseconds since
// the node's start; 0: not yet.
type sessionCheck struct {
	registry *Registry
	session  *Session
	backend  *backendRuntime
	number   int
	// trigger is why the check is made, opened, keyID and trace are as in the session's record, revision is that of the lease, and
	// storeDeadline is until when its viewer waits for the store.
	trigger       timeline.Trigger
	opened        time.Time
	keyID, trace  string
	revision      uint64
	storeDeadline time.Time
	known         knownRecord // of a re-check

	// dueAt is when the check was started or, of an opening, when it would have been if the session had waited for the store alone.
	dueAt  time.Duration
	sentAt atomic.Int64 // when the backend was asked
	// took and failure are its outcome, set before the actor is told of it.
	took    time.Duration
	failure *backends.Failure
}

// ask asks the backend, and notes how long that took.
func (c *sessionCheck) ask(ctx context.Context, request *backends.Request) (d backends.Decision, err error) {
	b, started := c.backend, time.Now()
	d, err = c.registry.check(ctx, b, request)
	c.took = time.Since(started)
	if sent := c.sentAt.Load(); sent > 0 && c.trigger == timeline.Opening {
		b.answers.record(time.Since(b.policy.Start) - time.Duration(sent))
	}
	return d, err
}

// answer tells the actor of the backend's answer, once the user's limit has been asked too. It returns what follows.
func (c *sessionCheck) answer(ctx context.Context, request *backends.Request, d backends.Decision, err error) (next task) {
	r, s := c.registry, c.session
	if err != nil {
		d, c.failure = session.PendingDecision(err), backends.AsFailure(err)
	}
	if c.trigger != timeline.Opening {
		r.options.Observer.Rechecked(c.backend.name, &d)
	}
	answer := &session.BackendAnswered{Number: c.number, Decision: d, IsFailure: backends.AsFailure(err) != nil}
	if d.Verdict == backends.Allowed && r.joinStreams(ctx, s, request, c.opened, c.storeDeadline.Add(c.took), answer) {
		c.evict(ctx, answer)
	}
	if r.life.isEnding() {
		// The session can no longer release the lease. If this fails, the lease expires.
		_, _ = r.cluster.saveDecision(releaseOf(s.id, c.revision)) //nolint:contextcheck // it outlives the registry
	}
	answer.IsBackendDown = c.backend.State() != backends.BreakerClosed
	return r.actors.sendLast(s, answer) //nolint:contextcheck // as above
}

// joinStreams replaces the backend's yes if the viewer is banned, and reports whether their user's stream limit is reached. A session
// that has a stream already asks nobody.
func (r *Registry) joinStreams(
	ctx context.Context, s *Session, request *backends.Request, opened, deadline time.Time, answer *session.BackendAnswered,
) (isEvicted bool) {
	if ban, isBanned := r.cluster.Banned(request, &answer.Decision); isBanned {
		answer.Decision = banDecision(ban)
		return false
	}
	u, isJoining := r.streams.joining(s, request, &answer.Decision)
	if !isJoining {
		return false
	}
	ctx, cancel := r.cluster.until(ctx, deadline)
	defer cancel()
	return r.streams.report(ctx, s, u, opened) == session.StreamEvicted
}

// evict replaces the backend's yes on a stream beyond its user's limit. The store keeps the yes, so that no check is needed once a
// stream is free. The viewer need not wait for that.
func (c *sessionCheck) evict(ctx context.Context, answer *session.BackendAnswered) {
	r, s, d := c.registry, c.session, answer.Decision
	answer.Decision, answer.IsSaved = evictedDecision(&d), true
	record := session.Record{
		ID: s.id, Opened: c.opened, KeyID: c.keyID, Decision: d, Expires: time.Now().Add(s.policy().Clamped(d.ValidFor)),
		CheckNumber: c.number, Revision: c.revision, Trace: c.trace,
	}
	if s.flags.has(flagCredentials) {
		record.Request = s.Request() // made anew: what is stored must not keep the request of the viewer who waits alive
	}
	s.evicted.Store(&record)
	r.cluster.saves.Add(1)
	r.life.run(func() {
		defer r.cluster.saves.Add(-1)
		_, _ = r.cluster.saveDecision(session.DecisionUpdate{Record: record}) //nolint:contextcheck // without it there is one more check
		r.cluster.markEvicted(ctx, s.id)
	})
}

// check asks the backend. A panic of an adapter becomes an error.
func (r *Registry) check(ctx context.Context, b *backendRuntime, request *backends.Request) (d backends.Decision, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			r.log.Error("BUG: backend check panicked", slog.String("backend", b.name),
				slog.Any("error", panicError(reason)), slog.String("stack", string(debug.Stack())))
			d, err = backends.Decision{}, session.ErrPanicked
		}
	}()
	return b.Check(ctx, request)
}

// isUnanswered reports whether the backend was asked and has not answered since, though it had the time: it was asked at once, or
// its answers take longer than the deadline anyway. A check that waited in a queue of Usher's own, or for another node's lease, may
// still be answered well within the backend's own time.
func (c *sessionCheck) isUnanswered(deadline, answerTime time.Duration) bool {
	const allowance = 20 // the share of the deadline that it may take to get a free slot
	sent := time.Duration(c.sentAt.Load())
	return sent > 0 && (sent-c.dueAt <= deadline/allowance || answerTime > deadline)
}
