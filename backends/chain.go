package backends

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
)

// ChainConfig is what every backend that is asked over a network has in common: the keys beside kind and address.
type ChainConfig struct {
	// Timeout ends each call.
	Timeout time.Duration `yaml:"timeout"`
	// OnFailure is what viewers are told while nobody answers; empty: as the preset says.
	OnFailure Policy `yaml:"on_failure"`
	// TokenLife is for how long a viewer's token can be asked about; zero: for ever. The session, which owns the timer,
	// keeps to it.
	TokenLife time.Duration `yaml:"token_life"`
	// OnExpiredToken is what holds after that.
	OnExpiredToken ExpiredToken `yaml:"on_expired_token"`

	Bulkhead BulkheadConfig `yaml:",inline"`
	Breaker  BreakerConfig  `yaml:"breaker"`
}

// DefaultChainConfig suits a middleware near by.
func DefaultChainConfig() ChainConfig {
	return ChainConfig{
		Timeout:  2 * time.Second,
		Bulkhead: DefaultBulkheadConfig(),
		Breaker:  DefaultBreakerConfig(),
	}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c ChainConfig) Validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %s must be above 0", c.Timeout))
	}
	if c.TokenLife < 0 {
		errs = append(errs, fmt.Errorf("token_life: %s must be 0 (no end) or above", c.TokenLife))
	}
	return errors.Join(append(errs, c.Bulkhead.Validate(), c.Breaker.Validate(c.Timeout))...)
}

// ChainParts is what a chain is given by the program that it runs in.
type ChainParts struct {
	// Kind is the adapter's kind, for traces.
	Kind string
	// Preset decides on OnFailure where the config leaves it open.
	Preset Preset
	// Log and Tracer may be nil: then nothing is logged or traced.
	Log    *slog.Logger
	Tracer trace.Tracer
}

// Chain is one backend with everything around it, in this order:
//
//	FailOpen   what holds if nobody answers   outside of all that can fail to ask
//	Bulkhead   how much at once               outside the breaker, whose opening releases those who wait
//	Breaker    ask at all? and for how long   sees only what the backend did, not our own queue
//	Tracing    a span                         only for questions that go out
//	adapter
//
// The parts are exported to be observed. Safe for concurrent use.
type Chain struct {
	Name     string
	FailOpen *FailOpen
	Bulkhead *Bulkhead
	Breaker  *Breaker
}

// NewChain puts the chain around adapter, the named backend. The config must be valid.
func NewChain(name string, cfg ChainConfig, adapter Backend, parts ChainParts) *Chain {
	tracer := parts.Tracer
	if tracer == nil {
		tracer = noop.NewTracerProvider().Tracer("")
	}
	traced := NewTracing(name, parts.Kind, tracer, adapter)
	breaker := NewBreaker(name, cfg.Timeout, cfg.Breaker, traced, parts.Log)
	bulkhead := NewBulkhead(name, cfg.Bulkhead, breaker, breaker.Opened)
	policy := cfg.OnFailure.Or(parts.Preset.Policy())
	failOpen := NewFailOpen(name, policy, bulkhead, breaker.Down, parts.Log)
	return &Chain{
		Name:     name,
		FailOpen: failOpen,
		Bulkhead: bulkhead,
		Breaker:  breaker,
	}
}

// Check asks the backend, or says what holds instead.
func (c *Chain) Check(ctx context.Context, r *Request) (Decision, error) {
	return c.FailOpen.Check(ctx, r)
}

// Instead is what a viewer is told whose time to wait is over: see [FailOpen.Instead].
func (c *Chain) Instead(r *Request, err error) (Decision, error) { return c.FailOpen.Instead(r, err) }

// Down reports whether the backend is known to be away. It is one atomic read.
func (c *Chain) Down() bool { return c.Breaker.Down() }

// State is where the breaker stands. It is one atomic read.
func (c *Chain) State() BreakerState { return c.Breaker.State() }

// Changed wakes the caller when State has changed: see [Breaker.Changed].
func (c *Chain) Changed() (wake <-chan struct{}, stop func()) { return c.Breaker.Changed() }

// Run keeps the breaker's clock and logs its changes until ctx ends.
func (c *Chain) Run(ctx context.Context) error {
	changed, stop := c.Changed()
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.Breaker.Run(ctx) })
	group.Go(func() error { return c.FailOpen.Watch(ctx, changed) })
	return group.Wait()
}
