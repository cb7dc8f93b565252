package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"usher/backends"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
)

// Config is what every backend that is asked over a network has in common: the keys beside kind and address.
type Config struct {
	// Timeout ends each call.
	Timeout time.Duration `yaml:"timeout"`
	// OnFailure is what viewers are told while nobody answers; empty: as the preset says.
	OnFailure backends.Policy `yaml:"on_failure"`
	// TokenTTL is for how long a viewer's token can be asked about; zero: for ever. The session, which owns the timer,
	// keeps to it.
	TokenTTL time.Duration `yaml:"token_ttl"`
	// OnExpiredToken is what holds after that.
	OnExpiredToken backends.ExpiredTokenPolicy `yaml:"on_expired_token"`

	Bulkhead BulkheadConfig `yaml:",inline"`
	Breaker  BreakerConfig  `yaml:"breaker"`
}

// DefaultConfig suits a middleware near by.
func DefaultConfig() Config {
	return Config{
		Timeout:  2 * time.Second,
		Bulkhead: DefaultBulkheadConfig(),
		Breaker:  DefaultBreakerConfig(),
	}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %s must be above 0", c.Timeout))
	}
	if c.TokenTTL < 0 {
		errs = append(errs, fmt.Errorf("token_ttl: %s must be 0 (no end) or above", c.TokenTTL))
	}
	return errors.Join(append(errs, c.Bulkhead.Validate(), c.Breaker.Validate(c.Timeout))...)
}

// Deps is what a chain is given by the program that it runs in.
type Deps struct {
	// Kind is the adapter's kind, for traces.
	Kind string
	// DefaultPolicy holds where the config leaves OnFailure open; PolicyFromPreset: allow.
	DefaultPolicy backends.Policy
	// Log and Tracer may be nil: then nothing is logged or traced.
	Log    *slog.Logger
	Tracer trace.Tracer
}

// policy is the configured outage policy, or the default.
func (d Deps) policy(configured backends.Policy) backends.Policy {
	return configured.Or(d.DefaultPolicy).Or(backends.PolicyAllow)
}

// Chain is one backend with everything around it, in this order:
//
//	FailOpen   what holds if nobody answers   outside of all that can fail to ask
//	Bulkhead   how much at once               outside the breaker, whose opening releases those who wait
//	Breaker    ask at all? and for how long   sees only what the backend did, not our own queue
//	Tracing    a span                         only for questions that go out
//	adapter
//
// A backend that decides here, or joins others that have chains of their own, has neither bulkhead nor breaker.
//
// The parts are exported to be observed. Safe for concurrent use.
type Chain struct {
	Name     string
	FailOpen *FailOpen
	// Bulkhead and Breaker are nil for a local chain.
	Bulkhead *Bulkhead
	Breaker  *Breaker

	asking  backends.Backend // all but FailOpen
	members []*Chain
	wakers  wakers // of a local chain
}

// New puts the chain around adapter, the named backend. The config must be valid.
func New(name string, cfg Config, adapter backends.Backend, parts Deps) *Chain {
	tracer := parts.Tracer
	if tracer == nil {
		tracer = noop.NewTracerProvider().Tracer("")
	}
	traced := NewTracing(name, parts.Kind, tracer, adapter)
	breaker := NewBreaker(name, cfg.Timeout, cfg.Breaker, traced, parts.Log)
	bulkhead := NewBulkhead(name, cfg.Bulkhead, breaker, breaker.Opened)
	policy := parts.policy(cfg.OnFailure)
	failOpen := NewFailOpen(name, policy, bulkhead, breaker.IsDown, parts.Log)
	return &Chain{
		Name:     name,
		FailOpen: failOpen,
		Bulkhead: bulkhead,
		Breaker:  breaker,
		asking:   bulkhead,
	}
}

// NewLocal puts a chain around a backend that decides here, or that joins the members. Under PolicyFromPreset the
// preset decides.
//
// An answer without an opinion is a No of the whole chain, and stays what it is for who joins it: see [Member].
func NewLocal(name string, policy backends.Policy, adapter backends.Backend, members []*Chain, parts Deps) *Chain {
	tracer := parts.Tracer
	if tracer == nil {
		tracer = noop.NewTracerProvider().Tracer("")
	}
	c := &Chain{Name: name, members: members}
	c.asking = NewTracing(name, parts.Kind, tracer, announced(adapter, len(members) > 0))
	decided := backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		d, err := c.asking.Check(ctx, r)
		if err == nil {
			d = settled(d)
		}
		return d, err
	})
	c.FailOpen = NewFailOpen(name, parts.policy(policy), decided, c.IsDown, parts.Log)
	return c
}

// announced tells the caller when the question goes out: at once where it is decided here, and else when the backend that
// joins says so, once.
func announced(adapter backends.Backend, joins bool) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.OnSent == nil {
			return adapter.Check(ctx, r)
		}
		q := *r
		if q.OnSent = sync.OnceFunc(r.OnSent); !joins {
			q.OnSent()
		}
		return adapter.Check(ctx, &q)
	})
}

// WithoutFailOpen is the chain without its outage policy: what a backend asks that joins several. Its error is that of a
// [Backend].
func (c *Chain) WithoutFailOpen() backends.Backend { return c.asking }

// Check asks the backend, or says what holds instead.
func (c *Chain) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return c.FailOpen.Check(ctx, r)
}

// Fallback is what a viewer is told whose time to wait is over: see [FailOpen.Fallback].
func (c *Chain) Fallback(r *backends.Request, err error) (backends.Decision, error) {
	return c.FailOpen.Fallback(r, err)
}

// IsDown reports whether the backend is known to be away: all of them, where the chain joins several.
func (c *Chain) IsDown() bool { return c.State() != backends.BreakerClosed }

// State is where the breaker stands; that of the best member where the chain joins several, since a yes of one is enough;
// closed where nobody is asked: who may be let in by a member that decides here must not be told of an outage instead. It
// is an atomic read a member.
func (c *Chain) State() backends.BreakerState {
	if c.Breaker != nil {
		return c.Breaker.State()
	}
	if len(c.members) == 0 {
		return backends.BreakerClosed
	}
	best := backends.BreakerOpen
	for _, m := range c.members {
		best = min(best, m.State())
	}
	return best
}

// Changed wakes the caller when State may have changed: see [Breaker.Changed].
func (c *Chain) Changed() (wake <-chan struct{}, stop func()) {
	if c.Breaker != nil {
		return c.Breaker.Changed()
	}
	return c.wakers.add()
}

// Run keeps the breaker's clock and logs its changes until ctx ends.
func (c *Chain) Run(ctx context.Context) error {
	changed, stop := c.Changed()
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	if c.Breaker != nil {
		group.Go(func() error { return c.Breaker.Run(ctx) })
	}
	for _, m := range c.members {
		group.Go(func() error { return c.follow(ctx, m) })
	}
	group.Go(func() error { return c.FailOpen.Watch(ctx, changed) })
	return group.Wait()
}

// follow passes a member's wakes on.
func (c *Chain) follow(ctx context.Context, member *Chain) error {
	changed, stop := member.Changed()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			c.wakers.wake()
		}
	}
}

// settled makes a No of having no opinion, for a backend that nobody joins with others.
func settled(d backends.Decision) backends.Decision {
	if d.Verdict != backends.Pending {
		return d
	}
	if d.Reason == "" {
		d.Reason = "no rule speaks for the viewer"
	}
	d.Verdict = backends.Denied
	if d.Source == backends.SourceNone {
		d.Source = backends.FromLocal // another source, such as a stopgap's, stays what it is
	}
	return d
}
