package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// listedPlaylist lists segments with queries.
const listedPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n" +
	"#EXTINF:6,\nseg-17.ts?sig=a%2Fb+c&x=1&x=2&&e=\n#EXTINF:6,\nseg-18.ts\n#EXTINF:6,\nseg-19.ts?v=1\n#EXTINF:6,\nseg-19.ts?v=2\n"

// originRequestsAfter requests all paths and returns the paths and queries that the origin got for media.
func (g *testGateway) originRequestsAfter(t *testing.T, status int, paths ...string) []string {
	t.Helper()
	g.upstream.reset()
	for _, p := range paths {
		g.want(t, status, p)
	}
	asked := g.upstream.requestURIs()
	slices.Sort(asked)
	return slices.Compact(asked)
}

func TestServe_InventedQuery_HitsTheCache(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, ticketIn
			})
			g.upstream.files["/play/a001/index.m3u8"] = listedPlaylist
			g.upstream.files["/play/a001/seg-18.ts"] = "the eighteenth"
			g.upstream.files["/play/a001/seg-19.ts"] = "the nineteenth"
			source := resolve(t, &url.URL{}, g.url+"/play/a001/index.m3u8?token=1")
			p := newPlayer(t, "")
			var media []*url.URL
			for _, ref := range uris(p.get(t, source)) {
				media = append(media, resolve(t, source, ref))
			}
			g.upstream.reset()
			for n := range 20 {
				for _, u := range media {
					made := *u
					joint := ""
					if made.RawQuery != "" {
						joint = "&"
					}
					made.RawQuery += fmt.Sprintf("%srandom=%d&_HLS_x=%d&CMCD=n%%3D%d", joint, n, n, n)
					p.get(t, &made)
				}
				made := *source
				made.RawQuery += fmt.Sprintf("&_HLS_x=%d", n)
				p.get(t, &made)
			}
			asked := g.upstream.requestURIs()
			slices.Sort(asked)
			want := []string{
				"/play/a001/seg-17.ts?sig=a%2Fb+c&x=1&x=2&&e=", "/play/a001/seg-18.ts",
				"/play/a001/seg-19.ts?v=1", "/play/a001/seg-19.ts?v=2",
			}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("the origin was asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServe_OnlyListedQueriesAreForwarded(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit func(*RouteConfig)
		path string // below the ticket
		want string
	}{
		"the listed query":                {nil, "seg-17.ts?sig=a%2Fb+c&x=1&x=2&&e=", "seg-17.ts?sig=a%2Fb+c&x=1&x=2&&e="},
		"the listed query and more":       {nil, "seg-17.ts?y=0&sig=a%2Fb+c&x=1&x=2&&e=&y=1", "seg-17.ts?sig=a%2Fb+c&x=1&x=2&&e="},
		"less than the listed query":      {nil, "seg-17.ts?sig=a%2Fb+c", "seg-17.ts"},
		"another value":                   {nil, "seg-17.ts?sig=b&x=1&x=2&&e=", "seg-17.ts"},
		"another order":                   {nil, "seg-17.ts?x=1&x=2&sig=a%2Fb+c&&e=", "seg-17.ts"},
		"the same in another spelling":    {nil, "seg-17.ts?sig=a%2fb+c&x=1&x=2&&e=", "seg-17.ts"},
		"a query that belongs to another": {nil, "seg-18.ts?v=1", "seg-18.ts"},
		"the second of two":               {nil, "seg-19.ts?v=2", "seg-19.ts?v=2"},
		"none of two":                     {nil, "seg-19.ts?v=3", "seg-19.ts"},
		"what the route forwards": {
			func(r *RouteConfig) { r.ForwardQuery = []string{"start", "duration"} },
			"seg-18.ts?duration=60&x=1&start=17%3A00", "seg-18.ts?duration=60&start=17%3A00",
		},
		"what the route forwards, beside the listed query": {
			func(r *RouteConfig) { r.ForwardQuery = []string{"start"} },
			"seg-19.ts?start=1&v=2", "seg-19.ts?v=2&start=1",
		},
		"what the route ignores": {
			func(r *RouteConfig) { r.IgnoreQuery = []string{"y"} },
			"seg-19.ts?y=1&v=2", "seg-19.ts?v=2",
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
			g.upstream.files["/play/a001/index.m3u8"] = listedPlaylist
			g.upstream.files["/play/a001/seg-18.ts"] = "the eighteenth"
			g.upstream.files["/play/a001/seg-19.ts"] = "the nineteenth"
			g.want(t, 200, "/play/a001/index.m3u8?token=1")
			got := g.originRequestsAfter(t, 200, "/~"+g.ticket(t, "a001")+"/play/a001/"+tc.path)
			if diff := cmp.Diff([]string{"/play/a001/" + tc.want}, got); diff != "" {
				t.Errorf("the origin was asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServe_QueryBelowTicketAfterRestart_Forwarded restarts the node under viewers whose URIs have queries.
func TestServe_QueryBelowTicketAfterRestart_Forwarded(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit  func(*RouteConfig)
		paths []string
		want  []string
	}{
		"a segment's query": {
			nil, []string{"seg-17.ts?sig=1"}, []string{"seg-17.ts?sig=1"},
		},
		"a playlist's query, also once its media is known": {
			nil, []string{"hd.m3u8?id=5", "hd.m3u8?id=5&_HLS_x=1", "hd.m3u8?id=5"}, []string{"hd.m3u8?id=5"},
		},
		"not a segment's query once its playlists are known": {
			nil, []string{"hd.m3u8", "seg-17.ts?sig=1"}, []string{"hd.m3u8", "seg-17.ts"},
		},
		"not what the route names as credentials": {
			func(r *RouteConfig) { r.Credentials, r.Required = []string{"token"}, []string{"token"} },
			[]string{"hd.m3u8?id=5&token=s3cret", "seg-17.ts?token=s3cret&sig=1"},
			[]string{"hd.m3u8?id=5", "seg-17.ts"},
		},
		"nothing where any query may be a credential on any URI": {
			func(r *RouteConfig) { r.CredentialsEverywhere = true }, []string{"seg-17.ts?token=s3cret"}, []string{"seg-17.ts"},
		},
		"not the query of the playlist at which viewers open": {
			nil, []string{"index.m3u8?x=1"}, []string{"index.m3u8"},
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
			g.upstream.files["/play/a001/hd.m3u8"] = mediaPlaylist
			if strings.HasPrefix(tc.paths[0], "index") {
				g.want(t, 200, "/play/a001/index.m3u8?token=1")
			}
			var paths, want []string
			for _, p := range tc.paths {
				paths = append(paths, "/~"+g.ticket(t, "a001")+"/play/a001/"+p)
			}
			for _, p := range tc.want {
				want = append(want, "/play/a001/"+p)
			}
			got := g.originRequestsAfter(t, 200, paths...)
			if slices.Equal(want, []string{"/play/a001/index.m3u8"}) && len(got) == 0 {
				return // it was still cached, so the query did not miss
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the origin was asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestListedQueries_Filter_EscapedNames(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.upstream.files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\ncafé 1.ts?sig=1\n"
	g.upstream.files["/play/a001/caf%C3%A9%201.ts"] = segment
	g.want(t, 200, "/play/a001/index.m3u8?token=1")
	got := g.originRequestsAfter(t, 200, "/~"+g.ticket(t, "a001")+"/play/a001/caf%C3%A9%201.ts?sig=1")
	if diff := cmp.Diff([]string{"/play/a001/caf%C3%A9%201.ts?sig=1"}, got); diff != "" {
		t.Errorf("the origin was asked for (-want +got):\n%s", diff)
	}
}

func TestListedQueries_Record_Bounded(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	r := g.routes[0]
	for n := range 10 * maxQueriesPerPath {
		body := fmt.Sprintf("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg.ts?n=%d\n", n)
		tpl, err := hls.Parse([]byte(body), hls.Options{Origin: g.upstream.url + "/play/a001/index.m3u8", Path: "/play/a001/index.m3u8", Locate: r.locate})
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		g.listed.record(r, "a001", tpl)
	}
	queries, _ := g.listed.queries.GetIfPresent(listedPath{r.name, "/play/a001/seg.ts"})
	if len(queries) != maxQueriesPerPath || queries[len(queries)-1] != fmt.Sprintf("n=%d", 10*maxQueriesPerPath-1) {
		t.Errorf("remembered %d queries, %q last; want the last %d", len(queries), queries[len(queries)-1], maxQueriesPerPath)
	}
}

func TestServe_UnmappedMedia_LoggedOnce(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	var log bytes.Buffer
	g.Gateway.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	for _, name := range []string{"one", "two"} {
		g.upstream.files["/play/a001/"+name+".m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/elsewhere/" + name + ".ts?key=s3cret\n"
		if got := g.want(t, http.StatusOK, "/play/a001/"+name+".m3u8?token=1"); !strings.Contains(got.body, "\n/elsewhere/") {
			t.Fatalf("got %q, want the playlist with the URI as it was", got.body)
		}
	}
	got := log.String()
	if strings.Count(got, "does not serve") != 1 || !strings.Contains(got, "path=/elsewhere/one.ts") || strings.Contains(got, "s3cret") {
		t.Errorf("got the log %q, want one line that names /elsewhere/one.ts without its query", got)
	}
}
