package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/reference"
	"usher/gateway/ticket"
	"usher/gateway/upstream"
)

// listedPlaylist lists segments with queries.
const listedPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n" +
	"#EXTINF:6,\nseg-17.ts?sig=a%2Fb+c&x=1&x=2&&e=\n#EXTINF:6,\nseg-18.ts\n#EXTINF:6,\nseg-19.ts?v=1\n#EXTINF:6,\nseg-19.ts?v=2\n"

func allTransports() []hls.TicketTransport {
	return []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone}
}

// originRequestsAfter requests all paths and returns the paths and queries that the origin got for media.
func (g *testGateway) originRequestsAfter(t *testing.T, status int, paths ...string) []string {
	t.Helper()
	g.upstream.Reset()
	for _, p := range paths {
		g.want(t, status, p)
	}
	asked := g.upstream.RequestURIs()
	slices.Sort(asked)
	return slices.Compact(asked)
}

func TestServe_InventedQuery_HitsTheCache(t *testing.T) {
	t.Parallel()
	for _, ticketIn := range allTransports() {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, ticketIn
			})
			g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
			g.upstream.Files["/play/a001/seg-18.ts"] = "the eighteenth"
			g.upstream.Files["/play/a001/seg-19.ts"] = "the nineteenth"
			source := resolve(t, &url.URL{}, g.url+"/play/a001/index.m3u8?token=1")
			p := newPlayer(t, "")
			var media []*url.URL
			for _, ref := range uris(p.get(t, source)) {
				media = append(media, resolve(t, source, ref))
			}
			g.upstream.Reset()
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
			asked := g.upstream.RequestURIs()
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

func TestServe_ForwardQuery_ReachesTheOrigin(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].ForwardQuery = []string{"start", "duration"} })
	g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
	g.upstream.Files["/play/a001/seg-18.ts"] = "the eighteenth"
	got := g.originRequestsAfter(t, 200, "/play/a001/index.m3u8?start=1&token=1",
		"/~"+g.ticket(t, "a001")+"/play/a001/seg-18.ts?duration=60&x=1&start=17%3A00")
	want := []string{"/play/a001/index.m3u8?start=1", "/play/a001/seg-18.ts?duration=60&start=17%3A00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the origin was asked for (-want +got):\n%s", diff)
	}
}

// oddLists are what origins list, by what is odd about it: the URI of a variant of the entry, the path and query at which the
// origin has it, and the same of its segment.
var oddLists = map[string]struct{ variant, at, segment, segmentAt string }{
	"a variant of another name":       {"playlist/21?q=1", "/play/a001/playlist/21?q=1", "seg-1.ts", "/play/a001/playlist/seg-1.ts"},
	"a variant in brackets":           {"manifest(format=m3u8-aapl)", "/play/a001/manifest(format=m3u8-aapl)", "f(v=1,t=2)", "/play/a001/f(v=1,t=2)"},
	"a script":                        {"list.php", "/play/a001/list.php", "seg.php?n=1", "/play/a001/seg.php?n=1"},
	"a slash in a name":               {"a%2Fb.m3u8", "/play/a001/a%2Fb.m3u8", "c%2Fd.ts", "/play/a001/c%2Fd.ts"},
	"a percent sign in a name":        {"100%25.m3u8", "/play/a001/100%25.m3u8", "a%2Db%41%2Ets", "/play/a001/a%2Db%41%2Ets"},
	"dots before a name":              {"..part.m3u8", "/play/a001/..part.m3u8", "..part.ts", "/play/a001/..part.ts"},
	"a query that browsers spell new": {"v.m3u8?a=it's a ж", "/play/a001/v.m3u8?a=it's%20a%20%D0%B6", "s.ts?q='", "/play/a001/s.ts?q='"},
	"its own token":                   {"v.m3u8?token=origin", "/play/a001/v.m3u8?token=origin", "s.ts?token=origin", "/play/a001/s.ts?token=origin"},
	"another channel's folder":        {"../news_720/v.m3u8", "/play/news_720/v.m3u8", "seg-1.ts", "/play/news_720/seg-1.ts"},
	"a shared slate":                  {"v.m3u8", "/play/a001/v.m3u8", "/shared/slate.ts", "/shared/slate.ts"},
	"a doubled slash":                 {"hd//v.m3u8", "/play/a001/hd//v.m3u8", "..//sd//seg.ts", "/play/a001/hd//sd//seg.ts"},
	"a root-relative doubled slash":   {"v.m3u8", "/play/a001/v.m3u8", "/.//play//a001/seg.ts", "//play//a001/seg.ts"},
	"a folder that looks like ours":   {"~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/v.m3u8", "/play/a001/~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/v.m3u8", "s.ts", "/play/a001/~AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/s.ts"},
	"a playlist without a name":       {"hd/", "/play/a001/hd/", "s.ts", "/play/a001/hd/s.ts"},
	"a segment that is named as list": {"v.m3u8", "/play/a001/v.m3u8", "seg.m3u8", "/play/a001/seg.m3u8"},
}

// TestServe_OddLists_SameAsDirect plays what origins list, in each transport, then on a node that never saw the playlists.
func TestServe_OddLists_SameAsDirect(t *testing.T) {
	t.Parallel()
	for name, odd := range oddLists {
		for _, ticketIn := range allTransports() {
			t.Run(name+"/"+ticketIn.String(), func(t *testing.T) {
				t.Parallel()
				edit := func(c *Config) {
					c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
					c.Routes[0].TicketIn, c.Routes[0].Credentials, c.Routes[0].Required = ticketIn, []string{"token"}, []string{"token"}
				}
				g, other := newTestGateway(t, edit), newTestGateway(t, edit)
				answer := func(w http.ResponseWriter, r *http.Request) {
					switch r.RequestURI {
					case "/play/a001/index.m3u8":
						_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n", odd.variant)
					case odd.at:
						_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n%s\n", odd.segment)
					case odd.segmentAt:
						_, _ = fmt.Fprint(w, "the segment")
					default:
						http.Error(w, r.RequestURI, http.StatusNotFound)
					}
				}
				g.upstream.Answer, other.upstream.Answer = answer, answer
				p := newPlayer(t, "")
				entry := resolve(t, &url.URL{}, g.url+"/play/a001/index.m3u8?token=viewer")
				variant := resolve(t, entry, uris(p.get(t, entry))[0])
				list := p.get(t, variant)
				media := resolve(t, variant, uris(list)[0])
				if got := p.get(t, media); got != "the segment" {
					t.Errorf("the segment at %s: got %q", media, got)
				}
				if n := len(g.table.openRequests()); n != 1 {
					t.Errorf("opened %d sessions, want the entry's alone", n)
				}
				moved, q := *variant, newPlayer(t, "")
				moved.Host = strings.TrimPrefix(other.url, "http://")
				q.jar = p.jar
				if got := q.get(t, &moved); got != list {
					t.Errorf("another node wrote\n%s\nwant\n%s", got, list)
				}
				media.Host = moved.Host
				if got := q.get(t, media); got != "the segment" {
					t.Errorf("the segment on another node: got %q", got)
				}
			})
		}
	}
}

// TestServe_EntryOfAnyName has a route that says of its paths that they are playlists. Then names tell nothing of media either.
func TestServe_EntryOfAnyName(t *testing.T) {
	t.Parallel()
	for _, isSet := range []bool{false, true} {
		g := newTestGateway(t, func(c *Config) { c.Routes[0].Playlist = isSet })
		g.upstream.Files["/play/a001/live"] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhd\n"
		g.upstream.Files["/play/a001/hd"] = mediaPlaylist
		if !isSet {
			g.want(t, 403, "/play/a001/live?token=1")
			continue
		}
		variant := uris(g.want(t, 200, "/play/a001/live?token=1").body)[0]
		if text, _, _ := cutReference(variant); text != "" {
			t.Errorf("the variant has a reference: %s", variant)
		}
		media := resolve(t, resolve(t, &url.URL{}, g.url+variant), uris(g.want(t, 200, variant).body)[0])
		if got := g.want(t, 200, strings.TrimPrefix(media.String(), g.url)).body; got != segment {
			t.Errorf("the segment: got %q", got)
		}
		if n := len(g.table.openRequests()); n != 1 {
			t.Errorf("opened %d sessions, want one", n)
		}
	}
}

// TestServe_KeyRotation_URIsStay has a viewer play on nodes before, in and after the change to another key.
func TestServe_KeyRotation_URIsStay(t *testing.T) {
	t.Parallel()
	a, b := setting.Key{ID: "a", Secret: "the first ticket secret"}, setting.Key{ID: "b", Secret: "the second ticket secret"}
	var nodes []*testGateway
	for _, keys := range [][]setting.Key{{a}, {a, b}, {b, a}} {
		g := newTestGateway(t, func(c *Config) { c.Tickets.Keys = keys })
		g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
		nodes = append(nodes, g)
	}
	first := "/~" + nodes[0].ticket(t, "a001") + "/play/a001/index.m3u8"
	want := nodes[0].want(t, 200, first).body
	for i, g := range nodes {
		if got := g.want(t, 200, first).body; got != want {
			t.Errorf("node %d wrote\n%s\nwant\n%s", i, got, want)
		}
		media := resolve(t, resolve(t, &url.URL{}, g.url+first), uris(want)[0])
		if got := g.want(t, 200, strings.TrimPrefix(media.String(), g.url)).body; got != segment {
			t.Errorf("node %d: got the segment %q", i, got)
		}
	}
	// Viewers who come after the change have the new key, and nodes that only verify with it serve them.
	after := "/~" + nodes[2].ticket(t, "a001") + "/play/a001/index.m3u8"
	if one, other := nodes[1].want(t, 200, after).body, nodes[2].want(t, 200, after).body; one != other || one == want {
		t.Errorf("with the new key two nodes wrote\n%s\n%s", one, other)
	}
}

// TestServe_CredentialsInPath_StayTheirViewers has references below the viewer's own path, because no pattern is without it.
func TestServe_CredentialsInPath_StayTheirViewers(t *testing.T) {
	t.Parallel()
	for name, media := range map[string][]PathMappingConfig{
		"below the credentials": nil, "beside them": {{Path: "/media/{channel}/*"}},
	} {
		g := newTestGateway(t, func(c *Config) {
			c.Routes[0].Path, c.Routes[0].OriginPath, c.Routes[0].Media = "/live/{user}/{password}/{channel}/*", "/play/{channel}/*", media
		})
		g.upstream.Files["/play/a001/index.m3u8"] = listedPlaylist
		for _, viewer := range []string{"alice/pa55", "bob/w0rd"} {
			list := g.want(t, 200, "/live/"+viewer+"/a001/index.m3u8").body
			if isBelow := strings.Contains(list, "/live/"+viewer+"/a001/~"); isBelow != (media == nil) || strings.Contains(list, "alice") && viewer[0] != 'a' {
				t.Errorf("%s, %s: got\n%s", name, viewer, list)
			}
			for _, uri := range uris(list) {
				if !strings.Contains(uri, "/~") {
					continue
				}
				g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "media") }
				g.want(t, 200, uri)
				g.upstream.Answer = nil
			}
		}
	}
}

// TestServe_SlashesOfAnyNumber_KeepNoTemplates asks for one playlist in many spellings, and then as others do.
func TestServe_SlashesOfAnyNumber_KeepNoTemplates(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Path, c.Routes[0].OriginPath = "/tv/{channel}/*", "/play/{channel}/*" })
	ticket := ticketOf(t, uris(g.want(t, 200, "/tv/a001/index.m3u8?token=1").body)[0])
	for n := range 40 {
		g.want(t, 200, ticket+"/tv/"+strings.Repeat("/", n+1)+"a001/index.m3u8")
	}
	p, err := g.options.Origins["o"].Playlist(t.Context(), &origin.Request{Path: "/play/a001/index.m3u8", Inspect: inspect})
	if err != nil {
		t.Fatal(err)
	}
	for key := range 10 {
		isKept := false
		p.Derive(g.generation, key, func() any { isKept = true; return nil })
		if p.Derive(g.generation, key, func() any { isKept = false; return nil }); !isKept {
			t.Fatalf("after %d more there is no room for what others ask for", key)
		}
	}
}

func TestServe_UnknownPlace_LoggedOnce(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Path = "/play/{channel}/{file}.m3u8" })
	records := &logRecorder{}
	g.useLogger(slog.New(records))
	for _, name := range []string{"first", "second"} { // in the log a variable of the path is hidden
		g.upstream.Files["/play/a001/"+name+".m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/elsewhere/one.ts?key=s3cret\n"
		if got := g.want(t, http.StatusOK, "/play/a001/"+name+".m3u8?token=1"); !strings.Contains(got.body, "\n/elsewhere/") {
			t.Fatalf("got %q, want the playlist with the URI as it was", got.body)
		}
	}
	got := records.containing("ends in /*")
	if len(got) != 1 || !strings.Contains(got[0], "/elsewhere/one.ts") || strings.Contains(got[0], "s3cret") {
		t.Errorf("logged %q, want one line that names /elsewhere/one.ts without its query", got)
	}
}

// TestServe_Steering_PathwayOfAnotherHost has a player that clones a pathway: it replaces the host of each URI, which has none,
// and adds the parameters. Only the other host has that pathway's media.
func TestServe_Steering_PathwayOfAnotherHost(t *testing.T) {
	t.Parallel()
	other := gatewaytest.NewOrigin(t)
	g := newTestGateway(t, func(c *Config) {
		c.Origins["o"].Upstream.RedirectHosts = []upstream.RedirectHost{{Host: strings.TrimPrefix(other.URL, "http://")}}
		c.Origins["o"].Upstream.AllowedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steer?s=1\",PATHWAY-ID=\"A\"\n" +
		"#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID=\"A\"\nlow.m3u8\n"
	manifest := `{"VERSION":1,"TTL":10,"RELOAD-URI":"steer?s=2","PATHWAY-CLONES":[{"BASE-ID":"A","ID":"B","URI-REPLACEMENT":{"HOST":"HOST"}}]}`
	g.upstream.Files["/play/a001/steer"] = strings.ReplaceAll(manifest, `"HOST"}`, `"`+strings.TrimPrefix(other.URL, "http://")+`"}`)
	g.upstream.Files["/play/a001/low.m3u8"] = mediaPlaylist
	other.Files["/play/a001/low.m3u8"] = mediaPlaylist
	other.Files["/play/a001/seg-17.ts"] = "from the other host"
	master := g.want(t, 200, "/play/a001/index.m3u8?token=1").body
	_, steer, _ := strings.Cut(master, `SERVER-URI="`)
	steer, _, _ = strings.Cut(steer, `"`)
	var got struct {
		Reload string `json:"RELOAD-URI"`
		Clones []struct {
			Replacement struct {
				Host   string            `json:"HOST"`
				Params map[string]string `json:"PARAMS"`
			} `json:"URI-REPLACEMENT"`
		} `json:"PATHWAY-CLONES"`
	}
	g.upstream.Reset()
	if err := json.Unmarshal([]byte(g.want(t, 200, steer+"?_HLS_pathway=%22A%22&_HLS_throughput=5000").body), &got); err != nil {
		t.Fatal(err)
	}
	if asked := g.upstream.RequestURIs(); len(asked) != 1 || asked[0] != "/play/a001/steer?s=1&_HLS_pathway=%22A%22&_HLS_throughput=5000" {
		t.Errorf("the steering server was asked for %q", asked)
	}
	base := resolve(t, &url.URL{}, g.url+steer)
	again := resolve(t, base, got.Reload)
	if g.want(t, 200, strings.TrimPrefix(again.String(), g.url)); len(got.Clones) != 1 || got.Clones[0].Replacement.Host != "" {
		t.Fatalf("got %+v, want one clone without a host", got)
	}
	variant := uris(master)[0]
	for name, value := range got.Clones[0].Replacement.Params {
		variant += "?" + name + "=" + value
	}
	g.upstream.Reset()
	list := g.want(t, 200, variant).body
	media := resolve(t, resolve(t, &url.URL{}, g.url+variant), uris(list)[0])
	if body := g.want(t, 200, strings.TrimPrefix(media.String(), g.url)).body; body != "from the other host" {
		t.Errorf("the segment: got %q", body)
	}
	if asked := g.upstream.RequestURIs(); len(asked) != 0 {
		t.Errorf("the base's host was asked for %q", asked)
	}
	g.want(t, 200, uris(master)[0]+"?"+hls.HostParameter+"=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") // a forged one changes nothing
}

func TestSource_OnPathway(t *testing.T) {
	t.Parallel()
	g, _ := newBareGateway(t, testConfig("http://o.example:81/top"))
	const other = "http://x.example:82"
	cases := map[string]struct {
		base, query        string
		pathway            reference.Target
		wantBase, wantPath string
		wantQuery          string
	}{
		"nothing":                    {"", "a=1", reference.Target{}, "", "/tv/v.m3u8", "a=1"},
		"another host":               {"", "a=1", reference.Target{Base: "b.example"}, "http://b.example:81", "/top/tv/v.m3u8", "a=1"},
		"another host and port":      {"", "", reference.Target{Base: "b.example:83"}, "http://b.example:83", "/top/tv/v.m3u8", ""},
		"another host than a base":   {other, "", reference.Target{Base: "b.example"}, "http://b.example:82", "/tv/v.m3u8", ""},
		"a parameter":                {"", "", reference.Target{Query: "a=1"}, "", "/tv/v.m3u8", "a=1"},
		"a parameter beside another": {"", "b=2", reference.Target{Query: "a=1"}, "", "/tv/v.m3u8", "b=2&a=1"},
		"a parameter that is listed": {"", "a=3&b=2&%61=4", reference.Target{Query: "a=1"}, "", "/tv/v.m3u8", "b=2&a=1"},
		"two parameters of those":    {"", "a=3&b=2&c=4", reference.Target{Query: "c=5&a=1"}, "", "/tv/v.m3u8", "b=2&c=5&a=1"},
		"a host and a parameter":     {other, "a=3", reference.Target{Base: "b.example", Query: "a=1"}, "http://b.example:82", "/tv/v.m3u8", "a=1"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := source{origin: g.options.Origins["o"], base: tc.base, path: "/tv/v.m3u8", query: tc.query}
			s = s.onPathway(&tc.pathway, false)
			if s.base != tc.wantBase || s.path != tc.wantPath || s.query != tc.wantQuery {
				t.Errorf("got %q %q %q, want %q %q %q", s.base, s.path, s.query, tc.wantBase, tc.wantPath, tc.wantQuery)
			}
		})
	}
}

func TestRoute_IsFirst(t *testing.T) {
	t.Parallel()
	r, err := newRoute(RouteConfig{Path: "/{channel}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !r.isFirst("a") || r.isFirst("a") || !r.isFirst("b") {
		t.Error("isFirst tells neither the first of a text from others, nor texts apart")
	}
}

// TestLocator_Locate lists URIs in a playlist of the channel's folder, or of one below it.
func TestLocator_Locate(t *testing.T) {
	t.Parallel()
	const own, second, foreign = "o.example", "p.example", "x.example"
	const plain, sealed, unchanged = "plain", "sealed", "unchanged"
	cases := map[string]struct {
		entry  string
		listed hls.Listed
		kind   string
		path   string // up to the reference
	}{
		"a segment":                        {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/x.ts"}, plain, "/play/tv/x.ts"},
		"a segment in a folder":            {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/a/x.ts"}, plain, "/play/tv/a/x.ts"},
		"a segment of another folder":      {"/play/tv/a/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/b/x.ts"}, sealed, "/play/tv/a/~"},
		"a segment of the folder":          {"/play/tv/a/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/a/x.ts"}, plain, "/play/tv/a/x.ts"},
		"a segment of another channel":     {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv2/x.ts"}, sealed, "/play/tv/~"},
		"a segment of no route":            {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/x.ts"}, sealed, "/play/tv/~"},
		"a query":                          {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/x.ts?a=1"}, sealed, "/play/tv/~"},
		"a variable of unknown value":      {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/x.ts?a={$a}"}, plain, "/play/tv/x.ts?a={$a}"},
		"such a variable, elsewhere":       {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/x.ts?a={$a}"}, unchanged, ""},
		"variables of a playlist":          {"/play/tv/v.m3u8", hls.Listed{Role: hls.Playlist, Host: own, Ref: "/play/tv/w.m3u8", Variables: "a"}, sealed, "/play/tv/~"},
		"a playlist":                       {"/play/tv/v.m3u8", hls.Listed{Role: hls.Playlist, Host: own, Ref: "/play/tv/w.m3u8"}, plain, "/play/tv/w.m3u8"},
		"a playlist whose name shows none": {"/play/tv/v.m3u8", hls.Listed{Role: hls.Playlist, Host: own, Ref: "/play/tv/w"}, sealed, "/play/tv/~"},
		"media that look like a playlist":  {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/w.m3u8"}, sealed, "/play/tv/~"},
		"a key":                            {"/play/tv/v.m3u8", hls.Listed{Role: hls.Key, Host: own, Ref: "/play/tv/a.key"}, plain, "/play/tv/a.key"},
		"two slashes":                      {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv//x.ts"}, sealed, "/play/tv/~"},
		"a path that is not clean":         {"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/a%2fx.ts"}, sealed, "/play/tv/~"},
		"a folder like a reference": {
			"/play/tv/v.m3u8", hls.Listed{Host: own, Ref: "/play/tv/~" + strings.Repeat("a", reference.MinChars) + "/x.ts"}, sealed, "/play/tv/~",
		},
		"another origin": {"/play/tv/v.m3u8", hls.Listed{Host: second, Ref: "/play/tv/x.ts"}, sealed, "/play/tv/~"},
		"a foreign host": {"/play/tv/v.m3u8", hls.Listed{Host: foreign, Ref: "/play/tv/x.ts"}, unchanged, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("http://" + own)
			c.Origins["p"] = &OriginConfig{URL: "http://" + second}
			g, _ := newBareGateway(t, c)
			at, found := foundTarget(g.routes, "", tc.entry)
			if !found {
				t.Fatalf("no target of %s", tc.entry)
			}
			l := g.newLocator(&requestContext{target: at})
			tc.listed.Scheme = "http"
			got, ok := l.locate(tc.listed)
			kind := plain
			if _, after, isSealed := strings.Cut(got, "~"); !ok {
				kind = unchanged
			} else if isSealed && got != tc.listed.Ref && len(after) > reference.MinChars {
				kind, got = sealed, got[:strings.IndexByte(got, '~')+1]
			}
			if kind != tc.kind || got != tc.path {
				t.Errorf("got %s %q, want %s %q", kind, got, tc.kind, tc.path)
			}
		})
	}
}

// newTestLocator returns the locator of a playlist of the path, of a gateway with a second origin at p.example.
func newTestLocator(t *testing.T, pattern, path string) (*locator, *logRecorder) {
	t.Helper()
	c := testConfig("http://o.example")
	c.Origins["p"] = &OriginConfig{URL: "http://p.example"}
	c.Routes[0].Path = pattern
	g, _ := newBareGateway(t, c)
	records := &logRecorder{}
	g.options.Logger = slog.New(records)
	at, found := foundTarget(g.routes, "", path)
	if !found {
		t.Fatalf("no target of %s", path)
	}
	return g.newLocator(&requestContext{target: at}), records
}

func TestLocator_Locate_LongestURI(t *testing.T) {
	t.Parallel()
	l, _ := newTestLocator(t, "/play/{channel}/*", "/play/tv/v.m3u8")
	listed := hls.Listed{Scheme: "http", Host: "o.example", Ref: "/x.ts"}
	text, ok := l.locate(listed)
	if !ok {
		t.Fatal("no reference")
	}
	if want := len("/~" + l.gateway.signer.Sign(ticket.Claims{}, l.target.scope())); l.ticketSize != want {
		t.Errorf("a ticket has %d bytes, want %d", l.ticketSize, want)
	}
	c := &l.gateway.options.Config
	size := setting.ByteSize(len(text) + l.ticketSize)
	for _, tc := range []struct {
		uri, url setting.ByteSize
		want     bool
	}{
		{size, size, true}, {size - 1, size, false}, {size, size - 1, false}, {size + 1, size + 1, true},
	} {
		if c.Tickets.MaxURI, c.Limits.MaxURLSize = tc.uri, tc.url; l.gateway.maxURI() != int(min(tc.uri, tc.url)) {
			t.Errorf("maxURI: got %d", l.gateway.maxURI())
		}
		if _, ok := l.locate(listed); ok != tc.want {
			t.Errorf("%d bytes of %d and %d: got %v", size, tc.uri, tc.url, ok)
		}
	}
}

func TestLocator_Locate_Warns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pattern, path, ref, want string }{
		{"/play/{channel}.m3u8", "/play/tv.m3u8", "/x.ts?a=1", "add one that ends in /*"},
		{"/play/{channel}/*", "/play/tv/v.m3u8", "/x.ts?a={$a}", "forward_query"},
		{"/play/{channel}/*", "/play/tv/v.m3u8", "/x.ts?a=1", ""},
	} {
		l, records := newTestLocator(t, tc.pattern, tc.path)
		for range 2 {
			if _, ok := l.locate(hls.Listed{Scheme: "http", Host: "o.example", Ref: tc.ref}); ok != (tc.want == "") {
				t.Errorf("%s of %s: got %v", tc.ref, tc.path, ok)
			}
		}
		got := records.recorded()
		if len(got) != 1 && tc.want != "" || len(got) != 0 && tc.want == "" || tc.want != "" && !strings.Contains(got[0], tc.want) {
			t.Errorf("%s of %s: logged %q, want once %q", tc.ref, tc.path, got, tc.want)
		}
	}
}

func TestLocator_Pathway(t *testing.T) {
	t.Parallel()
	l, _ := newTestLocator(t, "/play/{channel}/*", "/play/tv/v.m3u8")
	for _, tc := range []struct {
		host, query string
		isSaid      bool
		base        string
	}{
		{"", "", false, ""},
		{"foreign.example", "", false, ""},
		{"foreign.example", "a=1", true, ""},
		{"", "a=1", true, ""},
		{"P.example", "", true, "p.example"},
		{"p.example", "a=1", true, "p.example"},
		{"p.example:x", "", false, ""},
	} {
		text := l.pathway(tc.host, tc.query)
		if (text != "") != tc.isSaid {
			t.Errorf("pathway(%q, %q): got %q", tc.host, tc.query, text)
			continue
		}
		if text == "" {
			continue
		}
		scope := l.target.referenceScope(hls.HostParameter)
		got, ok := l.gateway.sealer.Open(new(reference.Buffer), l.keyID, text, &scope)
		if !ok || got.Base != tc.base || got.Query != tc.query {
			t.Errorf("pathway(%q, %q): says %+v %v", tc.host, tc.query, got, ok)
		}
	}
}

func TestGateway_Source(t *testing.T) {
	t.Parallel()
	l, _ := newTestLocator(t, "/play/{channel}/*", "/play/tv/v.m3u8")
	g := l.gateway
	l.target.route.config.ForwardQuery = []string{"q"}
	type from struct {
		Origin, Base, Path, Query string
		IsListed                  bool
	}
	cases := map[string]struct {
		sealed *reference.Target
		want   from
	}{
		"the path alone": {nil, from{"o", "", "/play/tv/v.m3u8", "q=1", false}},
		"a reference to media": {
			&reference.Target{Path: "/x.ts", Query: "a=1&_HLS_msn=1"}, from{"o", "", "/x.ts", "a=1&_HLS_msn=1", true},
		},
		"a reference to a playlist": {
			&reference.Target{Role: hls.Playlist, Path: "/w.m3u8", Query: "a=1&_HLS_msn=1"}, from{"o", "", "/w.m3u8", "a=1", true},
		},
		"another origin":      {&reference.Target{Origin: "p", Path: "/x.ts"}, from{"p", "", "/x.ts", "", true}},
		"another host":        {&reference.Target{Base: "http://b", Path: "/x.ts"}, from{"o", "http://b", "/x.ts", "", true}},
		"one that is no more": {&reference.Target{Origin: "gone", Path: "/x.ts"}, from{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rc := &requestContext{target: l.target, request: &Request{Query: "q=1&r=2"}}
			if tc.sealed != nil {
				rc.sealed = sealedURI{isOpen: true, target: *tc.sealed}
			}
			s, ok := g.source(rc)
			var got from
			if ok {
				got = from{"", s.base, s.path, s.query, s.isListed}
				for origin, o := range g.options.Origins {
					if o == s.origin {
						got.Origin = origin
					}
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("source (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocator_Plain(t *testing.T) {
	t.Parallel()
	l, _ := newTestLocator(t, "/play/{channel}/*", "/play/tv/v.m3u8")
	const path = "/play/tv/x.ts"
	for _, tc := range []struct {
		ref  string
		at   reference.Target
		want string
	}{
		{path, reference.Target{Path: path}, path},
		{path, reference.Target{Path: path, Origin: "p"}, ""},
		{path, reference.Target{Path: path, Base: "http://b"}, ""},
		{path, reference.Target{Path: path, Variables: "a"}, ""},
		{path, reference.Target{Path: path, Version: 1}, ""},
		{path, reference.Target{Path: path, Query: "a=1"}, ""},
		{path + "?a={$a}", reference.Target{Path: path, Query: "a={$a}"}, path + "?a={$a}"},
		{path, reference.Target{Path: "/play/tv/a//x.ts"}, ""},
		{path, reference.Target{Path: "/elsewhere/x.ts"}, ""},
	} {
		if got, ok := l.plain(&hls.Listed{Ref: tc.ref}, &tc.at); ok != (tc.want != "") || got != tc.want {
			t.Errorf("%+v: got %q %v, want %q", tc.at, got, ok, tc.want)
		}
	}
}

func TestLocator_Seal_Query(t *testing.T) {
	t.Parallel()
	l, _ := newTestLocator(t, "/play/{channel}/*", "/play/tv/v.m3u8")
	for _, tc := range []struct {
		role        hls.Role
		query, want string
	}{
		{hls.Playlist, "a=1", "/x?a=1"}, {hls.Playlist, "", "/x"}, {hls.Media, "a=1", "/x"}, {hls.Media, "", "/x"},
	} {
		got, ok := l.seal(&hls.Listed{Role: tc.role}, &reference.Target{Role: tc.role, Path: "/x", Query: tc.query})
		if !ok || !strings.HasSuffix(got, tc.want) {
			t.Errorf("%v with %q: got %q %v, want %s at the end", tc.role, tc.query, got, ok, tc.want)
		}
	}
}

func TestLocator_Plain_SecondMapping(t *testing.T) {
	t.Parallel()
	c := testConfig("http://o.example")
	c.Routes[0].Path, c.Routes[0].Media = "/live/{channel}.m3u8", []PathMappingConfig{{Path: "/m/{channel}/*"}}
	g, _ := newBareGateway(t, c)
	at, _ := foundTarget(g.routes, "", "/live/tv.m3u8")
	l := g.newLocator(&requestContext{target: at})
	const path = "/m/tv/x.ts"
	if got, ok := l.plain(&hls.Listed{Ref: path}, &reference.Target{Path: path}); !ok || got != path {
		t.Errorf("got %q %v, want %q", got, ok, path)
	}
}
