package chain

import (
	"testing"
	"time"
)

func TestBreakerConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*BreakerConfig)
		want   string
	}{
		"the default is valid": {func(*BreakerConfig) {}, ""},
		"the outermost values are valid": {func(c *BreakerConfig) {
			c.Interval, c.BucketPeriod, c.OpenDuration = 5*testTimeout, 5*testTimeout, 1
			c.ConsecutiveFailures, c.MinRequests, c.HalfOpenProbes, c.FailureRatio = 1, 1, 1, 1
		}, ""},
		"no ratio at all": {func(c *BreakerConfig) { c.FailureRatio = 0 }, "breaker.failure_ratio: 0 must be above 0 and at most 1"},
		"a window too short for the timeout names both": {
			func(c *BreakerConfig) { c.Interval = 9 * time.Second },
			"breaker.interval: 9s must be at least 5 × timeout=2s, or the breaker never opens for a backend that hangs",
		},
		"a bucket of nothing": {func(c *BreakerConfig) { c.BucketPeriod = 0 }, "breaker.bucket_period: 0s must be above 0"},
		"a bucket above the window": {
			func(c *BreakerConfig) { c.BucketPeriod = time.Minute },
			"breaker.interval: 10s must be at least breaker.bucket_period=1m0s",
		},
		"never tried again": {func(c *BreakerConfig) { c.OpenDuration = 0 }, "breaker.open_duration: 0s must be above 0"},
		"no failures": {
			func(c *BreakerConfig) { c.ConsecutiveFailures = 0 },
			"breaker.consecutive_failures: 0 must be at least 1",
		},
		"a ratio above one": {
			func(c *BreakerConfig) { c.FailureRatio = 1.5 },
			"breaker.failure_ratio: 1.5 must be above 0 and at most 1",
		},
		"no requests": {func(c *BreakerConfig) { c.MinRequests = 0 }, "breaker.min_requests: 0 must be at least 1"},
		"no probes":   {func(c *BreakerConfig) { c.HalfOpenProbes = 0 }, "breaker.half_open_probes: 0 is out of range; want 1 to 1000"},
		"probes without end": {
			func(c *BreakerConfig) { c.HalfOpenProbes = 1 << 32 },
			"breaker.half_open_probes: 4294967296 is out of range; want 1 to 1000",
		},
		"buckets without end": {
			func(c *BreakerConfig) { c.Interval = 10_001 * c.BucketPeriod },
			"breaker.interval: 2h46m41s is more than 10000 × breaker.bucket_period=1s; want a longer bucket_period or a shorter interval",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultBreakerConfig()
			tt.change(&cfg)
			if got := errorText(cfg.Validate(testTimeout)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}
