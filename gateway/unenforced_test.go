package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
	"usher/gateway/ticket"
)

// masterPlaylist lists one variant, which players request without credentials.
const masterPlaylist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nv1/index.m3u8\n"

// waive edits a route so that it refuses nobody.
func waive(r *RouteConfig) { r.Enforce = enforcement.Unenforced }

// newUnenforcedGateway makes a gateway whose route refuses nobody, with a channel of one variant, and its log.
func newUnenforcedGateway(t *testing.T, edit func(*Config)) (*testGateway, *logRecorder) {
	t.Helper()
	g := newTestGateway(t, func(c *Config) {
		waive(&c.Routes[0])
		c.Routes[0].Required = []string{"token"}
		if edit != nil {
			edit(c)
		}
	})
	g.upstream.Files["/play/m001/index.m3u8"] = masterPlaylist
	g.upstream.Files["/play/m001/v1/index.m3u8"] = mediaPlaylist
	g.upstream.Files["/play/m001/v1/seg-17.ts"] = segment
	log := &logRecorder{}
	g.unenforced.Close()
	g.unenforced = enforcement.New(g.options.Config.unenforcedRoutes(), slog.New(log))
	return g, log
}

// counts returns the counters of the only route that are not zero.
func (g *testGateway) counts() map[enforcement.Reason]uint64 {
	counts := map[enforcement.Reason]uint64{}
	for reason, n := range g.UnenforcedRefusals()[g.routes[0].name] {
		if n > 0 {
			counts[reason] = n
		}
	}
	return counts
}

// playVariant requests a channel as a player does, its variant and its segment, and requires that all are served.
func (g *testGateway) playVariant(t *testing.T, path string) {
	t.Helper()
	variant := listedIn(t, path, uris(g.want(t, http.StatusOK, path).body)[0])
	media := listedIn(t, variant, uris(g.want(t, http.StatusOK, variant).body)[0])
	if got := g.want(t, http.StatusOK, media); got.body != segment {
		t.Errorf("GET %s: got %q, want the segment", media, got.body)
	}
}

// listedIn returns the path and query of a reference in a playlist.
func listedIn(t *testing.T, playlist, ref string) string {
	t.Helper()
	base, err := url.Parse(playlist)
	if err != nil {
		t.Fatal(err)
	}
	return resolve(t, base, ref).RequestURI()
}

// TestGateway_Unenforced_RefusesNobody has every refusal of the decision engine, each of which is served, logged once and
// counted once.
func TestGateway_Unenforced_RefusesNobody(t *testing.T) {
	decide := func(v backends.Verdict, s backends.Source) func(session.OpenRequest) (backends.Decision, error) {
		return func(session.OpenRequest) (backends.Decision, error) {
			return backends.Decision{Verdict: v, Source: s, User: "alice", Reason: "as the test wants it"}, nil
		}
	}
	redirect := func(session.OpenRequest) (backends.Decision, error) {
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Redirect: "https://pay.example/"}, nil
	}
	overload := func(session.OpenRequest) (backends.Decision, error) {
		return backends.Decision{}, backends.NewOverload("sessions.max", 1)
	}
	const good = "/play/m001/index.m3u8?token=1"
	for name, test := range map[string]struct {
		decide func(session.OpenRequest) (backends.Decision, error)
		path   string
		reason enforcement.Reason
	}{
		"denied by the backend":     {decide(backends.Denied, backends.FromBackend), good, "backend"},
		"denied here":               {decide(backends.Denied, backends.FromLocal), good, "local"},
		"denied in an outage":       {decide(backends.Denied, backends.FromFailOpen), good, "fail-open"},
		"over the stream limit":     {decide(backends.Denied, backends.FromLimit), good, "limit"},
		"banned":                    {decide(backends.Denied, backends.FromBan), good, "ban"},
		"kicked":                    {decide(backends.Denied, backends.FromOperator), good, "operator"},
		"an unknown ticket":         {decide(backends.Denied, backends.FromTicket), good, "ticket"},
		"redirected by the backend": {redirect, good, "backend"},
		"no decision in an outage":  {decide(backends.Pending, backends.SourceNone), good, "unchecked"},
		"a bound of the node":       {overload, good, "unchecked"},
		"no credentials":            {nil, "/play/m001/index.m3u8", "missing_credential"},
		"a ticket that is none":     {nil, "/~a.forged/play/m001/index.m3u8", "bad_ticket"},
		"a ticket of another key":   {nil, "/~gone." + strings.Repeat("A", ticket.Chars) + "/play/m001/index.m3u8", "unknown_key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, log := newUnenforcedGateway(t, nil)
			g.table.decideFunc = test.decide
			for range 3 {
				g.playVariant(t, test.path)
			}
			if got := g.counts(); len(got) != 1 || got[test.reason] != 1 {
				t.Errorf("counted %v, want one session for %s", got, test.reason)
			}
			lines := log.recorded()
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "WARN refusal not enforced route=/play/{channel}/* session=") ||
				!strings.Contains(lines[0], " reason="+string(test.reason)+" channel=m001 user=") || !strings.Contains(lines[0], " source=") {
				t.Errorf("logged %q, want one line that names route, channel, user, source and reason", lines)
			}
		})
	}
}

// TestGateway_Unenforced_MediaWithoutTicket_Served requests a segment alone.
func TestGateway_Unenforced_MediaWithoutTicket_Served(t *testing.T) {
	g, _ := newUnenforcedGateway(t, nil)
	for range 2 {
		if got := g.want(t, http.StatusOK, "/play/a001/seg-17.ts"); got.body != segment {
			t.Errorf("got %q, want the segment", got.body)
		}
	}
	if got := g.counts(); len(got) != 1 || got[enforcement.NoTicket] != 1 {
		t.Errorf("counted %v, want one session without a ticket", got)
	}
}

// TestGateway_Unenforced_AllTransports_Served plays a denied viewer's channel by every transport of a ticket.
func TestGateway_Unenforced_AllTransports_Served(t *testing.T) {
	for _, transport := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		t.Run(transport.String(), func(t *testing.T) {
			g, _ := newUnenforcedGateway(t, func(c *Config) {
				c.Routes[0].TicketIn, c.CORS.AllowedOrigins = transport, []string{"https://tv.example.com"}
			})
			g.table.decideFunc = decideByQuery(nil)
			g.playVariant(t, "/play/m001/index.m3u8?token=1")
		})
	}
}

// enforce returns the gateway after its operator has set enforce to true and restarted it: the same keys, and no memory.
func (g *testGateway) enforce(t *testing.T) {
	t.Helper()
	c := g.options.Config
	c.Routes = slices.Clone(c.Routes)
	c.Routes[0].Enforce = enforcement.Enforced
	var err error
	o := g.options
	o.Config = c
	enforced, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(enforced.Close)
	*g.handler = testHandler{enforced}
	g.table.reset()
}

// TestGateway_EnforceSwitchedOn shows who plays on when a route is enforced in the middle of their stream: the viewers who
// are good, and those who could not be asked about. Those who were refused are refused then.
func TestGateway_EnforceSwitchedOn(t *testing.T) {
	for name, test := range map[string]struct {
		during backends.Decision
		err    error
		token  string
		status int
	}{
		"an allowed viewer plays on": {
			during: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, token: "1", status: http.StatusOK,
		},
		"a viewer who met an outage plays on":   {during: backends.Decision{}, token: "1", status: http.StatusOK},
		"a viewer who met an overload plays on": {err: backends.NewOverload("sessions.max", 1), token: "1", status: http.StatusOK},
		"a denied viewer does not":              {during: backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, token: "1", status: http.StatusForbidden},
		"a viewer without credentials does not": {status: http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := newUnenforcedGateway(t, nil)
			g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) { return test.during, test.err }
			path := "/play/m001/index.m3u8"
			if test.token != "" {
				path += "?token=" + test.token
			}
			variant := listedIn(t, path, uris(g.want(t, http.StatusOK, path).body)[0])
			media := listedIn(t, variant, "seg-17.ts")
			g.want(t, http.StatusOK, media)

			g.enforce(t)
			g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) { // as actors do with a ticket that nobody knows
				if !a.HasCredentials && (a.Ticket.IsZero() || time.Since(a.Ticket.Opened) > 6*time.Hour) {
					return backends.Decision{Verdict: backends.Denied, Source: backends.FromTicket}, nil
				}
				return backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}, nil
			}
			g.want(t, test.status, variant)
			g.want(t, test.status, media)
		})
	}
}

// TestGateway_TicketOfNobody_OpensByCredentials shows that a viewer who was refused, and has become a good one, gets a session
// and a ticket of their own by credentials, whatever ticket stands before the path.
func TestGateway_TicketOfNobody_OpensByCredentials(t *testing.T) {
	g := newTestGateway(t, nil)
	text := g.signer.Sign(ticket.Nobody(backends.SessionID{7}), ticket.Scope{Route: g.routes[0].name, Channel: "a001"})
	g.want(t, http.StatusForbidden, "/~"+text+"/play/a001/index.m3u8")
	g.want(t, http.StatusForbidden, "/~"+text+"/play/a001/seg-17.ts")
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d sessions were opened by a ticket that admits nobody, want none", n)
	}
	media := uris(g.want(t, http.StatusOK, "/~"+text+"/play/a001/index.m3u8?token=1").body)[0]
	if opened := g.table.openRequests(); len(opened) != 1 || !opened[0].Ticket.IsZero() || opened[0].Request.Query != "token=1" {
		t.Fatalf("opened %+v, want one session by credentials alone", opened)
	}
	if !strings.HasPrefix(media, "/~") || strings.Contains(media, text) {
		t.Errorf("the playlist lists %s, want a URI with a ticket of the session", media)
	}
	g.want(t, http.StatusOK, media)
}

// TestGateway_Unenforced_AsksAsUsual shows that the backend is asked about a viewer as on any route.
func TestGateway_Unenforced_AsksAsUsual(t *testing.T) {
	g, _ := newUnenforcedGateway(t, nil)
	g.table.decideFunc = decideByQuery(nil)
	for range 3 {
		g.playVariant(t, "/play/m001/index.m3u8?token=1")
	}
	if opened := g.table.openRequests(); len(opened) != 1 || opened[0].Request.Query != "token=1" {
		t.Errorf("asked about %+v, want one session", opened)
	}
}

// TestGateway_Unenforced_OtherErrors_Answered shows what is no refusal of a viewer.
func TestGateway_Unenforced_OtherErrors_Answered(t *testing.T) {
	g, log := newUnenforcedGateway(t, nil)
	g.want(t, http.StatusNotFound, "/elsewhere")
	g.want(t, http.StatusBadRequest, "/play/a001/%2e%2e/index.m3u8?token=1")
	g.want(t, http.StatusNotFound, "/play/none/index.m3u8?token=1")
	if got := g.do(t, http.MethodPost, "/play/a001/index.m3u8?token=1"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", got.status)
	}
	if lines := log.recorded(); len(lines) > 0 {
		t.Errorf("logged %q, want nothing", lines)
	}
}

// TestGateway_Unenforced_EdgeGetsYes has every refusal of an edge's check, in all dialects.
func TestGateway_Unenforced_EdgeGetsYes(t *testing.T) {
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			for name, test := range map[string]struct {
				edit   func(*RouteConfig)
				decide func(session.OpenRequest) (backends.Decision, error)
				viewer edgeViewer
				reason enforcement.Reason
			}{
				"denied": {decide: decideByQuery(nil), viewer: edgeViewer{uri: "/play/a001/index.m3u8?token=1"}, reason: "backend"},
				"overload": {
					decide: func(session.OpenRequest) (backends.Decision, error) {
						return backends.Decision{}, errors.New("draining")
					},
					viewer: edgeViewer{uri: "/play/a001/index.m3u8?token=1"}, reason: "unchecked",
				},
				"no credentials": {
					edit:   func(r *RouteConfig) { r.Required = []string{"token"} },
					viewer: edgeViewer{uri: "/play/a001/index.m3u8"}, reason: "missing_credential",
				},
				"an edge that is not listed": {
					edit:   func(r *RouteConfig) { r.Edge.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")} },
					viewer: edgeViewer{uri: "/play/a001/index.m3u8?token=1"}, reason: "unlisted_edge",
				},
			} {
				t.Run(name, func(t *testing.T) {
					edits := []func(*RouteConfig){waive}
					if test.edit != nil {
						edits = append(edits, test.edit)
					}
					g := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(d, edits...))
					g.table.decideFunc = test.decide
					for range 2 {
						got := g.wantCheck(t, d, http.StatusOK, test.viewer)
						for _, field := range []string{"Retry-After", "Location", "X-Location"} {
							if got.header.Get(field) != "" {
								t.Errorf("a yes has %s: %s", field, got.header.Get(field))
							}
						}
					}
					if got := g.counts(); len(got) != 1 || got[test.reason] != 1 {
						t.Errorf("counted %v, want one session for %s", got, test.reason)
					}
				})
			}
		})
	}
}

// TestGateway_Unenforced_EdgeAsksUnknownPath_GetsYes has checks that name no viewer whom a route knows.
func TestGateway_Unenforced_EdgeAsksUnknownPath_GetsYes(t *testing.T) {
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, waive))
	for uri, reason := range map[string]enforcement.Reason{
		"/elsewhere": "no_route", "/play/a001/%2e%2e/x.ts": "unclean_path", "/play/a001/seg.ts": "no_ticket",
	} {
		g.wantCheck(t, edge.Nginx, http.StatusOK, edgeViewer{uri: uri})
		if got := g.counts(); got[reason] != 1 {
			t.Errorf("%s: counted %v, want %s", uri, got, reason)
		}
	}
	if got := g.get(t, "/auth"); got.status != http.StatusOK || g.counts()["unreadable_check"] != 1 {
		t.Errorf("a check without a viewer: got %d, counted %v; want 200", got.status, g.counts())
	}
}

// TestGateway_Unenforced_SegmentsOfOneViewer_CountedOnce has a viewer who shows credentials ask for segments of two folders.
func TestGateway_Unenforced_SegmentsOfOneViewer_CountedOnce(t *testing.T) {
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx, waive))
	for _, folder := range []string{"hd", "sd"} {
		g.wantCheck(t, edge.Nginx, http.StatusOK, edgeViewer{uri: "/play/a001/" + folder + "/1.ts?token=1"})
	}
	if n := g.counts()["no_ticket"]; n != 1 {
		t.Errorf("%d refusals counted, want one of the viewer", n)
	}
}

// TestGateway_Unenforced_OtherRoute_Refused has edges that no unenforced route lists ask beside such a route.
func TestGateway_Unenforced_OtherRoute_Refused(t *testing.T) {
	unlisted := func(r *RouteConfig) {
		r.Name, r.Path, r.Edge.Networks = "enforced", "/other", []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}
	}
	g := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(edge.Nginx, waive), edgeRoute(edge.Nginx, unlisted))
	if got := g.get(t, "/other", "X-Original-URI: /play/a001/index.m3u8?token=1"); got.status != http.StatusForbidden {
		t.Errorf("an edge that the enforced route does not list: got %d, want 403", got.status)
	}

	media, _ := newUnenforcedGateway(t, nil)
	var resp Response
	asked := edge.CheckRequest{Method: http.MethodGet, Path: "/play/a001/index.m3u8", Query: "token=1"}
	if err := media.Check(t.Context(), edge.Envoy, netip.MustParseAddr("192.0.2.1"), &asked, &resp); err != nil || resp.Status != http.StatusForbidden {
		t.Errorf("an edge of a dialect that no route has: got %d, %v; want 403", resp.Status, err)
	}
	if len(g.counts())+len(media.counts()) != 0 {
		t.Errorf("counted %v and %v, want none: they were refused", g.counts(), media.counts())
	}
}

// TestGateway_Unenforced_PublisherRefused shows that a route that refuses no viewer still lets nobody send a stream.
func TestGateway_Unenforced_PublisherRefused(t *testing.T) {
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic, waive), edgeRoute(edge.Flussonic, waive, func(r *RouteConfig) {
		r.Path, r.Edge.PublishBackend = "/publish", "p"
	}))
	g.table.decideFunc = decideByQuery(nil)
	for _, path := range []string{"/auth", "/publish"} {
		if got := g.post(t, path, `{"name":"a001","ip":"192.0.2.7","proto":"rtmp","qs":"key=1"}`); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", path, got.status)
		}
	}
}

// TestGateway_Unenforced_PublisherWithoutCheck_Refused has publishers about whom no backend is asked.
func TestGateway_Unenforced_PublisherWithoutCheck_Refused(t *testing.T) {
	t.Parallel()
	below := func(r *RouteConfig) { r.Edge.ViewerPath, r.Edge.PublishBackend = "/tv/{channel}", "p" }
	g := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(edge.Flussonic, waive, below),
		edgeRoute(edge.Flussonic, waive, below, allowNetworks("192.0.2.9/32"), func(r *RouteConfig) { r.Path = "/unlisted" }))
	for name, check := range map[string]struct{ path, body string }{
		"a name of no route": {"/auth", `{"name":"a001","ip":"192.0.2.7"}`},
		"an unclean name":    {"/auth", `{"name":"tv/..","ip":"192.0.2.7"}`},
		"no name":            {"/auth", `{"ip":"192.0.2.7"}`},
		"no address":         {"/auth", `{"name":"tv/a001"}`},
		"no object":          {"/auth", `[]`},
		"a body too large":   {"/auth", strings.Repeat(" ", edge.MaxBody+1)},
		"an unlisted edge":   {"/unlisted", `{"name":"tv/a001","ip":"192.0.2.7"}`},
	} {
		if got := g.post(t, check.path, check.body); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", name, got.status)
		}
	}
	if counts := g.counts(); len(counts) != 0 {
		t.Errorf("counted %v, want none: they were refused", counts)
	}
}

// TestGateway_Unenforced_OtherMethodsAtEdge_Refused has viewers who may send something through an edge that reports methods. A
// preflight shows no credentials and sends nothing, so it is served.
func TestGateway_Unenforced_OtherMethodsAtEdge_Refused(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d, waive))
			unlisted := newEdgeTestGateway(t, func(c *Config) { c.TrustedProxies = nil }, edgeRoute(d, waive, allowNetworks("192.0.2.9/32")))
			for method, status := range map[string]int{
				http.MethodPut: 403, http.MethodPost: 403, "get": 403, http.MethodOptions: 200, http.MethodGet: 200,
			} {
				for _, uri := range []string{"/play/a001/index.m3u8?token=1", "/play/a001/../seg.ts", "/elsewhere"} {
					g.wantCheck(t, d, status, edgeViewer{uri: uri, method: method})
				}
				unlisted.wantCheck(t, d, status, edgeViewer{uri: "/play/a001/index.m3u8?token=1", method: method})
				if d != edge.Envoy {
					g.wantCheck(t, d, status, edgeViewer{uri: "no/path", method: method})
				}
			}
			if counts := g.counts(); counts[enforcement.Method] != 1 {
				t.Errorf("counted %v, want one edge that passes on OPTIONS", counts)
			}
		})
	}
}

// TestRequestContext_RefusalReason_TicketInPath has a ticket in the path that is valid, and one that was not read.
func TestRequestContext_RefusalReason_TicketInPath(t *testing.T) {
	t.Parallel()
	for isValid, want := range map[bool]enforcement.Reason{true: enforcement.Addresses, false: enforcement.BadTicket} {
		rc := requestContext{target: target{route: &route{}}, isTicketInPath: true, hasTicket: isValid}
		if got := rc.refusalReason(http.StatusForbidden, backends.Decision{}); got != want {
			t.Errorf("valid %v: got %s, want %s", isValid, got, want)
		}
	}
}

func TestResponse_Set_Bounded(t *testing.T) {
	t.Parallel()
	var resp Response
	resp.Set("X-Empty", "")
	if got := resp.Fields(); len(got) != 0 {
		t.Errorf("an empty value added %v", got)
	}
	for range maxFields + 1 {
		resp.Set("X-Field", "1")
	}
	if n := len(resp.Fields()); n != maxFields {
		t.Errorf("got %d fields, want %d", n, maxFields)
	}
}
