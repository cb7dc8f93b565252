package gateway

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
	"usher/gateway/reference"
	"usher/gateway/upstream"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	route := func(edit func(*RouteConfig)) func(*Config) {
		return func(c *Config) { edit(&c.Routes[0]) }
	}
	// unprotected has two routes with one pattern for media, neither of which needs a ticket.
	unprotected := func(edit func(first, second *RouteConfig)) func(*Config) {
		return func(c *Config) {
			c.Routes = append(c.Routes, c.Routes[0])
			c.Origins["o2"] = &OriginConfig{URL: "http://10.0.0.6:8000"}
			for i := range c.Routes {
				c.Routes[i].Media, c.Routes[i].TicketIn = []PathMappingConfig{{Path: "/media/{channel}/*"}}, hls.TicketInNone
			}
			c.Routes[1].Path = "/movie/{channel}/*"
			edit(&c.Routes[0], &c.Routes[1])
		}
	}
	cases := map[string]struct {
		edit func(*Config)
		want string
	}{
		"a valid config": {func(*Config) {}, ""},
		"listen on any port of any host, over TLS": {
			func(c *Config) {
				c.Listen, c.TLS = "[::1]:8443", TLSConfig{"cert.pem", "key.pem"}
			}, "",
		},

		"listen nowhere":          {func(c *Config) { c.Listen = "" }, `listen: "" is no address; want "host:port" or ":port"`},
		"listen without a port":   {func(c *Config) { c.Listen = "127.0.0.1" }, `listen: "127.0.0.1" is no address; want "host:port" or ":port"`},
		"listen on an empty port": {func(c *Config) { c.Listen = "127.0.0.1:" }, `listen: "127.0.0.1:" is no address; want "host:port" or ":port"`},
		"listen on bare IPv6":     {func(c *Config) { c.Listen = "::1" }, `listen: "::1" is no address; want "host:port" or ":port"`},
		"half a certificate":      {func(c *Config) { c.TLS.KeyFile = "key.pem" }, "tls: certificate and key go together; one of them is missing"},

		"a short identity":    {func(c *Config) { c.Identity.Secret = "short" }, "identity.secret: has 5 bytes; want at least 16, the same on every node"},
		"no ticket keys":      {func(c *Config) { c.Tickets.Keys = nil }, `tickets.keys: none; want at least one, such as { id: a, secret: "file:/etc/usher/ticket.key" }`},
		"a short ticket key":  {func(c *Config) { c.Tickets.Keys[0].Secret = "s3cret" }, "tickets.keys[0].secret: has 6 bytes; want at least 16"},
		"a key without id":    {func(c *Config) { c.Tickets.Keys[0].ID = "" }, `tickets.keys[0].id: "": want 1 to 16 letters and digits, unlike any other key's`},
		"a key's id of dots":  {func(c *Config) { c.Tickets.Keys[0].ID = "a.b" }, `tickets.keys[0].id: "a.b": want 1 to 16 letters and digits, unlike any other key's`},
		"a key's id in lines": {func(c *Config) { c.Tickets.Keys[0].ID = "a\n" }, `tickets.keys[0].id: "a\n": want 1 to 16 letters and digits, unlike any other key's`},
		"a long key's id":     {func(c *Config) { c.Tickets.Keys[0].ID = strings.Repeat("a", 17) }, `tickets.keys[0].id: "aaaaaaaaaaaaaaaaa": want 1 to 16 letters and digits, unlike any other key's`},
		"two keys of one id": {
			func(c *Config) { c.Tickets.Keys = append(c.Tickets.Keys, c.Tickets.Keys[0]) },
			`tickets.keys[1].id: "a": want 1 to 16 letters and digits, unlike any other key's`,
		},
		"no revival":            {func(c *Config) { c.Tickets.ReviveFor = 0 }, "tickets.revive_for: 0s is out of range; want 1m to 30d"},
		"revival for ever":      {func(c *Config) { c.Tickets.ReviveFor = 721 * time.Hour }, "tickets.revive_for: 721h0m0s is out of range; want 1m to 30d"},
		"a parameter of signs":  {func(c *Config) { c.Tickets.Parameter = "a&b" }, `tickets.parameter: "a&b": want letters, digits, _ and -`},
		"a cookie without name": {func(c *Config) { c.Tickets.CookieName = "" }, `tickets.cookie_name: "": want letters, digits, _ and -`},

		"certificates for plain http": {
			func(c *Config) { c.Origins["o"].Upstream.TLS.CAFile = "/ca.pem" },
			"origins.o.tls: has no effect, since no address of the origin begins with https://, and no server is known to which it may redirect; " +
				"want https://, redirect_hosts, or no tls",
		},
		"certificates for a fallback": {
			func(c *Config) {
				c.Origins["o"].Fallback, c.Origins["o"].Upstream.TLS.CAFile = []string{"HTTPS://127.0.0.1:2"}, "/ca.pem"
			}, "",
		},
		"certificates for a redirect": {
			func(c *Config) {
				c.Origins["o"].Upstream = upstream.Config{
					RedirectHosts: []upstream.RedirectHost{{Host: "edge.example.com"}}, TLS: setting.TLSConfig{CAFile: "/ca.pem"},
				}
			}, "",
		},
		"certificates for another origin": {
			func(c *Config) {
				c.Origins["o"].Upstream.TLS.CAFile = "/ca.pem"
				c.Origins["other"] = &OriginConfig{URL: "https://127.0.0.1:2"}
			}, "",
		},

		"small headers":      {func(c *Config) { c.Limits.MaxHeaderSize = 100 }, "limits.max_header_size: 100B is too small; want at least 4KiB"},
		"endless headers":    {func(c *Config) { c.Limits.MaxHeaderSize = 17 * setting.MiB }, "limits.max_header_size: 17MiB is too large; want at most 16MiB"},
		"endless URLs":       {func(c *Config) { c.Limits.MaxURLSize = setting.GiB }, "limits.max_url_size: 1GiB is too large; want at most 16MiB"},
		"short URLs":         {func(c *Config) { c.Limits.MaxURLSize = 100 }, "limits.max_url_size: 100B is too small; want at least 256B"},
		"short written URIs": {func(c *Config) { c.Tickets.MaxURI = 255 }, "tickets.max_uri: 255B is too small; want at least 256B"},
		"long written URIs":  {func(c *Config) { c.Tickets.MaxURI = 4097 }, "tickets.max_uri: 4097B is too large; want at most 4KiB"},
		"no requests":        {func(c *Config) { c.Limits.MaxConcurrentRequests = 0 }, "limits.max_concurrent_requests: 0 is too small; want at least 1"},
		"no time to read":    {func(c *Config) { c.Limits.ReadTimeout = 0 }, "limits.read_timeout: 0s is too short; want at least 1s"},
		"no time to idle":    {func(c *Config) { c.Limits.IdleTimeout = 0 }, "limits.idle_timeout: 0s is too short; want at least 1s"},
		"no time to write":   {func(c *Config) { c.Limits.WriteTimeout = time.Millisecond }, "limits.write_timeout: 1ms is too short; want at least 1s"},
		"a drain in reverse": {func(c *Config) { c.Drain.ReadinessDelay = -1 }, "drain.readiness_delay: -1ns is too short; want at least 0s"},
		"no time to drain":   {func(c *Config) { c.Drain.Timeout = 0 }, "drain.timeout: 0s is too short; want at least 1s"},

		"a page without scheme": {func(c *Config) { c.CORS.AllowedOrigins = []string{"*", "tv.example.com"} }, noPage(1, "tv.example.com", "")},
		"a page that is no URL": {func(c *Config) { c.CORS.AllowedOrigins = []string{"https://tv.example.com:x"} }, noPage(0, "https://tv.example.com:x", "")},
		"a page with a path":    {func(c *Config) { c.CORS.AllowedOrigins = []string{"https://tv.example.com/"} }, noPage(0, "https://tv.example.com/", "https://tv.example.com")},
		"pages that no browser names": {
			func(c *Config) {
				c.CORS.AllowedOrigins = []string{
					"https://TV.example.com", "https://tv.example.com:443", "http://tv.example.com:80", "https://tv.example.com?x", "https://a@tv.example.com",
					"https://*.example.com", "https://tv.example.com:", "https://tv.example.com:0443", "https://tv.example.com:08443",
					"https://пример.рф", "https://[2001:db8:0::1]", "chrome-extension://*", "null",
				}
			},
			strings.Join([]string{
				noPage(0, "https://TV.example.com", "https://tv.example.com"), noPage(1, "https://tv.example.com:443", "https://tv.example.com"),
				noPage(2, "http://tv.example.com:80", "http://tv.example.com"), noPage(3, "https://tv.example.com?x", "https://tv.example.com"),
				noPage(4, "https://a@tv.example.com", "https://tv.example.com"), noPage(5, "https://*.example.com", ""),
				noPage(6, "https://tv.example.com:", "https://tv.example.com"), noPage(7, "https://tv.example.com:0443", "https://tv.example.com"),
				noPage(8, "https://tv.example.com:08443", "https://tv.example.com:8443"), noPage(9, "https://пример.рф", "https://xn--e1afmkfd.xn--p1ai"),
				noPage(10, "https://[2001:db8:0::1]", "https://[2001:db8::1]"), noPage(11, "chrome-extension://*", ""), noPage(12, "null", ""),
			}, "\n"),
		},
		"pages, and an app": {func(c *Config) {
			c.CORS.AllowedOrigins = []string{
				"http://tv.example.com:8080", "https://[2001:db8::1]:80", "capacitor://localhost", "capacitor://localhost:80", "app://localhost:443",
				"https://tv.example.com.", "http://tv.example.com.:8080",
			}
		}, ""},

		"no origins": {
			func(c *Config) { c.Origins = nil },
			"origins: none; want at least one, such as astra: { url: \"http://10.0.0.5:8000\" }\n" +
				`routes[0].origin: "o" is not among origins; there are none`,
		},
		"an origin of nothing":      {func(c *Config) { c.Origins["p"] = nil }, `origins.p.url: "": want http://host:port or https://host:port, with or without a path`},
		"an origin without scheme":  {func(c *Config) { c.Origins["o"].URL = "10.0.0.5:8000" }, `origins.o.url: "10.0.0.5:8000": want http://host:port or https://host:port, with or without a path`},
		"an origin of another kind": {func(c *Config) { c.Origins["o"].URL = "rtsp://10.0.0.5" }, `origins.o.url: "rtsp://10.0.0.5": want http://host:port or https://host:port, with or without a path`},
		"an origin of no host name": {func(c *Config) { c.Origins["o"].URL = "http://10.0“.0.5/" }, `origins.o.url: "10.0“.0.5" is no host; want a name of letters, digits, - and _, or an address`},
		"an origin with a fragment": {func(c *Config) { c.Origins["o"].URL = "http://10.0.0.5/#x" }, `origins.o.url: "http://10.0.0.5/#x": want http://host:port or https://host:port, with or without a path`},
		"two passwords for a fallback": {func(c *Config) {
			c.Origins["o"].Fallback = []string{"http://u:5ecret@b/"}
			c.Origins["o"].Upstream.Headers = map[string]setting.Secret{"authorization": "Bearer x"}
		}, `origins.o.fallback[0]: has a user, and headers.Authorization is sent in its place; keep one of them`},
		"a fallback without a host":  {func(c *Config) { c.Origins["o"].Fallback = []string{"http://a", "http:///x"} }, `origins.o.fallback[1]: "http:///x": want http://host:port or https://host:port, with or without a path`},
		"several origins at a time":  {func(c *Config) { c.Origins["b"], c.Origins["a"] = &OriginConfig{URL: "b"}, &OriginConfig{URL: "a"} }, "origins.a.url: \"a\": want http://host:port or https://host:port, with or without a path\norigins.b.url: \"b\": want http://host:port or https://host:port, with or without a path"},
		"no routes":                  {func(c *Config) { c.Routes = nil }, `routes: none; want at least one, such as { path: "/play/{channel}/*", origin: …, backend: … }`},
		"two routes of one path":     {func(c *Config) { c.Routes = append(c.Routes, c.Routes[0]) }, `routes[1].name: "/play/{channel}/*" is the name of routes[0] already`},
		"a path without channel":     {route(func(r *RouteConfig) { r.Path = "/play/*" }), `routes[0].path: "/play/*" needs a {channel}`},
		"an origin path of its own":  {route(func(r *RouteConfig) { r.OriginPath = "/{channel}/{quality}/*" }), `routes[0].origin_path: {quality} is not in path "/play/{channel}/*"`},
		"an origin path that is bad": {route(func(r *RouteConfig) { r.OriginPath = "x" }), `routes[0].origin_path: "x" must begin with /`},
		"an origin path for all":     {route(func(r *RouteConfig) { r.OriginPath = "/all/*" }), `routes[0].origin_path: "/all/*" needs a {channel}`},
		"a media path that is bad":   {route(func(r *RouteConfig) { r.Media = []PathMappingConfig{{Path: "/a/{channel}"}, {Path: "/b"}} }), `routes[0].media[1].path: "/b" needs a {channel}`},
		"a route to no origin":       {route(func(r *RouteConfig) { r.Origin = "x" }), `routes[0].origin: "x" is not among origins; allowed: o`},
		"a route to no backend":      {route(func(r *RouteConfig) { r.Backend = "x" }), `routes[0].backend: "x" is not among backends; allowed: b`},
		"an unknown fact":            {route(func(r *RouteConfig) { r.IdentityFields = []string{"address", "mac"} }), `routes[0].identity_fields[1]: "mac" is unknown; want one of address, user_agent, playback_session`},
		"a host with a port":         {route(func(r *RouteConfig) { r.Hosts = []string{"tv.example.com", "tv.example.com:8080"} }), `routes[0].hosts[1]: "tv.example.com:8080": want a host name without scheme and port`},
		"a host with a scheme":       {route(func(r *RouteConfig) { r.Hosts = []string{"https://tv.example.com"} }), `routes[0].hosts[0]: "https://tv.example.com": want a host name without scheme and port`},
		"a host of nothing":          {route(func(r *RouteConfig) { r.Hosts = []string{""} }), `routes[0].hosts[0]: "": want a host name without scheme and port`},
		"cookies for any page": {
			route(func(r *RouteConfig) { r.TicketIn = hls.TicketInCookie }),
			`routes[0].ticket_in: cookie needs cors.allowed_origins to list the players' origins; browsers send no cookie to "*"`,
		},
		"a required one that is none": {
			route(func(r *RouteConfig) {
				r.Credentials, r.Required = []string{"token"}, []string{"token", "tokne"}
			}),
			`routes[0].required[1]: "tokne" is no credential of the route's`,
		},
		"a required one that is ignored": {
			route(func(r *RouteConfig) { r.IgnoreQuery, r.Required = []string{"token"}, []string{"token"} }),
			`routes[0].required[0]: "token" is no credential of the route's`,
		},
		"a required one that is the ticket's": {
			route(func(r *RouteConfig) { r.Required = []string{"token", "ticket"} }),
			`routes[0].required[1]: "ticket" is no credential of the route's`,
		},
		"a credential that is ignored": {
			route(func(r *RouteConfig) { r.Credentials, r.IgnoreQuery = []string{"sid", "token"}, []string{"token"} }),
			`routes[0].credentials[1]: "token" reaches no backend: it is in ignore_query, or is tickets.parameter or one that is never a credential`,
		},
		"a credential that is the ticket's": {
			route(func(r *RouteConfig) { r.Credentials = []string{"token", "ticket"} }),
			`routes[0].credentials[1]: "ticket" reaches no backend: it is in ignore_query, or is tickets.parameter or one that is never a credential`,
		},
		"a required one that is a directive": {
			route(func(r *RouteConfig) { r.Required = []string{"token", "_HLS_msn"} }),
			`routes[0].required[1]: "_HLS_msn" is no credential of the route's`,
		},
		"a path that nobody requests":    {route(func(r *RouteConfig) { r.Path, r.OriginPath = "//{channel}/*", "//{channel}/*" }), `routes[0].path: "//{channel}/*" matches no request: several slashes in a row count as one; write one`},
		"a credential that is no header": {route(func(r *RouteConfig) { r.CredentialHeaders = []string{"X-A", "a b"} }), `routes[0].credential_headers[1]: "a b" is no name of a header field`},
		"a ticket for the origin": {
			func(c *Config) { c.Routes[0].ForwardQuery = []string{"region", c.Tickets.Parameter} },
			`routes[0].forward_query[1]: "ticket" is tickets.parameter: a viewer's ticket reaches no origin`,
		},
		"a device by no name":         {route(func(r *RouteConfig) { r.DeviceFields = []string{"mac", ""} }), `routes[0].device_fields[1]: "": want the name of a query parameter or of a header field`},
		"a device by a pair":          {route(func(r *RouteConfig) { r.DeviceFields = []string{"mac=1"} }), `routes[0].device_fields[0]: "mac=1": want the name of a query parameter or of a header field`},
		"a device by one thing twice": {route(func(r *RouteConfig) { r.DeviceFields = []string{"mac", "sn", "mac"} }), `routes[0].device_fields[2]: "mac" is named twice`},
		"media that another route has": {
			func(c *Config) {
				c.Routes = append(c.Routes, c.Routes[0])
				c.Routes[1].Path = "/movie/{user}/{channel}.m3u8"
				c.Routes[0].Media = []PathMappingConfig{{Path: "/m/{channel}/*"}, {Path: "/media/{channel}/{x}/*"}}
				c.Routes[1].Media = []PathMappingConfig{{Path: "/other/{channel}/*"}, {Path: "/media/{channel}/{y}/*"}}
			},
			"routes[1].media[1].path: \"/media/{channel}/{y}/*\": all requests that match it go to routes[0], which has the same pattern; give each route its own",
		},
		"a path that another route has": {
			func(c *Config) {
				c.Routes = append(c.Routes, c.Routes[0])
				c.Routes[1].Name, c.Routes[1].Hosts, c.Routes[0].Hosts = "b", []string{"b.example.com"}, []string{"a.example.com", "B.example.com"}
			},
			"routes[1].path: \"/play/{channel}/*\": all requests that match it go to routes[0], which has the same pattern; give each route its own",
		},
		"a path for other hosts, and for all": {
			func(c *Config) {
				c.Routes = append(c.Routes, c.Routes[0], c.Routes[0])
				c.Routes[0].Hosts, c.Routes[1].Hosts = []string{"a.example.com"}, []string{"a.example.com", "b.example.com"}
				c.Routes[1].Name, c.Routes[2].Name = "b", "all"
			}, "",
		},
		"media that nobody protects": {unprotected(func(*RouteConfig, *RouteConfig) {}), ""},
		"media that nobody protects, by other names on one origin path": {unprotected(func(first, second *RouteConfig) {
			first.Media = []PathMappingConfig{{"/media/{channel}/{a}/*", "/{a}/{channel}/*"}}
			second.Media = []PathMappingConfig{{"/media/{channel}/{b}/*", "/{b}/{channel}/*"}}
		}), ""},
		"media that nobody protects, at the path of a route": {unprotected(func(first, second *RouteConfig) {
			first.Media, second.Media = nil, []PathMappingConfig{{Path: first.Path}}
		}), ""},
		"media that nobody protects, among which are references": {
			unprotected(func(first, second *RouteConfig) {
				first.Media, second.Path = nil, "/movie/{user}/{channel}.m3u8"
				second.OriginPath, second.Media = "/play/{channel}/index.m3u8", []PathMappingConfig{{Path: first.Path}}
			}),
			`routes[1].media[0].path: "/play/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"media that nobody protects, among which are references, by credentials in the path": {
			unprotected(func(_, second *RouteConfig) { second.Path = "/movie/{user}/{channel}/*" }),
			`routes[1].media[0].path: "/media/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"media that nobody protects, where another route has playlists alone": {
			unprotected(func(first, second *RouteConfig) {
				first.Media, first.Playlist, second.Media = nil, true, []PathMappingConfig{{Path: first.Path}}
			}),
			`routes[1].media[0].path: "/play/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"media that nobody protects, of another origin": {
			unprotected(func(_, second *RouteConfig) { second.Origin = "o2" }),
			`routes[1].media[0].path: "/media/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"media that nobody protects, of another origin path": {
			unprotected(func(_, second *RouteConfig) { second.Media[0].OriginPath = "/vod/{channel}/*" }),
			`routes[1].media[0].path: "/media/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"a path of another route, both without tickets": {
			unprotected(func(_, second *RouteConfig) { second.Name, second.Path = "b", "/play/{channel}/*" }),
			`routes[1].path: "/play/{channel}/*": all requests that match it go to routes[0], which has the same pattern; give each route its own`,
		},
		"a channel of one segment, and one of several": {
			func(c *Config) {
				c.Routes = append(c.Routes, c.Routes[0])
				c.Routes[0].Path, c.Routes[1].Path = "/live/{channel}.m3u8", "/live/{channel...}.m3u8"
				c.Routes[0].Media = []PathMappingConfig{{Path: "/one/{channel}/*"}}
				c.Routes[1].Media = []PathMappingConfig{{Path: "/deep/{channel...}/*"}}
			}, "",
		},
		"required ones of every kind": {
			route(func(r *RouteConfig) {
				r.Path, r.Credentials, r.CredentialHeaders = "/{user}/{channel}/*", []string{"token"}, []string{"X-Device"}
				r.Required = []string{"token", "user", "x-device"}
			}), "",
		},
		"several problems at once": {
			func(c *Config) { c.Listen, c.Drain.Timeout, c.Routes[0].Backend = "", 0, "x" },
			"listen: \"\" is no address; want \"host:port\" or \":port\"\n" +
				"drain.timeout: 0s is too short; want at least 1s\n" +
				`routes[0].backend: "x" is not among backends; allowed: b`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, got := testConfig("http://10.0.0.5:8000"), ""
			tc.edit(&c)
			if err := c.Validate([]string{"b"}); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// noPage is the error of an allowed origin, for which browsers send another one, or none.
func noPage(i int, origin, sent string) string {
	want := `"*" or an origin such as "https://tv.example.com"`
	if sent != "" {
		want = strconv.Quote(sent)
	}
	return fmt.Sprintf("cors.allowed_origins[%d]: %q: want %s, as browsers send it: one host, in lower case, without a path and the usual port", i, origin, want)
}

func TestNew_InvalidConfig_NamesSetting(t *testing.T) {
	t.Parallel()
	c := testConfig("http://10.0.0.5:8000")
	c.Routes[0].Path = "/play"
	if _, err := New(Options{Config: c}); err == nil || err.Error() != `routes[0].path: "/play" needs a {channel}` {
		t.Errorf("got %v", err)
	}
}

func TestConfig_Validate_HidesPasswords(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"ftp://me:5ecret@a/b": `"ftp://[hidden]@a/b"`,
		"me:5ecret@a":         `"[hidden]@a"`,
		"me:5ecret@a://b":     `"[hidden]@a://b"`,
	} {
		c := Config{Origins: map[string]*OriginConfig{"astra": {URL: address}}}
		got := c.validateOrigins().Error()
		if strings.Contains(got, "5ecret") || !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s in it", address, got, want)
		}
	}
}

func TestConfig_Warnings_RouteWithoutPlace(t *testing.T) {
	t.Parallel()
	for path, media := range map[string]string{"/play/{channel}.m3u8": "", "/live/{channel}.m3u8": "/media/{channel}_{n}.ts"} {
		c := testConfig("http://10.0.0.5:8000")
		c.Routes[0].Path = path
		if media != "" {
			c.Routes[0].Media = []PathMappingConfig{{Path: media}}
		}
		if err := c.Warnings(); err == nil || !strings.Contains(err.Error(), "routes[0].path: no pattern of this route ends in /*") {
			t.Errorf("%s: got %v", path, err)
		}
		c.Routes[0].Media = append(c.Routes[0].Media, PathMappingConfig{Path: "/media/{channel}/*"})
		if err := c.Warnings(); err != nil {
			t.Errorf("%s with a place: got %v", path, err)
		}
	}
}

// TestConfig_Validate_CredentialHeaders refuses fields that no viewer can have any backend see.
func TestConfig_Validate_CredentialHeaders(t *testing.T) {
	t.Parallel()
	for name, isAllowed := range map[string]bool{
		"Host": false, "user-agent": false, "User-Agent": false, "Content-Length": false, "Transfer-Encoding": false, "Connection": false,
		"X-Session-Token": true, "Authorization": true, "Cookie": true, "X-Token": true, "Referer": true,
	} {
		err := RouteConfig{CredentialHeaders: []string{name}}.validateHeaders("routes[0]")
		want := fmt.Sprintf("routes[0].credential_headers[0]: %q never reaches a backend", name)
		if isAllowed != (err == nil) || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want an error: %t", name, err, !isAllowed)
		}
	}
}

func TestConfig_IsCredential(t *testing.T) {
	t.Parallel()
	c := Config{Routes: []RouteConfig{{Credentials: []string{"ann"}}, {Required: []string{"bob"}}}}
	for name, want := range map[string]bool{
		"token": true, "myToken2": true, "Password": true, "passwd": true, "uid": true, "ann": true, "bob": true,
		"ticket": false, "xpass": false, "ann2": false, "": false,
	} {
		if got := c.isCredential(name); got != want {
			t.Errorf("isCredential(%q): got %v", name, got)
		}
	}
}

// TestConfig_Validate_Bounds sets what is the least or the most that is allowed.
func TestConfig_Validate_Bounds(t *testing.T) {
	t.Parallel()
	c := testConfig("http://10.0.0.5:8000")
	c.Identity.Secret = "0123456789abcdef"
	c.Limits.MaxHeaderSize, c.Limits.MaxURLSize, c.Tickets.MaxURI = 4*setting.KiB, 256, 256
	c.Limits.MaxConcurrentRequests = 1
	c.Limits.ReadTimeout, c.Limits.IdleTimeout, c.Limits.WriteTimeout = time.Second, time.Second, time.Second
	c.Drain.ReadinessDelay, c.Drain.Timeout = 0, time.Second
	c.Tickets.ReviveFor = time.Minute
	if err := c.Validate([]string{"b"}); err != nil {
		t.Errorf("the least: got %v", err)
	}
	c.Tickets.ReviveFor, c.Tickets.MaxURI = 30*24*time.Hour, setting.ByteSize(reference.MaxChars)
	if err := c.Validate([]string{"b"}); err != nil {
		t.Errorf("the most: got %v", err)
	}
}

func TestConfig_Warnings_Bounds(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit func(*Config)
		want string // in the warning; empty: there is none
	}{
		"as usual":                 {func(*Config) {}, ""},
		"revival for a day":        {func(c *Config) { c.Tickets.ReviveFor = 24 * time.Hour }, ""},
		"revival for longer":       {func(c *Config) { c.Tickets.ReviveFor = 24*time.Hour + 1 }, "tickets.revive_for: 24h0m0.000000001s: a ticket"},
		"an origin with a query":   {func(c *Config) { c.Origins["o"].URL += "?a=1" }, "origins.o.url: has a query"},
		"a fallback with a query":  {func(c *Config) { c.Origins["o"].Fallback = []string{"http://b/?a"} }, "origins.o.fallback[0]: has a query"},
		"a fallback of no address": {func(c *Config) { c.Origins["o"].Upstream.FallbackOn404 = true }, "origins.o.fallback_on_404: true has no effect"},
		"a fallback of one address": {func(c *Config) {
			c.Origins["o"].Upstream.FallbackOn404, c.Origins["o"].Fallback = true, []string{"http://b"}
		}, ""},
		"an address that is none":    {func(c *Config) { c.Origins["o"].URL = "http://b:x?a=1" }, ""},
		"an origin without settings": {func(c *Config) { c.Origins["o"] = nil }, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("http://10.0.0.5:8000")
			c.TrustedProxies = nil
			tc.edit(&c)
			switch err := c.Warnings(); {
			case tc.want == "" && err != nil:
				t.Errorf("got %v, want nothing", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestConfig_UnenforcedRoutes(t *testing.T) {
	t.Parallel()
	c := Config{Routes: []RouteConfig{{Name: "a"}, {Name: "b", Enforce: enforcement.Unenforced}}}
	if diff := cmp.Diff([]string{"b"}, c.unenforcedRoutes()); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestWithoutUser(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"http://a/b": "http://a/b", "@a": "[hidden]@a", "http://@a": "http://[hidden]@a", "u:p@a": "[hidden]@a", "http@x://a": "[hidden]@x://a", "": "",
	} {
		if got := withoutUser(address); got != want {
			t.Errorf("withoutUser(%q): got %q, want %q", address, got, want)
		}
	}
}

// TestConfig_RenamedRoutes tells a route with another name from another route.
func TestConfig_RenamedRoutes(t *testing.T) {
	t.Parallel()
	asked := func(networks ...string) *edge.Config {
		c := edge.Config{Dialect: edge.Envoy, ViewerPath: "/live/{channel}/*"}
		for _, n := range networks {
			c.Networks = append(c.Networks, netip.MustParsePrefix(n))
		}
		return &c
	}
	check := asked("192.0.2.0/24")
	for name, test := range map[string]struct {
		before, after []RouteConfig
		want          string
	}{
		"renamed":       {[]RouteConfig{{Name: "a", Path: "/p"}}, []RouteConfig{{Name: "b", Path: "/p"}}, "routes[0].name: changed from a to b, "},
		"and moved":     {[]RouteConfig{{Name: "a", Path: "/p"}}, []RouteConfig{{Path: "/q"}, {Name: "b", Path: "/p"}}, "routes[1].name: changed from a to b, "},
		"an edge's":     {[]RouteConfig{{Edge: check}}, []RouteConfig{{Name: "b", Edge: check}}, "routes[0].name: changed from /live/{channel}/* to b, "},
		"the same":      {[]RouteConfig{{Name: "a", Path: "/p"}}, []RouteConfig{{Name: "a", Path: "/q"}}, ""},
		"order swapped": {[]RouteConfig{{Name: "a", Path: "/p"}, {Name: "b", Path: "/q"}}, []RouteConfig{{Name: "b", Path: "/q"}, {Name: "a", Path: "/p"}}, ""},
		"names swapped": {[]RouteConfig{{Name: "a", Path: "/p"}, {Name: "b", Path: "/q"}}, []RouteConfig{{Name: "b", Path: "/p"}, {Name: "a", Path: "/q"}}, "routes[0].name: changed from a to b, "},
		"another path":  {[]RouteConfig{{Name: "a", Path: "/p"}}, []RouteConfig{{Name: "b", Path: "/q"}}, ""},
		"another host":  {[]RouteConfig{{Name: "a", Path: "/p"}}, []RouteConfig{{Name: "b", Path: "/p", Hosts: []string{"tv.example.com"}}}, ""},
		"other hosts' order": {
			[]RouteConfig{{Name: "a", Path: "/p", Hosts: []string{"a.tv", "b.tv"}}},
			[]RouteConfig{{Name: "b", Path: "/p", Hosts: []string{"B.tv", "a.tv"}}},
			"routes[0].name: changed from a to b, ",
		},
		"edges' names swapped": {
			[]RouteConfig{{Name: "a", Edge: asked("192.0.2.1/32", "192.0.2.2/32")}, {Name: "b", Edge: asked("192.0.2.3/32")}},
			[]RouteConfig{{Name: "b", Edge: asked("192.0.2.2/32", "192.0.2.1/32")}, {Name: "a", Edge: asked("192.0.2.3/32")}},
			"routes[0].name: changed from a to b, ",
		},
		"with another edge": {
			[]RouteConfig{{Name: "a", Edge: asked("192.0.2.1/32")}},
			[]RouteConfig{{Name: "b", Edge: asked("192.0.2.1/32", "192.0.2.2/32")}},
			"routes[0].name: changed from a to b, ",
		},
		"one beside it": {[]RouteConfig{{Name: "a", Edge: check}}, []RouteConfig{{Name: "b", Edge: check}, {Name: "a", Edge: check}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Config{Routes: test.after}.RenamedRoutes(Config{Routes: test.before})
			if text := fmt.Sprint(err); (err != nil) != (test.want != "") || !strings.HasPrefix(text, test.want) && err != nil {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
