package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// refusal is a response without a check.
type refusal struct {
	Status int
	Why    string
}

// wantRefusal sends the request and requires that it opens no session and reaches no origin.
func (g *testGateway) wantRefusal(t *testing.T, want refusal, method, path string, fields ...string) {
	t.Helper()
	got := g.do(t, method, path, append(fields, "Origin: https://tv.example.com")...)
	if diff := cmp.Diff(want, refusal{got.status, strings.TrimSuffix(got.body, "\n")}); diff != "" {
		t.Errorf("%s %s (-want +got):\n%s", method, path, diff)
	}
	if opened := g.table.openRequests(); len(opened) != 0 {
		t.Errorf("%s %s: opened by %+v", method, path, opened)
	}
	if asked := g.upstream.RequestURIs(); len(asked) != 0 {
		t.Errorf("%s %s: the origin was asked for %q", method, path, asked)
	}
	if c := got.header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("%s %s: Cache-Control %q, want no-store", method, path, c)
	}
	if a := got.header.Get("Access-Control-Allow-Origin"); a != "*" {
		t.Errorf("%s %s: a page cannot read why: Access-Control-Allow-Origin %q", method, path, a)
	}
}

func TestServe_NoTicketNoCredentials_RefusedWithoutCheck(t *testing.T) {
	t.Parallel()
	noTicket := refusal{403, "no ticket; open the playlist first"}
	badTicket := refusal{403, "the ticket is not valid for this channel; open the playlist again"}
	noRoute := refusal{404, "no route serves this path and host"}
	dirty := refusal{400, urlpath.Unclean}
	sign := func(g *testGateway, c ticket.Claims, route, channel string) string {
		c.Opened = time.Unix(1_790_000_000, 0)
		return g.signer.Sign(c, ticket.Scope{Route: route, Channel: channel})
	}
	const play = "/play/{channel}/*"
	id := backends.SessionID{7}
	cases := map[string]struct {
		edit   func(*Config)
		path   func(*testGateway) string
		fields []string
		want   refusal
	}{
		"a segment without a ticket":    {nil, atPath("/play/a001/seg-17.ts"), nil, noTicket},
		"a segment with credentials":    {nil, atPath("/play/a001/seg-17.ts?token=1"), nil, noTicket},
		"a key without a ticket":        {nil, atPath("/play/a001/enc.key"), nil, noTicket},
		"an invented ticket":            {nil, atPath("/~a.AAAA/play/a001/seg-17.ts"), nil, badTicket},
		"no ticket where one stands":    {nil, atPath("/~/play/a001/index.m3u8?token=1"), nil, badTicket},
		"an invented one, on playlists": {nil, atPath("/~x/play/a001/index.m3u8?token=1"), nil, badTicket},
		"a forged ticket": {nil, func(g *testGateway) string {
			text := sign(g, ticket.Claims{ID: id}, play, "a001")
			return "/~" + text[:len(text)-1] + string(text[len(text)-1]^1) + "/play/a001/seg-17.ts"
		}, nil, badTicket},
		"a truncated ticket": {nil, func(g *testGateway) string {
			text := sign(g, ticket.Claims{ID: id}, play, "a001")
			return "/~" + text[:len(text)-4] + "/play/a001/seg-17.ts"
		}, nil, badTicket},
		"a ticket of a foreign key": {nil, func(*testGateway) string {
			foreign := ticket.NewSigner([]setting.Key{{ID: "a", Secret: "another cluster's secret"}})
			return "/~" + foreign.Sign(ticket.Claims{ID: id}, ticket.Scope{Route: play, Channel: "a001"}) + "/play/a001/seg-17.ts"
		}, nil, badTicket},
		"a ticket for another channel": {nil, func(g *testGateway) string {
			return "/~" + sign(g, ticket.Claims{ID: id}, play, "a002") + "/play/a001/seg-17.ts"
		}, nil, badTicket},
		"a ticket for another route": {nil, func(g *testGateway) string {
			return "/~" + sign(g, ticket.Claims{ID: id}, "/vod/{channel}/*", "a001") + "/play/a001/seg-17.ts"
		}, nil, badTicket},
		"a ticket below a ticket": {nil, func(g *testGateway) string {
			text := "/~" + sign(g, ticket.Claims{ID: id}, play, "a001")
			return text + text + "/play/a001/seg-17.ts"
		}, nil, noRoute},
		"a ticket in the path of a route that carries it elsewhere": {
			func(c *Config) { c.Routes[0].TicketIn = hls.TicketInQuery },
			func(g *testGateway) string {
				return "/~" + sign(g, ticket.Claims{ID: id}, play, "a001") + "/play/a001/seg-17.ts"
			},
			nil,
			refusal{403, "this route accepts no ticket in the path"},
		},
		"a ticket in the query of a route that carries it in the path": {nil, func(g *testGateway) string {
			return "/play/a001/seg-17.ts?ticket=" + sign(g, ticket.Claims{ID: id}, play, "a001")
		}, nil, noTicket},
		"a bad ticket in the query, nothing else": {
			func(c *Config) { c.Routes[0].TicketIn = hls.TicketInQuery }, atPath("/play/a001/seg-17.ts?ticket=x"), nil, badTicket,
		},
		"a ticket of another channel in the query": {
			func(c *Config) { c.Routes[0].TicketIn = hls.TicketInQuery },
			func(g *testGateway) string {
				return "/play/a001/seg-17.ts?ticket=" + sign(g, ticket.Claims{ID: id}, play, "a002")
			},
			nil, badTicket,
		},
		"a ticket of another route in the query, without a credential": {
			func(c *Config) { c.Routes[0].TicketIn, c.Routes[0].Required = hls.TicketInQuery, []string{"token"} },
			func(g *testGateway) string {
				return "/play/a001/index.m3u8?ticket=" + sign(g, ticket.Claims{ID: id}, "/vod/{channel}/*", "a001")
			},
			nil,
			refusal{403, "the ticket is not valid for this channel, and the credential token is missing"},
		},
		"a bad ticket in a cookie, nothing else": {
			func(c *Config) {
				c.Routes[0].TicketIn, c.CORS.AllowedOrigins = hls.TicketInCookie, []string{"https://tv.example.com"}
			},
			atPath("/play/a001/seg-17.ts"),
			[]string{"Cookie: usher_ticket=x"},
			badTicket,
		},
		"a missing credential": {
			func(c *Config) { c.Routes[0].Required = []string{"token"} }, atPath("/play/a001/index.m3u8?t=1"), nil,
			refusal{403, "the credential token is missing"},
		},
		"an empty credential": {
			func(c *Config) { c.Routes[0].Required = []string{"token"} }, atPath("/play/a001/index.m3u8?token="), nil,
			refusal{403, "the credential token is missing"},
		},
		"a playlist without a ticket, where credentials do not count": {
			func(c *Config) {
				c.Routes[0] = RouteConfig{
					Path: "/live/{user}/{channel}.m3u8", Origin: "o", Backend: "b",
					Media: []PathMappingConfig{{Path: "/media/{channel}/*"}},
				}
			},
			atPath("/media/a001/index.m3u8?token=1"), nil, noTicket,
		},
		"a path that no route serves": {nil, atPath("/vod/a001/index.m3u8"), nil, noRoute},
		"no path at all":              {nil, atPath("/"), nil, noRoute},
		"a ticket alone":              {nil, atPath("/~a.b"), nil, noRoute},
		"a host that no route serves": {
			func(c *Config) { c.Routes[0].Hosts = []string{"tv.example.com"} },
			atPath("/play/a001/index.m3u8"),
			[]string{"Host: other.example.com"},
			noRoute,
		},
		"dot segments":                {nil, atPath("/play/a001/../a002/index.m3u8?token=1"), nil, dirty},
		"encoded slashes":             {nil, atPath("/play/a001%2f..%2fa002/index.m3u8?token=1"), nil, dirty},
		"encoded dots":                {nil, atPath("/play/a001/%2e%2e/a002/index.m3u8?token=1"), nil, dirty},
		"dot segments below a ticket": {nil, atPath("/~x/play/a001/../a002/seg-17.ts"), nil, dirty},
		"an encoded null":             {nil, atPath("/play/a001/index.m3u8%00.ts"), nil, dirty},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, tc.edit)
			if g.options.Config.Routes[0].TicketIn == hls.TicketInCookie {
				g.options.Config.CORS.AllowedOrigins = []string{"*"}
			}
			g.wantRefusal(t, tc.want, http.MethodGet, tc.path(g), tc.fields...)
			g.wantRefusal(t, refusal{tc.want.Status, ""}, http.MethodHead, tc.path(g), tc.fields...)
		})
	}
}

// atPath returns a path that does not depend on the gateway.
func atPath(path string) func(*testGateway) string { return func(*testGateway) string { return path } }

func TestServe_OtherMethods_NotAllowed(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodTrace, "PROPFIND"} {
		g.wantRefusal(t, refusal{405, "only GET, HEAD and OPTIONS"}, method, "/play/a001/index.m3u8?token=1")
		if allow := g.do(t, method, "/play/a001/index.m3u8").header.Get("Allow"); allow != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
}

func TestServe_Options_NeedsNoCredentials(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Required = []string{"token"} })
	for _, path := range []string{"/play/a001/index.m3u8", "/play/a001/seg-17.ts", "/~forged/play/a001/seg-17.ts"} {
		got := g.do(t, http.MethodOptions, path, "Origin: https://tv.example.com",
			"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range, x-token")
		want := map[string]string{
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
			"Access-Control-Allow-Headers": "range, x-token", "Access-Control-Max-Age": "86400",
		}
		if got.status != http.StatusNoContent || got.body != "" {
			t.Errorf("OPTIONS %s: got %d %q, want 204", path, got.status, got.body)
		}
		for name, value := range want {
			if got.header.Get(name) != value {
				t.Errorf("OPTIONS %s: %s is %q, want %q", path, name, got.header.Get(name), value)
			}
		}
	}
	if len(g.table.openRequests())+len(g.upstream.RequestURIs()) != 0 {
		t.Error("a session was opened, or the origin asked")
	}
}

func TestServe_Head_OpensSessionSendsNoBody(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	head := g.do(t, http.MethodHead, "/play/a001/index.m3u8?token=1")
	get := g.want(t, 200, "/play/a001/index.m3u8?token=1")
	if head.status != 200 || head.body != "" {
		t.Errorf("HEAD: got %d %q", head.status, head.body)
	}
	if n := fmt.Sprint(len(get.body)); head.header.Get("Content-Length") != n {
		t.Errorf("HEAD: Content-Length %q, want GET's %s", head.header.Get("Content-Length"), n)
	}
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("opened %d times, want once", n)
	}
	media := g.do(t, http.MethodHead, uris(get.body)[0])
	if media.status != 200 || media.body != "" || media.header.Get("Content-Length") != fmt.Sprint(len(segment)) {
		t.Errorf("HEAD of a segment: got %d %q, Content-Length %q", media.status, media.body, media.header.Get("Content-Length"))
	}
}

func TestServe_InvalidTicketBesideCredentials_Ignored(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		ticketIn hls.TicketTransport
		path     string
		fields   []string
	}{
		"in the query": {hls.TicketInQuery, "/play/a001/index.m3u8?token=1&ticket=a.forged", nil},
		"in a cookie":  {hls.TicketInCookie, "/play/a001/index.m3u8?token=1", []string{"Cookie: usher_ticket=a.forged"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.Routes[0].TicketIn, c.CORS.AllowedOrigins = tc.ticketIn, []string{"https://tv.example.com"}
			})
			g.want(t, 200, tc.path, tc.fields...)
			opened := g.table.openRequests()
			if len(opened) != 1 || opened[0].Request.Query != "token=1" || !opened[0].Ticket.IsZero() {
				t.Errorf("open requests: got %+v, want one with its credentials alone", opened)
			}
		})
	}
}

func TestServe_CredentialsEverywhere_OpenOnSegment(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].CredentialsEverywhere = true })
	got := g.want(t, 200, "/play/a001/seg-17.ts?token=1")
	if got.body != segment {
		t.Errorf("body: got %q", got.body)
	}
	if opened := g.table.openRequests(); len(opened) != 1 || opened[0].Request.Query != "token=1" {
		t.Errorf("open requests: got %+v, want one by its token", opened)
	}
	if asked := g.upstream.RequestURIs(); !slices.Equal(asked, []string{"/play/a001/seg-17.ts"}) {
		t.Errorf("the origin was asked for %q, want no credentials", asked)
	}
}

func TestServe_TicketInNone_OnlyPlaylistsProtected(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Routes[0].TicketIn = hls.TicketInNone
		c.Routes[0].Required = []string{"token"}
	})
	if got := g.want(t, 200, "/play/a001/seg-17.ts"); got.body != segment {
		t.Errorf("body: got %q", got.body)
	}
	g.want(t, 403, "/play/a001/index.m3u8")
	g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		_, _ = w.Write([]byte(mediaPlaylist))
	}
	if got := g.want(t, 403, "/play/a001/index.m3u8;x.ts"); strings.Contains(got.body, "#EXTM3U") {
		t.Errorf("a playlist by another name got through: %q", got.body)
	}
	if opened := g.table.openRequests(); len(opened) != 0 {
		t.Errorf("open requests: got %+v, want none", opened)
	}
}

func TestServe_DecisionBecomesStatus(t *testing.T) {
	t.Parallel()
	type line struct {
		Status               int
		Body, Location, Wait string
	}
	promo := "https://promo.example.com/expired.m3u8?from=a001"
	cases := map[string]struct {
		decision backends.Decision
		err      error
		playlist line
		segment  line
	}{
		"allowed": {
			backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend},
			nil,
			line{Status: 200},
			line{Status: 200},
		},
		"allowed in an outage": {
			backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen},
			nil,
			line{Status: 200},
			line{Status: 200},
		},
		"allowed though a redirect is named": {
			backends.Decision{Verdict: backends.Allowed, Redirect: promo},
			nil,
			line{Status: 200},
			line{Status: 200},
		},
		"denied": {
			backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "token=123 is old"},
			nil,
			line{Status: 403, Body: "denied by backend\n"},
			line{Status: 403, Body: "denied by backend\n"},
		},
		"banned": {
			backends.Decision{Verdict: backends.Denied, Source: backends.FromBan},
			nil,
			line{Status: 403, Body: "denied by ban\n"},
			line{Status: 403, Body: "denied by ban\n"},
		},
		"denied, and sent elsewhere": {
			backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Redirect: promo},
			nil,
			line{Status: 302, Body: "redirected by the backend\n", Location: promo},
			line{Status: 403, Body: "denied by backend\n"},
		},
		"pending": {
			backends.Decision{},
			nil,
			line{Status: 503, Body: "access cannot be checked now; try again\n", Wait: "2"},
			line{Status: 503, Body: "access cannot be checked now; try again\n", Wait: "2"},
		},
		"overload": {
			backends.Decision{},
			backends.NewOverload("sessions.max", 7),
			line{Status: 503, Body: "overloaded: sessions.max=7 reached\n", Wait: "2"},
			line{Status: 503, Body: "overloaded: sessions.max=7 reached\n", Wait: "2"},
		},
		"the end of the node": {
			backends.Decision{},
			errors.New("sessions are closed"),
			line{Status: 503, Body: "sessions are closed\n", Wait: "2"},
			line{Status: 503, Body: "sessions are closed\n", Wait: "2"},
		},
		"a deadline": {
			backends.Decision{},
			context.DeadlineExceeded,
			line{Status: 503, Body: "context deadline exceeded\n", Wait: "2"},
			line{Status: 503, Body: "context deadline exceeded\n", Wait: "2"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) { return tc.decision, tc.err }
			path := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"
			g.table.reset()
			for path, want := range map[string]line{"/play/a001/index.m3u8?token=1": tc.playlist, path: tc.segment} {
				r := g.get(t, path)
				got := line{r.status, r.body, r.header.Get("Location"), r.header.Get("Retry-After")}
				if want.Status == 200 {
					got.Body = ""
				} else if c := r.header.Get("Cache-Control"); c != "no-store" {
					t.Errorf("%s: Cache-Control %q, want no-store", path, c)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			if asked := g.upstream.RequestURIs(); tc.playlist.Status != 200 && len(asked) != 0 {
				t.Errorf("the origin was asked for %q for a refused viewer", asked)
			}
		})
	}
}

func TestServe_OriginFailures(t *testing.T) {
	t.Parallel()
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	cases := map[string]struct {
		answer http.HandlerFunc
		want   int
	}{
		"not found":    {answer(404), 404},
		"gone":         {answer(410), 410},
		"unauthorized": {answer(401), 502},
		"forbidden":    {answer(403), 502},
		"too many":     {answer(429), 502},
		"an error":     {answer(500), 502},
		"unavailable":  {answer(503), 502},
		"no answer":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502},
		"sent elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.example.com/", http.StatusFound)
		}, 502},
		"nothing in it":   {answer(204), 502},
		"what is no HTTP": {hijackWith("SSH-2.0-OpenSSH\r\n"), 502},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.Answer = tc.answer
			for _, path := range []string{"/play/a001/index.m3u8?token=1", "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"} {
				got := g.want(t, tc.want, path, "Origin: https://tv.example.com")
				if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Access-Control-Allow-Origin") != "*" {
					t.Errorf("%s: header %v", path, got.header)
				}
				if strings.Contains(got.body, g.upstream.URL) || strings.Contains(got.body, "example") {
					t.Errorf("%s: names the origin: %q", path, got.body)
				}
			}
		})
	}
}

func hijackWith(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte(text))
		_ = conn.Close()
	}
}

func TestServe_InvalidPlaylist_BadGateway(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.upstream.Files["/play/a001/index.m3u8"] = "<html>Service worker is starting</html>"
	got := g.want(t, 502, "/play/a001/index.m3u8?token=1")
	if got.body != invalidPlaylist+"\n" {
		t.Errorf("body: got %q, want the reason", got.body)
	}
}

// TestServe_InvalidPlaylist_LastVersion has a packager write a playlist anew, and be away then.
func TestServe_InvalidPlaylist_LastVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, status := mediaPlaylist, http.StatusOK
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			resp := gatewaytest.OriginResponse(r, int64(len(body)), strings.NewReader(body))
			resp.StatusCode = status
			return resp, nil
		})
		at := &url.URL{Scheme: "http", Host: "tv", Path: "/~" + node.ticket + "/play/a001/index.m3u8"}
		for _, body = range []string{mediaPlaylist, "", "<html>", ""} {
			if got := getFrom(t, node, at); !strings.HasPrefix(got, "#EXTM3U") {
				t.Errorf("while the origin sends %q: got %q, want the last version", body, got)
			}
			advance(4 * time.Second)
		}
		if status = http.StatusServiceUnavailable; !strings.HasPrefix(getFrom(t, node, at), "#EXTM3U") {
			t.Error("after that it is not served stale")
		}
	})
}

func TestServe_OriginOverloaded_RetryLater(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	var a Response
	at, _ := foundTarget(g.routes, "", "/play/a001/seg-17.ts")
	err := g.originFailed(fmt.Errorf("fetch: %w", backends.NewOverload("fetch.max_waiting", 1)), &requestContext{request: &Request{}, target: at}, &a)
	if err != nil || a.Status != 503 || !slices.Contains(a.Fields(), Field{"Retry-After", "2"}) ||
		!strings.Contains(string(a.Body), "fetch.max_waiting=1") {
		t.Errorf("got %v, %d %q %v; want 503 that names the setting", err, a.Status, a.Body, a.Fields())
	}
}

func TestServe_OriginSeesNoTicketNorCredentials(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
				c.Routes[0].TicketIn = ticketIn
				c.Routes[0].CredentialHeaders = []string{"X-Token"}
			})
			fields := []string{
				"X-Token: s3cret", "Cookie: a=s3cret", "Authorization: Bearer s3cret", "Referer: http://s3cret/",
				"User-Agent: s3cret", forwardedFor("203.0.113.9"),
			}
			first := g.want(t, 200, "/play/a001/index.m3u8?token=s3cret", fields...)
			uri := uris(first.body)[0]
			if ticketIn == hls.TicketInCookie {
				c, err := http.ParseSetCookie(first.header.Get("Set-Cookie"))
				if err != nil {
					t.Fatalf("cookie: %v", err)
				}
				fields = append(fields, "Cookie: usher_ticket="+c.Value)
			}
			target, err := url.Parse("/play/a001/index.m3u8")
			if err != nil {
				t.Fatal(err)
			}
			media, err := target.Parse(uri)
			if err != nil {
				t.Fatalf("URI %q: %v", uri, err)
			}
			joint := "?"
			if media.RawQuery != "" {
				joint = "&"
			}
			g.want(t, 200, media.RequestURI(), fields...)
			g.want(t, 200, media.RequestURI()+joint+"token=s3cret", fields...)
			seen := g.upstream.Dump()
			for _, never := range []string{"s3cret", "~", "ticket", "203.0.113.9", "a.A", "Cookie", "Forwarded"} {
				if strings.Contains(seen, never) {
					t.Errorf("the origin was told %q:\n%s", never, seen)
				}
			}
		})
	}
}

func TestServe_EscapedTildeBeforeTicket(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ticket := g.ticket(t, "a001")
	for _, path := range []string{"/~", "/%7E", "/%7e"} {
		if got := g.want(t, 200, path+ticket+"/play/a001/seg-17.ts"); got.body != segment {
			t.Errorf("%s: got %q", path, got.body)
		}
	}
}

func TestServe_BackendRequest(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].CredentialHeaders = []string{"authorization"} })
	g.get(t, "/play/caf%C3%A9/index.m3u8?token=a%2Bb&token=2&_HLS_msn=1&CMCD=x", forwardedFor("198.51.100.9, 203.0.113.7"),
		"User-Agent: MAG250", "Referer: http://portal/", "Authorization: Basic x", "X-Forwarded-Proto: https",
		"X-Forwarded-Host: tv.example.com", "X-Session-Id: 1", "X-Real-Ip: 6.6.6.6")
	opened := g.table.openRequests()
	if len(opened) != 1 {
		t.Fatalf("open requests: got %d, want 1", len(opened))
	}
	got := *opened[0].Request
	want := backends.Request{
		Session: got.Session, Route: "/play/{channel}/*", Channel: "café", Backend: "b",
		Query: "token=a%2Bb&token=2", Headers: []backends.Header{{Name: "Authorization", Value: "Basic x"}},
		Group: got.Group,
		Path:  "/play/caf%C3%A9/index.m3u8", Scheme: "https", Host: "tv.example.com",
		UserAgent: "MAG250", Referer: "http://portal/", Address: got.Address,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b backends.SessionID) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Address" || p.String() == "Asking" }, cmp.Ignore())); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if got.Address.String() != "203.0.113.7" || got.Session.IsZero() || got.Group.IsZero() || !opened[0].HasCredentials {
		t.Errorf("address %v, session %v, credentials %v", got.Address, got.Session, opened[0].HasCredentials)
	}
	if q, err := g.BackendRequest(&Request{
		Path: got.Path, Query: "token=a%2Bb&token=2", Host: "tv.example.com", Scheme: "https", Peer: got.Address,
		Header: http.Header{"Authorization": {"Basic x"}},
	}, ""); err != nil || q.Session != got.Session {
		t.Errorf("Question: got %v %v, want the session that a viewer opens", q, err)
	}
}

func TestBackendRequest_RefusedWithoutCheck(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Required = []string{"token"} })
	for path, want := range map[string]string{
		"/play/a001/../x.m3u8":  urlpath.Unclean,
		"/vod/a001/index.m3u8":  "no route serves this path and host",
		"/play/a001/seg-17.ts":  "only playlists open sessions; other requests are refused without a check",
		"/play/a001/index.m3u8": "the credential token is missing, so the viewer is refused without a check",
	} {
		if q, err := g.BackendRequest(&Request{Path: path, Header: http.Header{}}, ""); err == nil || err.Error() != want {
			t.Errorf("Question(%s): got %v %v, want %q", path, q, err, want)
		}
	}
}

func TestServe_SessionFromTicket_CheckedOnceCredentialsArrive(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Required = []string{"token"} })
	g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
		if !a.HasCredentials {
			return backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}, nil
		}
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
	}
	path := "/~" + g.ticket(t, "a001") + "/play/a001/index.m3u8"
	g.table.reset()
	g.want(t, 200, path)
	g.want(t, 200, path+"?x=1")
	g.want(t, 200, path+"?token=")
	for _, a := range g.table.openRequests() {
		if a.HasCredentials || a.Ticket.IsZero() || a.Request.Query != "" {
			t.Errorf("without credentials: opened by %+v with query %q", a, a.Request.Query)
		}
	}
	before := len(g.table.openRequests())
	g.want(t, 200, path+"?token=1")
	g.want(t, 200, path+"?token=1")
	g.want(t, 200, path)
	opened := g.table.openRequests()
	if len(opened) != before+1 || !opened[before].HasCredentials || opened[before].Request.Query != "token=1" {
		t.Errorf("with credentials: opened %d times, %+v; want once more", len(opened)-before, opened[before:])
	}
}

func TestServe_ListedParameters_AreNotCredentials(t *testing.T) {
	t.Parallel()
	const master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhd.m3u8?nimblesessionid=5\n"
	setUp := func(t *testing.T) (*testGateway, string) {
		g := newTestGateway(t, nil)
		g.upstream.Files["/play/a001/index.m3u8"] = master
		g.upstream.Files["/play/a001/hd.m3u8"] = mediaPlaylist
		g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
			if !a.Ticket.IsZero() {
				return backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}, nil
			}
			return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
		}
		return g, uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0]
	}
	reload := func(t *testing.T, g *testGateway, uri string) {
		t.Helper()
		g.upstream.Reset()
		for range 3 {
			g.want(t, 200, uri)
		}
		for _, a := range g.table.openRequests() {
			if a.HasCredentials {
				t.Errorf("opened with the origin's parameters as credentials: %q", a.Request.Query)
			}
		}
		for _, asked := range g.upstream.RequestURIs() {
			if asked != "/play/a001/hd.m3u8?nimblesessionid=5" {
				t.Errorf("the origin was asked for %s", asked)
			}
		}
	}
	t.Run("when the session is revived", func(t *testing.T) {
		t.Parallel()
		g, uri := setUp(t)
		g.table.reset()
		reload(t, g, uri)
	})
	t.Run("on a node that never saw the playlist", func(t *testing.T) {
		t.Parallel()
		_, uri := setUp(t)
		g, _ := setUp(t)
		g.table.reset()
		reload(t, g, uri)
	})
}

// TestGateway_OnOverload_NamesTheBound tells of a bound that turned a viewer away before their session was opened, and of one
// for which the session has no decision yet.
func TestGateway_OnOverload_NamesTheBound(t *testing.T) {
	t.Parallel()
	over := backends.NewOverload("backends.b.max_waiting", 4)
	pending := func(reason string) func(session.OpenRequest) (backends.Decision, error) {
		return func(session.OpenRequest) (backends.Decision, error) {
			return backends.Decision{Verdict: backends.Pending, Reason: reason}, nil
		}
	}
	for name, test := range map[string]struct {
		decide func(session.OpenRequest) (backends.Decision, error)
		status int
		want   []string
	}{
		"a bound of the node":    {func(session.OpenRequest) (backends.Decision, error) { return backends.Decision{}, over }, 503, []string{over.Setting}},
		"a bound of its backend": {pending(over.Error()), 503, []string{over.Setting}},
		"an outage":              {pending("no answer: timeout"), 503, nil},
		"a denial with its name": {func(session.OpenRequest) (backends.Decision, error) {
			return backends.LocalDecision(backends.Denied, over.Error()), nil
		}, 403, nil},
		"a viewer who may watch": {nil, 200, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			var got []string
			g.options.OnOverload = func(setting string) { got = append(got, setting) }
			g.table.decideFunc = test.decide
			g.want(t, test.status, "/play/a001/index.m3u8?token=1")
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseOverload(t *testing.T) {
	t.Parallel()
	for _, over := range []*backends.Overload{
		backends.NewOverload("sessions.max", 200_000), backends.NewOverload("backends.portal.answer_deadline", time.Minute),
		backends.NewOverload("new addresses of a ticket per minute", 12), backends.NewOverload("backends.a=b.max_waiting", 4),
	} {
		got := parseOverload(over.Error())
		if got == nil || got.Error() != over.Error() {
			t.Errorf("%s: got %+v", over, got)
		}
	}
	for _, other := range []string{"", "overloaded: ", "overloaded: sessions.max reached", "overloaded: sessions.max=1", "sessions.max=1 reached"} {
		if got := parseOverload(other); got != nil {
			t.Errorf("%q: got %+v, want none", other, got)
		}
	}
}
