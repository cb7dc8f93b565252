package gateway

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// TestServe_DoubledSlashes plays a playlist with doubled slashes by each kind of ticket: they count as one for the route, and
// the origin gets them as they were listed.
func TestServe_DoubledSlashes(t *testing.T) {
	t.Parallel()
	const playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nhd//seg-1.ts\n#EXTINF:6,\n/store/a001//seg-2.ts\n" +
		"#EXTINF:6,\nHOST//store/a001/seg-3.ts\n#EXTINF:6,\n//foreign.example.com/seg-4.ts\n"
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInNone} {
		for entry, first := range map[string]string{
			"/play/a001/index.m3u8":       "/store/a001/hd//seg-1.ts",
			"//play//a001///index.m3u8":   "/store/a001///hd//seg-1.ts",
			"/play/a001/x//sub/live.m3u8": "/store/a001/x//sub/hd//seg-1.ts",
		} {
			t.Run(ticketIn.String()+entry, func(t *testing.T) {
				t.Parallel()
				g := newTestGateway(t, func(c *Config) {
					c.Routes[0].TicketIn, c.Routes[0].OriginPath = ticketIn, "/store/{channel}/*"
				})
				g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, ".m3u8") {
						_, _ = io.WriteString(w, strings.ReplaceAll(playlist, "HOST", g.upstream.URL))
					}
				}
				source := g.url + entry
				list := uris(g.want(t, 200, entry+"?token=1").body)
				g.upstream.Reset()
				for _, ref := range list[:3] {
					g.want(t, 200, strings.TrimPrefix(resolve(t, mustParseURL(t, source), ref).String(), g.url))
				}
				if diff := cmp.Diff([]string{first, "/store/a001//seg-2.ts", "//store/a001/seg-3.ts"}, g.upstream.RequestURIs()); diff != "" {
					t.Errorf("origin requests (-want +got):\n%s", diff)
				}
				if list[3] != "//foreign.example.com/seg-4.ts" {
					t.Errorf("another host: got %s", list[3])
				}
				if opened := g.table.openRequests(); len(opened) != 1 || opened[0].Request.Channel != "a001" {
					t.Errorf("opened %d sessions, want one of a001", len(opened))
				}
			})
		}
	}
}

func mustParseURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
