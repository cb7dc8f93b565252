package gateway

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/hls"
)

// unnamedPlaylist is a media playlist that an origin gives under a name of media.
const unnamedPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:6,\n/play/a001/seg-17.ts\n"

// TestServe_PlaylistListedAsMedia_Rewritten has an origin answer with a playlist to the URI of a segment.
func TestServe_PlaylistListedAsMedia_Rewritten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		contentType, body string
		isSlow, isGzip    bool
	}{
		"without a type":          {"", unnamedPlaylist, false, false},
		"as text":                 {"text/plain", unnamedPlaylist, false, false},
		"as data, byte by byte":   {"application/octet-stream", unnamedPlaylist, true, false},
		"after a mark and blanks": {"text/html", "\ufeff \r\n" + unnamedPlaylist, true, false},
		"by its type":             {"application/vnd.apple.mpegurl", unnamedPlaylist, false, false},
		"by the type of an audio": {"audio/x-mpegURL; charset=utf-8", unnamedPlaylist, true, false},
		"compressed":              {"text/plain", unnamedPlaylist, false, true},
		"as a video":              {"video/mp2t", unnamedPlaylist, false, false},
		"as a video, by bytes":    {"video/mp4", unnamedPlaylist, true, false},
		"as a sound, compressed":  {"audio/aac", unnamedPlaylist, false, true},
		"as a picture":            {"image/jpeg", unnamedPlaylist, false, false},
	} {
		for _, listed := range []string{"list.php", "part.m3u8", "list.php?id=7"} {
			t.Run(name+"/"+listed, func(t *testing.T) {
				t.Parallel()
				g := newTestGateway(t, nil)
				g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
					switch r.RequestURI {
					case "/play/a001/index.m3u8":
						_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n"+listed+"\n")
					case "/play/a001/" + listed:
						w.Header()["Content-Type"] = []string{test.contentType}
						writeAs(w, test.body, test.isSlow, test.isGzip)
					default:
						_, _ = io.WriteString(w, segment)
					}
				}
				p := newPlayer(t, "")
				entry := resolve(t, &url.URL{}, g.url+"/play/a001/index.m3u8?token=1")
				nested := resolve(t, entry, uris(p.get(t, entry))[0])
				for range 2 {
					list := p.get(t, nested)
					listed := uris(list)
					if strings.Contains(list, "\n/play/") {
						t.Fatalf("got %q, want a playlist whose URIs inherit the ticket", list)
					}
					if got := p.get(t, resolve(t, nested, listed[len(listed)-1])); got != segment {
						t.Errorf("segment: got %q", got)
					}
				}
			})
		}
	}
}

// writeAs writes a body, one byte at a time or compressed.
func writeAs(w http.ResponseWriter, body string, isSlow, isGzip bool) {
	var out io.Writer = w
	if isGzip {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		out = z
	}
	if !isSlow {
		_, _ = io.WriteString(out, body)
		return
	}
	for i := range len(body) {
		_, _ = io.WriteString(out, body[i:i+1])
		_ = http.NewResponseController(w).Flush()
	}
}

// TestServe_PlaylistTypedAsMedia has a viewer ask for a playlist of which neither its name nor the route says that it is one.
func TestServe_PlaylistTypedAsMedia(t *testing.T) {
	t.Parallel()
	const hint = "set playlist: true in its route"
	for _, ticketIn := range allTransports() {
		for _, contentType := range []string{"text/html", "application/x-mpegURL", "video/mp2t"} {
			t.Run(ticketIn.String()+"/"+contentType, func(t *testing.T) {
				t.Parallel()
				g := newTestGateway(t, func(c *Config) {
					c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, ticketIn
				})
				g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", contentType)
					_, _ = io.WriteString(w, unnamedPlaylist)
				}
				ticket := g.ticket(t, "a001")
				with := map[hls.TicketTransport][]string{
					hls.TicketInPath:   {"/~" + ticket + "/play/a001/list.php"},
					hls.TicketInNone:   {"/~" + ticket + "/play/a001/list.php"},
					hls.TicketInQuery:  {"/play/a001/list.php?ticket=" + ticket},
					hls.TicketInCookie: {"/play/a001/list.php", "Cookie: usher_ticket=" + ticket},
				}[ticketIn]
				got := g.want(t, http.StatusOK, with[0], with[1:]...)
				if uri := uris(got.body)[0]; uri == "/play/a001/seg-17.ts" && ticketIn == hls.TicketInPath {
					t.Errorf("got %q, want it rewritten", got.body)
				}
				if c := got.header.Get("Content-Type"); !isPlaylistType(c) || got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %v, want the header fields of a playlist", got.header)
				}
				for _, path := range []string{"/play/a001/list.php", "/play/a001/list.php?token=1"} {
					if got := g.want(t, http.StatusForbidden, path); !strings.Contains(got.body, hint) {
						t.Errorf("without ticket: got %q, want the setting that opens it", got.body)
					}
				}
			})
		}
	}
}

// TestServe_PlaylistTypedAsMedia_Range has a viewer ask for a part of such a playlist that does not have its first bytes.
func TestServe_PlaylistTypedAsMedia_Range(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInNone} {
		for _, contentType := range []string{"", "text/html", "application/octet-stream", "application/x-mpegURL", "audio/mpegurl", "video/x-mpegurl"} {
			for _, part := range []string{"bytes=1-", "bytes=20-29", "bytes=-30"} {
				t.Run(ticketIn.String()+"/"+contentType+"/"+part, func(t *testing.T) {
					t.Parallel()
					g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn = ticketIn })
					g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
						w.Header()["Content-Type"] = []string{contentType}
						http.ServeContent(w, r, "", time.Time{}, strings.NewReader(unnamedPlaylist))
					}
					field, path := "Range: "+part, "/~"+g.ticket(t, "a001")+"/play/a001/list"
					for range 2 {
						g.want(t, http.StatusForbidden, "/play/a001/list", field)
						whole, got := g.want(t, http.StatusOK, path), g.want(t, http.StatusOK, path, field)
						if got.body != whole.body || !strings.HasPrefix(got.body, "#EXTM3U\n") {
							t.Errorf("got %q, want the rewritten playlist %q", got.body, whole.body)
						}
					}
				})
			}
		}
	}
}

// TestServe_PlaylistTypedAsMedia_IsLive sees that it is cached as a playlist.
func TestServe_PlaylistTypedAsMedia_IsLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &ring{listed: 3, target: 6 * time.Second}
		way := o.serve(t)
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			r.URL.Path, r.URL.RawPath = strings.Replace(r.URL.Path, "list.php", "index.m3u8", 1), ""
			return way(r)
		})
		at := &url.URL{Scheme: "http", Host: "tv", Path: "/~" + node.ticket + "/play/a001/list.php"}
		for range 20 {
			if got, want := getFrom(t, node, at), o.playlist(); got != want {
				t.Fatalf("after %v: got %q, want %q", time.Since(o.start), got, want)
			}
			advance(o.target)
		}
	})
}

// TestServe_MediaLikePlaylists_AsTheyAre gets what begins like a playlist, or is called one.
func TestServe_MediaLikePlaylists_AsTheyAre(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ contentType, body string }{
		"another tag":               {"text/plain", "#EXTM3X\nseg-17.ts\n"},
		"a longer tag":              {"text/plain", "#EXTM3U8\nseg-17.ts\n"},
		"a part of the tag":         {"text/plain", "#EXT"},
		"a mark alone":              {"text/plain", "\ufeff"},
		"half a mark":               {"text/plain", "\xef\xbb"},
		"captions":                  {"text/vtt", "WEBVTT\n\n"},
		"blanks":                    {"text/plain", strings.Repeat(" ", 10_000) + "#EXTM3U\n"},
		"a video":                   {"video/mp2t", "G@\x11"},
		"media that is called list": {"application/vnd.apple.mpegurl", "G@\x11"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				writeAs(w, test.body, true, false)
			}
			path := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17"
			for range 2 {
				got := g.want(t, http.StatusOK, path)
				if got.body != test.body || got.header.Get("Content-Type") != test.contentType {
					t.Errorf("got %q %q", got.header.Get("Content-Type"), got.body)
				}
			}
		})
	}
}

// TestServe_MediaWithoutType_FirstByteAtOnce has the rest of a segment wait until the viewer has its first byte.
func TestServe_MediaWithoutType_FirstByteAtOnce(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	seen := make(chan struct{})
	g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		writeAs(w, "G", true, false)
		<-seen
		_, _ = io.WriteString(w, "@rest")
	}
	resp, err := g.client.Get(g.url + "/~" + g.ticket(t, "a001") + "/play/a001/seg-17")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 1)
	_, err = io.ReadFull(resp.Body, first)
	close(seen)
	rest, errRest := io.ReadAll(resp.Body)
	if string(first)+string(rest) != "G@rest" || err != nil || errRest != nil {
		t.Errorf("got %q and %q, %v, %v", first, rest, err, errRest)
	}
}
