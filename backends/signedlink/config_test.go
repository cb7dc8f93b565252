package signedlink

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
)

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := yaml.UnmarshalWithOptions(text, &got, yaml.Strict()); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := Config{
		Secret: "s3cret-of-the-portal", ExtraSecrets: []setting.Secret{"the-0ld-s3cret"},
		MD5Parameter: "md5", ExpiresParameter: "expires",
		Expression:   "$secure_link_expires$uri$remote_addr $secret",
		TrimSuffixes: []string{"/index.m3u8", "/playlist.m3u8"},
		ClockSkew:    10 * time.Second, EndSessionOnExpiry: true,
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
	unknown := "; want $secret, $uri, $expires or $remote_addr"
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"no secret":       {func(c *Config) { c.Secret = "" }, "secret: must be set"},
		"an empty secret": {func(c *Config) { c.ExtraSecrets = []setting.Secret{"a", ""} }, "extra_secrets[1]: is empty"},
		"no hash":         {func(c *Config) { c.MD5Parameter = "" }, "md5_parameter: must be set"},
		"no expiry":       {func(c *Config) { c.ExpiresParameter = "" }, "expires_parameter: must be set"},
		"one for both":    {func(c *Config) { c.ExpiresParameter = "ST" }, `expires_parameter: "ST" is the hash's parameter`},
		"an empty end":    {func(c *Config) { c.TrimSuffixes = []string{"/a", ""} }, "trim_suffixes[1]: is empty"},
		"a far tolerance": {
			func(c *Config) { c.ClockSkew = 2 * time.Hour }, "clock_skew: 2h0m0s is out of range; want 0 to 1h0m0s",
		},
		"a past tolerance": {
			func(c *Config) { c.ClockSkew = -time.Second }, "clock_skew: -1s is out of range; want 0 to 1h0m0s",
		},
		"half a second": {
			func(c *Config) { c.ClockSkew = time.Second / 2 },
			"clock_skew: 500ms is not a whole number of seconds, the unit of links",
		},
		"another variable": {
			func(c *Config) { c.Expression = "$secret$uri$expires$arg_x" }, `expression: "$arg_x" is not a variable` + unknown,
		},
		"a variable with a suffix": {
			func(c *Config) { c.Expression = "$secret$uri_$expires" }, `expression: "$uri_" is not a variable` + unknown,
		},
		"braces without end": {
			func(c *Config) { c.Expression = "$secret${uri$expires" }, `expression: "$uri$expires" is not a variable` + unknown,
		},
		"a dollar alone": {
			func(c *Config) { c.Expression = "$secret$expires$" }, `expression: "$" is not a variable` + unknown,
		},
		"nothing secret": {
			func(c *Config) { c.Expression = "$uri$expires text" }, "expression: must contain $secret, or any viewer could sign",
		},
		"nothing that ends": {
			func(c *Config) { c.Expression = "$secret$uri" },
			"expression: must contain $expires, or a viewer could choose when the link expires",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Secret = "s3cret"
			tt.change(&cfg)
			if err := cfg.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestConfig_ValidateAllAtOnceWithoutSecrets(t *testing.T) {
	t.Parallel()
	cfg := Config{Secret: "s3cret", ExtraSecrets: []setting.Secret{""}, TrimSuffixes: []string{""}, ClockSkew: -1}
	_, err := New("links", cfg, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `make backend "links": extra_secrets[0]: is empty`) ||
		strings.Count(err.Error(), "\n") != 4 || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}
