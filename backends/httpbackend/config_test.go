package httpbackend_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/backends/httpbackend"
	"usher/backends/setting"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*httpbackend.Config)
		want   []string
	}{
		"the default with an address is valid": {func(*httpbackend.Config) {}, nil},
		"the least bounds are valid": {func(c *httpbackend.Config) {
			c.DialTimeout, c.TLSTimeout, c.IdleTimeout, c.MaxConnectionAge, c.ResponseHeaderTimeout = 1, 1, 1, 1, 0
			c.MaxResponseHeaderSize, c.MaxBodySize = setting.KiB, 1
		}, nil},
		"no address": {func(c *httpbackend.Config) { c.Address = "" }, []string{"address: must be set"}},
		"an address without a scheme": {
			func(c *httpbackend.Config) { c.Address = "portal.example.com/check" },
			[]string{`address: must begin with http:// or https://, not ""`},
		},
		"an address without a host":  {func(c *httpbackend.Config) { c.Address = "http:///check" }, []string{"address: has no host; want a URL such as http://10.0.0.5:8080/check"}},
		"an address that is no URL":  {func(c *httpbackend.Config) { c.Address = "http://u:5ecret@[" }, []string{"address: not a URL, such as http://10.0.0.5:8080/check"}},
		"an address with a fragment": {func(c *httpbackend.Config) { c.Address += "#x" }, []string{"address: has a '#', which is never sent; write %23"}},
		"bounds of nothing, all named": {
			func(c *httpbackend.Config) {
				c.DialTimeout, c.TLSTimeout, c.IdleTimeout, c.MaxConnectionAge = 0, 0, 0, 0
				c.MaxResponseHeaderSize, c.MaxBodySize = 0, 0
			},
			[]string{
				"dial_timeout: 0s must be above 0", "tls_timeout: 0s must be above 0", "idle_timeout: 0s must be above 0",
				"max_connection_age: 0s must be above 0",
				"max_response_header_size: 0 is out of range; want 1KiB to 16MiB", "max_body_size: 0 is out of range; want 1B to 16MiB",
			},
		},
		"answers that no node can keep": {
			func(c *httpbackend.Config) { c.MaxResponseHeaderSize, c.MaxBodySize = 16*setting.MiB+1, setting.GiB },
			[]string{"max_response_header_size: 16777217B is out of range; want 1KiB to 16MiB", "max_body_size: 1GiB is out of range; want 1B to 16MiB"},
		},
		"networks of redirects that are not followed": {
			func(c *httpbackend.Config) { c.AllowedNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
			[]string{"allowed_networks: has no effect, since no redirect is followed; want redirects: follow, or none of them"},
		},
		"networks of redirects that are followed": {
			func(c *httpbackend.Config) {
				c.AllowedNetworks, c.Statuses = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, httpbackend.Statuses{"307": httpbackend.OutcomeFollow}
			}, nil,
		},
		"a signature without keys": {
			func(c *httpbackend.Config) { c.Signature.SignedHeaders = []string{"X-Device"} },
			[]string{"signature.keys: none, so that nothing is signed, but other settings of signature are set"},
		},
		"the largest answers": {func(c *httpbackend.Config) { c.MaxResponseHeaderSize, c.MaxBodySize = 16*setting.MiB, 16*setting.MiB }, nil},
		"a port that does not exist": {
			func(c *httpbackend.Config) { c.Address = "http://portal.example.com:65536/" },
			[]string{"address: port 65536 does not exist; want 1 to 65535"},
		},
		"a negative bound of the header": {
			func(c *httpbackend.Config) { c.ResponseHeaderTimeout = -1 },
			[]string{"response_header_timeout: -1ns must be 0 (none) or above"},
		},
		"a meaning of requirements without any": {
			func(c *httpbackend.Config) { c.OnUnmetRequirement = httpbackend.UnmetRequirementDeny },
			[]string{"on_unmet_requirement: deny needs require_header or require_body"},
		},
		"headers that cannot be set": {
			func(c *httpbackend.Config) { c.Headers = map[string]setting.Secret{"Host": "x"} },
			[]string{"headers.Host: not a header that can be set"},
		},
		"a signed header of the connection": {
			func(c *httpbackend.Config) {
				c.Signature.Keys = []setting.Key{{ID: "a", Secret: "0123456789abcdefXYZ"}}
				c.Signature.SignedHeaders = []string{"X-Real-IP", "host"}
			},
			[]string{`signature.signed_headers[1]: "host" belongs to the connection, and is not known when the call is signed`},
		},
		"tls without TLS": {
			func(c *httpbackend.Config) { c.TLS.ServerName = "portal.example.com" },
			[]string{"tls: has no effect, since address begins with http://; want https://, or no tls"},
		},
		"tls with TLS": {
			func(c *httpbackend.Config) {
				c.Address, c.TLS.ServerName = "https://portal.example.com/check", "portal.example.com"
			}, nil,
		},
		"tls for a redirect that is followed": {
			func(c *httpbackend.Config) {
				c.Redirects, c.TLS.ServerName = httpbackend.RedirectsFollow, "portal.example.com"
			}, nil,
		},
		"a header in two spellings": {
			func(c *httpbackend.Config) { c.Headers = map[string]setting.Secret{"X-Key": "a", "x-key": "b"} },
			[]string{"headers.x-key: is headers.X-Key in another spelling; keep one of them"},
		},
		"a password and an Authorization": {
			func(c *httpbackend.Config) {
				c.Address, c.Headers = "http://u:5ecret@portal.example.com/", map[string]setting.Secret{"authorization": "Bearer x"}
			},
			[]string{"headers.Authorization: is sent in the place of the user and password of address; keep one of them"},
		},
		"a header value with a line break": {
			func(c *httpbackend.Config) { c.Headers = map[string]setting.Secret{"X-Key": "5ecret\n"} },
			[]string{"headers.X-Key: the value holds control characters or is too long"},
		},
		"a certificate without its key": {
			func(c *httpbackend.Config) { c.Address, c.TLS.CertFile = "https://portal.example.com/check", "x.pem" },
			[]string{"tls.cert_file: needs key_file beside it, and the other way round"},
		},
		"a status of no sense": {
			func(c *httpbackend.Config) { c.Statuses = httpbackend.Statuses{"x": 0} },
			[]string{"statuses.x: want a status such as 404 or a class such as 5xx"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := httpbackend.DefaultConfig()
			cfg.Address = "http://portal.example.com/check"
			tt.change(&cfg)
			var got []string
			err := cfg.Validate()
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if _, made := httpbackend.NewClient("portal", cfg, httpbackend.Deps{}); (made == nil) != (err == nil) {
				t.Errorf("the client says %v, Validate says %v", made, err)
			}
		})
	}
}

// TestConfig_SetPreset_OnlyAuthProxyHasTimesOfItsOwn compares the times of each preset with the defaults.
func TestConfig_SetPreset_OnlyAuthProxyHasTimesOfItsOwn(t *testing.T) {
	t.Parallel()
	for preset := httpbackend.PresetAstra; preset <= httpbackend.PresetAuthProxy; preset++ {
		cfg, plain := httpbackend.DefaultConfig(), httpbackend.DefaultConfig()
		cfg.SetPreset(preset)
		hasOwn := cfg.DialTimeout != plain.DialTimeout || cfg.TLSTimeout != plain.TLSTimeout ||
			cfg.ResponseHeaderTimeout != plain.ResponseHeaderTimeout || cfg.IdleTimeout != plain.IdleTimeout
		own := [...]time.Duration{cfg.DialTimeout, cfg.TLSTimeout, cfg.ResponseHeaderTimeout, cfg.IdleTimeout}
		product := [...]time.Duration{5 * time.Second, 3 * time.Second, 2 * time.Second, 90 * time.Second}
		if hasOwn && own != product {
			t.Errorf("%s: got the times %v, want the product's own %v", preset, own, product)
		}
		if want := preset == httpbackend.PresetAuthProxy; hasOwn != want || cfg.Preset != preset {
			t.Errorf("%s: got times of its own: %t and preset %s, want %t", preset, hasOwn, cfg.Preset, want)
		}
	}
}

func TestConfig_Warnings(t *testing.T) {
	t.Parallel()
	cfg := httpbackend.DefaultConfig()
	if err := cfg.Warnings(); err != nil {
		t.Errorf("the default: got %v, want none", err)
	}
	cfg.Statuses = httpbackend.Statuses{"5xx": httpbackend.OutcomeAllow}
	if err := cfg.Warnings(); err == nil || !strings.HasPrefix(err.Error(), "statuses.5xx: allow: ") {
		t.Errorf("a 5xx that allows: got %v, want a warning", err)
	}
}

func TestWithPath(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ address, want string }{
		"a host alone":       {"http://a", "http://a/check/"},
		"a slash at the end": {"http://a/portal/", "http://a/portal/check/"},
		"a query":            {"http://a/portal?key=S", "http://a/portal/check/?key=S"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := httpbackend.WithPath(tt.address, "/check/"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
