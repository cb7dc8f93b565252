package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

func TestServe_EdgeCheck_BackendRequest(t *testing.T) {
	t.Parallel()
	viewer := edgeViewer{
		uri: "/play/caf%C3%A9/index.m3u8?token=a%2Bb&token=2&_HLS_msn=7&CMCD=x", address: "203.0.113.7", agent: "VLC/3.0",
		scheme: "https", host: "tv.example.com:8443", referer: "http://portal/", channel: "a001", session: "17",
		fields: []string{"Authorization: Basic x", "X-Session-Id: forged", "X-Channel-Id: forged", "X-Real-Host: forged", "X-Usher-Source: forged"},
	}
	plain := func(r *RouteConfig) { r.CredentialHeaders = []string{"authorization"} }
	asked := func(edit func(*backends.Request)) backends.Request {
		r := backends.Request{
			Channel: "café", Backend: "b", Query: "token=a%2Bb&token=2", Path: "/play/caf%C3%A9/index.m3u8", Scheme: "https",
			Host: "tv.example.com:8443", Address: netip.MustParseAddr("203.0.113.7"), UserAgent: "VLC/3.0", Referer: "http://portal/",
			Headers: []backends.Header{{Name: "Authorization", Value: "Basic x"}}, Route: "/auth /play/{channel}/*",
		}
		edit(&r)
		return r
	}
	cases := map[edge.Dialect]struct {
		route RouteConfig
		want  backends.Request
	}{
		edge.Astra: {edgeRoute(edge.Astra), asked(func(r *backends.Request) {
			r.Channel, r.Route, r.Scheme, r.Referer, r.Headers = "a001", "/auth", "", "", nil
			r.Edge = &backends.EdgeReport{AstraSession: "17", HasSession: true, HasChannel: true, HasPath: true, HasHost: true}
		})},
		edge.Alta: {edgeRoute(edge.Alta), asked(func(r *backends.Request) {
			r.Channel, r.Route, r.Referer, r.Headers = "/play/caf%C3%A9/index.m3u8", "/auth", "", nil
			r.Edge = &backends.EdgeReport{AstraSession: "17", HasSession: true, HasPath: true, Origin: "https://tv.example.com:8443"}
		})},
		edge.Flussonic: {edgeRoute(edge.Flussonic), asked(func(r *backends.Request) {
			r.Channel, r.Route, r.Path, r.Scheme, r.Headers = "a001", "/auth", "/a001", "", nil
			r.Edge = &backends.EdgeReport{FlussonicSession: "17", HasSession: true, HasChannel: true, HasHost: true, Protocol: "hls"}
		})},
		edge.Nginx:       {edgeRoute(edge.Nginx, plain), asked(func(r *backends.Request) {})},
		edge.ForwardAuth: {edgeRoute(edge.ForwardAuth, plain), asked(func(r *backends.Request) {})},
		edge.Envoy:       {edgeRoute(edge.Envoy, plain), asked(func(r *backends.Request) { r.Route = "/play/{channel}/*" })},
	}
	for d, tc := range cases {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g, v := newEdgeTestGateway(t, nil, tc.route), viewer
			if d == edge.Astra || d == edge.Alta {
				v.fields = nil // they are the edge's own
			}
			g.wantCheck(t, d, http.StatusOK, v)
			opened := g.table.openRequests()
			if len(opened) != 1 {
				t.Fatalf("%d open requests, want one", len(opened))
			}
			got := opened[0]
			if diff := cmp.Diff(tc.want, *got.Request, cmpopts.EquateComparable(netip.Addr{}),
				cmpopts.IgnoreFields(backends.Request{}, "Session", "Group", "OnSent")); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if got.Request.Session.IsZero() || !got.HasCredentials || !got.Ticket.IsZero() || got.ExtraLifetime != 90*time.Second {
				t.Errorf("open request: got %+v", got)
			}
		})
	}
}

func TestServe_EdgeCheck_Channel(t *testing.T) {
	t.Parallel()
	withPath := func(r *RouteConfig) { r.Edge.ViewerPath = "/{user}/{channel}/*" }
	cases := map[string]struct {
		dialect       edge.Dialect
		route         []func(*RouteConfig)
		viewer        edgeViewer
		channel, path string
		query         string
	}{
		"named, whatever the path":          {edge.Astra, nil, edgeViewer{uri: "/b/index.m3u8", channel: "a001"}, "a001", "/b/index.m3u8", ""},
		"not named, nor in the path":        {edge.Astra, nil, edgeViewer{uri: "/b/index.m3u8"}, "/b/index.m3u8", "/b/index.m3u8", ""},
		"not even a path":                   {edge.Astra, nil, edgeViewer{uri: ""}, "/", "/", ""},
		"named beside the path's name":      {edge.Astra, []func(*RouteConfig){withPath}, edgeViewer{uri: "/me/b/index.m3u8", channel: "a001"}, "a001", "/me/b/index.m3u8", "user=me"},
		"named in the path":                 {edge.Alta, []func(*RouteConfig){withPath}, edgeViewer{uri: "/me/b%20c/index.m3u8"}, "b c", "/me/b%20c/index.m3u8", "user=me"},
		"a name of folders":                 {edge.Flussonic, nil, edgeViewer{channel: "live/ustream"}, "live/ustream", "/live/ustream", ""},
		"a name of folders, with a pattern": {edge.Flussonic, []func(*RouteConfig){withPath}, edgeViewer{channel: "live/ustream/"}, "live/ustream/", "/live/ustream/", "user=live"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(tc.dialect, tc.route...))
			g.wantCheck(t, tc.dialect, http.StatusOK, tc.viewer)
			got := g.table.openRequests()[0].Request
			if got.Channel != tc.channel || got.Path != tc.path || got.Query != tc.query {
				t.Errorf("got channel %q, path %q, query %q; want %q, %q, %q", got.Channel, got.Path, got.Query, tc.channel, tc.path, tc.query)
			}
		})
	}
}

// formatReply returns a response as one line: the status, the fields that an edge reads, the body.
func formatReply(r reply) string {
	line := strconv.Itoa(r.status)
	for _, name := range []string{
		"X-Session-Name", "X-Userid", "X-Max-Sessions", "X-Unique", "X-Usher-Source", "Location", "X-Location", "Retry-After",
		"Www-Authenticate",
	} {
		for _, value := range r.header.Values(name) {
			line += fmt.Sprintf(" | %s: %s", name, value)
		}
	}
	if r.body != "" {
		line += " | " + strings.TrimSpace(r.body)
	}
	return line
}

func TestServe_EdgeCheck_EncodedByDialect(t *testing.T) {
	t.Parallel()
	about := backends.Decision{
		Source: backends.FromBackend, UserID: "u7", User: "Ada", MaxSessions: 2, Unique: true, ValidFor: time.Minute,
	}
	yes, no, elsewhere, challenged := about, about, about, about
	yes.Verdict, no.Verdict, elsewhere.Verdict, challenged.Verdict = backends.Allowed, backends.Denied, backends.Denied, backends.Denied
	challenged.Challenge = "Bearer\nBasic realm=\"TV\""
	elsewhere.Redirect = "http://promo.example.com/?a=b"
	const named, nameless = " | X-Session-Name: Ada | X-Userid: u7 | X-Usher-Source: backend", " | X-Usher-Source: backend"
	const asked = nameless + ` | Www-Authenticate: Bearer | Www-Authenticate: Basic realm="TV" | denied by backend`
	cases := map[string]struct {
		decide func(session.OpenRequest) (backends.Decision, error)
		want   map[edge.Dialect]string
	}{
		"allowed": {decideByQuery(map[string]backends.Decision{"token=1": yes}), map[edge.Dialect]string{
			edge.Astra: "200 | X-Session-Name: Ada", edge.Alta: "200 | X-Session-Name: Ada",
			edge.Flussonic: "200 | X-Userid: u7 | X-Max-Sessions: 2 | X-Unique: true",
			edge.Nginx:     "200" + named, edge.ForwardAuth: "200" + named, edge.Envoy: "200" + named,
		}},
		"denied": {decideByQuery(map[string]backends.Decision{"token=1": no}), map[edge.Dialect]string{
			edge.Astra: "403", edge.Alta: "403", edge.Flussonic: "403", edge.Nginx: "403" + nameless + " | denied by backend",
			edge.ForwardAuth: "403" + nameless + " | denied by backend", edge.Envoy: "403" + nameless + " | denied by backend",
		}},
		"denied with a redirect": {decideByQuery(map[string]backends.Decision{"token=1": elsewhere}), map[edge.Dialect]string{
			edge.Astra:       "403 | X-Location: http://promo.example.com/?a=b",
			edge.Alta:        "403 | X-Location: http://promo.example.com/?a=b",
			edge.Flussonic:   "403",
			edge.Nginx:       "403" + nameless + " | X-Location: http://promo.example.com/?a=b | redirected by the backend",
			edge.ForwardAuth: "302" + nameless + " | Location: http://promo.example.com/?a=b | redirected by the backend",
			edge.Envoy:       "302" + nameless + " | Location: http://promo.example.com/?a=b | redirected by the backend",
		}},
		"denied with challenges": {decideByQuery(map[string]backends.Decision{"token=1": challenged}), map[edge.Dialect]string{
			edge.Astra: "403", edge.Alta: "403", edge.Flussonic: "403",
			edge.Nginx: "401" + asked, edge.ForwardAuth: "401" + asked, edge.Envoy: "401" + asked,
		}},
		"pending": {decideByQuery(map[string]backends.Decision{"token=1": {}}), map[edge.Dialect]string{
			edge.Astra: "403", edge.Alta: "403", edge.Flussonic: "500",
			edge.Nginx:       "403 | X-Usher-Source: none | access cannot be checked now; try again",
			edge.ForwardAuth: "503 | X-Usher-Source: none | Retry-After: 2 | access cannot be checked now; try again",
			edge.Envoy:       "503 | X-Usher-Source: none | Retry-After: 2 | access cannot be checked now; try again",
		}},
		"a bound of ours": {func(session.OpenRequest) (backends.Decision, error) {
			return backends.Decision{}, backends.NewOverload("sessions.max", 1)
		}, map[edge.Dialect]string{
			edge.Astra: "403", edge.Alta: "403", edge.Flussonic: "500",
			edge.Nginx:       "403 | " + backends.NewOverload("sessions.max", 1).Error(),
			edge.ForwardAuth: "503 | Retry-After: 2 | " + backends.NewOverload("sessions.max", 1).Error(),
			edge.Envoy:       "503 | Retry-After: 2 | " + backends.NewOverload("sessions.max", 1).Error(),
		}},
	}
	for name, tc := range cases {
		for _, d := range allDialects() {
			t.Run(name+" to "+d.String(), func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, edgeRoute(d))
				g.table.decideFunc = tc.decide
				for range 2 { // the second time from the session
					got := g.check(t, d, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
					if diff := cmp.Diff(tc.want[d], formatReply(got)); diff != "" {
						t.Errorf("answer (-want +got):\n%s", diff)
					}
					if c := got.header.Get("Cache-Control"); c != "no-store" {
						t.Errorf("Cache-Control: %q", c)
					}
					if cookies := got.header.Values("Set-Cookie"); len(cookies) > 0 {
						t.Errorf("Set-Cookie: %q", cookies)
					}
				}
			})
		}
	}
}

func TestServe_EdgeCheck_FlussonicAuthDuration(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic))
	g.table.decideFunc = decideByQuery(map[string]backends.Decision{"token=1": {Verdict: backends.Allowed}})
	for query, status := range map[string]int{"token=1": 200, "token=2": 403} {
		v := edgeViewer{channel: "cam0", uri: "?" + query}
		if got := g.wantCheck(t, edge.Flussonic, status, v).header.Get("X-Authduration"); got != "10" {
			t.Errorf("%s, whose renewal is due: X-AuthDuration is %q, want 10", query, got)
		}
		for _, s := range g.table.liveSessions() {
			s.expires = time.Now().Add(time.Hour)
		}
		got, err := strconv.Atoi(g.wantCheck(t, edge.Flussonic, status, v).header.Get("X-Authduration"))
		if err != nil || got < 3590 || got > 3602 {
			t.Errorf("%s: X-AuthDuration is %d, %v; want an hour and two seconds, less what the test took", query, got, err)
		}
	}
}

func TestServe_EdgeCheck_SeenWithoutBytes(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d))
			for range 3 {
				g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
			}
			s := g.table.liveSessions()[0]
			if len(g.table.openRequests()) != 1 || s.seen.Load() != 3 || s.sent.Load() != 0 {
				t.Errorf("opened %d times, seen %d times, sent %d bytes; want once, three times, none",
					len(g.table.openRequests()), s.seen.Load(), s.sent.Load())
			}
		})
	}
}
