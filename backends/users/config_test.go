package users

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/cmd/usher/config"
)

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := Config{
		File: "/etc/usher/users.yaml", ReloadInterval: time.Minute,
		AuthParameter: "a", TokenParameter: "t", UserParameter: "u", PasswordParameter: "p",
		Realm: "Channel Ten", EndSessionOnExpiry: true, MaxConcurrentHashes: 3, MaxWaiting: 12,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"no file":             {func(c *Config) { c.File = "" }, "file: must be set"},
		"a negative interval": {func(c *Config) { c.ReloadInterval = -1 }, "reload_interval: -1ns must be 0 (never) or above"},
		"negative hashing": {
			func(c *Config) { c.MaxConcurrentHashes = -1 }, "max_concurrent_hashes: -1 is out of range; want 0 (half of the CPUs) to 1024",
		},
		"more hashing than CPUs": {
			func(c *Config) { c.MaxConcurrentHashes = 1025 }, "max_concurrent_hashes: 1025 is out of range; want 0 (half of the CPUs) to 1024",
		},
		"a negative queue": {func(c *Config) { c.MaxWaiting = -1 }, "max_waiting: -1 must be 0 or above"},
		"a user without a password": {
			func(c *Config) { c.PasswordParameter = "" }, "password_parameter: must be set, as user_parameter is",
		},
		"a password without a user": {
			func(c *Config) { c.UserParameter = "" }, "user_parameter: must be set, as password_parameter is",
		},
		"one name for two": {
			func(c *Config) { c.UserParameter = "token" }, `user_parameter: "token" is already token_parameter`,
		},
		"no parameters": {
			func(c *Config) { *c = Config{File: c.File} },
			"auth_parameter: must be set, or another parameter; otherwise no viewer can log in",
		},
		"a realm with a quote": {
			func(c *Config) { c.Realm = `a "TV"` },
			`realm: "a \"TV\"": want at most 256 bytes, without quotes, backslashes and control characters`,
		},
		"a realm too long": {
			func(c *Config) { c.Realm = strings.Repeat("a", 257) },
			`realm: "` + strings.Repeat("a", 257) + `": want at most 256 bytes, without quotes, backslashes and control characters`,
		},
		"a realm that is no text": {
			func(c *Config) { c.Realm = "\xff" },
			`realm: "\xff": want at most 256 bytes, without quotes, backslashes and control characters`,
		},
		"all at once": {
			func(c *Config) { c.File, c.ReloadInterval = "", -time.Second },
			"file: must be set\nreload_interval: -1s must be 0 (never) or above",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.File, cfg.Realm = "/etc/usher/users.yaml", strings.Repeat("a", 256)
			if err := cfg.Validate(); err != nil {
				t.Fatalf("the default with the longest realm is wrong: %v", err)
			}
			tt.change(&cfg)
			if err := cfg.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
