package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

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
	start       time.Time
	reloading   sync.Mutex
	backends    atomic.Pointer[backendSet]
	opener      *sessionOpener
	timers      *timerWheel
	streams     *streamLimits
	addresses   *addressLimit
	heartbeats  *heartbeatReporter
	revocations *revoker
	viewers     viewerCount
	users       *userSpread
	keys        keyIDs
	shown       *decisionCache
}

// NewRegistry starts a registry. Close ends it.
func NewRegistry(o Options) *Registry {
	o.setDefaults()
	start, life := time.Now(), newLifecycle()
	r := &Registry{options: o, start: start}
	r.core = core{
		life: life, table: new(sessionTable), log: o.Logger,
		actors:  newActorSystem(r),
		cluster: &clusterClient{Cluster: o.Cluster, life: life, log: o.Logger},
	}
	r.addresses = newAddressLimit(r.core, start)
	r.addresses.most.Store(int64(o.Config.MaxAddresses))
	r.opener = newSessionOpener(r.core, &r.options, r.addresses)
	r.timers = newTimerWheel(start, r.table.find, r.fireTimer)
	r.streams = newStreamLimits(r.core, o.Config.PerUser)
	r.heartbeats = newHeartbeatReporter(r.core, r.streams, r.addresses, o.HeartbeatInterval, o.Config.IdleTimeout)
	r.heartbeats.onClosed = o.OnClosed
	if !o.Cluster.Shared() {
		r.heartbeats.onOpen = o.OnOpen
	}
	r.revocations, r.shown = &revoker{core: r.core}, newDecisionCache()
	r.users = newUserSpread(r.core, o.OnConstantUser)
	r.setBackends(o.Config, o.Backends, func(string, string) string { return "" })
	life.run(func() { life.workers.run(life.ctx) })
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
// Open waits no longer than the backend's answer deadline. The end of ctx ends the waiting, after 100 ms at the earliest, not the
// opening. The error is a *backends.Overload, ErrClosed, ErrUnknownBackend or that of ctx.
func (r *Registry) Open(ctx context.Context, o session.OpenRequest) (session.Handle, error) {
	b := r.backend(o.Request.Backend)
	if b == nil || o.Request.Session.IsZero() {
		return nil, fmt.Errorf("open session %q: %w: %q", o.Request.Session, ErrUnknownBackend, o.Request.Backend)
	}
	s := r.opener.findOrRenew(ctx, b, o)
	if s == nil {
		var err error
		if s, err = r.opener.findOrCreate(ctx, b, o); err != nil {
			return nil, err
		}
	}
	if r.backend(b.name) != b { // a reload was faster
		r.move(s)
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

// admitAddress adds the viewer's address to those of a shared session.
func (r *Registry) admitAddress(ctx context.Context, s *Session, o *session.OpenRequest) error {
	if o.AddressID.IsZero() || s.ticketUse == nil {
		return nil
	}
	ctx, cancel := r.cluster.until(ctx, time.Now().Add(r.options.StoreTimeout))
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

// BoundsReached returns how often each bound was reached that turns no viewer away, by its name.
func (r *Registry) BoundsReached() map[string]uint64 {
	return map[string]uint64{
		"known_viewers": r.opener.known.Evicted(), "stored_denials": r.cluster.denials.refused.Load(),
		"stream_renewals": r.streams.renewalsSkipped.Load(), "address_renewals": r.addresses.renewalsSkipped.Load(),
	}
}

// Len returns the number of sessions on this node.
func (r *Registry) Len() int { return r.table.len() }

// RechecksWaiting returns how many sessions wait for a re-check by the backend.
func (r *Registry) RechecksWaiting(backend string) int {
	if b := r.backend(backend); b != nil {
		return b.rechecks.length()
	}
	return 0
}

// Viewers counts the viewers on this node whose decision is allowed: those of a channel, and all.
func (r *Registry) Viewers(channel string) (ofChannel, total int) { return r.viewers.count(channel) }

// Each calls yield for every session until it returns false. Sessions that open or close meanwhile may be missed.
func (r *Registry) Each(yield func(session.Handle) bool) {
	r.table.each(func(s *Session) bool { return yield(s) })
}

// InUse returns the names of the routes and backends that sessions of this node have.
func (r *Registry) InUse() (routes, backends map[string]bool) {
	routes, backends = map[string]bool{}, map[string]bool{}
	r.table.each(func(s *Session) bool {
		routes[s.request.Route()] = true
		backends[s.request.Backend()], backends[s.backend.Load().name] = true, true
		return true
	})
	return routes, backends
}

// Timeline returns what has decided on the session on this node, the oldest first.
func (r *Registry) Timeline(id backends.SessionID) (entries []timeline.Entry, found bool) {
	s := r.table.find(id)
	if s == nil {
		return nil, false
	}
	return s.timeline.Entries(s.backend.Load().name), true
}

// OnRevocation carries out a revocation of another node or of an operator. It does not block. The cluster's bans must be up
// to date.
func (r *Registry) OnRevocation(v session.Revocation) { r.revocations.apply(v) }

// OnLimitExceeded renews at once all streams of a user who exceeds their limit. The user is named by [Cluster.UserHash]. It
// does not block.
func (r *Registry) OnLimitExceeded(userHash string) { r.streams.renewAll(userHash) }

// OnRedisRecovered looks up in the store the unverified sessions, which it may know, and those that it may lack, and has it count
// the streams that this node counted alone. It does not block.
func (r *Registry) OnRedisRecovered() {
	r.revocations.reloadUnstored()
	r.streams.renewLocal()
}

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
	r.send(s, s.timerFired())
}

// backendSet are the backends. It is not changed: a reload makes another one.
type backendSet struct {
	byName map[string]*backendRuntime // with those that the settings no longer have
	wanted map[string]BackendOptions  // those that the settings have
	// replaced is as in [Registry.Reload].
	replaced func(route, backend string) string
}

// backendRuntime is a backend with what its sessions on this node share. It is not changed: other settings make another one.
type backendRuntime struct {
	Backend
	name           string
	policy         sessionPolicy
	answerDeadline time.Duration // see [BackendRules.AnswerDeadline]
	rechecks       *recheckQueue // that of the name, whatever the settings
	answers        *answerTime   // as rechecks
}

// sessionPolicy is what each session of a backend follows.
type sessionPolicy struct {
	session.Policy
	keys      *keyIDs
	onPlaying func(*Session) // called once when a session of a limited user begins to play
}

// leaseMargin is how much a lease outlives the longest check: time in queues of this node, and for the way to the store.
const leaseMargin = time.Second

func (r *Registry) newBackendRuntime(name string, c Config, o BackendOptions) *backendRuntime {
	rules := o.Rules
	b := &backendRuntime{Backend: o.Backend, name: name, answerDeadline: rules.AnswerDeadline, answers: new(answerTime)}
	b.policy = sessionPolicy{keys: &r.keys, onPlaying: r.streams.queueRenewal, Policy: session.Policy{
		Start:        r.start,
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
	return b
}

// answerOverdue reports that a viewer waited for a queue of this node, or for another node, rather than for the backend.
func (b *backendRuntime) answerOverdue() error {
	return backends.NewOverload("backends."+b.name+".answer_deadline", b.answerDeadline)
}

// removedBackend is a backend that the settings no longer have. Its sessions get no request any more, and follow its outage
// policy until they close.
type removedBackend struct{ Backend }

// Check returns what the outage policy decides. It calls nobody.
func (b removedBackend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	return b.Fallback(r, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: r.Backend})
}

// State returns that the backend cannot be called.
func (removedBackend) State() backends.BreakerState { return backends.BreakerOpen }

// IsImpaired returns true, as State.
func (removedBackend) IsImpaired() bool { return true }

// Reload replaces the settings of sessions and backends. Sessions keep their decisions until these expire, so that a reload
// causes no check. replaced returns the backend that a route has now in place of one, or "": its sessions belong to that one
// then. c.IdleTimeout and what [Config.LimitRules] returns must be as before. It must not be called concurrently.
//
// The caller calls finish once no request that may open a session is served by the old settings. Then backends that the settings no
// longer have are not called any more.
func (r *Registry) Reload(c Config, all map[string]BackendOptions, replaced func(route, backend string) string) (finish func()) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.opener.follow(c)
	r.streams.config.Store(&c.PerUser)
	r.addresses.most.Store(int64(c.MaxAddresses))
	r.setBackends(c, all, replaced)
	r.moveSessions()
	return func() {
		r.reloading.Lock()
		defer r.reloading.Unlock()
		r.removeBackends()
		r.moveSessions()
	}
}

// setBackends makes the backends. One of a known name takes over the queue, and one that is in use yet is kept.
func (r *Registry) setBackends(c Config, all map[string]BackendOptions, replaced func(route, backend string) string) {
	next := &backendSet{byName: make(map[string]*backendRuntime, len(all)), replaced: replaced, wanted: all}
	if before := r.backends.Load(); before != nil {
		maps.Copy(next.byName, before.byName)
	}
	for name, o := range all {
		b := r.newBackendRuntime(name, c, o)
		if before := next.byName[name]; before != nil {
			b.rechecks, b.answers = before.rechecks, before.answers
		} else {
			b.rechecks = newRecheckQueue(r.cluster.Live, func(s *Session, delay time.Duration) {
				r.options.Observer.RecheckGranted(name, delay)
				r.send(s, session.RecheckGranted{})
			})
			r.life.run(func() { b.rechecks.run(r.life.ctx) })
		}
		b.rechecks.follow(o.Rules.RecheckRate, b)
		next.byName[name] = b
	}
	r.backends.Store(next)
}

// removeBackends ends the calls of the backends that the settings no longer have.
func (r *Registry) removeBackends() {
	next := *r.backends.Load()
	next.byName = maps.Clone(next.byName)
	for name, b := range next.byName {
		_, isWanted := next.wanted[name]
		if _, wasRemoved := b.Backend.(removedBackend); isWanted || wasRemoved {
			continue
		}
		removed := *b
		removed.Backend, removed.policy.IsRemoved = removedBackend{b.Backend}, true
		removed.rechecks.follow(1, removed)
		next.byName[name] = &removed
	}
	r.backends.Store(&next)
}

// moveSessions gives all sessions their present backends.
func (r *Registry) moveSessions() {
	r.table.each(func(s *Session) bool {
		r.move(s)
		return true
	})
	for _, b := range r.backends.Load().byName {
		b.rechecks.takeMoved(b.name)
	}
}

// move gives the session its present backend. One whose route is gone keeps the one that it has.
func (r *Registry) move(s *Session) {
	all, before := r.backends.Load(), s.backend.Load()
	name := cmp.Or(all.replaced(s.request.Route(), before.name), before.name)
	s.backend.Store(all.byName[name])
	if name != before.name {
		r.send(s, backendReplaced{})
	}
}
