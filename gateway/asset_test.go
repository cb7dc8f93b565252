package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
)

// TestServe_InterstitialAsset_MayBeAFile has interstitials whose asset is a media file, named by the playlist or by an asset list. A player
// without a gateway would get it.
func TestServe_InterstitialAsset_MayBeAFile(t *testing.T) {
	t.Parallel()
	const film = "\x00\x00\x00\x18ftypmp42 the whole film"
	lists := map[string]string{
		"by the playlist": `X-ASSET-URI="ads/1.mp4"`,
		"with a query":    `X-ASSET-URI="ads/1.mp4?id=7"`,
		"by a list":       `X-ASSET-LIST="assets.json"`,
	}
	for name, attribute := range lists {
		for _, contentType := range []string{"video/mp4", "application/octet-stream", ""} {
			for _, ticketIn := range allTransports() {
				t.Run(fmt.Sprintf("%s/%s/%s", name, contentType, ticketIn), func(t *testing.T) {
					t.Parallel()
					g := newTestGateway(t, func(c *Config) {
						c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, ticketIn
					})
					g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
						switch r.URL.Path {
						case "/play/a001/index.m3u8":
							_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DATERANGE:ID=\"1\",CLASS=\"com.apple.hls.interstitial\",%s\n", attribute)
						case "/play/a001/assets.json":
							_, _ = w.Write([]byte(`{"ASSETS":[{"URI":"ads/1.mp4","DURATION":1}]}`))
						default:
							w.Header()["Content-Type"] = []string{contentType}
							http.ServeContent(w, r, "", time.Time{}, strings.NewReader(film))
						}
					}
					uri, cookie := g.asset(t)
					for range 2 {
						got := g.want(t, http.StatusOK, uri, cookie)
						if got.body != film || isPlaylistType(got.header.Get("Content-Type")) {
							t.Errorf("got %q %q", got.header.Get("Content-Type"), got.body)
						}
						if got := g.want(t, http.StatusPartialContent, uri, cookie, "Range: bytes=4-7"); got.body != "ftyp" {
							t.Errorf("a range: got %q", got.body)
						}
					}
				})
			}
		}
	}
}

// asset follows a playlist, and its asset list if it has one, to an asset. It returns the asset's path, and a field with the ticket's cookie.
func (g *testGateway) asset(t *testing.T) (path, cookie string) {
	t.Helper()
	at := "/play/a001/index.m3u8?token=1"
	list := g.want(t, http.StatusOK, at)
	cookie, _, _ = strings.Cut("Cookie: "+list.header.Get("Set-Cookie"), ";")
	if _, uri, isList := strings.Cut(list.body, `X-ASSET-LIST="`); isList {
		uri, _, _ = strings.Cut(uri, `"`)
		at = listedIn(t, at, uri)
		_, uri, _ = strings.Cut(g.want(t, http.StatusOK, at, cookie).body, `"URI":"`)
		uri, _, _ = strings.Cut(uri, `"`)
		return listedIn(t, at, uri), cookie
	}
	_, uri, _ := strings.Cut(list.body, `X-ASSET-URI="`)
	uri, _, _ = strings.Cut(uri, `"`)
	return listedIn(t, at, uri), cookie
}

// TestServe_Variant_SlateForAMoment has a server send a slate in place of a playlist that it has soon after. When it fails in turn, it is the
// playlist that is kept.
func TestServe_Variant_SlateForAMoment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cacheControl string
		after        time.Duration
	}{
		"a slate that is fresh for one target duration": {"", 3 * time.Second},
		"a slate that is fresh for long":                {"max-age=3600", 3 * time.Second},
		"a slate that is not stored, soon":              {"no-store", time.Second / 2},
		"a slate that is not stored, a second later":    {"no-store", time.Second},
	} {
		for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInNone} {
			t.Run(name+"/"+ticketIn.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var isUp atomic.Bool
					var status atomic.Int32
					status.Store(http.StatusOK)
					node := newMemoryServer(t, func(c *Config) { c.Routes[0].TicketIn = ticketIn }, func(r *http.Request) (*http.Response, error) {
						body, contentType := "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv?id=1\n", playlistType
						switch {
						case r.URL.Path != "/play/a001/v":
						case isUp.Load():
							body = unnamedPlaylist
						default:
							body, contentType = "G@the channel is down", "video/mp2t"
						}
						resp := gatewaytest.OriginResponse(r, int64(len(body)), strings.NewReader(body))
						resp.StatusCode = int(status.Load())
						resp.Header.Set("Content-Type", contentType)
						resp.Header.Set("Cache-Control", test.cacheControl)
						return resp, nil
					})
					at := &url.URL{Scheme: "http", Host: "tv", Path: "/play/a001/index.m3u8", RawQuery: "token=1"}
					variant := resolve(t, at, uris(getFrom(t, node, at))[0])
					if got := getFrom(t, node, variant); got != "G@the channel is down" {
						t.Errorf("got %q, want the slate", got)
					}
					isUp.Store(true)
					advance(test.after)
					playlist := getFrom(t, node, variant)
					if !strings.HasPrefix(playlist, "#EXTM3U\n") {
						t.Errorf("got %q, want the playlist", playlist)
					}
					for _, failure := range []int32{http.StatusServiceUnavailable, http.StatusNotFound} {
						status.Store(failure)
						advance(4 * time.Second)
						if got := getFrom(t, node, variant); got != playlist {
							t.Errorf("origin status %d: got %q, want the playlist", failure, got)
						}
					}
				})
			})
		}
	}
}

// TestServe_UnreadablePlaylist_Refused has an origin answer to the URI of a variant, or of an asset list, with a page.
func TestServe_UnreadablePlaylist_Refused(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{
		"a variant":     "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.php?id=1\n",
		"an asset":      "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-URI=\"v.php\"\n",
		"an asset list": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-LIST=\"v.php\"\n",
	} {
		for _, page := range []string{"<html>out of order</html>", "\n"} {
			t.Run(name+"/"+page, func(t *testing.T) {
				t.Parallel()
				g := newTestGateway(t, nil)
				g.upstream.Files["/play/a001/index.m3u8"], g.upstream.Files["/play/a001/v.php"] = list, page
				const at = "/play/a001/index.m3u8?token=1"
				text := g.want(t, http.StatusOK, at).body
				uri := text[strings.Index(text, "/~"):]
				uri = uri[:strings.IndexAny(uri, "\"\n")]
				if got := g.want(t, http.StatusBadGateway, uri); !strings.Contains(got.body, invalidPlaylist) {
					t.Errorf("got %q", got.body)
				}
			})
		}
	}
}

// TestServe_PlaylistListedAsDocument_Rewritten has the URI of an asset list lead to a playlist.
func TestServe_PlaylistListedAsDocument_Rewritten(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInNone} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn = ticketIn })
			g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-LIST=\"ad.m3u8\"\n"
			g.upstream.Files["/play/a001/ad.m3u8"] = unnamedPlaylist
			const at = "/play/a001/index.m3u8?token=1"
			_, uri, _ := strings.Cut(g.want(t, http.StatusOK, at).body, `X-ASSET-LIST="`)
			uri, _, _ = strings.Cut(uri, `"`)
			uri = listedIn(t, at, uri)
			got := g.want(t, http.StatusOK, uri)
			if !isPlaylistType(got.header.Get("Content-Type")) {
				t.Errorf("got the type %q", got.header.Get("Content-Type"))
			}
			g.want(t, http.StatusOK, listedIn(t, uri, uris(got.body)[0]))
		})
	}
}

// TestServe_AbsoluteURIs_StayAbsolute has players resolve an asset, an asset list and a pathway's playlists against nothing, where the origin
// lists them by absolute URIs. They reach the gateway by different names, and each gets its own.
func TestServe_AbsoluteURIs_StayAbsolute(t *testing.T) {
	t.Parallel()
	viewers := map[string]struct {
		fields []string
		server string
	}{
		"by a name":                  {[]string{"Host: tv.example.com:8080"}, "http://tv.example.com:8080"},
		"by an address":              {[]string{"Host: [2001:db8::1]:8080"}, "http://[2001:db8::1]:8080"},
		"by a proxy that speaks TLS": {[]string{"X-Forwarded-Proto: https", "X-Forwarded-Host: tv.example.com"}, "https://tv.example.com"},
		"by a name without end":      {[]string{"Host: " + strings.Repeat("a", maxHostSize+1)}, ""},
		"by what is no name":         {[]string{`X-Forwarded-Host: tv"},{"URI":"//evil`}, ""},
	}
	for _, ticketIn := range allTransports() {
		g := newTestGateway(t, func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, ticketIn
		})
		g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
			own := "http://" + r.Host + "/play/a001/"
			_, _ = io.WriteString(w, map[string]string{
				"/play/a001/index.m3u8": "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"" + own + "steer.json\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n",
				"/play/a001/v.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-DATERANGE:ID=\"1\",X-ASSET-LIST=\"" + own + "assets.json\"\n" +
					"#EXT-X-DATERANGE:ID=\"2\",X-ASSET-URI=\"" + own + "ad.m3u8\"\n",
				"/play/a001/assets.json": `{"ASSETS":[{"URI":"` + own + `ad.m3u8?id=2"}]}`,
				"/play/a001/steer.json":  `{"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":{"v":"` + own + `w.m3u8"}}}]}`,
				"/play/a001/ad.m3u8":     unnamedPlaylist, "/play/a001/w.m3u8": unnamedPlaylist,
			}[r.URL.Path])
		}
		for name, viewer := range viewers {
			t.Run(ticketIn.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				const at = "/play/a001/index.m3u8?token=1"
				list := g.want(t, http.StatusOK, at, viewer.fields...)
				cookie, _, _ := strings.Cut("Cookie: "+list.header.Get("Set-Cookie"), ";")
				fields := append([]string{cookie}, viewer.fields...)
				get := func(path string) string { return g.want(t, http.StatusOK, path, fields...).body }
				alone := func(text, before string) string {
					_, uri, _ := strings.Cut(text, before)
					uri, _, _ = strings.Cut(uri, `"`)
					path, isOwn := strings.CutPrefix(uri, viewer.server)
					if !isOwn || !strings.HasPrefix(path, "/") {
						t.Fatalf("%s is %q, want it at %q:\n%s", before, uri, viewer.server, text)
					}
					return path
				}
				_, server, _ := strings.Cut(list.body, `SERVER-URI="`)
				server, _, _ = strings.Cut(server, `"`)
				get(alone(get(listedIn(t, at, server)), `"v":"`))
				media := get(listedIn(t, at, uris(list.body)[0]))
				get(alone(media, `X-ASSET-URI="`))
				get(alone(get(alone(media, `X-ASSET-LIST="`)), `"URI":"`))
			})
		}
	}
}

// TestServe_CompleteAssetOfALivePlaylist has a viewer play an interstitial, then media of the live playlist that lists it, whose name the
// origin uses again. The same media reach a viewer who skips it.
func TestServe_CompleteAssetOfALivePlaylist(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, playsAsset bool) (got []string) {
		t.Helper()
		var asked atomic.Int32
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			body, contentType := "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"init.mp4\"\n"+
				"#EXT-X-DATERANGE:ID=\"1\",CLASS=\"com.apple.hls.interstitial\",X-ASSET-URI=\"ad.m3u8\"\n#EXTINF:4,\n1.m4s\n", playlistType
			switch r.URL.Path {
			case "/play/a001/ad.m3u8":
				body = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nad.ts\n#EXT-X-ENDLIST\n"
			case "/play/a001/init.mp4":
				body, contentType = fmt.Sprint("init ", asked.Add(1)), "video/mp4"
			}
			resp := gatewaytest.OriginResponse(r, int64(len(body)), strings.NewReader(body))
			resp.Header.Set("Content-Type", contentType)
			return resp, nil
		})
		at := &url.URL{Scheme: "http", Host: "tv", Path: "/play/a001/index.m3u8", RawQuery: "token=1"}
		listed := urisIn(getFrom(t, node, at))
		if playsAsset {
			getFrom(t, node, resolve(t, at, listed[1]))
		}
		for range 12 {
			got = append(got, getFrom(t, node, resolve(t, at, listed[0])))
			advance(5 * time.Second)
		}
		return got
	}
	synctest.Test(t, func(t *testing.T) {
		want := play(t, false)
		if got := play(t, true); !slices.Equal(got, want) || got[0] == got[len(got)-1] {
			t.Errorf("got %q behind an asset, want %q", got, want)
		}
	})
}
