package jwt

import (
	"os"
	"slices"
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
		t.Fatalf("read: %v", err)
	}
	want := Config{
		Parameter: "jwt", Header: "Authorization", Algorithms: []string{"ES256", "EdDSA"},
		JWKSURL: "https://issuer.example.com/jwks.json", JWKSRefreshInterval: 10 * time.Minute, JWKSTimeout: 3 * time.Second,
		TLS:    setting.TLSConfig{CAFile: "ca.pem"},
		Issuer: "portal", Audience: "live", ClockSkew: 5 * time.Second,
		UserClaim: "uid", NameClaim: "nick", ChannelsClaim: "channels", AddressClaim: "ip", MaxSessionsClaim: "streams",
		EndSessionOnExpiry: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	const known = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA"
	tests := map[string]struct {
		change func(*Config)
		want   []string
	}{
		"a secret is enough": {nil, nil},
		"a public key is enough": {
			func(c *Config) {
				c.Secret, c.PublicKeyFile, c.Algorithms = "", setting.File{Path: "key.pem"}, []string{"PS256"}
			}, nil,
		},
		"several algorithms": {func(c *Config) { c.Algorithms = []string{"HS256", "HS384", "HS512"} }, nil},
		"a header alone":     {func(c *Config) { c.Parameter, c.Header = "", "Authorization" }, nil},
		"the smallest of all": {func(c *Config) {
			c.ClockSkew, c.Secret = 0, c.Secret[:32]
		}, nil},
		"the shortest times of a fetch": {func(c *Config) {
			c.Secret, c.Algorithms, c.JWKSURL = "", []string{"ES256"}, "https://issuer.example.com/"
			c.JWKSRefreshInterval, c.JWKSTimeout = time.Second, 1
		}, nil},
		"nowhere to look": {
			func(c *Config) { c.Parameter = "" }, []string{"parameter: must be set, or header"},
		},
		"a header that is none": {
			func(c *Config) { c.Header = "X Token" }, []string{`header: "X Token" is not a header name`},
		},
		"a header with a control": {
			func(c *Config) { c.Header = "X-Token\x7f" }, []string{`header: "X-Token\x7f" is not a header name`},
		},
		"no algorithm": {
			func(c *Config) { c.Algorithms = nil }, []string{"algorithms: must be set to some of " + known},
		},
		"none": {
			func(c *Config) { c.Algorithms = []string{"HS256", "None"} },
			[]string{"algorithms: none is not a signature and is never allowed"},
		},
		"an unknown algorithm": {
			func(c *Config) { c.Algorithms = []string{"hs256"} },
			[]string{`algorithms: "hs256": want some of ` + known},
		},
		"a secret for public keys": {
			func(c *Config) { c.Algorithms = []string{"HS256", "RS256"} },
			[]string{"algorithms: RS256 needs public_key_file or jwks_url, not secret"},
		},
		"public keys for a secret": {
			func(c *Config) { c.Secret, c.JWKSURL = "", "https://issuer.example.com/" },
			[]string{"algorithms: HS256 needs secret, not a public key"},
		},
		"no keys": {func(c *Config) { c.Secret, c.Algorithms = "", []string{"ES256"} }, []string{
			"secret: exactly one of secret, public_key_file and jwks_url must be set, not 0",
		}},
		"too many keys": {func(c *Config) { c.PublicKeyFile, c.JWKSURL = setting.File{Path: "key.pem"}, "https://a.example/" }, []string{
			"secret: exactly one of secret, public_key_file and jwks_url must be set, not 3",
		}},
		"a short secret": {
			func(c *Config) { c.Secret = c.Secret[:31] }, []string{"secret: 31 bytes are too few; want at least 32"},
		},
		"odd times": {func(c *Config) {
			c.Secret, c.Algorithms, c.JWKSURL = "", []string{"ES256"}, "https://issuer.example.com/"
			c.ClockSkew, c.JWKSRefreshInterval, c.JWKSTimeout = -1, 0, 0
		}, []string{
			"clock_skew: -1ns must not be below 0",
			"jwks_refresh_interval: 0s must be at least 1s", "jwks_timeout: 0s must be above 0",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := withSecret(tt.change).Validate()
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfig_Warnings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   []string // what each line begins with
	}{
		"the default":           {func(*Config) {}, nil},
		"keys over https":       {func(c *Config) { c.JWKSURL = "https://issuer.example.com" }, nil},
		"tokens without an end": {func(c *Config) { c.RequireExpiry = false }, []string{"require_expiry: false "}},
		"keys over plain http": {
			func(c *Config) { c.JWKSURL = "HTTP://issuer.example.com" }, []string{"jwks_url: is fetched over plain http"},
		},
		"both": {
			func(c *Config) { c.RequireExpiry, c.JWKSURL = false, "http://issuer.example.com" },
			[]string{"require_expiry: false ", "jwks_url: is fetched over plain http"},
		},
	} {
		cfg := DefaultConfig()
		tt.change(&cfg)
		var got []string
		if err := cfg.Warnings(); err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestConfig_ValidateJWKSURL(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://issuer.example.com/jwks?a=b": "",
		"http://127.0.0.1:8080":               "",
		"HTTPS://issuer.example.com":          "",
		"ftp://issuer.example.com":            `jwks_url: must begin with https:// or http://, not "ftp"`,
		"issuer.example.com":                  `jwks_url: must begin with https:// or http://, not ""`,
		"https://issuer.example.com:65536/":   "jwks_url: port 65536 does not exist; want 1 to 65535",
		"https:///jwks":                       "jwks_url: has no host; want a URL such as https://auth.example.com/jwks.json",
		"https://issuer.example.com/#a":       "jwks_url: has a '#', which is never sent; write %23",
		"https://u:5ecret@exa mple.com/":      "jwks_url: not a URL, such as https://auth.example.com/jwks.json",
	} {
		cfg := DefaultConfig()
		cfg.Algorithms, cfg.JWKSURL = []string{"ES256"}, address
		got := ""
		if err := cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
		if want != "" {
			continue
		}
		b, err := New("tokens", cfg, nil)
		if err != nil {
			t.Fatalf("%s: make the backend: %v", address, err)
		}
		b.Close()
	}
}

func TestDefaultConfig_LacksOnlyKeys(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.PublicKeyFile = []string{"RS256"}, setting.File{Path: "key.pem"}
	if err := cfg.Validate(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	_, err := New("tokens", DefaultConfig(), nil)
	if err == nil || !strings.HasPrefix(err.Error(), `make backend "tokens": algorithms: `) {
		t.Errorf("got %v, want what is missing", err)
	}
}
