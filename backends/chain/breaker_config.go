package chain

import (
	"errors"
	"fmt"
	"time"
)

// BreakerConfig holds when the breaker opens, for how long, and how it probes the backend then.
type BreakerConfig struct {
	// Interval is the rolling window of FailureRatio.
	Interval time.Duration `yaml:"interval"`
	// BucketPeriod is the window's resolution.
	BucketPeriod time.Duration `yaml:"bucket_period"`
	// OpenDuration is how long the breaker stays open before it becomes half-open.
	OpenDuration time.Duration `yaml:"open_duration"`
	// ConsecutiveFailures opens the breaker after that many failures in a row, however slowly they come.
	ConsecutiveFailures int `yaml:"consecutive_failures"`
	// FailureRatio (above 0, at most 1) opens the breaker when that share of the calls in the window fails.
	FailureRatio float64 `yaml:"failure_ratio"`
	// MinRequests is the number of calls in the window from which FailureRatio counts.
	MinRequests int `yaml:"min_requests"`
	// HalfOpenProbes is how many probes are in flight at once, and how many must succeed to close the breaker.
	HalfOpenProbes int `yaml:"half_open_probes"`
}

// DefaultBreakerConfig opens after five failures in a row, and probes every five seconds.
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
// window are not counted, so a shorter window would never notice a backend that hangs.
const windowTimeouts = 5

const (
	// maxBuckets bounds the memory of a breaker, which has all buckets of its window from the start.
	maxBuckets = 10_000
	// maxProbes is far more than a backend that recovers should get at once.
	maxProbes = 1000
)

// Validate reports everything wrong with the breaker of a backend whose calls end after timeout. Messages begin with
// the key, relative to the backend's.
func (c BreakerConfig) Validate(timeout time.Duration) error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.BucketPeriod <= 0, "breaker.bucket_period: %s must be above 0", c.BucketPeriod)
	wrong(c.Interval < c.BucketPeriod, "breaker.interval: %s must be at least breaker.bucket_period=%s", c.Interval, c.BucketPeriod)
	wrong(c.BucketPeriod > 0 && c.Interval/maxBuckets > c.BucketPeriod,
		"breaker.interval: %s is more than %d × breaker.bucket_period=%s; want a longer bucket_period or a shorter interval",
		c.Interval, maxBuckets, c.BucketPeriod)
	wrong(c.Interval/windowTimeouts < timeout,
		"breaker.interval: %s must be at least %d × timeout=%s, or the breaker never opens for a backend that hangs",
		c.Interval, windowTimeouts, timeout)
	wrong(c.OpenDuration <= 0, "breaker.open_duration: %s must be above 0", c.OpenDuration)
	wrong(c.ConsecutiveFailures < 1, "breaker.consecutive_failures: %d must be at least 1", c.ConsecutiveFailures)
	wrong(!(c.FailureRatio > 0 && c.FailureRatio <= 1),
		"breaker.failure_ratio: %v must be above 0 and at most 1", c.FailureRatio)
	wrong(c.MinRequests < 1, "breaker.min_requests: %d must be at least 1", c.MinRequests)
	wrong(c.HalfOpenProbes < 1 || c.HalfOpenProbes > maxProbes,
		"breaker.half_open_probes: %d is out of range; want 1 to %d", c.HalfOpenProbes, maxProbes)
	return errors.Join(errs...)
}
