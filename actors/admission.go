package actors

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"usher/actors/admission"
	"usher/actors/session"
	"usher/backends"
)

// sessionOpener creates sessions within the node's bounds, and lets viewers wait for the first decision. It is safe for
// concurrent use.
type sessionOpener struct {
	core
	config    atomic.Pointer[Config]
	gate      atomic.Pointer[admission.Gate]
	known     *admission.Known // who was allowed before
	shed      func(isStranger bool) error
	addresses *addressLimit
	sequence  atomic.Uint64 // of the newest session
	pending   atomic.Int64  // requests that wait for a first decision
	waits     sync.Pool     // of *time.Timer that are stopped
}

func newSessionOpener(c core, options *Options, addresses *addressLimit) *sessionOpener {
	o := &sessionOpener{core: c, addresses: addresses, shed: options.Shed, known: admission.NewKnown(options.Config.Max)}
	o.waits.New = func() any {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	o.follow(options.Config)
	return o
}

// follow sets the bounds. If a rate changes, what was opened is forgotten.
func (o *sessionOpener) follow(c Config) {
	o.config.Store(&c)
	if g := o.gate.Load(); g == nil || g.Limits() != c.openLimits() {
		o.gate.Store(admission.NewGate(time.Now(), c.openLimits()))
	}
}

// findOrCreate returns the session, and starts it if there is none yet.
func (o *sessionOpener) findOrCreate(ctx context.Context, b *backendRuntime, r session.OpenRequest) (*Session, error) {
	if !o.life.lock() {
		return nil, ErrClosed
	}
	defer o.life.unlock()
	var overload error // only a request that creates a session counts
	s, isNew := o.table.findOrAdd(r.Request.Session, func() *Session {
		var a admitted
		if overload = o.admitAnother(); overload == nil {
			a, overload = o.admit(b, &r)
		}
		if overload != nil {
			return nil
		}
		return o.spawn(b, r, a)
	})
	if isNew {
		o.begin(ctx, s)
	}
	return s, overload
}

// begin starts the session once it is in the table, because an actor that panics looks for itself there.
func (o *sessionOpener) begin(ctx context.Context, s *Session) {
	o.actors.send(s, sessionCreated{session: s, span: trace.SpanContextFromContext(ctx)})
}

// findOrRenew returns the session, or nil. In the place of one whose denial is over, and is kept because the backend is down or a part of
// it, it opens another: there the denial holds until somebody decides. The bounds are those of any opening, and beyond them the old
// session goes on.
func (o *sessionOpener) findOrRenew(ctx context.Context, b *backendRuntime, r session.OpenRequest) *Session {
	old := o.table.find(r.Request.Session)
	if old == nil || !old.isKeptDenied() || !old.lendCredentials(&r) || b.State() == backends.BreakerOpen || !o.life.lock() {
		return old
	}
	defer o.life.unlock()
	s, isNew := o.table.replace(old, func() *Session {
		denial := old.Decision()
		if !old.isKeptDenied() { // a late answer was faster
			return nil
		}
		a, overload := o.admit(b, &r)
		if overload != nil {
			return nil
		}
		a.denial, a.deniedOpening = denial, old.deniedOpening()
		return o.spawn(b, r, a)
	})
	if isNew {
		o.actors.sendReplaced(old) //nolint:contextcheck // a lease is given back whatever ends
		o.begin(ctx, s)
	}
	return s
}

// lendCredentials reports whether a backend can be asked about the request as about the session. A sibling is opened by a ticket alone, so
// that its request gets the credentials of the root that the session has. Others beside the ticket are another session's.
func (s *Session) lendCredentials(r *session.OpenRequest) bool {
	if r.HasCredentials {
		return s.request.Group() == r.Request.Group
	}
	if r.Root.IsZero() || !s.flags.has(flagCredentials) {
		return false
	}
	r.Request, r.HasCredentials = s.Request(), true
	return true
}

// reopen starts a session again that was denied for its token, if a ticket speaks for the viewer that is older: the backend may have
// forgotten the token since, or the token have expired.
func (r *Registry) reopen(s *Session, t session.Ticket) {
	d, deniedOpening := s.Decision(), s.deniedOpening()
	if t.IsZero() || d == nil || d.Verdict != backends.Denied || !deniedOpening.After(t.Opened) {
		return
	}
	isSpent := d.Source == backends.FromBackend && s.policy().TokenLife > 0 && time.Since(t.Opened) > s.policy().TokenLife
	if !isSpent && (d.Source != backends.FromLocal || s.policy().TokenLife > 0) {
		return
	}
	held := admitted{denial: d, deniedOpening: deniedOpening}
	if s.opening.CompareAndSwap(nil, &pendingOpening{done: make(chan struct{}), began: time.Now(), ticket: t, admitted: held}) {
		r.send(s, session.OpenRequested{Ticket: t})
		if s.flags.has(flagClosed) { // another session was faster to take its place
			s.release()
		}
	}
}

// release has the requests go on that wait for the session. It has no decision only if its actor panicked.
func (s *Session) release() {
	if opening := s.opening.Swap(nil); opening != nil {
		s.decision.CompareAndSwap(nil, new(session.PendingDecision(session.ErrPanicked)))
		close(opening.done)
	}
}

// deniedOpening returns when a denied session was opened, if a ticket of before may speak for its viewer all the same. Zero: none does. A
// session that has no other denial than that of the one in whose place it is was opened later than that one.
func (s *Session) deniedOpening() time.Time {
	if s.ticketUse.isSibling() || s.wasAllowed() || s.flags.has(flagDeniedBefore) {
		return time.Time{}
	}
	return s.Ticket().Opened
}

// isKeptDenied reports whether a backend has denied the viewer, and an outage keeps that. It is not kept while the session opens again.
func (s *Session) isKeptDenied() bool {
	d := s.Decision()
	return d != nil && isRefusedByBackend(d) && s.expires.Load() == 0 && s.opening.Load() == nil
}

// admitted is how a session came to be opened.
type admitted struct {
	// isStranger: nothing speaks for the viewer; see [admission.Viewer].
	isStranger bool
	key        uint64 // of a viewer without a ticket; see keyOf
	pass       admission.Pass
	// denial holds while the session opens; nil: there is none. deniedOpening is when the session was opened that it denied; see
	// session.LeaseAnswered.
	denial        *backends.Decision
	deniedOpening time.Time
}

// admitAnother refuses more sessions than the node may have. One that takes another's place is none.
func (o *sessionOpener) admitAnother() error {
	if most := o.config.Load().Max; o.table.len() >= most {
		return backends.NewOverload("sessions.max", most)
	}
	return nil
}

// admit refuses a new session beyond the bounds of the node's rates, of the viewer's network and address, or of their ticket. A ticket
// passes the rates where it was issued: after a restart all viewers of a node come with one at once, perhaps behind one address.
func (o *sessionOpener) admit(b *backendRuntime, r *session.OpenRequest) (a admitted, err error) {
	now, config := time.Now(), o.config.Load()
	v := admission.Viewer{Address: r.Request.Address, HasTicket: !r.Ticket.IsZero(), IsSibling: !r.Root.IsZero()}
	if !v.HasTicket {
		a.key = o.keyOf(b, r.Request)
		a.isStranger = !o.known.Has(a.key, now)
	}
	v.IsStranger = a.isStranger
	if err := o.shed(v.IsStranger); err != nil {
		return a, err
	}
	if over := config.pendingOver(o.pending.Load()+1, v.IsStranger); over != nil {
		return a, over
	}
	pass, over := o.gate.Load().Open(v, now)
	if over != nil {
		return a, over
	}
	a.pass = pass
	if v.IsSibling {
		return a, o.addresses.allowNew(r.Root, now)
	}
	return a, nil
}

// pendingOver returns the bound that so many waiting requests exceed, or nil. Strangers have a share of the places.
func (c *Config) pendingOver(waiting int64, isStranger bool) *backends.Overload {
	switch {
	case waiting > int64(c.MaxPending):
		return backends.NewOverload("sessions.max_pending", c.MaxPending)
	case isStranger && waiting > max(1, int64(c.MaxPending)*int64(c.StrangerShare)/100):
		return backends.NewOverload("sessions.stranger_share_percent", c.StrangerShare)
	}
	return nil
}

// keyOf returns the number by which all nodes know the viewer: by the credentials that they show or, where tokens do not come
// again or there are none, by their address.
func (o *sessionOpener) keyOf(b *backendRuntime, r *backends.Request) uint64 {
	var buffer [256]byte
	shown := backends.AppendField(buffer[:0], b.name)
	if c := r.Credentials(); b.policy.TokenLife == 0 && !c.IsEmpty() {
		shown = c.AppendCanonical(append(shown, 'c'))
	} else {
		prefix := backends.SubscriberPrefix(r.Address)
		address := prefix.Addr().As16()
		shown = append(append(shown, 'a'), address[:]...)
	}
	return o.cluster.ViewerKey(shown)
}

// onDecision remembers a viewer who is allowed from now on, and forgets one whom their backend denies. opening is nil unless it
// is their first decision.
func (o *sessionOpener) onDecision(s *Session, r *backends.Request, opening *pendingOpening, before, d *backends.Decision) {
	isVerified := isVerifiedViewer(d)
	// What a sibling shows are the root's credentials: a No to another address makes the root's viewer no stranger.
	isRefused := isRefusedByBackend(d) && !s.ticketUse.isSibling()
	if isVerified == isVerifiedViewer(before) && !isRefused || !s.flags.has(flagCredentials) {
		return
	}
	key, now := opening.keyOf(r), time.Now()
	if key == 0 {
		key = o.keyOf(s.backend.Load(), r)
	}
	switch {
	case isRefused:
		o.known.Forget(key)
	case isVerified && o.known.Add(key, now, now):
		o.cluster.ShareKnown(key)
	}
}

// settlePass gives a stranger who is allowed back what they drew on. While their backend is being asked its answer counts, whatever holds
// for them meanwhile: the outage policy's decision, a denial of before, or that they retry.
func (a *sessionActor) settlePass() {
	if a.check != nil || a.pass == (admission.Pass{}) {
		return
	}
	if a.state.Decision.Verdict == backends.Allowed {
		a.pass.GiveBack()
	}
	a.pass = admission.Pass{}
}

// keyOf returns the viewer's key if it is known since they were admitted with this request, else 0. o may be nil.
func (o *pendingOpening) keyOf(r *backends.Request) uint64 {
	if o == nil || o.request != r {
		return 0
	}
	return o.key
}

// OnKnown remembers a viewer whom another node has allowed at that time, by the key of [Cluster.ViewerKey]. It does not block.
func (r *Registry) OnKnown(key uint64, allowed time.Time) {
	r.opener.known.Add(key, allowed, time.Now())
}

// isRefusedByBackend reports whether a backend has decided against the viewer, and no ban, limit or outage policy.
func isRefusedByBackend(d *backends.Decision) bool {
	return d.Verdict == backends.Denied && (d.Source == backends.FromBackend || d.Source == backends.FromLocal)
}

// isVerifiedViewer reports whether a decision, which may be nil, is somebody's own yes.
func isVerifiedViewer(d *backends.Decision) bool {
	return d != nil && d.Verdict == backends.Allowed && d.Source.IsAuthoritative()
}

// spawn makes the session.
func (o *sessionOpener) spawn(b *backendRuntime, r session.OpenRequest, a admitted) *Session {
	s := &Session{
		id: r.Request.Session, began: int64(time.Since(b.policy.Start)), sequence: o.sequence.Add(1),
		extraLifetime: int32(min(r.ExtraLifetime.Milliseconds(), math.MaxInt32)),
		ticketUse:     newTicketUse(&r),
	}
	s.backend.Store(b)
	s.opening.Store(&pendingOpening{done: make(chan struct{}), began: time.Now(), request: r.Request, ticket: r.Ticket, admitted: a})
	s.request.Store(r.Request)
	s.flags.set(flagCredentials, r.HasCredentials)
	s.flags.set(flagDeniedBefore, a.denial != nil)
	s.lastSeen.Store(int64(time.Since(b.policy.Start)))
	o.life.actors.Add(1)
	return s
}

// policyTimeout bounds how long an actor may take to apply the outage policy once the answer deadline is over, so that a
// broken actor holds no viewer.
const policyTimeout = time.Second

// watchDelay is how long a viewer waits before their context is asked for its end. A middleware mostly answers sooner, and a front must
// make a context, a timer and a watch of the connection to tell.
const watchDelay = 100 * time.Millisecond

// await waits for the session's first decision until the backend's answer deadline. Then the outage policy decides.
func (o *sessionOpener) await(ctx context.Context, b *backendRuntime, s *Session) error {
	opening := s.opening.Load()
	if opening == nil {
		return nil
	}
	defer o.pending.Add(-1)
	if over := o.config.Load().pendingOver(o.pending.Add(1), opening.isStranger); over != nil {
		return over
	}
	timer, _ := o.waits.Get().(*time.Timer)
	defer func() {
		timer.Stop()
		o.waits.Put(timer)
	}()
	unwatched := min(watchDelay, b.answerDeadline)
	timer.Reset(unwatched)
	select {
	case <-opening.done:
		return nil
	case <-o.life.ctx.Done():
		return ErrClosed
	case <-timer.C:
	}
	timer.Reset(b.answerDeadline - unwatched)
	for isOverdue := false; ; isOverdue = true {
		select {
		case <-opening.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-o.life.ctx.Done():
			return ErrClosed
		case <-timer.C:
			if isOverdue {
				return b.answerOverdue()
			}
			o.actors.send(s, viewerWaited{})
			timer.Reset(policyTimeout)
		}
	}
}

// answerTime is how long a backend's answers to openings took lately, from when it was asked. Its zero value knows of none.
// Safe for concurrent use.
type answerTime struct{ mean atomic.Int64 }

// record adds one to a moving mean.
func (t *answerTime) record(took time.Duration) {
	const weight = 16 // of what it was
	mean := t.mean.Load()
	if mean == 0 {
		mean = int64(took)
	}
	t.mean.Store(mean + (int64(took)-mean)/weight) // of two at once one may be lost
}
