package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
	"usher/gateway/urlpath"
)

func TestServe_RoutesThatShareAnEndpoint_MatchByPathAndHost(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			place := func(name, path string, hosts ...string) RouteConfig {
				return edgeRoute(d, func(r *RouteConfig) { r.Name, r.Edge.ViewerPath, r.Hosts = name, path, hosts })
			}
			g := newEdgeTestGateway(t, nil,
				place("films", "/films/{channel}/*"), place("live of a", "/live/{channel}/*", "a.example.com"),
				place("live of b", "/live/{channel}/*", "b.example.com", "c.example.com"))
			for _, tc := range []struct{ uri, host, want string }{
				{"/films/f1/index.m3u8?token=1", "a.example.com", "films"},
				{"/live/c1/index.m3u8?token=1", "A.example.com", "live of a"},
				{"/live/c1/index.m3u8?token=1", "c.example.com:8080", "live of b"},
				{"/live/c1/index.m3u8?token=1", "d.example.com", ""},
				{"/other/c1/index.m3u8?token=1", "a.example.com", ""},
				{"/", "a.example.com", ""},
			} {
				before, status := len(g.table.openRequests()), http.StatusOK
				if tc.want == "" {
					status = http.StatusForbidden
				}
				got := g.wantCheck(t, d, status, edgeViewer{uri: tc.uri, host: tc.host, scheme: "http"})
				opened := g.table.openRequests()[before:]
				if tc.want == "" {
					if len(opened) != 0 || !d.KeepsSessions() && got.body != "no route serves this path and host\n" {
						t.Errorf("%s at %s: %d open requests, answered %q", tc.uri, tc.host, len(opened), got.body)
					}
					continue
				}
				if len(opened) != 1 || opened[0].Request.Route != tc.want {
					t.Errorf("%s at %s: opened by %+v, want one of %q", tc.uri, tc.host, opened, tc.want)
				}
			}
		})
	}
}

// TestServe_NoRouteAtEdge_Warns has an edge ask for a path of no route. The warning names a route of that edge.
// Flussonic reports the viewer's token beside a query that need not hold it: players drop it from the playlists that they ask for again.
func TestServe_FlussonicToken_BesideQuery(t *testing.T) {
	t.Parallel()
	required := func(r *RouteConfig) { r.Required = []string{"token"} }
	tests := map[string]struct {
		route func(*RouteConfig)
		qs    string
		want  string // the query that opens the session; empty: refused without a check
	}{
		"the query has it":                        {required, "token=2&x=a%2Fb", "token=2&x=a%2Fb"},
		"no query":                                {required, "", "token=a%2Bb"},
		"directives alone":                        {required, "_HLS_msn=5&_HLS_part=1", "token=a%2Bb"},
		"what defeats caches":                     {required, "_=1700000000", "token=a%2Bb"},
		"what a player reports":                   {required, "CMCD=bl%3D1", "token=a%2Bb"},
		"another parameter, where it is required": {required, "utc=5", "utc=5&token=a%2Bb"},
		"an empty one is no other's":              {required, "token=", ""},
		"another credential":                      {nil, "user=me", "user=me"},
		"directives, where all is a credential":   {nil, "_HLS_msn=5", "token=a%2Bb"},
		"another one that is required":            {func(r *RouteConfig) { r.Required = []string{"user"} }, "user=me", "user=me"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var edits []func(*RouteConfig)
			if tt.route != nil {
				edits = append(edits, tt.route)
			}
			g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic, edits...))
			q := url.Values{
				"name": {"a001"}, "ip": {"192.0.2.7"}, "proto": {"hls"}, "request_type": {"update_session"}, "session_id": {"s1"},
				"token": {"a+b"}, "qs": {tt.qs},
			}
			g.get(t, "/auth?"+q.Encode())
			got := ""
			for _, a := range g.table.openRequests() {
				got = a.Request.Query
			}
			if got != tt.want {
				t.Errorf("opened with the query %q, want %q", got, tt.want)
			}
		})
	}
}

func TestServe_NoRouteAtEdge_Warns(t *testing.T) {
	t.Parallel()
	named := func(name string) func(*RouteConfig) {
		return func(r *RouteConfig) { r.Name, r.Edge.ViewerPath = name, "/"+name+"/{channel}/*" }
	}
	elsewhere := func(r *RouteConfig) { r.Path = "/elsewhere" }
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, named("other"), elsewhere), edgeRoute(edge.Nginx, named("films")))
	for range 3 {
		g.wantCheck(t, edge.Nginx, http.StatusForbidden, edgeViewer{uri: "/live/c1/index.m3u8?token=1"})
	}
	const want = "WARN no route matches at the edge, viewers refused, check edge.viewer_path and hosts edge=127.0.0.1 route=films"
	if got := g.log.recorded(); len(got) != 1 || got[0] != want {
		t.Errorf("logged %q, want %q once", got, want)
	}
}

func TestServe_EdgeRoute_ServesOnlyItsEndpoint(t *testing.T) {
	t.Parallel()
	behind := edgeRoute(edge.Nginx, func(r *RouteConfig) { r.Path = "/ask/*" })
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Astra), behind)
	g.want(t, http.StatusNotFound, "/auth/more?token=1", "X-Real-IP: 192.0.2.7")
	g.want(t, http.StatusNotFound, "/play/a001/index.m3u8?token=1")
	nginx := []string{"X-Real-IP: 192.0.2.7", "X-Original-URI: /play/a001/index.m3u8?token=1"}
	g.want(t, http.StatusNotFound, "/ask", nginx...)
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
	for _, path := range []string{"/ask/", "/ask/a/b?its=own"} {
		g.want(t, http.StatusOK, path, nginx...)
	}
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("%d open requests, want one session", n)
	}
}

func TestServe_EdgeRouteBesideMediaRoute(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes = append([]RouteConfig{edgeRoute(edge.Nginx)}, c.Routes...) })
	g.want(t, http.StatusOK, "/auth", "X-Real-IP: 192.0.2.7", "X-Original-URI: /play/a001/index.m3u8?token=1")
	if got := g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1"); !strings.Contains(got.body, "seg-17.ts") {
		t.Errorf("the media route: got %q", got.body)
	}
	if ids := g.table.openedIDs(); len(ids) != 2 {
		t.Errorf("%d sessions, want one a route", len(ids))
	}
	if got := g.want(t, http.StatusForbidden, "/play/a001/seg-17.ts"); len(g.upstream.RequestURIs()) != 1 {
		t.Errorf("a viewer of an edge is refused media here: got %q", got.body)
	}
}

func TestServe_EdgeCheck_ViewersMethod(t *testing.T) {
	t.Parallel()
	const why = "only GET and HEAD; the edge answers OPTIONS itself, as in deploy/edges\n"
	for _, d := range proxyDialects() {
		for method, tc := range map[string]struct {
			status, opened int
			body           string
		}{
			"": {200, 1, ""}, http.MethodGet: {200, 1, ""}, http.MethodHead: {200, 1, ""}, http.MethodOptions: {403, 0, why},
			http.MethodPost: {403, 0, why}, http.MethodDelete: {403, 0, why}, "get": {403, 0, why}, "CONNECT": {403, 0, why},
		} {
			t.Run(d.String()+" "+method, func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, edgeRoute(d, func(r *RouteConfig) { r.Required = []string{"token"} }))
				got := g.wantCheck(t, d, tc.status, edgeViewer{uri: "/play/a001/index.m3u8?token=1", method: method})
				if n := len(g.table.openRequests()); n != tc.opened || got.body != tc.body {
					t.Errorf("%d open requests, answered %q; want %d, %q", n, got.body, tc.opened, tc.body)
				}
			})
		}
	}
}

func TestServe_EdgeCheck_HEADSharesGETsSession(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", method: method})
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/seg-17.ts", method: method})
		}
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d open requests, want one", d, n)
		}
	}
}

func TestServe_EdgeCheck_EdgesMethodIgnored(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Nginx, edge.ForwardAuth} {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		path, fields := edgeViewer{uri: "/play/a001/index.m3u8?token=1", address: "192.0.2.7"}.encode(d)
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
			if got := g.do(t, method, path, fields...); got.status != http.StatusOK || got.body != "" {
				t.Errorf("%s by %s: got %d %q", d, method, got.status, got.body)
			}
		}
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("%s: %d open requests, want one session", d, n)
		}
	}
}

func TestServe_EdgeCheck_UncleanPath(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d))
			paths := []string{
				"/play/a001/../b002/index.m3u8", "/play/a001/./index.m3u8", "/play/a001/..;x/index.m3u8", "/play/../../index.m3u8",
				"/play/a001/x\\index.m3u8", "/play/a001/index%zz.m3u8",
			}
			if d != edge.Flussonic { // its names come decoded
				paths = append(paths, "/play/a001/%2e%2e/index.m3u8", "/play/a001/%2E/index.m3u8", "/play/a001/x%2findex.m3u8",
					"/play/%61001/index.m3u8", "/play/a%30%301/index.m3u8", "/play/a001/index%00.m3u8", "/play/a001/x%5Cindex.m3u8",
					"/play/a001/%252e%252e/index.m3u8", "/play/a001/index.m3u8%", "/play/a001/index%2em3u8", "/play/a%2Db/index.m3u8")
			}
			for _, path := range paths {
				got := g.wantCheck(t, d, http.StatusForbidden, edgeViewer{uri: path + "?token=1"})
				if want := urlpath.Unclean + "\n"; !d.KeepsSessions() && got.body != want {
					t.Errorf("%s: got %q, want %q", path, got.body, want)
				}
			}
			if n := len(g.table.openRequests()); n != 0 {
				t.Errorf("%d open requests", n)
			}
		})
	}
}

func TestServe_EdgeCheck_FlussonicNameUnclean(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic))
	for _, name := range []string{"..", "../a", "a/..", "a\x00", "a\nb", "a%2fb", "100%", `a\b`} {
		g.wantCheck(t, edge.Flussonic, http.StatusForbidden, edgeViewer{channel: name, uri: "?token=1"})
	}
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
}

func TestServe_EdgeCheck_PathWithoutSlash(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		if d == edge.Flussonic { // reports a name
			continue
		}
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		for _, uri := range []string{"play/a001/index.m3u8?token=1", "http://a/play/a001/index.m3u8", "*"} {
			g.wantCheck(t, d, http.StatusForbidden, edgeViewer{uri: uri})
		}
		if n := len(g.table.openRequests()); n != 0 {
			t.Errorf("%s: %d open requests", d, n)
		}
	}
}

func TestServe_EdgeCheckInvalid_RefusedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	const missing = ": missing or not what it should be; set the edge up as in deploy/edges"
	cases := map[edge.Dialect]struct {
		path   string
		fields []string
		why    string
	}{
		edge.Flussonic:   {"/auth?name=cam0&token=s3cret", nil, "ip" + missing},
		edge.Nginx:       {"/auth?token=s3cret", []string{"X-Real-IP: 192.0.2.7"}, "X-Original-URI" + missing},
		edge.ForwardAuth: {"/auth?token=s3cret", []string{"X-Forwarded-Uri: /play/a001/index.m3u8?token=s3cret"}, "X-Forwarded-For" + missing},
	}
	for d, tc := range cases {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d))
			for range 3 {
				got := g.want(t, http.StatusForbidden, tc.path, tc.fields...)
				if got.body != tc.why+"\n" || got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %q, %v", got.body, got.header)
				}
			}
			want := []string{fmt.Sprintf(
				"WARN edge request invalid, viewers refused, set the edge up as in deploy/edges edge=127.0.0.1 dialect=%s error=%s", d, tc.why)}
			if log := g.log.recorded(); !slices.Equal(log, want) {
				t.Errorf("log: got %q, want %q", log, want)
			}
			if n := len(g.table.openRequests()); n != 0 {
				t.Errorf("%d open requests", n)
			}
		})
	}
}

func TestServe_EdgeCheckBody_Bounded(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic, func(r *RouteConfig) { r.Edge.PublishBackend = "p" }))
	body := func(size int) string {
		const start, end = `{"name": "cam0", "ip": "192.0.2.7", "token": "1", "x": "`, `"}`
		return start + strings.Repeat("x", size-len(start)-len(end)) + end
	}
	if got := g.post(t, "/auth", body(edge.MaxBody)); got.status != http.StatusOK || len(g.table.openRequests()) != 1 {
		t.Errorf("of the most that is read: got %d %q, %d open requests", got.status, got.body, len(g.table.openRequests()))
	}
	got := g.post(t, "/auth", body(edge.MaxBody+1))
	if got.status != http.StatusForbidden || got.body != "the body is incomplete or too large\n" || len(g.table.openRequests()) != 1 {
		t.Errorf("of a byte more: got %d %q, %d open requests", got.status, got.body, len(g.table.openRequests()))
	}
	for name, text := range map[string]string{"empty": "", "cut off": body(100)[:99], "no object": "[]"} {
		if got := g.post(t, "/auth", text); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d %q", name, got.status, got.body)
		}
	}
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("%d open requests, want the first alone", n)
	}
}

// TestServe_EdgeCheckRefused_Counted has every refusal of a check about which no backend is asked, of the route that serves it and
// of one that does not enforce it.
func TestServe_EdgeCheckRefused_Counted(t *testing.T) {
	t.Parallel()
	const good = "/play/a001/index.m3u8?token=1"
	elsewhere := allowNetworks("192.0.2.9/32")
	for reason, tc := range map[enforcement.Reason]struct {
		dialect edge.Dialect
		edit    func(*RouteConfig)
		viewer  edgeViewer
		publish string // the body of a publisher's check
	}{
		enforcement.UnlistedEdge:    {edge.Nginx, elsewhere, edgeViewer{uri: good}, ""},
		enforcement.UnreadableCheck: {edge.Nginx, nil, edgeViewer{uri: "no/path"}, ""},
		enforcement.NoRoute:         {edge.Envoy, nil, edgeViewer{uri: "/elsewhere"}, ""},
		enforcement.UncleanPath:     {edge.ForwardAuth, nil, edgeViewer{uri: "/play/a001/../x.ts"}, ""},
		enforcement.Method:          {edge.ForwardAuth, nil, edgeViewer{uri: good, method: http.MethodOptions}, ""},
		enforcement.Publish:         {edge.Flussonic, nil, edgeViewer{}, `{"name":"a001","ip":"192.0.2.7"}`},
	} {
		for _, mode := range []enforcement.Mode{enforcement.Enforced, enforcement.Unenforced} {
			t.Run(fmt.Sprintf("%s, enforced %s", reason, mode), func(t *testing.T) {
				t.Parallel()
				edits := []func(*RouteConfig){func(r *RouteConfig) { r.Name, r.Enforce = "the edge's", mode }}
				if tc.edit != nil {
					edits = append(edits, tc.edit)
				}
				g := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(tc.dialect, edits...))
				counted := g.recordRefusals()
				for range 2 {
					if tc.publish != "" {
						g.post(t, "/auth", tc.publish)
					} else {
						g.check(t, tc.dialect, tc.viewer)
					}
				}
				if want := "the edge's " + string(reason); !slices.Equal(counted(), []string{want, want}) {
					t.Errorf("counted %q, want %q twice", counted(), want)
				}
			})
		}
	}
}

// failingReader is a body that fails.
type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestServe_EdgeCheckBody_Incomplete(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Flussonic, edge.Nginx} {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		v := Request{Method: http.MethodPost, Path: "/auth", Peer: netip.MustParseAddr("127.0.0.1"), Header: http.Header{}, Body: failingReader{}}
		var a Response
		if err := g.Serve(context.Background(), &v, &a); err != nil || a.Status != http.StatusForbidden {
			t.Errorf("%s: got %d %q, %v", d, a.Status, a.Body, err)
		}
	}
}

func TestServe_EdgeDisconnects_ReturnsError(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
			return backends.Decision{}, fmt.Errorf("open: %w", context.Canceled)
		}
		header := http.Header{}
		path, fields := edgeViewer{uri: "/play/a001/index.m3u8?token=1", address: "192.0.2.7"}.encode(d)
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			header.Set(name, value)
		}
		path, query, _ := strings.Cut(path, "?")
		peer, ctx := netip.MustParseAddr("127.0.0.1"), context.Background()
		var a Response
		var err error
		if d == edge.Envoy {
			q := edge.CheckRequest{Method: "GET", Path: "/play/a001/index.m3u8", Query: "token=1", Address: netip.MustParseAddr("192.0.2.7")}
			err = g.Check(ctx, d, peer, &q, &a)
		} else {
			err = g.Serve(ctx, &Request{Method: "GET", Path: path, Query: query, Peer: peer, Header: header}, &a)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, answered %d", d, err, a.Status)
		}
	}
}

func TestBackendRequest_EdgeRoute_SameAsEdgeCheck(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			r := edgeRoute(d, func(r *RouteConfig) { r.Required, r.Hosts = []string{"token"}, []string{"tv.example.com"} })
			g := newEdgeTestGateway(t, nil, r)
			v := edgeViewer{uri: "/play/a001/index.m3u8?token=1", host: "tv.example.com", scheme: "http"}
			if d == edge.Flussonic || d == edge.Astra {
				v.channel = "a001"
			}
			g.wantCheck(t, d, http.StatusOK, v)
			view := Request{
				Path: "/play/a001/index.m3u8", Query: "token=1", Host: "tv.example.com", Header: http.Header{},
				Peer: netip.MustParseAddr("192.0.2.7"),
			}
			got, err := g.BackendRequest(&view, v.channel)
			if err != nil || got.Session != g.table.openedIDs()[0] || got.Backend != "b" {
				t.Errorf("BackendRequest: got %+v, %v, want the session that was opened", got, err)
			}
			for _, tc := range []struct{ path, query, host, want string }{
				{"/play/a001/index.m3u8", "x=1", "tv.example.com", "the credential token is missing, so the viewer is refused without a check"},
				{"/play/a001/index.m3u8", "token=1", "a.example.com", "no route serves this path and host"},
				{"/play/../index.m3u8", "token=1", "tv.example.com", urlpath.Unclean},
			} {
				q, err := g.BackendRequest(&Request{Path: tc.path, Query: tc.query, Host: tc.host, Header: http.Header{}}, "")
				if err == nil || err.Error() != tc.want {
					t.Errorf("BackendRequest(%+v): got %+v, %v", tc, q, err)
				}
			}
			_, err = g.BackendRequest(&Request{Path: "/play/a001/seg-17.ts", Query: "token=1", Host: "tv.example.com", Header: http.Header{}}, "")
			if got := err == nil; got != d.KeepsSessions() {
				t.Errorf("a segment: got %v", err)
			}
		})
	}
}

func TestNewRoute_Edge_TicketTransport(t *testing.T) {
	t.Parallel()
	for how, want := range map[edge.MatchMode]hls.TicketTransport{
		edge.MatchByDefault: hls.TicketInPath, edge.MatchByCookie: hls.TicketInCookie, edge.MatchByNone: hls.TicketInPath,
	} {
		g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, matchBy(how)))
		if got := g.routes[0].config.TicketIn; got != want {
			t.Errorf("%v: got %v, want %v", how, got, want)
		}
	}
}
