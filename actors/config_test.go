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
		"the defaults work": {func(*Config) {}, ""},
		"the outermost values work": {func(c *Config) {
			c.Max, c.MaxPending, c.OpenRatePerAddress, c.OpenBurstPerAddress, c.MaxAddresses, c.MaxVariants = 1, 1, 1, 1, 1, 0
			c.IdleTimeout, c.DenialTTL, c.RetryAfter, c.KickDuration = time.Second, time.Second, time.Second, time.Second
			c.Recheck = RecheckConfig{Min: time.Second, Max: time.Second, Jitter: 50}
			c.PerUser.GracePeriod, c.PerUser.ZapTimeout, c.PerUser.EvictionTTL, c.PerUser.MaxStreams = time.Second, time.Second, time.Second, 0
		}, ""},
		"no jitter":                     {func(c *Config) { c.Recheck.Jitter = 0 }, ""},
		"a negative jitter":             {func(c *Config) { c.Recheck.Jitter = -1 }, "recheck.jitter_percent: -1 is out of range; want 0 to 50"},
		"no sessions":                   {func(c *Config) { c.Max = 0 }, "max: 0 is too small; want at least 1"},
		"no pending openings":           {func(c *Config) { c.MaxPending = -1 }, "max_pending: -1 is too small; want at least 1"},
		"no open rate":                  {func(c *Config) { c.OpenRatePerAddress = 0 }, "open_rate_per_address: 0 is too small; want at least 1"},
		"no burst":                      {func(c *Config) { c.OpenBurstPerAddress = 0 }, "open_burst_per_address: 0 is too small; want at least 1"},
		"too many addresses":            {func(c *Config) { c.MaxAddresses = 51 }, "max_addresses: 51 is too large; want at most 50"},
		"the most addresses":            {func(c *Config) { c.MaxAddresses = 50 }, ""},
		"no addresses":                  {func(c *Config) { c.MaxAddresses = 0 }, "max_addresses: 0 is too small; want at least 1"},
		"no idle timeout":               {func(c *Config) { c.IdleTimeout = 0 }, "idle_timeout: 0s is too short; want at least 1s"},
		"no denial time":                {func(c *Config) { c.DenialTTL = time.Millisecond }, "denial_ttl: 1ms is too short; want at least 1s"},
		"no retry time":                 {func(c *Config) { c.RetryAfter = 0 }, "retry_after: 0s is too short; want at least 1s"},
		"no shortest validity":          {func(c *Config) { c.Recheck.Min = 0 }, "recheck.min: 0s is too short; want at least 1s"},
		"recheck.max below min":         {func(c *Config) { c.Recheck.Max = time.Second }, "recheck.max: 1s is less than recheck.min: 10s"},
		"jitter of more than half":      {func(c *Config) { c.Recheck.Jitter = 51 }, "recheck.jitter_percent: 51 is out of range; want 0 to 50"},
		"no kick time":                  {func(c *Config) { c.KickDuration = 0 }, "kick_duration: 0s is too short; want at least 1s"},
		"no grace period":               {func(c *Config) { c.PerUser.GracePeriod = 0 }, "per_user.grace_period: 0s is too short; want at least 1s"},
		"a short zap timeout":           {func(c *Config) { c.PerUser.ZapTimeout = 1 }, "per_user.zap_timeout: 1ns is too short; want at least 1s"},
		"the zap timeout of what plays": {func(c *Config) { c.PerUser.ZapTimeout = 0 }, ""},
		"no eviction time":              {func(c *Config) { c.PerUser.EvictionTTL = 0 }, "per_user.eviction_ttl: 0s is too short; want at least 1s"},
		"a negative bound of variants":  {func(c *Config) { c.MaxVariants = -1 }, "max_variants: -1 is negative; 0 is no bound"},
		"a negative limit":              {func(c *Config) { c.PerUser.MaxStreams = -1 }, "per_user.max_streams: -1 is negative; 0 is no bound"},
		"all problems at once": {
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
		"none":                            {PerUserConfig{}, backends.Decision{}, 0},
		"of the config":                   {PerUserConfig{MaxStreams: 3}, backends.Decision{}, 3},
		"the backend overrides it":        {PerUserConfig{MaxStreams: 3}, backends.Decision{MaxSessions: 5}, 5},
		"unique":                          {PerUserConfig{MaxStreams: 3, MaxSessionsOverridesUnique: true}, backends.Decision{Unique: true}, 1},
		"X-Max-Sessions overrides unique": {PerUserConfig{MaxSessionsOverridesUnique: true}, backends.Decision{Unique: true, MaxSessions: 4}, 4},
		"unless configured otherwise":     {PerUserConfig{}, backends.Decision{Unique: true, MaxSessions: 4}, 1},
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

func TestOptions_SetDefaults(t *testing.T) {
	t.Parallel()
	left, given := Options{Config: DefaultConfig()}, Options{StoreTimeout: time.Second, HeartbeatInterval: time.Minute}
	left.setDefaults()
	given.setDefaults()
	if left.StoreTimeout != 100*time.Millisecond || left.HeartbeatInterval != 20*time.Second {
		t.Errorf("left out: got %v and %v, want 100ms and a third of the idle timeout", left.StoreTimeout, left.HeartbeatInterval)
	}
	if given.StoreTimeout != time.Second || given.HeartbeatInterval != time.Minute {
		t.Errorf("given: got %v and %v, want 1s and 1m0s", given.StoreTimeout, given.HeartbeatInterval)
	}
	left.OnConstantUser("portal", "17", 200) // nobody is told
	if left.Logger == nil {
		t.Error("no logger")
	}
}

func TestZapTimeoutOf(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		target     time.Duration
		isComplete bool
		want       time.Duration
	}{
		"short segments":          {time.Second, false, 6 * time.Second},
		"usual segments":          {6 * time.Second, false, 9 * time.Second},
		"a complete playlist":     {6 * time.Second, true, time.Minute},
		"complete, long segments": {time.Minute, true, 90 * time.Second},
	} {
		if got := zapTimeoutOf(test.target, test.isComplete); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
