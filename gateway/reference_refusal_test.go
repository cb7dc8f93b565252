package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"usher/gateway/hls"
	"usher/gateway/reference"
	"usher/gateway/upstream"
)

// TestServe_ForgedReference_Forbidden changes a reference, or shows it elsewhere, with a good ticket. The origin is not asked.
func TestServe_ForgedReference_Forbidden(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			edit := func(c *Config) {
				c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
				c.Routes[0].TicketIn = ticketIn
				c.Routes = append(c.Routes, RouteConfig{Path: "/tv/{channel}/*", OriginPath: "/play/{channel}/*", Origin: "o", Backend: "b"})
			}
			g := newTestGateway(t, edit)
			foreign := newTestGateway(t, func(c *Config) {
				edit(c)
				c.Tickets.Keys[0].Secret = "a ticket secret of another operator"
			})
			records := &logRecorder{}
			g.useLogger(slog.New(records))
			counted := g.recordRefusals()
			ticket := g.ticket(t, "a001")
			forged := forgedPaths(t, g, foreign)
			for name, path := range forged {
				fields := []string{"Cookie: usher_ticket=" + ticket}
				switch ticketIn {
				case hls.TicketInPath:
					path = "/~" + ticket + path
				case hls.TicketInQuery:
					path += "?ticket=" + ticket
				}
				g.upstream.Reset()
				g.want(t, 403, path, fields...)
				if asked := g.upstream.RequestURIs(); len(asked) != 0 {
					t.Errorf("%s: the origin was asked for %q", name, asked)
				}
			}
			if got := counted(); len(got) != len(forged) || got[0] != "/play/{channel}/* bad_reference" {
				t.Errorf("counted %q, want each of %d", got, len(forged))
			}
			if got := records.containing("reference invalid"); len(got) != 1 {
				t.Errorf("logged %q, want one warning", got)
			}
		})
	}
}

// forgedPaths returns paths with references that are not valid for the channel a001, by what is wrong.
func forgedPaths(t *testing.T, g, foreign *testGateway) map[string]string {
	t.Helper()
	text := referenceIn(t, g, "/play/a001/")
	const folder = "/play/a001/~"
	forged := map[string]string{
		"another name":           folder + text + "/seg-18.ts",
		"a name in other case":   folder + text + "/SEG-17.ts",
		"a longer name":          folder + text + "/seg-17.ts;x",
		"no name":                folder + text + "/",
		"more":                   folder + text + "AAAA/seg-17.ts",
		"another channel's":      folder + referenceIn(t, g, "/play/a002/") + "/seg-17.ts",
		"another route's":        folder + referenceIn(t, g, "/tv/a001/") + "/seg-17.ts",
		"a folder's":             folder + referenceIn(t, g, "/play/a001/hd/") + "/seg-17.ts",
		"of another key":         folder + referenceIn(t, foreign, "/play/a001/") + "/seg-17.ts",
		"another folder of ours": "/play/a001/hd/~" + text + "/seg-17.ts",
		"two of them":            folder + text + "/~" + text + "/seg-17.ts",
	}
	for i := range text {
		other := "A"
		if text[i] == 'A' {
			other = "B"
		}
		forged[fmt.Sprintf("changed at %d", i)] = folder + text[:i] + other + text[i+1:] + "/seg-17.ts"
		if i >= reference.MinChars { // a shorter one is a folder's name
			forged[fmt.Sprintf("%d characters of it", i)] = folder + text[:i] + "/seg-17.ts"
		}
	}
	return forged
}

// referenceIn returns the reference of seg-17.ts in the playlist of a folder.
func referenceIn(t *testing.T, g *testGateway, folder string) string {
	t.Helper()
	g.upstream.Files[strings.Replace(folder, "/tv/", "/play/", 1)+"index.m3u8"] = listedPlaylist
	_, path, _ := ticketInPath(uris(g.want(t, 200, folder+"index.m3u8?token=1").body)[0])
	path, _, _ = strings.Cut(path, "?")
	text, _, _ := cutReference(path)
	if text == "" {
		t.Fatalf("no reference in %q", path)
	}
	return text
}

func TestServe_ReferenceWithoutTicket_Forbidden(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
	_, path, _ := ticketInPath(uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0])
	for _, path := range []string{path, path + "?token=1", path + "?ticket=" + g.ticket(t, "a001"), "/~" + g.ticket(t, "a002") + path} {
		if asked := g.originRequestsAfter(t, 403, path); len(asked) != 0 {
			t.Errorf("%s: the origin was asked for %q", path, asked)
		}
	}
}

// TestServe_TooLongURI_Unchanged lists a URI that no player could send.
func TestServe_TooLongURI_Unchanged(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	records := &logRecorder{}
	g.useLogger(slog.New(records))
	long := "seg.ts?sig=" + strings.Repeat("x", 1800)
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n" + long + "\n#EXTINF:4,\n" + long[:1300] + "\n"
	got := uris(g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1").body)
	if got[0] != long || !strings.HasPrefix(got[1], "/~") || len(got[1]) > 2000 {
		t.Errorf("got %q", got)
	}
	if n := g.TooLongURIs()["/play/{channel}/*"]; n != 1 {
		t.Errorf("counted %d, want 1", n)
	}
	if warned := records.containing("tickets.max_uri"); len(warned) != 1 {
		t.Errorf("logged %q, want one warning", warned)
	}
}

// TestServe_HostsOfSettings_Rewritten lists a host that no setting allows, and some that do.
func TestServe_HostsOfSettings_Rewritten(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Origins["o"].Upstream = upstream.Config{PublicNames: []string{"public.example"}, RedirectHosts: []upstream.RedirectHost{{Host: "*.edge.example"}}}
	})
	list := "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
	for _, uri := range []string{"https://cdn.example/1.ts?sig=s3cret", "https://cdn.example/2.ts", "//public.example/play/a001/3.ts", "http://n1.edge.example/4.ts"} {
		list += "#EXTINF:4,\n" + uri + "\n"
	}
	g.upstream.Files["/play/a001/index.m3u8"] = list
	got := uris(g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1").body)
	for i, isOurs := range []bool{false, false, true, true} {
		if strings.HasPrefix(got[i], "/~") != isOurs {
			t.Errorf("URI %d became %q", i, got[i])
		}
	}
}

// TestServe_ForgedReference_LogHidesCredentials has credentials in the viewer's path.
func TestServe_ForgedReference_LogHidesCredentials(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Routes[0].Path, c.Routes[0].OriginPath = "/live/{user}/{password}/{channel}/*", "/play/{channel}/*"
	})
	g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
	records := &logRecorder{}
	g.useLogger(slog.New(records))
	listed := uris(g.want(t, 200, "/live/alice/pa55/a001/index.m3u8").body)[0]
	g.want(t, 403, listed[:strings.LastIndexByte(listed, '/')]+"/other.ts")
	warned := records.containing("reference invalid")
	if len(warned) != 1 || strings.Contains(warned[0], "alice") || strings.Contains(warned[0], "pa55") || !strings.Contains(warned[0], "a001") {
		t.Errorf("logged %q, want one warning without the credentials", warned)
	}
}
