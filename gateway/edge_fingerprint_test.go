package gateway

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

// twoRoutes returns a route of that dialect and another at the same endpoint, for /vod/.
func twoRoutes(d edge.Dialect, edits ...func(*RouteConfig)) []RouteConfig {
	vod := append([]func(*RouteConfig){func(r *RouteConfig) { r.Edge.ViewerPath = "/vod/{channel}/*" }}, edits...)
	return []RouteConfig{edgeRoute(d, edits...), edgeRoute(d, vod...)}
}

func TestServe_EdgeCheck_SegmentMatchedByFingerprint(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, twoRoutes(d, func(r *RouteConfig) { r.Required = []string{"token"} })...)
			const noSession = "no session matches this request; open the playlist first\n"
			seg := edgeViewer{uri: "/play/a001/seg-17.ts"}
			if got := g.wantCheck(t, d, 403, seg); got.body != noSession {
				t.Errorf("before the playlist: got %q", got.body)
			}
			g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
			for what, v := range map[string]edgeViewer{
				"their segment":                 seg,
				"their segment, with a query":   {uri: "/play/a001/hd/seg-17.ts?x=1"},
				"their segment, over HTTPS":     {uri: "/play/a001/seg-17.ts", scheme: "https", host: "tv.example.com", referer: "http://x/"},
				"their child playlist":          {uri: "/play/a001/hd/index.m3u8"},
				"their child playlist, a query": {uri: "/play/a001/hd/index.m3u8?x=1&token="},
				"their key":                     {uri: "/play/a001/enc.key"},
			} {
				if got := g.check(t, d, v); got.status != http.StatusOK || got.body != "" {
					t.Errorf("%s: got %d %q", what, got.status, got.body)
				}
			}
			for what, v := range map[string]edgeViewer{
				"from another address":    {uri: seg.uri, address: "192.0.2.8"},
				"from their IPv6 address": {uri: seg.uri, address: "2001:db8::7"},
				"by another agent":        {uri: seg.uri, agent: "MAG251"},
				"of another channel":      {uri: "/play/a002/seg-17.ts"},
				"of another route":        {uri: "/vod/a001/seg-17.ts"},
			} {
				if got := g.check(t, d, v); got.status != http.StatusForbidden || got.body != noSession {
					t.Errorf("%s: got %d %q, want 403", what, got.status, got.body)
				}
				v.uri = strings.Replace(v.uri, "seg-17.ts", "hd/index.m3u8", 1)
				if got := g.check(t, d, v); got.status != http.StatusForbidden || got.body != "the credential token is missing\n" {
					t.Errorf("a playlist %s: got %d %q, want 403", what, got.status, got.body)
				}
			}
			if n := len(g.table.openRequests()); n != 1 {
				t.Errorf("%d open requests, want one session", n)
			}
			if seen := g.table.liveSessions()[0].seen.Load(); seen != 7 {
				t.Errorf("seen %d times, want 7", seen)
			}
		})
	}
}

func TestServe_EdgeCheck_MappedIPv4SharesFingerprint(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx))
	g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1", address: "192.0.2.7"})
	for _, address := range []string{"::ffff:192.0.2.7", "192.0.2.7:4321", "[::ffff:192.0.2.7]:80"} {
		g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/seg-17.ts", address: address})
	}
}

func TestServe_EdgeCheck_FingerprintGetsCurrentDecision(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		seg := edgeViewer{uri: "/play/a001/seg-17.ts"}
		g.wantCheck(t, d, 200, seg)
		g.table.decideAll(backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Redirect: "http://promo/"})
		if got := g.wantCheck(t, d, 403, seg); got.body != "denied by operator\n" || got.header.Get("X-Location") != "" {
			t.Errorf("%s, kicked: got %q, %v", d, got.body, got.header)
		}
		g.table.decideAll(backends.Decision{})
		want := http.StatusServiceUnavailable
		if d == edge.Nginx {
			want = http.StatusForbidden
		}
		g.wantCheck(t, d, want, seg)
		g.table.decideAll(backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend})
		g.wantCheck(t, d, 200, seg)
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d open requests, want one", d, n)
		}
		g.table.reset()
		g.wantCheck(t, d, 403, seg) // the session is over
		if n := len(g.table.openRequests()); n != 0 {
			t.Errorf("%s: a segment opened a session", d)
		}
	}
}

func TestServe_EdgeCheck_DeniedNotMatchedByFingerprint(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		g.table.decideFunc = decideByQuery(nil)
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		if got := g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts"}); !strings.HasPrefix(got.body, "no session matches") {
			t.Errorf("%s: got %q", d, got.body)
		}
	}
}

func TestServe_EdgeCheck_FingerprintPrefersAllowed(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d))
			g.table.decideFunc = decideByQuery(map[string]backends.Decision{"token=1": {Verdict: backends.Allowed}, "token=2": {Verdict: backends.Allowed}})
			seg := edgeViewer{uri: "/play/a001/seg-17.ts"}
			g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
			g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/index.m3u8?token=bad"})
			g.wantCheck(t, d, 200, seg)
			g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=2"})
			g.wantCheck(t, d, 200, seg)
			one, two := g.table.openedIDs()[0], g.table.openedIDs()[2]
			no := &backends.Decision{Verdict: backends.Denied}
			for _, step := range []struct {
				denied backends.SessionID
				want   int
			}{{two, 200}, {one, 403}} {
				g.table.mu.Lock()
				g.table.sessions[step.denied].decision.Store(no)
				g.table.mu.Unlock()
				g.wantCheck(t, d, step.want, seg)
			}
			if n := len(g.table.openRequests()); n != 3 {
				t.Errorf("%d open requests, want three", n)
			}
		})
	}
}

func TestServe_EdgeCheck_ManySessionsOfOneFingerprint(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx))
	for i := range edge.MaxSessionsPerFingerprint + 3 {
		g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: fmt.Sprintf("/play/a001/index.m3u8?token=%d", i)})
	}
	ids, no := g.table.openedIDs(), &backends.Decision{Verdict: backends.Denied}
	// All remembered sessions are denied except the oldest. The first three are forgotten, and allowed.
	for i, id := range ids {
		if i > 3 {
			g.table.mu.Lock()
			g.table.sessions[id].decision.Store(no)
			g.table.mu.Unlock()
		}
	}
	seg := edgeViewer{uri: "/play/a001/seg-17.ts"}
	g.wantCheck(t, edge.Nginx, 200, seg)
	g.table.mu.Lock()
	g.table.sessions[ids[3]].decision.Store(no)
	g.table.mu.Unlock()
	g.wantCheck(t, edge.Nginx, 403, seg)
	g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=0"}) // a forgotten viewer is known by the token
	g.wantCheck(t, edge.Nginx, 200, seg)
	if n := len(g.table.openRequests()); n != edge.MaxSessionsPerFingerprint+3 {
		t.Errorf("%d open requests, want %d", n, edge.MaxSessionsPerFingerprint+3)
	}
}

func TestServe_EdgeCheck_SegmentWithCredentialsNeedsSession(t *testing.T) {
	t.Parallel()
	for _, how := range []edge.MatchMode{edge.MatchByAddressAgent, edge.MatchByCookie, edge.MatchByNone} {
		for _, d := range proxyDialects() {
			t.Run(how.String()+" "+d.String(), func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(how)))
				elsewhere := edgeViewer{uri: "/play/a001/seg-17.ts?token=1", agent: "hls.js"}
				g.wantCheck(t, d, 403, elsewhere)
				g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
				g.wantCheck(t, d, 200, elsewhere)
				g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts?token=2", address: "192.0.2.9"})
				if n := len(g.table.openRequests()); n != 1 {
					t.Errorf("%d open requests, want the playlist's alone", n)
				}
				g.table.reset()
				g.wantCheck(t, d, 403, elsewhere)
				if n := len(g.table.openRequests()); n != 0 {
					t.Errorf("a segment opened a session")
				}
			})
		}
	}
}

func TestServe_EdgeCheck_CredentialsEverywhere(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, func(r *RouteConfig) {
			r.CredentialsEverywhere, r.Required = true, []string{"token"}
		}))
		if got := g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts"}); got.body != "the credential token is missing\n" {
			t.Errorf("%s: got %q", d, got.body)
		}
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-17.ts?token=1"})
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-18.ts"})
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d open requests, want one", d, n)
		}
	}
}

func TestServe_EdgeCheck_MatchByNone(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByNone)))
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts"})
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-17.ts?token=1"})
	}
}

func TestServe_EdgeCheck_MatchByPlaylistsOnly(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByPlaylistsOnly)))
		g.table.decideFunc = decideByQuery(map[string]backends.Decision{"token=1": {Verdict: backends.Allowed}})
		for _, uri := range []string{"/play/a001/seg-17.ts", "/play/a001/seg-17.ts?token=bad", "/play/a001/", "/play/a001/manifest.mpd"} {
			if got := g.wantCheck(t, d, 200, edgeViewer{uri: uri}); len(got.header.Values("Set-Cookie")) > 0 || got.body != "" {
				t.Errorf("%s %s: got %q, %v", d, uri, got.body, got.header)
			}
		}
		if n := len(g.table.openRequests()); n != 0 {
			t.Errorf("%s: %d open requests for segments", d, n)
		}
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		for _, uri := range []string{"/play/a001/index.m3u8", "/play/a001/INDEX.M3U8", "/play/a001/index.m3u"} {
			g.wantCheck(t, d, 403, edgeViewer{uri: uri})
		}
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/../seg-17.ts"})
		g.wantCheck(t, d, 403, edgeViewer{uri: "/other/a001/seg-17.ts"})
	}
}

func TestServe_EdgeCheck_MatchByCookie(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		for _, scheme := range []string{"http", "https", ""} {
			t.Run(d.String()+" "+scheme, func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, twoRoutes(d, matchBy(edge.MatchByCookie))...)
				given := g.wantCheck(t, d, 200, edgeViewer{uri: "/play/caf%C3%A9/index.m3u8?token=1", scheme: scheme}).header.Values("Set-Cookie")
				if len(given) != 1 {
					t.Fatalf("Set-Cookie: %q", given)
				}
				name, rest, _ := strings.Cut(given[0], "=")
				value, flags, _ := strings.Cut(rest, "; ")
				want := "Path=/play/caf%C3%A9; Max-Age=21600; HttpOnly"
				if scheme == "https" {
					want += "; Secure; SameSite=None; Partitioned"
				}
				if name != "usher_ticket" || !strings.HasPrefix(value, "a.") || flags != want {
					t.Errorf("Set-Cookie: got %s, want usher_ticket=a.…; %s", given[0], want)
				}
				g.tryCookie(t, d, scheme, value)
			})
		}
	}
}

// TestServe_EdgeCheck_AfterRestart: a viewer's segments are matched after a restart by a ticket alone, and after a reload by the fingerprint
// too. deploy/README says so.
func TestServe_EdgeCheck_AfterRestart(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		for mode, want := range map[edge.MatchMode]int{
			edge.MatchByAddressAgent: http.StatusForbidden, edge.MatchByCookie: http.StatusOK, edge.MatchByPlaylistsOnly: http.StatusOK,
		} {
			t.Run(d.String()+" "+mode.String(), func(t *testing.T) {
				t.Parallel()
				route := edgeRoute(d, matchBy(mode), func(r *RouteConfig) { r.Required = []string{"token"} })
				playlist, segment := edgeViewer{uri: "/play/a001/index.m3u8?token=1"}, edgeViewer{uri: "/play/a001/seg-17.ts"}
				g := newEdgeTestGateway(t, nil, route)
				if cookie, _, found := strings.Cut(g.wantCheck(t, d, 200, playlist).header.Get("Set-Cookie"), ";"); found {
					segment.fields = []string{"Cookie: " + cookie}
				}
				g.wantCheck(t, d, 200, segment)
				g.handler.replace(t, func(*Options) {})
				g.Gateway = g.handler.gateway
				g.wantCheck(t, d, 200, segment)

				restarted := newEdgeTestGateway(t, nil, route)
				restarted.wantCheck(t, d, want, segment)
				restarted.wantCheck(t, d, 200, playlist)
				restarted.wantCheck(t, d, 200, segment)
			})
		}
	}
}

// tryCookie checks with a cookie that was set for /play/café/, token=1.
func (g *edgeTestGateway) tryCookie(t *testing.T, d edge.Dialect, scheme, value string) {
	t.Helper()
	with := func(uri, value string) edgeViewer { // in any player
		return edgeViewer{uri: uri, scheme: scheme, agent: "Safari", fields: []string{"Cookie: x=y; usher_ticket=" + value}}
	}
	for _, uri := range []string{"/play/caf%C3%A9/seg-17.ts", "/play/caf%C3%A9/hd/index.m3u8", "/play/caf%c3%a9/seg-17.ts"} {
		if got := g.wantCheck(t, d, 200, with(uri, value)); len(got.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: a cookie again: %v", uri, got.header)
		}
	}
	flipped := value[:len(value)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(value, "A")]
	for what, v := range map[string]edgeViewer{
		"no cookie":                  {uri: "/play/caf%C3%A9/seg-17.ts", scheme: scheme},
		"another channel's cookie":   with("/play/a002/seg-17.ts", value),
		"another route's cookie":     with("/vod/caf%C3%A9/seg-17.ts", value),
		"a forged cookie":            with("/play/caf%C3%A9/seg-17.ts", flipped),
		"a cookie of another key":    with("/play/caf%C3%A9/seg-17.ts", "z"+value[1:]),
		"a cookie that is no ticket": with("/play/caf%C3%A9/seg-17.ts", "a.b"),
	} {
		if got := g.check(t, d, v); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d %q", what, got.status, got.body)
		}
	}
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("%d open requests, want one", n)
	}
	opened := g.table.openRequests()[0].Request.Session
	g.table.reset()
	g.wantCheck(t, d, 200, with("/play/caf%C3%A9/seg-17.ts?token=1", value))
	if a := g.table.openRequests(); len(a) != 1 || a[0].Ticket.IsZero() || a[0].HasCredentials || a[0].Request.Session != opened || a[0].Request.Query != "" {
		t.Errorf("of a session that no node has: opened by %+v, want one by its ticket", a)
	}
	g.table.reset()
	g.wantCheck(t, d, 200, with("/play/caf%C3%A9/index.m3u8?token=2", value))
	if a := g.table.openRequests(); len(a) != 1 || a[0].Ticket.IsZero() || !a[0].HasCredentials || a[0].Request.Session != opened || a[0].Request.Query != "token=2" {
		t.Errorf("with credentials beside: opened by %+v, want one by its ticket and them", a)
	}
	g.table.decideAll(backends.Decision{Verdict: backends.Denied, Source: backends.FromBan})
	if got := g.wantCheck(t, d, 403, with("/play/caf%C3%A9/seg-17.ts", value)); got.body != "denied by ban\n" {
		t.Errorf("a banned viewer: got %q", got.body)
	}
}

func TestServe_EdgeCheck_InvalidCookieBesideCredentials(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByCookie)))
		got := g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"Cookie: usher_ticket=a.forged"}})
		if len(got.header.Values("Set-Cookie")) != 1 || len(g.table.openRequests()) != 1 {
			t.Errorf("%s: got %v, %d open requests", d, got.header, len(g.table.openRequests()))
		}
	}
}

// TestServe_EdgeCheck_Fingerprint_SameAddress has a viewer who shares a session be admitted again by a segment that shows nothing.
func TestServe_EdgeCheck_Fingerprint_SameAddress(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByAddressAgent), func(r *RouteConfig) { r.OnNewAddress = ShareSession }))
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		for _, s := range g.table.liveSessions() {
			s.mu.Lock()
			s.prefixes = nil // the address has been silent for too long
			s.mu.Unlock()
		}
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-17.ts"})
		opened := g.table.openRequests()
		if len(opened) != 2 || opened[0].AddressID != opened[1].AddressID || opened[0].AddressID.IsZero() {
			t.Errorf("%s: opened by %+v, want the same address twice", d, opened)
		}
	}
}

// TestServe_EdgeCheck_CookieBesideOtherCredentials shows credentials that nobody has checked beside a ticket. They do not play, so that a
// segment with them opens no session.
func TestServe_EdgeCheck_CookieBesideOtherCredentials(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByCookie)))
		given := g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}).header.Get("Set-Cookie")
		cookie, _, _ := strings.Cut(given, ";")
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=bogus", fields: []string{"Cookie: " + cookie}})
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts?token=bogus", address: "198.51.9.7"})
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d sessions opened, want the one of the first request", d, n)
		}
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"Cookie: " + cookie}})
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-17.ts?token=1", address: "198.51.9.7"})
	}
}

func TestServe_EdgeCheck_DeniedGetsNoCookie(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByCookie)))
		g.table.decideFunc = decideByQuery(nil)
		if got := g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}); len(got.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: got %v", d, got.header)
		}
	}
}

func TestServe_EdgeCheck_CookieIgnoredInOtherModes(t *testing.T) {
	t.Parallel()
	cookies := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, matchBy(edge.MatchByCookie)))
	given := cookies.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}).header.Get("Set-Cookie")
	value, _, _ := strings.Cut(given, ";")
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx)) // of the same keys and route
	for _, uri := range []string{"/play/a001/seg-17.ts", "/play/a001/seg-17.ts?ticket=" + strings.TrimPrefix(value, "usher_ticket=")} {
		g.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: uri, fields: []string{"Cookie: " + value}})
	}
	ticket := strings.TrimPrefix(value, "usher_ticket=")
	g.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: "/~" + ticket + "/play/a001/seg-17.ts"})
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
}

func TestServe_EdgeThatKeepsSessions_ChecksEachRequest(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic} {
		for _, how := range []edge.MatchMode{edge.MatchByDefault, edge.MatchByNone} {
			g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(how), func(r *RouteConfig) { r.Required = []string{"token"} }))
			g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/seg-17.ts?token=1"}) // under any name
			g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/seg-17.ts"})
			if n := len(g.table.openRequests()); n != 1 {
				t.Errorf("%s, %s: %d open requests, want one", d, how, n)
			}
		}
	}
}

func TestServe_EdgeThatKeepsSessions_MatchByAddressAgent(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic} {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByAddressAgent), func(r *RouteConfig) { r.Required = []string{"token"} }))
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/index.m3u8"})
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		g.wantCheck(t, d, 200, edgeViewer{uri: "/play/a001/index.m3u8"})
		g.wantCheck(t, d, 403, edgeViewer{uri: "/play/a001/index.m3u8", address: "192.0.2.8"})
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d open requests, want one", d, n)
		}
	}
}

func TestNewestAllowed_PrefersTheAllowedThenTheNewest(t *testing.T) {
	t.Parallel()
	f := edge.NewFingerprints()
	t.Cleanup(f.Close)
	id := func(n int) (id backends.SessionID) { binary.BigEndian.PutUint32(id[:], uint32(n)); return id }
	sessions := map[backends.SessionID]*fakeSession{}
	decide := func(n int, v backends.Verdict) {
		s := &fakeSession{}
		s.decision.Store(&backends.Decision{Verdict: v})
		sessions[id(n)] = s
	}
	live := func(id backends.SessionID) session.Handle {
		if s := sessions[id]; s != nil {
			return s
		}
		return nil
	}
	want := func(n int) {
		t.Helper()
		got, s := newestAllowed(f.AppendSessions(nil, 7), live)
		if (s == nil) != (n == 0) || n != 0 && (got != id(n) || s != session.Handle(sessions[id(n)])) {
			t.Errorf("found %v, want %d", got, n)
		}
	}
	now := time.Now()
	want(0)
	f.Record(7, id(1), now, time.Time{}, now)
	want(0) // it is over
	decide(1, backends.Denied)
	want(1)
	sessions[id(2)] = &fakeSession{} // no decision yet
	f.Record(7, id(2), now, time.Time{}, now)
	want(1)
	decide(2, backends.Pending)
	want(2)
	decide(1, backends.Allowed)
	want(1)
	decide(2, backends.Allowed)
	want(2)
	f.Record(7, id(1), now, time.Time{}, now) // now it is the newest
	want(1)
	f.Record(8, id(3), now, time.Time{}, now)
	decide(3, backends.Allowed)
	want(1) // another fingerprint's session
	for n := 10; n < 10+edge.MaxSessionsPerFingerprint; n++ {
		f.Record(7, id(n), now, time.Time{}, now)
		f.Record(7, id(n), now, time.Time{}, now) // recorded only once
	}
	want(0) // 1 and 2 are forgotten
	decide(10, backends.Allowed)
	want(10)
}

func TestServe_EdgeCheck_ConcurrentFingerprints(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx), edgeRoute(edge.Envoy, func(r *RouteConfig) {
		r.Edge.ViewerPath = "/envoy/{channel}/*"
	}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 25 {
				who := fmt.Sprintf("192.0.2.%d", (i+n)%4)
				token := (i * n) % 12
				if got := g.check(t, edge.Nginx, edgeViewer{uri: fmt.Sprintf("/play/a001/index.m3u8?token=%d", token), address: who}); got.status != 200 {
					t.Errorf("playlist: got %d %q", got.status, got.body)
				}
				if got := g.check(t, edge.Nginx, edgeViewer{uri: "/play/a001/seg-17.ts", address: who}); got.status != 200 {
					t.Errorf("segment: got %d %q", got.status, got.body)
				}
				uri := fmt.Sprintf("/envoy/a001/index.m3u8?token=%d", token)
				if got := g.check(t, edge.Envoy, edgeViewer{uri: uri, address: who}); got.status != 200 {
					t.Errorf("envoy: got %d %q", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
}
