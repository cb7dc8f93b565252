package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/hls"
	"usher/gateway/ticket"
)

// entryFiles are the playlists of one channel with two entries, /tv/travel/ and /tv/premium/. Travel's variant is in a
// folder beside it, whose playlist lists media in five folders.
var entryFiles = map[string]string{
	"travel/index.m3u8":  "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n../video/v.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhd/v.m3u8\n",
	"travel/hd/v.m3u8":   "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-1.ts\n#EXTINF:6,\n../seg-2.ts\n#EXTINF:6,\n../../seg-3.ts\n",
	"premium/index.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-1.ts\n",
	"video/v.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"../keys/a/k.key\"\n#EXTINF:6,\nseg-1.ts\n" +
		"#EXTINF:6,\nsub/seg-2.ts\n#EXTINF:6,\n../common.ts\n#EXTINF:6,\n../travel/intro.ts\n#EXTINF:6,\nseg-3.ts?sig=1\n",
}

// serveEntries is an origin of entryFiles, below /play/tv/. How its playlists write their URIs is up to spell.
func serveEntries(spell func(folder, ref string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, _ := strings.CutPrefix(r.URL.EscapedPath(), "/play/tv/")
		list, found := entryFiles[name]
		if !found {
			_, _ = io.WriteString(w, "bytes of "+r.URL.RequestURI())
			return
		}
		for line := range strings.Lines(list) {
			text := strings.TrimSpace(line)
			switch uri, hasURI := strings.CutPrefix(text, `#EXT-X-KEY:METHOD=AES-128,URI="`); {
			case hasURI:
				text = `#EXT-X-KEY:METHOD=AES-128,URI="` + spell(path.Dir(name), strings.TrimSuffix(uri, `"`)) + `"`
			case text[0] != '#':
				text = spell(path.Dir(name), text)
			}
			_, _ = fmt.Fprintln(w, text)
		}
	}
}

func newEntryGateway(t *testing.T, ticketIn hls.TicketTransport, spell func(folder, ref string) string) *testGateway {
	t.Helper()
	g := newTestGateway(t, func(c *Config) {
		c.Routes[0].TicketIn, c.CORS.AllowedOrigins = ticketIn, []string{"https://tv.example.com"}
	})
	if spell == nil {
		spell = func(_, ref string) string { return ref }
	}
	g.upstream.Answer = serveEntries(spell)
	return g
}

// TestServe_ListedFolders_ReachedInEveryMode plays an entry whose playlists list what is outside its folder.
func TestServe_ListedFolders_ReachedInEveryMode(t *testing.T) {
	t.Parallel()
	rooted := func(folder, ref string) string {
		file, query, hasQuery := strings.Cut(ref, "?")
		if file = path.Join("/play/tv", folder, file); hasQuery {
			file += "?" + query
		}
		return file
	}
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		for spelling, spell := range map[string]func(folder, ref string) string{
			"relative": nil, "root-relative": rooted,
		} {
			t.Run(fmt.Sprintf("%v/%s", ticketIn, spelling), func(t *testing.T) {
				t.Parallel()
				g := newEntryGateway(t, ticketIn, spell)
				p := newPlayer(t, "tv.example.com")
				source := resolve(t, &url.URL{}, g.url+"/play/tv/travel/index.m3u8?token=s3cret")
				master := p.get(t, source)
				var got []string
				for _, ref := range uris(master) {
					variant := resolve(t, source, ref)
					media := p.get(t, variant)
					if again := p.get(t, variant); again != media {
						t.Errorf("the playlist changed between reloads:\n%s\n%s", media, again)
					}
					for _, ref := range urisIn(media) {
						got = append(got, strings.TrimPrefix(p.get(t, resolve(t, variant, ref)), "bytes of /play/tv/"))
					}
				}
				want := []string{
					"keys/a/k.key", "video/seg-1.ts", "video/sub/seg-2.ts", "common.ts", "travel/intro.ts", "video/seg-3.ts?sig=1",
					"travel/hd/seg-1.ts", "travel/seg-2.ts", "seg-3.ts",
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("media (-want +got):\n%s\nmaster:\n%s", diff, master)
				}
				if n := len(g.table.openRequests()); n != 1 {
					t.Errorf("opened %d times, want once: %+v", n, g.table.openRequests())
				}
			})
		}
	}
}

// ticketOf returns the ticket in front of a URI.
func ticketOf(t *testing.T, uri string) string {
	t.Helper()
	text, _, found := ticketInPath(uri)
	if !found {
		t.Fatalf("no ticket in %q", uri)
	}
	return "/~" + text
}

func TestServe_TicketOfAnEntry_OpensNoOther(t *testing.T) {
	t.Parallel()
	g := newEntryGateway(t, hls.TicketInPath, nil)
	travel := ticketOf(t, uris(g.want(t, 200, "/play/tv/travel/index.m3u8?token=1").body)[1])
	for name, tc := range map[string]struct {
		ticket string
		opens  map[string]bool
	}{
		"the entry's": {travel, map[string]bool{
			"travel/x.ts": true, "travel/hd/x.ts": true, "travel/hd/v.m3u8": true,
			"premium/x.ts": false, "premium/index.m3u8": false, "video/x.ts": false, "x.ts": false, "travel2/x.ts": false, "trave/x.ts": false,
		}},
		"the whole channel's": {"/~" + g.ticket(t, "tv"), map[string]bool{"x.ts": true, "travel/x.ts": true, "premium/a/b/c/x.ts": true}},
	} {
		for file, want := range tc.opens {
			got := g.get(t, tc.ticket+"/play/tv/"+file)
			if (got.status == 200) != want || !want && (got.status != 403 || !strings.Contains(got.body, "another entry")) {
				t.Errorf("the ticket %s on %s: got %d %q, want it to open: %v", name, file, got.status, got.body, want)
			}
		}
	}
	g.want(t, 403, travel+"/play/other/travel/x.ts")
}

func TestServe_TwoEntriesOfAChannel_TwoSessions(t *testing.T) {
	t.Parallel()
	g := newEntryGateway(t, hls.TicketInPath, nil)
	g.want(t, 200, "/play/tv/travel/index.m3u8?token=1")
	g.want(t, 200, "/play/tv/premium/index.m3u8?token=1")
	g.want(t, 200, "/play/tv/travel/index.m3u8?token=1")
	if opened := g.table.openRequests(); len(opened) != 2 || opened[0].Request.Session == opened[1].Request.Session {
		t.Errorf("opened %+v, want one session for each entry", opened)
	}
}

// TestServe_ListedFolders_SameOnEveryNode compares the playlists of two nodes, one of which never saw the entry.
func TestServe_ListedFolders_SameOnEveryNode(t *testing.T) {
	t.Parallel()
	one := newEntryGateway(t, hls.TicketInPath, nil)
	two := newEntryGateway(t, hls.TicketInPath, nil)
	variant := uris(one.want(t, 200, "/play/tv/travel/index.m3u8?token=1").body)[0]
	first := one.want(t, 200, variant).body
	if second := two.want(t, 200, variant).body; second != first || strings.Contains(first, "\n/") || strings.Count(first, "../~") != 5 {
		t.Errorf("two nodes:\n%s\n%s", first, second)
	}
}

func TestServe_SegmentsWithCredentials_UseTheSessionAbove(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].CredentialsEverywhere = true })
	g.upstream.Answer = serveEntries(func(_, ref string) string { return ref })
	g.want(t, 200, "/play/tv/travel/index.m3u8?token=1")
	g.want(t, 200, "/play/tv/travel/hd/seg-1.ts?token=1")
	g.want(t, 200, "/play/tv/travel/seg-2.ts?token=1")
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("opened %d sessions, want the entry's alone", n)
	}
	g.want(t, 200, "/play/tv/premium/seg-1.ts?token=1")
	if n := len(g.table.openRequests()); n != 2 {
		t.Errorf("opened %d sessions, want one more for another folder", n)
	}
}

// TestServe_MediaMappings_ScopedByTheirOwnFolder lists keys under a pattern without folders, and media under one with.
func TestServe_MediaMappings_ScopedByTheirOwnFolder(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.Routes[0].TicketIn, c.CORS.AllowedOrigins = ticketIn, []string{"https://tv.example.com"}
				c.Routes[0].Media = []PathMappingConfig{{Path: "/keys/{channel}.key"}, {Path: "/media/{channel}/*"}}
			})
			g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, ".m3u8") {
					_, _ = io.WriteString(w, r.URL.Path)
					return
				}
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"/keys/tv.key\"\n"+
					"#EXTINF:6,\n/media/tv/travel/hd/1.ts\n#EXTINF:6,\n/media/tv/shared/2.ts\n")
			}
			p := newPlayer(t, "")
			source := resolve(t, &url.URL{}, g.url+"/play/tv/travel/index.m3u8?token=1")
			var got []string
			for _, ref := range urisIn(p.get(t, source)) {
				got = append(got, p.get(t, resolve(t, source, ref)))
			}
			if diff := cmp.Diff([]string{"/keys/tv.key", "/media/tv/travel/hd/1.ts", "/media/tv/shared/2.ts"}, got); diff != "" {
				t.Errorf("media (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServe_DeepChannel(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Routes[0].Path, c.Routes[0].OriginPath = "/play/{channel...}/*", "/store/{channel...}/*"
	})
	g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "index.m3u8") {
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-1.ts\n#EXTINF:6,\nhd/sub/seg-2.ts\n#EXTINF:6,\n/store/tv/travel/seg-3.ts\n")
			return
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}
	list := uris(g.want(t, 200, "/play/tv/travel/index.m3u8?token=1").body)
	for i, want := range []string{"/store/tv/travel/seg-1.ts", "/store/tv/travel/hd/sub/seg-2.ts", "/store/tv/travel/seg-3.ts"} {
		if got := g.want(t, 200, list[i]).body; got != want {
			t.Errorf("%s: got %q, want %q", list[i], got, want)
		}
	}
	travel := ticketOf(t, list[0])
	for _, other := range []string{"/play/tv/premium/index.m3u8", "/play/tv/seg-1.ts", "/play/tv/travel2/seg-1.ts"} {
		g.want(t, 403, travel+other)
	}
	g.want(t, 200, "/play/tv//premium/index.m3u8?token=1") // the same channel
	g.want(t, 200, "/play/tv/premium/index.m3u8?token=1")
	g.want(t, 403, travel+"/play/tv//premium/seg-1.ts")
	g.want(t, 200, "/play/a001/index.m3u8?token=1")
	var channels []string
	for _, a := range g.table.openRequests() {
		channels = append(channels, a.Request.Channel)
	}
	if diff := cmp.Diff([]string{"tv/travel", "tv/premium", "a001"}, channels); diff != "" {
		t.Errorf("channels (-want +got):\n%s", diff)
	}
}

func TestNewRoute_DeepChannelInOneOfTwoPatterns_Invalid(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]RouteConfig{
		`origin_path: "/x/{channel}/*" and path "/play/{channel...}/*" must both have {channel}, or both {channel...}`: {
			Path: "/play/{channel...}/*", OriginPath: "/x/{channel}/*",
		},
		`media[0].path: "/x/{channel...}/*" and the route's path "/play/{channel}/*" must both have {channel}, or both {channel...}`: {
			Path: "/play/{channel}/*", Media: []PathMappingConfig{{Path: "/x/{channel...}/*"}},
		},
	} {
		if _, err := newRoute(c, nil); err == nil || err.Error() != want {
			t.Errorf("newRoute: got %v, want %s", err, want)
		}
	}
}

func TestTarget_Bind(t *testing.T) {
	t.Parallel()
	type bound struct {
		Channel, Folder string
		OK              bool
	}
	deep := "/" + strings.Repeat("a/", 40) + "x.ts"
	cases := map[string]struct {
		pattern, path string
		depth         int
		want          bound
	}{
		"the whole channel":             {"/{channel}/*", "/tv/a/b/x.ts", 0, bound{"tv", "", true}},
		"a folder":                      {"/{channel}/*", "/tv/a/b/x.ts", 1, bound{"tv", "a", true}},
		"the path's own":                {"/{channel}/*", "/tv/a/b/x.ts", 2, bound{"tv", "a/b", true}},
		"deeper than the path":          {"/{channel}/*", "/tv/a/b/x.ts", 3, bound{}},
		"an escaped folder":             {"/{channel}/*", "/tv/%D0%B0%20b/x.ts", 1, bound{"tv", "а b", true}},
		"without folders":               {"/{channel}.m3u8", "/tv.m3u8", 0, bound{"tv", "", true}},
		"a folder where there are none": {"/{channel}.m3u8", "/tv.m3u8", 1, bound{}},
		"a channel with folders":        {"/{channel...}/*", "/tv/a/b/x.ts", 1, bound{"tv/a", "", true}},
		"as deep as a ticket says":      {"/{channel}/*", "/tv" + deep, ticket.MaxDepth, bound{"tv", strings.Repeat("a/", ticket.MaxDepth-1) + "a", true}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := newRoute(RouteConfig{Path: tc.pattern}, nil)
			if err != nil {
				t.Fatal(err)
			}
			at, found := foundTarget([]*route{r}, "", tc.path)
			if !found {
				t.Fatalf("no target of %s", tc.path)
			}
			var got bound
			if at.bind(tc.depth) {
				got = bound{at.channel, at.folder, true}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("bind(%d) (-want +got):\n%s", tc.depth, diff)
			}
			at.enterAgain()
			if fresh, _ := foundTarget([]*route{r}, "", tc.path); at.channel != fresh.channel || at.folder != fresh.folder || at.depth != fresh.depth {
				t.Errorf("enterAgain: got %q, %q and %d, want %q, %q and %d",
					at.channel, at.folder, at.depth, fresh.channel, fresh.folder, fresh.depth)
			}
		})
	}
}

// TestServe_EdgeCheck_EntryFolders asks as a proxy does, which shows a cookie, or nothing but address and player.
func TestServe_EdgeCheck_EntryFolders(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		for _, mode := range []edge.MatchMode{edge.MatchByCookie, edge.MatchByAddressAgent} {
			t.Run(fmt.Sprintf("%v/%v", d, mode), func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(mode), func(r *RouteConfig) { r.Required = []string{"token"} }))
				g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
					if strings.Contains(a.Request.Path, "/premium/") {
						return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
					}
					return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
				}
				given := g.wantCheck(t, d, 200, edgeViewer{uri: "/play/tv/travel/index.m3u8?token=1"}).header.Values("Set-Cookie")
				var fields []string
				if mode == edge.MatchByCookie {
					if len(given) != 1 || !strings.Contains(given[0], "; Path=/play/tv/travel; ") {
						t.Fatalf("Set-Cookie: got %q, want one for the entry's folder", given)
					}
					value, _, _ := strings.Cut(given[0], ";")
					fields = []string{"Cookie: usher_ticket=a.other; " + value}
				}
				for uri, want := range map[string]int{
					"/play/tv/travel/seg-1.ts": 200, "/play/tv/travel/hd/seg-1.ts": 200, "/play/tv/travel/hd/v.m3u8": 200,
					"/play/tv/premium/seg-1.ts": 403, "/play/tv/premium/index.m3u8": 403, "/play/tv/seg-1.ts": 403,
				} {
					g.wantCheck(t, d, want, edgeViewer{uri: uri, fields: fields})
				}
				if n := len(g.table.openRequests()); n != 1 {
					t.Errorf("opened %d sessions, want the entry's alone", n)
				}
				g.wantCheck(t, d, 403, edgeViewer{uri: "/play/tv/premium/index.m3u8?token=1", fields: fields})
				g.wantCheck(t, d, 200, edgeViewer{uri: "/play/tv/travel/seg-2.ts", fields: fields})
				g.wantCheck(t, d, 200, edgeViewer{uri: "/play/tv/travel/hd/v.m3u8?token=1", fields: fields})
				if n := len(g.table.openedIDs()); n != 2 {
					t.Errorf("opened %d sessions, want one for each entry", n)
				}
			})
		}
	}
}

func TestServe_ChannelOpenedInTwoFolders_LoggedOnce(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pattern string
		opened  []string
		want    int
	}{
		"two entries":              {"/play/{channel}/*", []string{"tv/travel/", "tv/premium/", "tv/travel/", "tv/news/", "x/a/", "x/b/"}, 1},
		"one entry":                {"/play/{channel}/*", []string{"tv/travel/", "tv/travel/", "a001/", "a002/hd/"}, 0},
		"a variant below":          {"/play/{channel}/*", []string{"tv/", "tv/hd/"}, 0},
		"a variant first":          {"/play/{channel}/*", []string{"tv/hd/", "tv/"}, 0},
		"channels of two segments": {"/play/{channel...}/*", []string{"tv/travel/", "tv/premium/"}, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) { c.Routes[0].Path = tc.pattern })
			records := &logRecorder{}
			g.useLogger(slog.New(records))
			g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, mediaPlaylist) }
			for _, folder := range tc.opened {
				g.want(t, 200, "/play/"+folder+"index.m3u8?token=1")
			}
			if got := twoFolders(records.recorded()); len(got) != tc.want {
				t.Errorf("logged %q, want %d warnings", got, tc.want)
			}
		})
	}
}

// TestServe_FolderOpenedByTicket_NotLogged has a node that restarted asked for the folder beside its entry that a playlist
// lists. The ticket says that the folder belongs to the entry.
func TestServe_FolderOpenedByTicket_NotLogged(t *testing.T) {
	t.Parallel()
	g := newEntryGateway(t, hls.TicketInPath, nil)
	records := &logRecorder{}
	g.useLogger(slog.New(records))
	variant := uris(g.want(t, 200, "/play/tv/travel/index.m3u8?token=1").body)[0]
	g.table.reset()
	g.want(t, 200, variant)
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("opened %d sessions after the restart, want the ticket's", n)
	}
	if got := twoFolders(records.recorded()); len(got) != 0 {
		t.Errorf("logged %q, want nothing of two folders", got)
	}
}

// TestServe_EdgeThatKeepsSessions_ChannelInTwoFolders_Logged has an edge that does not name the channel.
func TestServe_EdgeThatKeepsSessions_ChannelInTwoFolders_Logged(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]int{"/{channel}/*": 1, "/{channel...}/*": 0} {
		g := newEdgeTestGateway(t, nil, edgeRoute(edge.Alta, func(r *RouteConfig) { r.Edge.ViewerPath = pattern }))
		g.wantCheck(t, edge.Alta, 200, edgeViewer{uri: "/tv/travel/index.m3u8?token=1"})
		g.wantCheck(t, edge.Alta, 200, edgeViewer{uri: "/tv/premium/index.m3u8?token=1"})
		if n := len(g.table.openedIDs()); n != 2 {
			t.Errorf("%s: opened %d sessions, want 2", pattern, n)
		}
		if got := twoFolders(g.log.recorded()); len(got) != want {
			t.Errorf("%s: logged %q, want %d warnings", pattern, got, want)
		}
	}
}

// twoFolders keeps the lines about channels in two folders.
func twoFolders(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, "{channel...}") })
}
