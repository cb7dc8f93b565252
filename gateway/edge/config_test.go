package edge

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")}
	valid := func(change func(*Config)) Config {
		c := Config{Dialect: Nginx, Networks: networks, ViewerPath: "/play/{channel}/*"}
		c.SetDefaults()
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		config Config
		want   []string
	}{
		"all that is required": {config: valid(func(*Config) {})},
		"nothing": {want: []string{
			"r.edge.dialect: missing; want astra, alta, flussonic, nginx, forward-auth or envoy",
			"r.edge.networks: none; want those of the edge, such as [ 192.0.2.10/32 ]",
			"r.edge.extra_lifetime: 0s is too short; want at least 10s",
		}},
		"nginx without the viewers' path": {
			config: valid(func(c *Config) { c.ViewerPath = "" }),
			want:   []string{`r.edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`},
		},
		"envoy without the viewers' path": {
			config: valid(func(c *Config) { c.Dialect, c.ViewerPath = Envoy, "" }),
			want:   []string{`r.edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`},
		},
		"flussonic without the viewers' path": {config: valid(func(c *Config) { c.Dialect, c.ViewerPath = Flussonic, "" })},
		"the least lifetime":                  {config: valid(func(c *Config) { c.ExtraLifetime = 10 * time.Second })},
		"less than the least lifetime": {
			config: valid(func(c *Config) { c.ExtraLifetime = 10*time.Second - 1 }),
			want:   []string{"r.edge.extra_lifetime: 9.999999999s is too short; want at least 10s"},
		},
		"flussonic and a backend of publishers": {config: valid(func(c *Config) { c.Dialect, c.PublishBackend = Flussonic, "portal" })},
		"an unknown backend of publishers": {
			config: valid(func(c *Config) { c.Dialect, c.PublishBackend = Flussonic, "portl" }),
			want:   []string{`r.edge.publish_backend: "portl" is not among backends; did you mean "portal"? allowed: other, portal`},
		},
		"nginx, which does not ask about publishing": {
			config: valid(func(c *Config) { c.PublishBackend = "portal" }),
			want:   []string{"r.edge.publish_backend: only flussonic asks about publishing, not nginx"},
		},
		"alta and an id of ours": {config: valid(func(c *Config) { c.Dialect, c.SessionID = Alta, SessionIDDerived })},
		"nginx and an id of ours": {
			config: valid(func(c *Config) { c.SessionID = SessionIDIgnored }),
			want:   []string{"r.edge.session_id: nginx has no sessions of its own"},
		},
		"nginx and cookies": {config: valid(func(c *Config) { c.MatchBy = MatchByCookie })},
		"alta and cookies": {
			config: valid(func(c *Config) { c.Dialect, c.MatchBy = Alta, MatchByCookie }),
			want:   []string{"r.edge.match_by: cookie cannot be: alta passes none on to viewers"},
		},
		"alta and the viewer's address": {config: valid(func(c *Config) { c.Dialect, c.MatchBy = Alta, MatchByAddressAgent })},
	} {
		var got []string
		if err := tc.config.Validate("r.edge", []string{"other", "portal"}); err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
