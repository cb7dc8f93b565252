package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/edge"
)

// allowNetworks edits edgeRoute's networks.
func allowNetworks(networks ...string) func(*RouteConfig) {
	return func(r *RouteConfig) {
		r.Edge.Networks = nil
		for _, n := range networks {
			r.Edge.Networks = append(r.Edge.Networks, netip.MustParsePrefix(n))
		}
	}
}

const unlistedWarning = "WARN unlisted edge rejected, add it to the route's edge.networks if it is yours address="

func TestServe_UnlistedEdge_Rejected(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			// The test's own address is a trusted proxy's, and not an edge's.
			g := newEdgeTestGateway(t, nil, edgeRoute(d, allowNetworks("203.0.113.0/24", "2001:db8::/32")))
			for range 3 {
				got := g.wantCheck(t, d, http.StatusForbidden, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
				if got.body != "this address may not ask; add it to routes[].edge.networks\n" || got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %q, %v", got.body, got.header)
				}
			}
			if n := len(g.table.openRequests()); n != 0 {
				t.Errorf("%d open requests", n)
			}
			address := "127.0.0.1"
			if d == edge.ForwardAuth { // its field holds the viewer's address, which a trusted proxy may forward
				address = "192.0.2.7"
			}
			if log, want := g.log.recorded(), []string{unlistedWarning + address + " dialect=" + d.String()}; !slices.Equal(log, want) {
				t.Errorf("log: got %q, want %q", log, want)
			}
		})
	}
}

func TestServe_EdgeBehindTrustedProxy_Allowed(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic, edge.Nginx, edge.ForwardAuth} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d, allowNetworks("203.0.113.0/24", "2001:db8::/32")))
			viewer := edgeViewer{uri: "/play/a001/index.m3u8?token=1", address: "192.0.2.7"}
			for _, tc := range []struct {
				forwarded string
				status    int
			}{
				{"203.0.113.10", 200},
				{"2001:db8::10", 200},
				{"::ffff:203.0.113.10", 200},
				{"198.51.100.1, 203.0.113.10", 200},
				{"203.0.113.10, 127.0.0.9", 200},
				{"203.0.114.10", 403},
				{"203.0.113.10, 198.51.100.1", 403},
				{"203.0.113.10, nonsense", 403},
				{"2001:db9::10", 403},
			} {
				v := viewer
				if d == edge.ForwardAuth { // the proxy adds the edge's address to the viewer's
					v.address = "192.0.2.7, " + tc.forwarded
				} else {
					v.fields = []string{"X-Forwarded-For: " + tc.forwarded}
				}
				if got := g.check(t, d, v); got.status != tc.status {
					t.Errorf("forwarded for %s: got %d %q, want %d", tc.forwarded, got.status, got.body, tc.status)
				}
			}
			opened := g.table.openRequests()
			if len(opened) == 0 || d != edge.ForwardAuth && len(opened) != 1 {
				t.Fatalf("%d open requests", len(opened))
			}
			if got := opened[0].Request.Address; got != netip.MustParseAddr("192.0.2.7") {
				t.Errorf("the viewer's address: got %v", got)
			}
		})
	}
}

func TestServe_EdgeBehindUntrustedProxy_Rejected(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(edge.Astra, allowNetworks("203.0.113.0/24")))
	g.wantCheck(t, edge.Astra, http.StatusForbidden, edgeViewer{uri: "/a?token=1", fields: []string{"X-Forwarded-For: 203.0.113.10"}})
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
}

func TestServe_ForwardedForOfEdge_NotEdgesAddress(t *testing.T) {
	t.Parallel()
	// A viewer may send X-Forwarded-For to an nginx that passes it on: it is neither the edge's address nor the viewer's.
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx))
	g.wantCheck(t, edge.Nginx, http.StatusOK, edgeViewer{
		uri: "/play/a001/index.m3u8?token=1", address: "192.0.2.7", host: "tv.example.com", scheme: "https",
		fields: []string{"X-Forwarded-For: 203.0.113.10", "X-Forwarded-Host: evil.example.com", "X-Real-Host: evil.example.com"},
	})
	q := g.table.openRequests()[0].Request
	if q.Address.String() != "192.0.2.7" || q.Host != "tv.example.com" || q.Scheme != "https" {
		t.Errorf("got address %v, host %q, scheme %q", q.Address, q.Host, q.Scheme)
	}
}

func TestServe_ForwardAuth_ForgedAddressIgnored(t *testing.T) {
	t.Parallel()
	// 203.0.113.0/24 are edges that stand before the one that asks; the test's own network is trusted.
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.ForwardAuth, allowNetworks("127.0.0.0/8", "203.0.113.0/24")))
	for list, want := range map[string]string{
		"198.51.100.1, 192.0.2.7":                          "192.0.2.7",
		"198.51.100.1, 192.0.2.7, 203.0.113.5, 127.0.0.3":  "192.0.2.7",
		"198.51.100.1, 192.0.2.7:4321, 203.0.113.5":        "192.0.2.7",
		"nonsense, 2001:db8::7, 203.0.113.5":               "2001:db8::7",
		"198.51.100.1, 203.0.113.5, 192.0.2.7":             "192.0.2.7",
		"203.0.113.7, 203.0.113.5":                         "203.0.113.7", // edges all the way: the farthest
		"198.51.100.1, nonsense, 203.0.113.5, 203.0.113.6": "203.0.113.5",
	} {
		before := len(g.table.openRequests())
		g.wantCheck(t, edge.ForwardAuth, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8", address: list, agent: list})
		opened := g.table.openRequests()[before:]
		if len(opened) != 1 || opened[0].Request.Address.String() != want {
			t.Errorf("%s: opened by %+v, want one from %s", list, opened, want)
		}
	}
}

func TestServe_RoutesOfOtherEdges_NotMatched(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Flussonic, edge.Nginx} {
		named := func(name, network string) RouteConfig {
			return edgeRoute(d, allowNetworks(network), func(r *RouteConfig) { r.Name = name })
		}
		g := newEdgeTestGateway(t, nil, named("one", "203.0.113.0/24"), named("two", "198.51.100.0/24"))
		for edge, want := range map[string]string{"203.0.113.10": "one", "198.51.100.10": "two"} {
			before := len(g.table.openRequests())
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"X-Forwarded-For: " + edge}})
			if opened := g.table.openRequests()[before:]; len(opened) != 1 || opened[0].Request.Route != want {
				t.Errorf("%s: %s asked, opened by %+v, want one of route %s", d, edge, opened, want)
			}
		}
		g.wantCheck(t, d, http.StatusForbidden, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"X-Forwarded-For: 203.0.114.1"}})
	}
}

func TestServe_OtherDialect_Rejected(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Astra), edgeRoute(edge.Envoy, func(r *RouteConfig) { r.Edge.ViewerPath = "/other/{channel}/*" }))
	g.wantCheck(t, edge.Envoy, http.StatusForbidden, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
	var a Response
	q := edge.CheckRequest{Method: "GET", Path: "/play/a001/index.m3u8"}
	if err := g.Check(context.Background(), edge.Alta, netip.MustParseAddr("127.0.0.1"), &q, &a); err != nil || a.Status != 403 {
		t.Errorf("Alta: got %d %q, %v", a.Status, a.Body, err)
	}
	alone := newEdgeTestGateway(t, nil, edgeRoute(edge.Envoy))
	for _, path := range []string{"/", "/auth", "/play/a001/index.m3u8?token=1"} { // Envoy asks at another listener
		alone.want(t, http.StatusNotFound, path)
	}
	if n := len(g.table.openRequests()) + len(alone.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
}

func TestServe_UnlistedEdge_LoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newBareEdgeTestGateway(t, nil, edgeRoute(edge.Astra, allowNetworks("203.0.113.0/24")))
		ask := func() {
			var a Response
			v := Request{Method: "GET", Path: "/auth", Peer: netip.MustParseAddr("198.51.100.1"), Header: http.Header{}}
			if err := g.Serve(context.Background(), &v, &a); err != nil || a.Status != http.StatusForbidden {
				t.Errorf("got %d, %v", a.Status, err)
			}
		}
		for second := range 150 {
			ask()
			ask()
			if want := 1 + second/60; len(g.log.recorded()) != want {
				t.Fatalf("after %d s: %d lines, want %d", second, len(g.log.recorded()), want)
			}
			advance(time.Second)
		}
		for _, line := range g.log.recorded() {
			if line != unlistedWarning+"198.51.100.1 dialect=astra" {
				t.Errorf("log: got %q", line)
			}
		}
	})
}

func TestNewRoute_InvalidEndpoint(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(*RouteConfig)
		want string
	}{
		"a path that ends in *":   {func(r *RouteConfig) { r.Path = "/ask/*" }, ""},
		"no path":                 {func(r *RouteConfig) { r.Path = "" }, `path: "" must begin with /`},
		"no slash":                {func(r *RouteConfig) { r.Path = "auth" }, `path: "auth" must begin with /`},
		"where tickets stand":     {func(r *RouteConfig) { r.Path = "/~auth" }, `path: "/~auth" must not begin with /~, which is for tickets`},
		"a channel":               {func(r *RouteConfig) { r.Path = "/auth/{channel}" }, `path: "/auth/{channel}" is the edge's own path; only a * at its end may vary`},
		"a channel and more":      {func(r *RouteConfig) { r.Path = "/auth/{channel}/*" }, `path: "/auth/{channel}/*" is the edge's own path; only a * at its end may vary`},
		"a query":                 {func(r *RouteConfig) { r.Path = "/auth?x" }, `path: "/auth?x": a path in a request never has "?"; write it escaped`},
		"viewers of no channel":   {func(r *RouteConfig) { r.Edge.ViewerPath = "/play/*" }, `edge.viewer_path: "/play/*" needs a {channel}`},
		"viewers without slash":   {func(r *RouteConfig) { r.Edge.ViewerPath = "play" }, `edge.viewer_path: "play" must begin with /`},
		"viewers of two channels": {func(r *RouteConfig) { r.Edge.ViewerPath = "/{channel}/{channel}" }, `edge.viewer_path: "/{channel}/{channel}" names {channel} twice`},
	} {
		got := ""
		if _, err := newRoute(edgeRoute(edge.Nginx, tc.edit), nil); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	if r, err := newRoute(edgeRoute(edge.Envoy), nil); err != nil || r.endpoint.MatchesPath("") || r.endpoint.MatchesPath("/") {
		t.Errorf("envoy: got an endpoint at a path, %v", err)
	}
}

func TestRoute_ExtraLifetime(t *testing.T) {
	t.Parallel()
	media, err := newRoute(RouteConfig{Path: "/play/{channel}/*"}, nil)
	if err != nil || media.extraLifetime() != 0 {
		t.Errorf("media: got %v, %v", media.extraLifetime(), err)
	}
	var c edge.Config
	if c.SetDefaults(); c.ExtraLifetime != time.Minute {
		t.Errorf("the default margin: got %v", c.ExtraLifetime)
	}
	r, err := newRoute(edgeRoute(edge.Astra, func(r *RouteConfig) { r.Edge.ExtraLifetime = time.Hour }), nil)
	if err != nil || r.extraLifetime() != time.Hour {
		t.Errorf("an edge's: got %v, %v", r.extraLifetime(), err)
	}
	g := newTestGateway(t, nil)
	g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1")
	if a := g.table.openRequests(); len(a) != 1 || a[0].ExtraLifetime != 0 {
		t.Errorf("at a media route: opened by %+v", a)
	}
}

func TestConfig_Validate_EdgesAlone(t *testing.T) {
	t.Parallel()
	c := testConfig("")
	c.Origins, c.Routes = nil, []RouteConfig{edgeRoute(edge.Astra)}
	if err := c.Validate([]string{"b", "p", "x"}); err != nil {
		t.Errorf("got %v", err)
	}
	c.Routes = append(c.Routes, RouteConfig{Path: "/play/{channel}/*", Backend: "b"})
	if err := c.Validate([]string{"b", "p", "x"}); err == nil || !strings.HasPrefix(err.Error(), "origins: none;") {
		t.Errorf("beside a media route: got %v", err)
	}
}
