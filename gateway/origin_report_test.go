package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/origin"
)

// TestServe_OriginFails_ReportedWithReason checks that what a viewer felt is reported with its reason and channel, and that
// the report has neither their credentials nor the origin's.
func TestServe_OriginFails_ReportedWithReason(t *testing.T) {
	t.Parallel()
	const playlist, segment = "/live/bob/sw0rdfish/a001.m3u8", "/live/a001/seg-17.ts"
	answer := func(path string, h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, path):
				h(w, r)
			case strings.HasSuffix(r.URL.Path, ".m3u8"):
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n/live/a001/seg-17.ts\n")
			}
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string // reason, URL's path, status
	}{
		"nothing":               {answer("none", nil), ""},
		"a playlist with 404":   {answer(".m3u8", status(404)), "playlist_not_found /live/[hidden]/[hidden]/a001.m3u8 404"},
		"a playlist with 403":   {answer(".m3u8", status(403)), "forbidden /live/[hidden]/[hidden]/a001.m3u8 403"},
		"a segment with 404":    {answer(".ts", status(404)), "media_not_found /live/a001/seg-17.ts 404"},
		"a segment with 500":    {answer(".ts", status(500)), "server_error /live/a001/seg-17.ts 500"},
		"a page for a playlist": {answer(".m3u8", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }), "invalid_playlist /live/[hidden]/[hidden]/a001.m3u8 0"},
		"a redirect elsewhere": {
			answer(".m3u8", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://edge.example.com/x", http.StatusFound)
			}),
			"unlisted_host /live/[hidden]/[hidden]/a001.m3u8 0",
		},
		"a segment that ends early": {
			answer(".ts", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100000")
				_, _ = w.Write(make([]byte, 50_000))
				panic(http.ErrAbortHandler)
			}),
			"broken_off /live/a001/seg-17.ts 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.Routes[0].Path, c.Routes[0].Media = "/live/{user}/{password}/{channel}.m3u8", []PathMappingConfig{{Path: "/live/{channel}/*"}}
				c.Origins["o"].URL = strings.Replace(c.Origins["o"].URL, "//", "//me:sw0rdfish@", 1) + "?key=sw0rdfish"
			})
			g.upstream.Answer = test.answer
			g.get(t, playlist)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/~"+g.ticket(t, "a001")+segment, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := g.client.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			got := ""
			for _, f := range g.routes[0].origin.Failures() {
				got += fmt.Sprintf("%s %s %d", f.Reason, strings.TrimPrefix(f.URL, g.upstream.URL), f.Status)
				if f.Channel != "a001" || f.Advice == "" || strings.Contains(fmt.Sprint(f), "sw0rdfish") {
					t.Errorf("got %+v, want the channel, an advice and no secret", f)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServe_PublicName_StaysWithTheGateway checks absolute URIs by each spelling of the origin's own host.
func TestServe_PublicName_StaysWithTheGateway(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Origins["o"].Upstream.PublicNames = []string{"tv.example.com", "*.tv.example.com:8443"}
		c.Origins["o"].Fallback = []string{"http://[2001:db8::5]:80", "https://origin.example.com"}
	})
	own := []string{
		"https://tv.example.com/play/a001/seg-17.ts", "http://TV.example.com.:80/play/a001/seg-17.ts", "http://a.tv.example.com:8443/play/a001/seg-17.ts",
		"http://[2001:db8::5]/play/a001/seg-17.ts", "http://[2001:DB8:0::5]:80/play/a001/seg-17.ts", "https://origin.example.com:443/play/a001/seg-17.ts",
	}
	foreign := []string{"https://tv.example.com:8443/play/a001/seg-17.ts", "https://xtv.example.com/play/a001/seg-17.ts"}
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n" + strings.Join(append(own, foreign...), "\n#EXTINF:6,\n") + "\n"
	list := uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)
	for i, uri := range own {
		if !strings.HasPrefix(list[i], "/~") || !strings.HasSuffix(list[i], "/play/a001/seg-17.ts") {
			t.Fatalf("%s: got %s, want it below the gateway", uri, list[i])
		}
		if got := g.want(t, 200, list[i]).body; got != segment {
			t.Errorf("%s: got %q", uri, got)
		}
	}
	if diff := cmp.Diff(foreign, list[len(own):]); diff != "" {
		t.Errorf("foreign URIs (-want +got):\n%s", diff)
	}
}

// TestServe_ListedPath_Reported has a playlist list a name that no origin is asked for: the viewer is not told that it is missing, and the
// failure has a reason of its own.
func TestServe_ListedPath_Reported(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`back\slash.ts`, "p%.ts", "p%zz.ts"} {
		g := newTestGateway(t, nil)
		g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n" + name + "\n"
		path := uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0]
		if got := g.want(t, http.StatusNotFound, path); !strings.Contains(got.body, "cannot be asked for") {
			t.Errorf("%s: the viewer is told %q", name, got.body)
		}
		all := g.routes[0].origin.Failures()
		if len(all) != 1 || all[0].Reason != origin.ReasonListedPath || all[0].Channel != "a001" {
			t.Errorf("%s: reported %+v, want %s", name, all, origin.ReasonListedPath)
		}
	}
}
