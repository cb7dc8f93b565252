package securetoken

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
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
	wanted := Config{
		Key: "s3cret-of-the-portal", ExtraKeys: []setting.Secret{"the-0ld-s3cret"},
		Formula: FormulaFlussonic, NoCheckIP: true, ClockSkew: 5 * time.Minute, EndSessionOnExpiry: true,
		Parameter: "st", UserParameter: "user", SaltLength: 32,
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestFormula_MarshalText(t *testing.T) {
	t.Parallel()
	for f := FormulaAstra; f <= FormulaFlussonic; f++ {
		text, err := f.MarshalText()
		if err != nil {
			t.Fatalf("print %s: %v", f, err)
		}
		var again Formula
		if err := again.UnmarshalText(text); err != nil || again != f {
			t.Errorf("%s was read as %s, error %v", f, again, err)
		}
	}
	var f Formula
	if err := f.UnmarshalText([]byte("wowza")); err == nil ||
		err.Error() != `formula "wowza": want astra, alta or flussonic` {
		t.Errorf("got %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"no key":       {func(c *Config) { c.Key = "" }, "key: must be set"},
		"an empty key": {func(c *Config) { c.ExtraKeys = []setting.Secret{"a", ""} }, "extra_keys[1]: is empty"},
		"a tolerance below zero": {
			func(c *Config) { c.ClockSkew = -time.Second }, "clock_skew: -1s is out of range; want 0 to 1h0m0s",
		},
		"a tolerance too long": {
			func(c *Config) { c.ClockSkew = 2 * time.Hour }, "clock_skew: 2h0m0s is out of range; want 0 to 1h0m0s",
		},
		"half a second": {
			func(c *Config) { c.ClockSkew = 500 * time.Millisecond },
			"clock_skew: 500ms is not a whole number of seconds, the unit of tokens",
		},
		"no parameter": {func(c *Config) { c.Parameter = "" }, "parameter: must be set"},
		"one parameter for both": {
			func(c *Config) { signsUsers(c); c.UserParameter = "token" }, `user_parameter: "token" is the token's parameter`,
		},
		"a user where none is signed": {
			func(c *Config) { signsUsers(c); c.Formula = FormulaAlta },
			`user_parameter: "user": formula alta signs no user; want flussonic`,
		},
		"a user beside salts of any length": {
			func(c *Config) { signsUsers(c); c.SaltLength = 0 },
			`salt_length: 0 must be set with user_parameter="user", or a viewer could move characters from the salt to ` +
				`the user's id; Flussonic's sample makes 32`,
		},
		"a salt too long": {
			func(c *Config) { c.SaltLength = 257 }, "salt_length: 257 is out of range; want 0 (any) to 256",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Key = "s3cret"
			tt.change(&cfg)
			if err := cfg.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestConfig_ValidateAllAtOnceWithoutSecrets(t *testing.T) {
	t.Parallel()
	cfg := Config{Key: "s3cret", ExtraKeys: []setting.Secret{""}, ClockSkew: -1, SaltLength: -1}
	_, err := New("tokens", cfg, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `make backend "tokens": extra_keys[0]: is empty`) ||
		strings.Count(err.Error(), "\n") != 3 || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	if joined := errors.Unwrap(err); joined == nil {
		t.Error("the causes are lost")
	}
}

func TestConfig_Validate_LargestValues(t *testing.T) {
	t.Parallel()
	c := Config{ClockSkew: maxTolerance, SaltLength: maxSalt}
	if err := c.validateTolerance(); err != nil {
		t.Errorf("got %v for the longest clock_skew, want none", err)
	}
	if err := c.validateSalt(); err != nil {
		t.Errorf("got %v for the largest salt_length, want none", err)
	}
}
