package gateway

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"usher/gateway/hls"
)

// TestServe_PathLookAlikes_NeverReachTheOrigin asks below a good ticket, and with credentials, for paths that an origin may
// read as another channel's.
func TestServe_PathLookAlikes_NeverReachTheOrigin(t *testing.T) {
	t.Parallel()
	const leave = "/a002/index.m3u8"
	for name, folder := range map[string]string{
		"overlong dots":            "%c0%ae%c0%ae",
		"overlong dots, longer":    "%e0%80%ae%e0%80%ae",
		"full-width dots":          "%EF%BC%8E%EF%BC%8E",
		"a leader of two dots":     "%E2%80%A5",
		"a space before dots":      "%20..",
		"a space behind dots":      "..%20",
		"dots with a space within": ".%20.",
		"a plus before dots":       "+..",
		"dots and a parameter":     "%20..;x",
		"escaped dots":             "%2e%2e",
		"doubly escaped dots":      "%252e%252e",
		"a full-width slash":       "x%EF%BC%8F..%EF%BC%8F",
		"an overlong backslash":    "x%c1%9c..%c1%9c",
		"a channel with a dot":     "x/../a001.",
		"a space behind a name":    "hd%20",
		"a null":                   "x%00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			ticket := "/~" + g.ticket(t, "a001")
			for _, path := range []string{ticket + "/play/a001/" + folder + leave, "/play/a001/" + folder + leave + "?token=1"} {
				if got := g.raw(t, path); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
					t.Errorf("GET %s: got %q, want 400", path, got)
				}
			}
			if got := g.upstream.RequestURIs(); len(got) != 0 {
				t.Errorf("the origin was asked for %q, want nothing", got)
			}
		})
	}
}

// raw sends a path that net/http would clean, and returns the status line.
func (g *testGateway) raw(t *testing.T, path string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: tv.example.com\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatalf("write: %v", err)
	}
	line := make([]byte, 64)
	n, err := conn.Read(line)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(line[:n])
}

// TestServe_PathLookAlikes_SetFreeByOriginPath_Refused has a pattern that makes a segment of what was a part of one.
func TestServe_PathLookAlikes_SetFreeByOriginPath_Refused(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Routes[0].Path, c.Routes[0].OriginPath = "/play/{quality}-{channel}/*", "/play/{channel}/{quality}/*"
	})
	for _, quality := range []string{"%EF%BC%8E%EF%BC%8E", "%E2%80%A6", "+%EF%BC%8E"} {
		g.want(t, 404, "/play/"+quality+"-a001/index.m3u8?token=1")
	}
	if got := g.upstream.RequestURIs(); len(got) != 0 {
		t.Errorf("the origin was asked for %q, want nothing", got)
	}
}

// TestServe_NamesOfAnyLanguage_Play plays channels and segments whose names only look odd.
func TestServe_NamesOfAnyLanguage_Play(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{"Первый канал", "canal+", "第１．集", "wait… what", "a b", "50%C0%EF"} {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn = hls.TicketInPath })
			folder := "/play/" + (&url.URL{Path: channel}).EscapedPath() + "/"
			if strings.Contains(channel, "%") {
				folder = "/play/" + channel + "/"
			}
			g.upstream.Files[folder+"index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nсегмент 1.ts\n"
			const file = "%D1%81%D0%B5%D0%B3%D0%BC%D0%B5%D0%BD%D1%82%201.ts"
			g.upstream.Files[folder+file] = segment
			list := uris(g.want(t, 200, folder+"index.m3u8?token=1").body)
			if len(list) != 1 {
				t.Fatalf("got %q, want one URI", list)
			}
			u := resolve(t, &url.URL{Path: "/"}, list[0])
			if got := g.want(t, 200, u.EscapedPath()).body; got != segment {
				t.Errorf("got the segment %q", got)
			}
			if asked := g.upstream.RequestURIs(); !slices.Equal(asked, []string{folder + "index.m3u8", folder + file}) {
				t.Errorf("the origin was asked for %q", asked)
			}
		})
	}
}

// oddNames are names that no viewer may ask for, as an origin may list them.
var oddNames = []string{
	"a%2Eb.ts", "a%2Db%41.ts", "x%EF%BC%8Fz.ts", "ends%20/seg.ts", "..part.ts", "100%25.ts", "x／y.ts", "%c0%ae%c0%af.ts", "t；../s.ts", "a;b./c.ts",
}

// TestServe_OddNames_ServedWhereAPlaylistListsThem plays what an origin lists, byte for byte, behind references. Nobody gets
// such a path otherwise.
func TestServe_OddNames_ServedWhereAPlaylistListsThem(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie} {
		for _, entry := range []string{"/play/a001/", "/play/a001/hd/"} {
			t.Run(ticketIn.String()+entry, func(t *testing.T) {
				t.Parallel()
				g := newTestGateway(t, func(c *Config) {
					c.Routes[0].TicketIn, c.CORS.AllowedOrigins = ticketIn, []string{"https://tv.example.com"}
				})
				var list strings.Builder
				list.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:6\n")
				for _, name := range oddNames {
					list.WriteString("#EXTINF:6,\n" + name + "\n")
				}
				g.upstream.Files[entry+"odd%20./v.m3u8"] = list.String()
				g.upstream.Files[entry+"index.m3u8"] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nodd%20./v.m3u8\n"
				escape := func(name string) string {
					return strings.NewReplacer("／", "%EF%BC%8F", "；", "%EF%BC%9B").Replace(name)
				}
				for _, name := range oddNames {
					g.upstream.Files[entry+"odd%20./"+escape(name)] = "bytes of " + name
				}
				p := newPlayer(t, "")
				source := resolve(t, &url.URL{}, g.url+entry+"index.m3u8?token=1")
				variant := resolve(t, source, uris(p.get(t, source))[0])
				media := p.get(t, variant)
				got := uris(media)
				if len(got) != len(oddNames) || p.get(t, variant) != media {
					t.Fatalf("got %d URIs, want %d, the same each time:\n%s", len(got), len(oddNames), media)
				}
				for i, name := range oddNames {
					u := resolve(t, variant, got[i])
					if body := p.get(t, u); body != "bytes of "+name {
						t.Errorf("%s: got %q", u, body)
					}
				}
				g.want(t, 400, "/~"+g.ticket(t, "a001")+entry+"odd%20./a%2Eb.ts")
				g.want(t, 400, entry+"odd%20./v.m3u8?token=1")
				g.want(t, 400, entry+"odd%20./a%2Eb.ts?token=1")
			})
		}
	}
}
