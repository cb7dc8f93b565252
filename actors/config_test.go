package actors

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestConfig_Validate_NamesInvalidSettings(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit func(*Config)
		want string
	}{
		"the defaults work":        {func(*Config) {}, ""},
		"no sessions":              {func(c *Config) { c.Max = 0 }, "max: 0 is too small; want at least 1"},
		"nobody may open":          {func(c *Config) { c.MaxPending = -1 }, "max_pending: -1 is too small; want at least 1"},
		"no address may open":      {func(c *Config) { c.OpenRatePerAddress = 0 }, "open_rate_per_address: 0 is too small; want at least 1"},
		"no burst":                 {func(c *Config) { c.OpenBurstPerAddress = 0 }, "open_burst_per_address: 0 is too small; want at least 1"},
		"no addresses":             {func(c *Config) { c.MaxAddressesPerSession = 0 }, "max_addresses_per_session: 0 is too small; want at least 1"},
		"idle at once":             {func(c *Config) { c.IdleTimeout = 0 }, "idle_timeout: 0s is too short; want at least 1s"},
		"denials are not kept":     {func(c *Config) { c.DenialTTL = time.Millisecond }, "denial_ttl: 1ms is too short; want at least 1s"},
		"a storm of retries":       {func(c *Config) { c.RetryAfter = 0 }, "retry_after: 0s is too short; want at least 1s"},
		"a storm of re-checks":     {func(c *Config) { c.Recheck.MinInterval = 0 }, "recheck.min_interval: 0s is too short; want at least 1s"},
		"bounds the wrong way":     {func(c *Config) { c.Recheck.MaxInterval = time.Second }, "recheck.max_interval: 1s is less than recheck.min_interval: 10s"},
		"jitter of more than half": {func(c *Config) { c.Recheck.Jitter = 51 }, "recheck.jitter_percent: 51 is out of range; want 0 to 50"},
		"kicks that do not last":   {func(c *Config) { c.KickDuration = 0 }, "kick_duration: 0s is too short; want at least 1s"},
		"no window":                {func(c *Config) { c.PerUser.GracePeriod = 0 }, "per_user.grace_period: 0s is too short; want at least 1s"},
		"no silence":               {func(c *Config) { c.PerUser.ZapTimeout = 0 }, "per_user.zap_timeout: 0s is too short; want at least 1s"},
		"evictions that are over":  {func(c *Config) { c.PerUser.EvictionTTL = 0 }, "per_user.eviction_ttl: 0s is too short; want at least 1s"},
		"less than no stream":      {func(c *Config) { c.PerUser.MaxStreams = -1 }, "per_user.max_streams: -1 is less than none; 0 is no bound"},
		"all that is wrong at once": {
			func(c *Config) { c.Max, c.DenialTTL = 0, 0 },
			"max: 0 is too small; want at least 1\ndenial_ttl: 0s is too short; want at least 1s",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, got := DefaultConfig(), ""
			tc.edit(&c)
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPerUserConfig_Limit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config   PerUserConfig
		decision backends.Decision
		want     int
	}{
		"none":                             {PerUserConfig{}, backends.Decision{}, 0},
		"the config's":                     {PerUserConfig{MaxStreams: 3}, backends.Decision{}, 3},
		"the backend's wins":               {PerUserConfig{MaxStreams: 3}, backends.Decision{MaxSessions: 5}, 5},
		"one session a user":               {PerUserConfig{MaxStreams: 3, MaxSessionsOverridesUnique: true}, backends.Decision{Unique: true}, 1},
		"a number wins over one":           {PerUserConfig{MaxSessionsOverridesUnique: true}, backends.Decision{Unique: true, MaxSessions: 4}, 4},
		"unless the config says otherwise": {PerUserConfig{}, backends.Decision{Unique: true, MaxSessions: 4}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.config.limit(&test.decision); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}
