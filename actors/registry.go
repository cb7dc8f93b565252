package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

// core is what every part of a registry uses.
type core struct {
	life    *lifecycle
	table   *sessionTable
	actors  *actorSystem
	cluster *clusterClient
	log     *slog.Logger
}

// send queues a message for the session's actor.
func (c *core) send(s *Session, message any) { c.actors.send(s, message) }

// Registry finds the sessions of this node and opens new ones. It is safe for concurrent use.
type Registry struct {
	core
	options     Options
	backends    map[string]*backendRuntime
	opener      *sessionOpener
	timers      *timerWheel
	streams     *streamLimits
	addresses   *addressLimit
	heartbeats  *heartbeatReporter
	revocations *revoker
	viewers     viewerCount
	users       *userSpread
}

// NewRegistry starts a registry. Close ends it.
func NewRegistry(o Options) *Registry {
	o.setDefaults()
	start, life := time.Now(), newLifecycle()
	r := &Registry{options: o, backends: make(map[string]*backendRuntime, len(o.Backends))}
	r.core = core{
		life: life, table: new(sessionTable), log: o.Logger,
		actors:  newActorSystem(func() actor.Actor { return &sessionActor{registry: r} }),
		cluster: &clusterClient{Cluster: o.Cluster, life: life, log: o.Logger},
	}
	r.addresses = newAddressLimit(r.core, start)
	r.opener = newSessionOpener(r.core, start, o.Config, r.addresses)
	r.timers = newTimerWheel(start, r.fireTimer)
	r.streams = newStreamLimits(r.core, o.Config.PerUser)
	r.heartbeats = newHeartbeatReporter(r.core, r.streams, r.addresses, o.HeartbeatInterval, o.Config.IdleTimeout)
	r.heartbeats.onClosed = o.OnClosed
	if !o.Cluster.Shared() {
		r.heartbeats.onOpen = o.OnOpen
	}
	r.revocations = &revoker{core: r.core}
	r.users = newUserSpread(r.core, o.OnConstantUser)
	for name, b := range o.Backends {
		r.backends[name] = r.newBackendRuntime(name, start, b)
	}
	for _, b := range r.backends {
		life.run(func() { b.rechecks.run(life.ctx) })
	}
	life.run(func() { r.timers.run(life.ctx) })
	life.run(r.streams.run)
	for range addressReporters {
		life.run(r.addresses.run)
	}
	life.run(r.heartbeats.run)
	life.run(r.heartbeats.runExpiry)
	return r
}

// Find returns the live session of that id, or nil. It neither locks nor allocates.
func (r *Registry) Find(id backends.SessionID) session.Handle {
	if s := r.table.find(id); s != nil {
		return s
	}
	return nil
}

// The errors of Open, beside an Overload and the errors of its context.
var (
	// ErrClosed reports that the node shuts down.
	ErrClosed = errors.New("sessions are closed")
	// ErrUnknownBackend reports that the request names no backend of this node, or no session.
	ErrUnknownBackend = errors.New("no such backend")
)

// Open returns the viewer's session once its first decision is taken. Of concurrent calls for one session one creates it.
// Open waits no longer than the backend's answer deadline. The end of ctx ends the waiting, not the opening. The error is a
// *backends.Overload, ErrClosed, ErrUnknownBackend or that of ctx.
func (r *Registry) Open(ctx context.Context, o session.OpenRequest) (session.Handle, error) {
	b := r.backends[o.Request.Backend]
	if b == nil || o.Request.Session.IsZero() {
		return nil, fmt.Errorf("open session %q: %w: %q", o.Request.Session, ErrUnknownBackend, o.Request.Backend)
	}
	s := r.table.find(o.Request.Session)
	if s == nil {
		var err error
		if s, err = r.opener.findOrCreate(ctx, b, o); err != nil {
			return nil, err
		}
	}
	r.reopen(s, o.Ticket)
	if o.HasCredentials && s.setCredentials(o.Request) {
		r.onCredentials(s)
	}
	if err := r.admitAddress(ctx, s, &o); err != nil {
		return nil, err
	}
	if err := r.opener.await(ctx, b, s); err != nil {
		return nil, err
	}
	return s, nil
}

// reopen starts a session again that was denied with a token that its backend has forgotten, if a ticket speaks for the viewer.
func (r *Registry) reopen(s *Session, t session.Ticket) {
	d := s.Decision()
	if t.IsZero() || d == nil || d.Verdict != backends.Denied || d.Source != backends.FromBackend ||
		s.policy.TokenLife == 0 || time.Since(t.Opened) <= s.policy.TokenLife {
		return
	}
	if s.opening.CompareAndSwap(nil, &pendingOpening{done: make(chan struct{}), began: time.Now(), ticket: t}) {
		r.send(s, session.OpenRequested{Ticket: t})
	}
}

// admitAddress adds the viewer's address to those of a shared session.
func (r *Registry) admitAddress(ctx context.Context, s *Session, o *session.OpenRequest) error {
	if o.AddressID.IsZero() || s.ticketUse == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.options.StoreTimeout)
	defer cancel()
	return r.addresses.admit(ctx, s, o.AddressID, o.Request.Address)
}

// onCredentials tells the session that its viewer's credentials are known, which may be banned.
func (r *Registry) onCredentials(s *Session) {
	if ban, isBanned := r.cluster.Banned(s.Request(), s.Decision()); isBanned {
		r.send(s, session.Revoked{Kind: session.RevokedBanned, Decision: banDecision(ban)})
		return
	}
	r.send(s, session.CredentialsArrived{})
}

// Len returns the number of sessions on this node.
func (r *Registry) Len() int { return r.table.len() }

// RechecksWaiting returns how many sessions wait for a re-check by the backend.
func (r *Registry) RechecksWaiting(backend string) int { return r.backends[backend].rechecks.length() }

// Viewers counts the viewers on this node whose decision is allowed: those of a channel, and all.
func (r *Registry) Viewers(channel string) (ofChannel, total int) { return r.viewers.count(channel) }

// Each calls yield for every session until it returns false. Sessions that open or close meanwhile may be missed.
func (r *Registry) Each(yield func(session.Handle) bool) {
	r.table.each(func(s *Session) bool { return yield(s) })
}

// Timeline returns what has decided on the session on this node, the oldest first.
func (r *Registry) Timeline(id backends.SessionID) (entries []timeline.Entry, found bool) {
	s := r.table.find(id)
	if s == nil {
		return nil, false
	}
	return s.timeline.Entries(s.backend), true
}

// OnRevocation carries out a revocation of another node or of an operator. It does not block. The cluster's bans must be up
// to date.
func (r *Registry) OnRevocation(v session.Revocation) { r.revocations.apply(v) }

// OnLimitExceeded renews at once all streams of a user who exceeds their limit. The user is named by [Cluster.UserHash]. It
// does not block.
func (r *Registry) OnLimitExceeded(userHash string) { r.streams.renewAll(userHash) }

// OnRedisRecovered looks up in the store the unverified sessions, which it may know, and those that it may lack. It does not
// block.
func (r *Registry) OnRedisRecovered() { r.revocations.reloadUnstored() }

// OnTicketReplaced looks a session up in the store, where its ticket is that of another node. It does not block.
func (r *Registry) OnTicketReplaced(id backends.SessionID) {
	if s := r.table.find(id); s != nil {
		r.send(s, session.MustReload{})
	}
}

// OnTicketsMissed looks up the sessions of which [Registry.OnTicketReplaced] may not have been told. It does not block.
func (r *Registry) OnTicketsMissed() { r.revocations.reloadUnseen() }

// OnStateLost stores again what the store has lost and no heartbeat tells. It does not block.
func (r *Registry) OnStateLost() { r.revocations.saveLost() }

// RecheckAll looks up every session in the store, because revocations may have been missed. It does not block.
func (r *Registry) RecheckAll() { r.revocations.reloadAll() }

// Close stops all sessions and waits for everything that runs for them. It may be called more than once.
func (r *Registry) Close() { r.life.once.Do(r.close) }

func (r *Registry) close() {
	r.life.shut()
	r.heartbeats.handOver()
	r.life.cancel()
	r.table.each(func(s *Session) bool {
		r.actors.stop(s)
		return true
	})
	r.life.wait()
	r.heartbeats.closeRest() // what has left this node meanwhile
	r.actors.shutdown()
}

func (r *Registry) fireTimer(s *Session) {
	r.send(s, session.TimerFired{LastSeen: s.LastSeen(), Breaker: r.backends[s.backend].State()})
}

// backendRuntime is a backend with what its sessions on this node share.
type backendRuntime struct {
	Backend
	name           string
	policy         *sessionPolicy
	answerDeadline time.Duration // see [BackendRules.AnswerDeadline]
	rechecks       *recheckQueue
}

// sessionPolicy is the part of a backendRuntime that each session refers to.
type sessionPolicy struct {
	session.Policy
	onPlaying func(*Session) // called once when a session of a limited user begins to play
}

// leaseMargin is how much a lease outlives the longest check: time in queues of this node, and for the way to the store.
const leaseMargin = time.Second

func (r *Registry) newBackendRuntime(name string, start time.Time, o BackendOptions) *backendRuntime {
	c, rules := r.options.Config, o.Rules
	b := &backendRuntime{Backend: o.Backend, name: name, answerDeadline: rules.AnswerDeadline}
	b.policy = &sessionPolicy{onPlaying: r.streams.queueRenewal, Policy: session.Policy{
		Start:        start,
		Validity:     rules.Validity,
		RecheckMin:   c.Recheck.Min,
		RecheckMax:   c.Recheck.Max,
		Jitter:       float64(c.Recheck.Jitter) / 100,
		TokenLife:    rules.TokenLife,
		ExpiredToken: rules.ExpiredToken,
		DenialTTL:    c.DenialTTL,
		RetryAfter:   c.RetryAfter,
		IdleTimeout:  c.IdleTimeout,
		ReviveFor:    r.options.ReviveFor,
		ReviveDenied: rules.ReviveDenied,
		Shared:       r.cluster.Shared(),
		LeaseTTL:     rules.Timeout + rules.AnswerDeadline + leaseMargin,
		LeaseWait:    rules.AnswerDeadline * 3 / 4, // the rest is for a check by this node
	}}
	b.rechecks = newRecheckQueue(rules.RecheckRate, r.cluster.Live, o.Backend.State, func(s *Session, delay time.Duration) {
		r.options.Observer.RecheckGranted(name, delay)
		r.send(s, session.RecheckGranted{})
	})
	return b
}

// answerOverdue reports that a viewer waited for a queue of this node rather than for the backend.
func (b *backendRuntime) answerOverdue() error {
	return backends.NewOverload("backends."+b.name+".answer_deadline", b.answerDeadline)
}
