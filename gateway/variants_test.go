package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

func TestServe_ChangingParameter_RefusedForAWhile(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	g := newTestGateway(t, nil)
	g.useLogger(slog.New(slog.NewTextHandler(&log, nil)))
	const viewer, agent = "203.0.113.7", "User-Agent: box"
	for i := range 8 {
		g.want(t, 200, fmt.Sprintf("/play/a001/index.m3u8?token=1&x=%d", i), forwardedFor(viewer), agent)
	}
	for i := range 8 {
		got := g.want(t, 503, fmt.Sprintf("/play/a001/index.m3u8?token=1&x=more%d", i), forwardedFor(viewer), agent)
		if got.header.Get("Retry-After") != "2" || !strings.Contains(got.body, "sessions.max_variants=8") {
			t.Fatalf("got %v %q, want Retry-After and the setting", got.header, got.body)
		}
	}
	if n := len(g.table.openRequests()); n != 8 {
		t.Errorf("opened %d sessions, want 8", n)
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "parameter=x") {
		t.Errorf("got the log %q, want one warning about x", got)
	}
	g.want(t, 200, "/play/a001/index.m3u8?token=1&x=3", forwardedFor(viewer), agent)
	g.want(t, 200, "/play/a001/index.m3u8?token=1&x=other", forwardedFor("203.0.113.8"), agent)
	g.want(t, 200, "/play/a001/index.m3u8?token=1&x=other", forwardedFor(viewer), "User-Agent: phone")
}

func TestServe_TokensBehindOneAddress_AllServed(t *testing.T) {
	t.Parallel()
	const playlist = "/play/a001/index.m3u8?"
	cases := map[string]struct {
		edit     func(*RouteConfig)
		uri      string
		hasUsers bool // the middleware names the user of each token
	}{
		"a token alone": {uri: playlist + "token=%d"},
		"a token that the route requires": {
			edit: func(r *RouteConfig) { r.Required = []string{"token"} }, uri: playlist + "token=%d&lang=en",
		},
		"a token that the route names": {
			edit: func(r *RouteConfig) { r.Credentials = []string{"token", "lang"} }, uri: playlist + "token=%d&lang=en",
		},
		"a token in the path": {
			edit: func(r *RouteConfig) { r.Path, r.OriginPath = "/play/{channel}/{token}/*", "/play/{channel}/*" },
			uri:  "/play/a001/%d/index.m3u8?lang=en",
		},
		"a parameter that is ignored": {
			edit: func(r *RouteConfig) { r.IgnoreQuery = []string{"x"} }, uri: playlist + "token=1&x=%d",
		},
		"tokens of different users": {uri: playlist + "token=%d&lang=en", hasUsers: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				if tc.edit != nil {
					tc.edit(&c.Routes[0])
				}
			})
			g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
				d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
				if tc.hasUsers {
					d.UserID = a.Request.Query
				}
				return d, nil
			}
			for i := range 30 {
				g.want(t, 200, strings.ReplaceAll(tc.uri, "%d", strconv.Itoa(i)), "User-Agent: box")
			}
		})
	}
}

func TestServe_CacheBusters_Ignored(t *testing.T) {
	t.Parallel()
	const path = "/play/a001/index.m3u8"
	cases := map[string]struct {
		edit     func(*RouteConfig)
		queries  []string
		sessions []string // what a backend gets of each session
	}{
		"with digits": {
			nil, []string{"token=1", "token=1&_=17", "_t=18&token=1", "token=1&cb=19", "nocache=20&token=1&_=21"}, []string{"token=1"},
		},
		"with more than digits": {nil, []string{"token=1", "token=1&cb=a1", "token=1&_"}, []string{"token=1", "token=1&cb=a1", "token=1&_"}},
		"of another name":       {nil, []string{"token=1", "token=1&t=17"}, []string{"token=1", "token=1&t=17"}},
		"one that the route requires": {
			func(r *RouteConfig) { r.Required = []string{"cb"} },
			[]string{"token=1&cb=17", "token=1&cb=18&_=1"},
			[]string{"token=1&cb=17", "token=1&cb=18"},
		},
		"one that the route names": {
			func(r *RouteConfig) { r.Credentials = []string{"cb"} },
			[]string{"token=1&cb=17", "token=1&cb=18&_=1"},
			[]string{"cb=17", "cb=18"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				if tc.edit != nil {
					tc.edit(&c.Routes[0])
				}
			})
			for _, query := range tc.queries {
				g.want(t, 200, path+"?"+query)
			}
			var got []string
			for _, a := range g.table.openRequests() {
				got = append(got, a.Request.Query)
			}
			if diff := cmp.Diff(tc.sessions, got); diff != "" {
				t.Errorf("the backend was asked about (-want +got):\n%s", diff)
			}
			if asked := g.upstream.RequestURIs(); len(asked) != 1 || asked[0] != path {
				t.Errorf("the origin was asked for %q, want the playlist once, without a query", asked)
			}
		})
	}
}

// TestServe_CacheBusters_BelowTicket has a player that adds one to every URI, also after a restart of the node.
func TestServe_CacheBusters_BelowTicket(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ticket := "/~" + g.ticket(t, "a001")
	for i := range 3 {
		g.want(t, 200, fmt.Sprintf("%s/play/a001/seg-17.ts?_=%d", ticket, i))
	}
	if asked := g.upstream.RequestURIs(); len(asked) != 1 || asked[0] != "/play/a001/seg-17.ts" {
		t.Errorf("the origin was asked for %q, want the segment once, without a query", asked)
	}
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-18.ts?_=5\n"
	g.upstream.Files["/play/a001/seg-18.ts"] = segment
	listed := uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0]
	got := g.originRequestsAfter(t, http.StatusOK, listed, listed+"?_=6")
	if diff := cmp.Diff([]string{"/play/a001/seg-18.ts?_=5"}, got); diff != "" {
		t.Errorf("one that a playlist lists: the origin was asked for (-want +got):\n%s", diff)
	}
}
