package chain

import (
	"errors"
	"fmt"
	"time"
)

// BreakerConfig says when a backend is given up for a while, and how it is tried again.
type BreakerConfig struct {
	// Interval is the rolling window over which the ratio of failures is taken, Bucket its resolution.
	Interval     time.Duration `yaml:"interval"`
	BucketPeriod time.Duration `yaml:"bucket_period"`
	// OpenDuration is how long the backend is left alone before it is tried again.
	OpenDuration time.Duration `yaml:"open_duration"`
	// ConsecutiveFailures in a row open the breaker, however slowly they come.
	ConsecutiveFailures int `yaml:"consecutive_failures"`
	// FailureRatio (above 0, at most 1) of at least MinRequests answers in the window opens it too.
	FailureRatio float64 `yaml:"failure_ratio"`
	MinRequests  int     `yaml:"min_requests"`
	// HalfOpenProbes is how many calls try the backend at once, and how many must succeed for the breaker to close.
	HalfOpenProbes int `yaml:"half_open_probes"`
}

// DefaultBreakerConfig gives up a backend after five failures in a row, and tries it every five seconds.
func DefaultBreakerConfig() BreakerConfig {
	return BreakerConfig{
		Interval:            10 * time.Second,
		BucketPeriod:        time.Second,
		OpenDuration:        5 * time.Second,
		ConsecutiveFailures: 5,
		FailureRatio:        0.5,
		MinRequests:         20,
		HalfOpenProbes:      1,
	}
}

// windowTimeouts is how many call timeouts the window must hold. Answers that arrive after their bucket has left the
// window are not counted, so in a shorter one a backend that hangs would never be noticed.
const windowTimeouts = 5

// Validate reports everything wrong with the breaker of a backend whose calls end after timeout. Messages begin with
// the key, under the backend's own.
func (c BreakerConfig) Validate(timeout time.Duration) error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.BucketPeriod <= 0, "breaker.bucket_period: %s must be above 0", c.BucketPeriod)
	wrong(c.Interval < c.BucketPeriod, "breaker.interval: %s must be at least breaker.bucket_period=%s", c.Interval, c.BucketPeriod)
	wrong(c.Interval < windowTimeouts*timeout,
		"breaker.interval: %s must be at least %d × timeout=%s, or a backend that hangs would never be given up",
		c.Interval, windowTimeouts, timeout)
	wrong(c.OpenDuration <= 0, "breaker.open_duration: %s must be above 0", c.OpenDuration)
	wrong(c.ConsecutiveFailures < 1, "breaker.consecutive_failures: %d must be at least 1", c.ConsecutiveFailures)
	wrong(!(c.FailureRatio > 0 && c.FailureRatio <= 1),
		"breaker.failure_ratio: %v must be above 0 and at most 1", c.FailureRatio)
	wrong(c.MinRequests < 1, "breaker.min_requests: %d must be at least 1", c.MinRequests)
	wrong(c.HalfOpenProbes < 1, "breaker.half_open_probes: %d must be at least 1", c.HalfOpenProbes)
	return errors.Join(errs...)
}
