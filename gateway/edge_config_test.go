package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/edge"
	"usher/gateway/hls"
)

func TestConfig_Validate_EdgeRoutes(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		dialect edge.Dialect
		edit    func(*RouteConfig)
		want    string
	}{
		"a valid astra endpoint":        {edge.Astra, func(*RouteConfig) {}, ""},
		"a valid alta endpoint":         {edge.Alta, func(*RouteConfig) {}, ""},
		"a valid flussonic endpoint":    {edge.Flussonic, func(*RouteConfig) {}, ""},
		"a valid nginx endpoint":        {edge.Nginx, func(*RouteConfig) {}, ""},
		"a valid forward-auth endpoint": {edge.ForwardAuth, func(*RouteConfig) {}, ""},
		"a valid envoy endpoint":        {edge.Envoy, func(*RouteConfig) {}, ""},
		"astra with all that it may have": {edge.Astra, func(r *RouteConfig) {
			r.Path, r.Edge.ViewerPath, r.Hosts = "/ask/*", "/{user}/{channel}/*", []string{"tv.example.com"}
			r.IdentityFields, r.Edge.SessionID = []string{"user_agent", "edge_session"}, edge.SessionIDDerived
			r.Credentials, r.Required, r.IgnoreQuery = []string{"token"}, []string{"token", "user"}, []string{"x"}
			r.OnNewAddress, r.Edge.MatchBy = ShareSession, edge.MatchByAddressAgent
		}, ""},
		"flussonic that asks about publishing": {edge.Flussonic, func(r *RouteConfig) { r.Edge.PublishBackend = "p" }, ""},
		"nginx with cookies":                   {edge.Nginx, matchBy(edge.MatchByCookie), ""},
		"the least margin":                     {edge.Astra, func(r *RouteConfig) { r.Edge.ExtraLifetime = 10 * time.Second }, ""},

		"no dialect": {
			edge.Astra, func(r *RouteConfig) { r.Edge.Dialect = edge.NoDialect },
			"routes[0].edge.dialect: missing; want astra, alta, flussonic, nginx, forward-auth or envoy",
		},
		"no networks": {
			edge.Astra, allowNetworks(),
			"routes[0].edge.networks: none; want those of the edge, such as [ 192.0.2.10/32 ]",
		},
		"nginx without the viewers' path": {
			edge.Nginx, func(r *RouteConfig) { r.Edge.ViewerPath = "" },
			`routes[0].edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`,
		},
		"forward-auth without the viewers' path": {
			edge.ForwardAuth, func(r *RouteConfig) { r.Edge.ViewerPath = "" },
			`routes[0].edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`,
		},
		"envoy without the viewers' path": {
			edge.Envoy, func(r *RouteConfig) { r.Edge.ViewerPath = "" },
			`routes[0].edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"`,
		},
		"credential headers at an edge that passes none on": {
			edge.Alta, func(r *RouteConfig) { r.CredentialHeaders = []string{"Authorization"} },
			"routes[0].credential_headers: alta passes none of a viewer's on",
		},
		"playback sessions at an edge that passes no header on": {
			edge.Flussonic, func(r *RouteConfig) { r.IdentityFields = []string{"playback_session"} },
			"routes[0].identity_fields: playback_session: flussonic passes no header of a viewer's on",
		},
		"edge sessions at an edge without sessions": {
			edge.Nginx, withSessionID(edge.SessionIDIgnored),
			"routes[0].edge.session_id: nginx has no sessions of its own",
		},
		"what says which requests open a session, at an edge that asks about each of its sessions": {
			edge.Alta, func(r *RouteConfig) {
				r.Playlist, r.CredentialsEverywhere, r.OnNewAddress, r.Edge.MatchBy = true, true, RefuseNewAddress, edge.MatchByPlaylistsOnly
			},
			"routes[0].edge.match_by: playlists-only has no effect: alta asks about each of its sessions, whatever the path\n" +
				"routes[0].playlist: has no effect: alta asks about each of its sessions, whatever the path\n" +
				"routes[0].credentials_everywhere: has no effect: alta asks about each of its sessions, whatever the path\n" +
				"routes[0].on_new_address: refuse has no effect: alta passes no ticket on, and asks about each of its sessions",
		},
		"what says which requests open a session, at an edge that asks about each request": {
			edge.Nginx, func(r *RouteConfig) {
				r.Playlist, r.CredentialsEverywhere, r.OnNewAddress = true, true, RefuseNewAddress
			}, "",
		},
		"a new address that is refused, and playlists only": {
			edge.Nginx, func(r *RouteConfig) { r.OnNewAddress, r.Edge.MatchBy = RefuseNewAddress, edge.MatchByPlaylistsOnly },
			"routes[0].on_new_address: refuse has no effect beside match_by: playlists-only, which checks no request that needs a session",
		},
		"no margin": {
			edge.Astra, func(r *RouteConfig) { r.Edge.ExtraLifetime = 0 },
			"routes[0].edge.extra_lifetime: 0s is too short; want at least 10s",
		},
		"a margin in reverse": {
			edge.Astra, func(r *RouteConfig) { r.Edge.ExtraLifetime = -time.Minute },
			"routes[0].edge.extra_lifetime: -1m0s is too short; want at least 10s",
		},
		"publishing by no backend": {
			edge.Flussonic, func(r *RouteConfig) { r.Edge.PublishBackend = "x" },
			`routes[0].edge.publish_backend: "x" is not among backends; allowed: b, p`,
		},
		"publishing at an edge that does not ask": {
			edge.Astra, func(r *RouteConfig) { r.Edge.PublishBackend = "p" },
			"routes[0].edge.publish_backend: only flussonic asks about publishing, not astra",
		},
		"a path of envoy's": {
			edge.Envoy, func(r *RouteConfig) { r.Path = "/auth" },
			"routes[0].path: envoy asks at ext_authz.listen; leave it out",
		},
		"cookies of astra's": {
			edge.Astra, matchBy(edge.MatchByCookie),
			"routes[0].edge.match_by: cookie cannot be: astra passes none on to viewers",
		},
		"cookies of flussonic's": {
			edge.Flussonic, matchBy(edge.MatchByCookie),
			"routes[0].edge.match_by: cookie cannot be: flussonic passes none on to viewers",
		},
		"an origin": {
			edge.Nginx, func(r *RouteConfig) { r.Origin = "o" },
			"routes[0].origin: has no place beside edge, whose media server serves the media",
		},
		"an origin's path": {
			edge.Nginx, func(r *RouteConfig) { r.OriginPath = "/{channel}/*" },
			"routes[0].origin_path: has no place beside edge, whose media server serves the media",
		},
		"media": {
			edge.Nginx, func(r *RouteConfig) { r.Media = []PathMappingConfig{{Path: "/x/{channel}"}} },
			"routes[0].media: has no place beside edge, whose media server serves the media",
		},
		"ticket_in at an edge": {
			edge.Nginx, func(r *RouteConfig) { r.TicketIn = hls.TicketInQuery },
			"routes[0].ticket_in: has no place beside edge, whose media server serves the media",
		},
		"a query for the origin": {
			edge.Nginx, func(r *RouteConfig) { r.ForwardQuery = []string{"start"} },
			"routes[0].forward_query: has no place beside edge, whose media server serves the media",
		},

		"no path": {
			edge.Astra, func(r *RouteConfig) { r.Path = "" },
			`routes[0].path: "" must begin with /`,
		},
		"a channel in the endpoint": {
			edge.Nginx, func(r *RouteConfig) { r.Path = "/auth/{channel}" },
			`routes[0].path: "/auth/{channel}" is the edge's own path; only a * at its end may vary`,
		},
		"viewers of no channel": {
			edge.Nginx, func(r *RouteConfig) { r.Edge.ViewerPath = "/play/*" },
			`routes[0].edge.viewer_path: "/play/*" needs a {channel}`,
		},
		"no such backend": {
			edge.Nginx, func(r *RouteConfig) { r.Backend = "" },
			`routes[0].backend: "" is not among backends; allowed: b, p`,
		},
		"an unknown fact": {
			edge.Astra, func(r *RouteConfig) { r.IdentityFields = []string{"session"} },
			`routes[0].identity_fields[0]: "session" is unknown; want one of address, user_agent, playback_session, edge_session`,
		},
		"a host with a port": {
			edge.Nginx, func(r *RouteConfig) { r.Hosts = []string{"a:80"} },
			`routes[0].hosts[0]: "a:80": want a host name without scheme and port`,
		},
		"a required one of the edge's path instead of the viewers'": {
			edge.Nginx, func(r *RouteConfig) {
				r.Edge.ViewerPath, r.Credentials, r.Required = "/{user}/{channel}/*", []string{"token"}, []string{"user", "password"}
			},
			`routes[0].required[1]: "password" is no credential of the route's`,
		},
		"several problems at once": {
			edge.Envoy, func(r *RouteConfig) {
				r.Path, r.Origin, r.Backend, r.Edge = "/auth", "o", "x", &edge.Config{Dialect: edge.Envoy, PublishBackend: "y"}
			},
			"routes[0].edge.networks: none; want those of the edge, such as [ 192.0.2.10/32 ]\n" +
				`routes[0].edge.viewer_path: missing; want the pattern of viewers' paths at the edge, such as "/play/{channel}/*"` + "\n" +
				"routes[0].edge.extra_lifetime: 0s is too short; want at least 10s\n" +
				`routes[0].edge.publish_backend: "y" is not among backends; allowed: b, p` + "\n" +
				"routes[0].edge.publish_backend: only flussonic asks about publishing, not envoy\n" +
				"routes[0].path: envoy asks at ext_authz.listen; leave it out\n" +
				"routes[0].origin: has no place beside edge, whose media server serves the media\n" +
				`routes[0].backend: "x" is not among backends; allowed: b, p`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, got := testConfig("http://10.0.0.5:8000"), ""
			c.Routes = []RouteConfig{edgeRoute(tc.dialect, tc.edit)}
			if err := c.Validate([]string{"b", "p"}); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConfig_Validate_EdgeRouteNeverAsked has a second route at the path of another one, for the same edges.
func TestConfig_Validate_EdgeRouteNeverAsked(t *testing.T) {
	t.Parallel()
	const never = `routes[1].edge.viewer_path: "/{user}/{channel}/*": all checks of these networks go to routes[0], which has this path or none; give each route its own`
	path := func(p string) func(*RouteConfig) { return func(r *RouteConfig) { r.Edge.ViewerPath = p } }
	hosts := func(names ...string) func(*RouteConfig) { return func(r *RouteConfig) { r.Hosts = names } }
	second := path("/{user}/{channel}/*")
	for name, test := range map[string]struct {
		first, second RouteConfig
		want          string
	}{
		"the same path":           {edgeRoute(edge.Nginx, path("/{login}/{channel}/*")), edgeRoute(edge.Nginx, second), never},
		"every path":              {edgeRoute(edge.Astra), edgeRoute(edge.Astra, second), never},
		"the same path for hosts": {edgeRoute(edge.Nginx, second), edgeRoute(edge.Nginx, second, hosts("a")), never},
		"for some of its edges":   {edgeRoute(edge.Nginx, second), edgeRoute(edge.Nginx, second, allowNetworks("127.0.0.1/32")), never},
		"another path":            {edgeRoute(edge.Nginx), edgeRoute(edge.Nginx, second), ""},
		"other hosts":             {edgeRoute(edge.Nginx, second, hosts("b")), edgeRoute(edge.Nginx, second, hosts("a")), ""},
		"further edges":           {edgeRoute(edge.Nginx, second), edgeRoute(edge.Nginx, second, allowNetworks("127.0.0.1/32", "192.0.2.1/32")), ""},
		"edges of a wider range":  {edgeRoute(edge.Nginx, second), edgeRoute(edge.Nginx, second, allowNetworks("0.0.0.0/0")), ""},
		"every path at last":      {edgeRoute(edge.Astra, second), edgeRoute(edge.Astra), ""},
	} {
		test.second.Name = "second"
		c, got := testConfig(""), ""
		c.Origins, c.Routes = nil, []RouteConfig{test.first, test.second}
		if err := c.Validate([]string{"b"}); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRouteConfig_Name_Edge(t *testing.T) {
	t.Parallel()
	named := func(r *RouteConfig) { r.Name = "live" }
	for want, r := range map[string]RouteConfig{
		"/auth":                    edgeRoute(edge.Astra),
		"/auth /play/{channel}/*":  edgeRoute(edge.Nginx),
		"/play/{channel}/*":        edgeRoute(edge.Envoy),
		"live":                     edgeRoute(edge.Envoy, named),
		"/ask/* /play/{channel}/*": edgeRoute(edge.Nginx, func(r *RouteConfig) { r.Path = "/ask/*" }),
	} {
		if got := r.name(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	c := testConfig("")
	c.Origins, c.Routes = nil, []RouteConfig{edgeRoute(edge.Astra), edgeRoute(edge.Astra, func(r *RouteConfig) { r.Hosts = []string{"a"} })}
	want := `routes[1].name: "/auth" is the name of routes[0] already`
	if err := c.Validate([]string{"b", "p", "x"}); err == nil || err.Error() != want {
		t.Errorf("two of a name: got %v, want %s", err, want)
	}
}
