package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

// Config holds the settings that every backend asked over a network has in common, beside kind and address.
type Config struct {
	// Timeout ends each call.
	Timeout time.Duration `yaml:"timeout"`
	// OnFailure is the outage policy. Empty: the preset's.
	OnFailure backends.Policy `yaml:"on_failure"`

	Bulkhead BulkheadConfig `yaml:",inline"`
	Breaker  BreakerConfig  `yaml:"breaker"`
}

// DefaultConfig returns settings for a middleware in the same network.
func DefaultConfig() Config {
	return Config{
		Timeout:  2 * time.Second,
		Bulkhead: DefaultBulkheadConfig(),
		Breaker:  DefaultBreakerConfig(),
	}
}

// Validate reports everything wrong. Messages begin with the key, relative to the backend's.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: %s must be above 0", c.Timeout))
	}
	return errors.Join(append(errs, c.Bulkhead.Validate(), c.Breaker.Validate(c.Timeout))...)
}

// Deps holds what the program gives a chain.
type Deps struct {
	// Kind is the adapter's kind, for traces.
	Kind string
	// DefaultPolicy is the outage policy where the config leaves it open, usually the preset's. Zero: allow.
	DefaultPolicy backends.Policy
	// OnCall is told of each call of the backend: its answer or error, and how long it took. OnState is told each new state of
	// the breaker. They may be nil, are called concurrently, must not block and must not keep the request.
	OnCall  func(r *backends.Request, d backends.Decision, err error, took time.Duration)
	OnState func(backends.BreakerState)
	// Log and Tracer may be nil: then nothing is logged or traced.
	Log    *slog.Logger
	Tracer trace.Tracer
}

// policy returns the outage policy for a configured one.
func (d Deps) policy(configured backends.Policy) backends.Policy {
	return configured.Or(d.DefaultPolicy).Or(backends.PolicyAllow)
}

// orNobody returns the dependencies with functions that tell nobody in place of nil.
func (d Deps) orNobody() Deps {
	if d.OnCall == nil {
		d.OnCall = func(*backends.Request, backends.Decision, error, time.Duration) {}
	}
	if d.OnState == nil {
		d.OnState = func(backends.BreakerState) {}
	}
	d.Log = backends.LoggerOrDiscard(d.Log)
	return d
}
