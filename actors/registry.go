package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"usher/actors/session"
	"usher/backends"
)

// Backend is a backend behind its breaker and its outage policy.
type Backend interface {
	backends.Backend
	// Fallback is what the outage policy says about the viewer when nobody answered because of err.
	Fallback(r *backends.Request, err error) (backends.Decision, error)
	// State is whether the backend can be asked. It neither blocks nor locks.
	State() backends.BreakerState
}

// Rules are what the config says about one backend's sessions.
type Rules struct {
	// Validity is how long an answer holds whose backend did not say.
	Validity time.Duration
	// TokenTTL is how long the backend knows a token; zero: for ever. A session older than that is not asked about.
	TokenLife    time.Duration
	ExpiredToken backends.ExpiredTokenPolicy
	// RecheckRate bounds the re-checks a second that the backend sees from this node.
	RecheckRate int
	// AnswerDeadline is how long a viewer waits for the first decision, Timeout how long one check may take.
	AnswerDeadline time.Duration
	Timeout        time.Duration
	// ReviveDenied: a ticket that nobody remembers admits nobody, because the outage policy is deny.
	ReviveDenied bool
}

// Options are what a Registry is made of. Fields are required unless their comment says otherwise.
type Options struct {
	Config Config
	// ReviveMaxAge is the age up to which a ticket admits a viewer whose session no node remembers.
	ReviveFor time.Duration
	// Backends are keyed by name.
	Backends map[string]BackendOptions
	Cluster  Cluster
	// StoreTimeout is how long a viewer waits for the store; zero: 100 ms.
	StoreTimeout time.Duration
	// HeartbeatInterval is how often the store learns when a session was last seen; zero: a third of the idle timeout.
	HeartbeatInterval time.Duration
	// SigningKey returns the id of the key that signs new tickets.
	SigningKey func() string
	// Tracer records spans; nil: none.
	Tracer trace.Tracer
	// Logger may be nil.
	Logger *slog.Logger
}

// BackendOptions are a backend and what the config says about its sessions.
type BackendOptions struct {
	Backend Backend
	Rules   Rules
}

// setDefaults fills in the fields that may be left out.
func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StoreTimeout == 0 {
		o.StoreTimeout = 100 * time.Millisecond
	}
	if o.HeartbeatInterval == 0 {
		o.HeartbeatInterval = o.Config.IdleTimeout / 3
	}
}

// Registry finds the sessions of this node and opens new ones. It is safe for concurrent use.
type Registry struct {
	o         Options
	start     time.Time // with its monotonic reading
	table     table
	admission *admission
	audience  audience
	limits    *limits
	denials   meter // bounds how many denials of strangers are stored
	wheel     *wheel
	guarded   map[string]*guarded
	system    *actor.ActorSystem
	props     *actor.Props
	sequence  atomic.Uint64
	waiting   atomic.Int64
	life      context.Context // of everything that runs on behalf of sessions
	end       context.CancelFunc
	running   sync.WaitGroup // what runs on behalf of sessions
	alive     sync.WaitGroup // actors
	door      sync.RWMutex   // held by those who open a session; closed for good by Close
	shut      bool
	closing   sync.Once
}

// guarded is a backend with what belongs to it on this node.
type guarded struct {
	Backend
	name     string
	rules    *backendRules
	deadline time.Duration
	pacer    *pacer
}

// backendRules are what the sessions of one backend on this node share.
type backendRules struct {
	session.Policy
	counted func(*Session) // told once when a session begins to play
}

// NewRegistry starts a registry. Close ends it.
func NewRegistry(o Options) *Registry {
	o.setDefaults()
	r := &Registry{
		o:       o,
		start:   time.Now(),
		guarded: make(map[string]*guarded, len(o.Backends)),
	}
	r.admission = newAdmission(r.start, o.Config.OpenRatePerAddress, o.Config.OpenBurstPerAddress)
	r.limits = newLimits(r)
	// The registry's own life, not a request's: checks outlive the viewers who caused them.
	r.life, r.end = context.WithCancel(context.Background())
	r.wheel = newWheel(r.start, r.fireTimer)
	r.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler) // protoactor reports each dead letter; we report what matters
	}))
	r.props = actor.PropsFromProducer(func() actor.Actor { return &sessionActor{registry: r} },
		actor.WithMailbox(newMailbox),
		actor.WithGuardian(actor.NewRestartingStrategy()))
	for name, b := range o.Backends {
		r.guarded[name] = r.guard(name, b)
	}
	r.running.Go(func() { r.wheel.run(r.life) })
	r.running.Go(r.limits.run)
	r.running.Go(r.beat)
	r.running.Go(r.sweep)
	return r
}

// leaseSlack is how much a lease outlives the longest check: what it may wait for in queues of ours, and the way back.
const leaseSlack = time.Second

func (r *Registry) guard(name string, o BackendOptions) *guarded {
	c, b, br := r.o.Config, o.Backend, o.Rules
	g := &guarded{Backend: b, name: name, deadline: br.AnswerDeadline, rules: &backendRules{counted: r.limits.due, Policy: session.Policy{
		Start:        r.start,
		Validity:     br.Validity,
		RecheckMin:   c.Recheck.MinInterval,
		RecheckMax:   c.Recheck.MaxInterval,
		Jitter:       float64(c.Recheck.Jitter) / 100,
		TokenLife:    br.TokenLife,
		ExpiredToken: br.ExpiredToken,
		DenyFor:      c.DenialTTL,
		RetryAfter:   c.RetryAfter,
		IdleTimeout:  c.IdleTimeout,
		ReviveFor:    r.o.ReviveFor,
		ReviveDenied: br.ReviveDenied,
		Shared:       r.o.Cluster.Shared(),
		LeaseFor:     br.Timeout + br.AnswerDeadline + leaseSlack,
		WaitFor:      br.AnswerDeadline * 3 / 4, // the rest is for asking without the one who asks already
	}}}
	g.pacer = newPacer(br.RecheckRate, r.o.Cluster.Live, b.State, func(s *Session) { r.tell(s, session.RecheckGranted{}) })
	r.running.Go(func() { g.pacer.run(r.life) })
	return g
}

// Close stops all sessions and waits for what runs on their behalf.
func (r *Registry) Close() { r.closing.Do(r.close) }

func (r *Registry) close() {
	r.door.Lock()
	r.shut = true
	r.door.Unlock()
	r.handOver()
	r.end()
	r.table.each(func(s *Session) bool {
		r.system.Root.Stop(s.pid)
		return true
	})
	r.alive.Wait() // only actors start what is waited for next
	r.running.Wait()
	r.system.Shutdown()
}

// Find returns the live session of that id, or nil. It neither locks nor allocates.
func (r *Registry) Find(id backends.SessionID) *Session { return r.table.find(id) }

// Len is how many sessions live on this node.
func (r *Registry) Len() int { return int(r.table.live.Load()) }

// Audience counts the viewers who are allowed to watch on this node: those of a channel, and all.
func (r *Registry) Audience(channel string) (ofChannel, all int) { return r.audience.of(channel) }

// Each calls yield for every session until it returns false; sessions that come or go meanwhile may be missed.
func (r *Registry) Each(yield func(*Session) bool) { r.table.each(yield) }

// The errors of Open beside an Overload and its context's. ErrClosed says that the node is shutting down;
// ErrUnknownBackend that the request names a backend, or a session, that cannot be.
var (
	ErrClosed         = errors.New("sessions are closed")
	ErrUnknownBackend = errors.New("no such backend")
)

// Open returns the viewer's session with its first decision taken, opening it if nobody else has. However many ask at
// once, one of them opens. It waits no longer than the backend's answer deadline; ctx ends the waiting, not the
// opening. Errors: *backends.Overload, ErrClosed, ErrUnknownBackend, or ctx's.
func (r *Registry) Open(ctx context.Context, a session.OpenRequest) (*Session, error) {
	g := r.guarded[a.Request.Backend]
	if g == nil || a.Request.Session.IsZero() {
		return nil, fmt.Errorf("open session %q: %w: %q", a.Request.Session, ErrUnknownBackend, a.Request.Backend)
	}
	s := r.table.find(a.Request.Session)
	if s == nil {
		var err error
		if s, err = r.enter(ctx, g, a); err != nil {
			return nil, err
		}
	}
	if a.HasCredentials {
		r.introduce(s, a)
	}
	if err := r.await(ctx, g, s); err != nil {
		return nil, err
	}
	return s, nil
}

// introduce tells a session known by its ticket alone who its viewer is.
func (r *Registry) introduce(s *Session, a session.OpenRequest) {
	if s.introduce(a.Request) {
		r.tell(s, session.CredentialsArrived{})
	}
}

// enter opens the session, or finds that somebody else just has.
func (r *Registry) enter(ctx context.Context, g *guarded, a session.OpenRequest) (*Session, error) {
	r.door.RLock()
	defer r.door.RUnlock()
	if r.shut {
		return nil, ErrClosed
	}
	var refused error // only who really opens one counts
	s, added := r.table.findOrAdd(a.Request.Session, func() *Session {
		if refused = r.admit(a); refused != nil {
			return nil
		}
		return r.spawn(g, a)
	})
	if added {
		// Not before it can be found: an actor that panics looks itself up.
		r.tell(s, begin{session: s, span: trace.SpanContextFromContext(ctx)})
	}
	return s, refused
}

// admit refuses a new session beyond what the node or the viewer's address may have. A ticket of ours is no flood: all
// viewers of a node that restarted come with one at once, perhaps behind one address.
func (r *Registry) admit(a session.OpenRequest) error {
	switch {
	case r.Len() >= r.o.Config.Max:
		return backends.NewOverload("sessions.max", r.o.Config.Max)
	case a.Ticket.IsZero() && !r.admission.allow(a.Request.Address, time.Now()):
		return backends.NewOverload("sessions.open_rate_per_address", r.o.Config.OpenRatePerAddress)
	}
	return nil
}

// spawn makes the session and its actor.
func (r *Registry) spawn(g *guarded, a session.OpenRequest) *Session {
	s := &Session{id: a.Request.Session, backend: g.name, sequence: r.sequence.Add(1), rules: g.rules, margin: a.ExtraLifetime}
	s.first.Store(&firstDecision{taken: make(chan struct{}), ticket: a.Ticket})
	s.facts.Store(a.Request)
	s.introduced.Store(a.HasCredentials)
	s.lastSeen.Store(int64(time.Since(r.start)))
	pid, err := r.system.Root.SpawnNamed(r.props, s.actorName())
	if err != nil {
		// Names hold a sequence number, so a second one of the same name cannot be.
		r.o.Logger.Error("BUG: spawn session actor", "session", s.id.String(), "error", err)
	}
	s.pid = pid
	r.alive.Add(1)
	return s
}

// actorName is the id and a sequence number, so that a message to a session that is gone never reaches a new one.
func (s *Session) actorName() string {
	return s.id.String() + "." + strconv.FormatUint(s.sequence, 36)
}

// await waits for the session's first decision, as long as the backend's answer deadline allows.
func (r *Registry) await(ctx context.Context, g *guarded, s *Session) error {
	first := s.first.Load()
	if first == nil {
		return nil
	}
	if n := r.waiting.Add(1); n > int64(r.o.Config.MaxPending) {
		r.waiting.Add(-1)
		return backends.NewOverload("sessions.max_pending", r.o.Config.MaxPending)
	}
	defer r.waiting.Add(-1)
	patience := time.NewTimer(g.deadline)
	defer patience.Stop()
	for told := false; ; told = true {
		select {
		case <-first.taken:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-r.life.Done():
			return ErrClosed
		case <-patience.C:
			if told { // an actor that cannot answer must not hold a viewer for ever
				return g.tooLate()
			}
			r.tell(s, viewerWaited{}) // the actor answers at once with what the policy says
			patience.Reset(g.deadline)
		}
	}
}

// tooLate says that a viewer waited for a queue of ours rather than for the backend.
func (g *guarded) tooLate() error {
	return backends.NewOverload("backends."+g.name+".answer_deadline", g.deadline)
}

// tell sends the session's actor a message. A session that is gone does not hear it.
func (r *Registry) tell(s *Session, message any) { r.system.Root.Send(s.pid, message) }

func (r *Registry) fireTimer(s *Session) {
	r.tell(s, session.TimerFired{
		LastSeen: s.LastSeen(),
		Breaker:  r.guarded[s.backend].State(),
	})
}
