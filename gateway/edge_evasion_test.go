package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

func TestServe_EdgeCheck_PublisherNotMatchedByFingerprint(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic, matchBy(edge.MatchByAddressAgent), func(r *RouteConfig) {
		r.Edge.PublishBackend, r.Required = "p", []string{"token"}
	}))
	g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
		if a.Request.Backend == "p" {
			return backends.Decision{Verdict: backends.Denied}, nil
		}
		return backends.Decision{Verdict: backends.Allowed}, nil
	}
	g.wantCheck(t, edge.Flussonic, 200, edgeViewer{channel: "cam0", uri: "?token=1", agent: "OBS"})
	if got := g.post(t, "/auth", fmt.Sprintf(publishBody, "")); got.status != http.StatusForbidden {
		t.Errorf("publishing without credentials while watching: got %d", got.status)
	}
}

func TestServe_UnlistedEdge_LoggedOnceForSharedEndpoint(t *testing.T) {
	t.Parallel()
	one := edgeRoute(edge.Nginx, allowNetworks("203.0.113.0/24"))
	two := edgeRoute(edge.Nginx, allowNetworks("203.0.113.0/24"), func(r *RouteConfig) { r.Edge.ViewerPath = "/vod/{channel}/*" })
	g := newEdgeTestGateway(t, nil, one, two)
	g.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: "/play/a001/index.m3u8"})
	if log := g.log.recorded(); len(log) != 1 {
		t.Errorf("log: %q", log)
	}
}

func TestServe_UnlistedEdge_HidesNoOtherWarning(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, allowNetworks("203.0.113.0/24")))
	g.want(t, 403, "/auth")
	g.want(t, 403, "/auth", "X-Forwarded-For: 203.0.113.1")
	if log := g.log.recorded(); len(log) != 2 {
		t.Errorf("log: %q", log)
	}
}

func TestGateway_EdgeCheckURLTooLong_EncodedByDialect(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic} {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		if got := g.check(t, d, edgeViewer{uri: "/a001?token=" + strings.Repeat("x", 9000)}); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d", d, got.status)
		}
	}
}

func TestGateway_EdgeCheckOverload_EncodedByDialect(t *testing.T) {
	t.Parallel()
	for d, want := range map[edge.Dialect]int{edge.Astra: 403, edge.Nginx: 403, edge.Flussonic: 500, edge.ForwardAuth: 503} {
		g := newEdgeTestGateway(t, func(c *Config) { c.Limits.MaxConcurrentRequests = 1 }, edgeRoute(d))
		g.handler.gateway.serving.Add(1)
		if got := g.check(t, d, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}); got.status != want {
			t.Errorf("%s: got %d, want %d", d, got.status, want)
		}
	}
}

func TestConfig_Validate_TwoDialectsAtOnePath(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Astra, allowNetworks("203.0.113.1/32")), edgeRoute(edge.Nginx, allowNetworks("203.0.113.2/32")))
	g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"X-Forwarded-For: 203.0.113.2"}})
}

// TestServe_EdgeCheck_SegmentFromNewAddress has viewers who show their token on each URI ask for a segment first.
func TestServe_EdgeCheck_SegmentFromNewAddress(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		for policy, want := range map[NewAddressPolicy]int{CheckNewAddress: 200, ShareSession: 200, RefuseNewAddress: 403} {
			g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByNone), func(r *RouteConfig) { r.OnNewAddress = policy }))
			moved := edgeViewer{uri: "/play/a001/seg-17.ts?token=1", address: "198.51.9.7"}
			g.wantCheck(t, d, 403, moved)
			g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
			g.wantCheck(t, d, want, moved)
			g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts?token=2", address: "198.51.9.7"})
			if policy != CheckNewAddress {
				continue
			}
			if opened := g.table.openRequests(); len(opened) != 2 || opened[1].Request.Address.String() != "198.51.9.7" || opened[1].Request.Query != "token=1" {
				t.Errorf("%s: opened by %+v, want a check of the new address", d, opened)
			}
			g.table.decideAll(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend})
			g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts?token=1", address: "198.51.10.7"})
			if n := len(g.table.openRequests()); n != 2 {
				t.Errorf("%s: credentials that are denied opened a session", d)
			}
		}
	}
}

func TestServe_EdgeCheck_NoAddressNoFingerprint(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Alta, matchBy(edge.MatchByAddressAgent), func(r *RouteConfig) { r.Required = []string{"token"} }))
	g.want(t, 200, "/auth?token=1", "X-Real-Path: /a001/index.m3u8", "X-Real-Ua: VLC")
	g.want(t, 403, "/auth", "X-Real-Path: /a001/index.m3u8", "X-Real-Ua: VLC")
}

func TestServe_EdgeCheck_DenialNamesNoUser(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.ForwardAuth))
	g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
		return backends.Decision{Verdict: backends.Denied, UserID: "u7", User: "Ada"}, nil
	}
	if got := g.wantCheck(t, edge.ForwardAuth, 403, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}); got.header.Get("X-Userid") != "" {
		t.Errorf("got %v", got.header)
	}
}

// path;params
func TestServe_EdgeCheck_PlaylistWithPathParameters(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, matchBy(edge.MatchByPlaylistsOnly), func(r *RouteConfig) { r.Required = []string{"token"} }))
	for _, p := range []string{"/play/a001/index.m3u8;x=1", "/play/a001/index.m3u8/", "/play/a001/index.m3u8%20"} {
		g.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: p})
	}
}

// Envoy reports the peer of its connection. Behind a trusted proxy that is the proxy, which then forwards the viewer's.
func TestCheck_EnvoyBehindTrustedProxy(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"127.0.0.7": "203.0.113.9", "198.51.100.7": "198.51.100.7"} {
		g := newEdgeTestGateway(t, nil, edgeRoute(edge.Envoy))
		g.wantCheck(t, edge.Envoy, 200, edgeViewer{
			uri: "/play/a001/index.m3u8?token=1", address: address,
			fields: []string{"X-Forwarded-For: 192.0.2.66, 203.0.113.9, 127.0.0.7"},
		})
		if got := g.table.openRequests()[0].Request.Address.String(); got != want {
			t.Errorf("asked by %s: the viewer is at %s, want %s", address, got, want)
		}
	}
}

// An endpoint for any path comes after the media routes. Responses to viewers are not encoded for an edge: a 4xx would end
// playback.
func TestGateway_OverloadBesideCatchAllEndpoint_ViewersGet503(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{
		"/play/a001/index.m3u8?token=1":   http.StatusServiceUnavailable,
		"/~a.xyz/play/a001/seg-17.ts":     http.StatusServiceUnavailable,
		"/elsewhere?token=1":              http.StatusForbidden,
		"/play/a001/../a002/index.m3u8?t": http.StatusServiceUnavailable,
	} {
		g := newTestGateway(t, func(c *Config) {
			c.Limits.MaxConcurrentRequests = 1
			catchAll := edgeRoute(edge.Astra)
			catchAll.Path = "/*"
			c.Routes = append(c.Routes, catchAll)
		})
		g.handler.gateway.serving.Add(1)
		if got := g.get(t, path); got.status != want {
			t.Errorf("%s: got %d, want %d", path, got.status, want)
		}
	}
}
