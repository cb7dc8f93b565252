package gateway

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"usher/backends"
	"usher/gateway/gatewaytest"
)

// forwardingLists are playlists that write a parameter of the viewer's into their URIs, and a path at which the origin has what
// they list where that parameter is eu.
var forwardingLists = map[string]struct {
	files map[string]string
	at    string
}{
	"in the path": {
		map[string]string{"index": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"region\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$region}/v.m3u8\n"},
		"/play/a001/eu/v.m3u8",
	},
	"as a part of a name": {
		map[string]string{"index": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"region\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx/{$region}.m3u8\n"},
		"/play/a001/x/eu.m3u8",
	},
	"in another variable": {
		map[string]string{
			"index": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"region\"\n#EXT-X-DEFINE:NAME=\"at\",VALUE=\"x/{$region}/\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$at}v.m3u8\n",
		},
		"/play/a001/x/eu/v.m3u8",
	},
	"imported": {
		map[string]string{
			"index": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"region\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nchild.m3u8\n",
			"child": "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"region\"\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{$region}/v.m3u8\n",
		},
		"/play/a001/eu/v.m3u8",
	},
	"in a listed query": {
		map[string]string{
			"index": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"region\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nchild.m3u8?r={$region}\n",
			"child": "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"r\"\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{$r}/v.m3u8\n",
		},
		"/play/a001/eu/v.m3u8",
	},
}

// TestServe_ForwardQuery_ChoosesNoPath has a viewer ask, by a parameter that the origin gets, for what another channel and another
// origin have.
func TestServe_ForwardQuery_ChoosesNoPath(t *testing.T) {
	t.Parallel()
	for name, test := range forwardingLists {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := gatewaytest.NewOrigin(t)
			g := newTestGateway(t, func(c *Config) {
				c.Routes[0].ForwardQuery, c.Routes[0].IgnoreQuery = []string{"region"}, []string{"region"}
				c.Origins["other"] = &OriginConfig{URL: other.URL}
			})
			g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
				name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/play/a001/"), ".m3u8")
				_, _ = io.WriteString(w, cmp.Or(test.files[name], mediaPlaylist))
			}
			other.Answer = g.upstream.Answer
			follow := func(region string) int {
				at := "/play/a001/index.m3u8?token=1&region=" + url.QueryEscape(region)
				for range test.files {
					at = listedIn(t, at, uris(g.want(t, 200, at).body)[0])
				}
				return g.get(t, at).status
			}
			if status := follow("eu"); status != 200 || !slices.Contains(g.upstream.RequestURIs(), test.at) {
				t.Errorf("got %d, and the origin was asked for %q; want %s", status, g.upstream.RequestURIs(), test.at)
			}
			for _, region := range []string{
				"../premium", "../../play/premium", "..", "%2e%2e%2fpremium", "..%2fpremium", `..\premium`, "..;", "/play/premium", "premium/x",
				other.URL, other.URL + "/x", "//" + strings.TrimPrefix(other.URL, "http://"), g.upstream.URL + "/play/premium",
				"../premium/v.m3u8?", "../premium/v.m3u8#", "", "x&r=../premium", "x&region=../premium",
			} {
				g.upstream.Reset()
				follow(region)
				for _, uri := range g.upstream.RequestURIs() {
					asked, _, _ := strings.Cut(uri, "?")
					rest, isOwn := strings.CutPrefix(backends.UnescapeQuery(asked), "/play/a001/")
					if !isOwn || strings.ContainsAny(rest, `%;\`) || strings.Contains("/"+rest+"/", "/../") || strings.Contains(rest, "premium") {
						t.Errorf("region %q: the origin was asked for %s", region, uri)
					}
				}
				if asked := other.RequestURIs(); len(asked) > 0 {
					t.Fatalf("region %q: the other origin was asked for %q", region, asked)
				}
			}
		})
	}
}

// TestServe_ForwardQuery_InQuery sends the origin what a viewer chose, whatever it is, in the query of what its playlist lists.
func TestServe_ForwardQuery_InQuery(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].ForwardQuery = []string{"t"} })
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"t\"\n#EXT-X-DEFINE:NAME=\"auth\",VALUE=\"?a=1&t={$t}\"\n" +
		"#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8{$auth}\n"
	g.upstream.Files["/play/a001/v.m3u8"] = "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"auth\"\n#EXT-X-DEFINE:QUERYPARAM=\"t\"\n" +
		"#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.ts{$auth}\n#EXTINF:4,\n2.ts?u={$t}\n"
	g.upstream.Files["/play/a001/1.ts"], g.upstream.Files["/play/a001/2.ts"] = segment, segment
	at := "/play/a001/index.m3u8?token=1&t=../a%3D%3D:b"
	variant := listedIn(t, at, uris(g.want(t, 200, at).body)[0])
	g.upstream.Reset()
	for _, uri := range uris(g.want(t, 200, variant).body) {
		g.want(t, 200, listedIn(t, variant, uri))
	}
	want := "/play/a001/v.m3u8?a=1&t=../a==:b /play/a001/1.ts?a=1&t=../a==:b /play/a001/2.ts?u=../a==:b"
	if got := strings.Join(g.upstream.RequestURIs(), " "); got != want {
		t.Errorf("the origin was asked for %s, want %s", got, want)
	}
}
