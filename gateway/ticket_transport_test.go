package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// channelOrigin is an origin with one channel in a folder: a multivariant playlist, a variant in a folder of its own with
// a key, an init section and segments. Media is "bytes of" what was asked for, so that a test can tell responses apart.
type channelOrigin struct {
	folder string                   // on the origin, as a URL's path
	write  func(name string) string // how a playlist in hd/ writes the URI of a name in the folder; absolute below
	master func(name string) string // the same for the multivariant playlist
}

func (o channelOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch name, _ := strings.CutPrefix(r.URL.RequestURI(), o.folder); name {
	case "index.m3u8":
		_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n%s\n", o.master("hd/index.m3u8"))
	case "hd/index.m3u8":
		_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"%s\"\n#EXT-X-MAP:URI=\"%s\"\n"+
			"#EXTINF:6,\n%s\n#EXTINF:6,\n%s\n", o.write("enc.key"), o.write("hd/init.mp4"), o.write("hd/seg-1.m4s"),
			o.write("hd/seg-2.m4s?sig=a%2Fb&x=1&x=2"))
	default:
		_, _ = fmt.Fprint(w, "bytes of "+r.URL.RequestURI())
	}
}

// spelling sets how an origin writes its URIs.
func (o *channelOrigin) spelling(how, base string) {
	switch how {
	case "relative":
		o.master = func(name string) string { return name }
		o.write = func(name string) string {
			if below, ok := strings.CutPrefix(name, "hd/"); ok {
				return below
			}
			return "../" + name
		}
	case "root-relative":
		o.write = func(name string) string { return o.folder + name }
		o.master = o.write
	default:
		o.write = func(name string) string { return base + o.folder + name }
		o.master = o.write
	}
}

// player follows playlists as players do: it resolves what it reads by RFC 3986 and knows nothing of tickets.
type player struct {
	client *http.Client
	jar    *cookiejar.Jar
	host   string
}

func newPlayer(t *testing.T, host string) *player {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("jar: %v", err)
	}
	p := &player{client: &http.Client{Transport: &http.Transport{}}, jar: jar, host: host}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// get returns the body of what is served.
func (p *player) get(t *testing.T, u *url.URL) string {
	t.Helper()
	status, body := p.fetch(t, u)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %q", u, status, body)
	}
	return body
}

// fetch returns the status and body of a response.
func (p *player) fetch(t *testing.T, u *url.URL) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, u.String(), nil)
	if err != nil {
		t.Fatalf("request %s: %v", u, err)
	}
	r.Host = p.host
	asWritten := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.EscapedPath()} // cookie paths are compared unescaped
	for _, c := range p.jar.Cookies(asWritten) {
		r.AddCookie(c)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatalf("GET %s: %v", u, err)
	}
	defer resp.Body.Close()
	p.jar.SetCookies(asWritten, resp.Cookies())
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", u, err)
	}
	return resp.StatusCode, string(text)
}

// urisIn returns the URIs of a playlist, attributes first.
func urisIn(playlist string) []string {
	var all []string
	for _, found := range regexp.MustCompile(`URI="([^"]*)"`).FindAllStringSubmatch(playlist, -1) {
		all = append(all, found[1])
	}
	return append(all, uris(playlist)...)
}

func resolve(t *testing.T, base *url.URL, ref string) *url.URL {
	t.Helper()
	u, err := base.Parse(ref)
	if err != nil {
		t.Fatalf("resolve %q: %v", ref, err)
	}
	return u
}

// TestServe_PlayerReachesEverythingInEveryMode plays a channel from the multivariant playlist to the last segment, for every
// ticket transport, under every form of a route, with URIs written in every form.
func TestServe_PlayerReachesEverythingInEveryMode(t *testing.T) {
	t.Parallel()
	forms := map[string]struct {
		entry  string
		folder string // on the origin
		prefix string // of the origin's address
		edit   func(*RouteConfig)
	}{
		"a plain route": {
			entry: "/play/a001/index.m3u8", folder: "/play/a001/",
		},
		"a rewritten origin path": {
			entry: "/tv/a001/index.m3u8", folder: "/hls/live/a001/",
			edit: func(r *RouteConfig) { r.Path, r.OriginPath = "/tv/{channel}/*", "/hls/live/{channel}/*" },
		},
		"an Xtream route with media places": {
			entry: "/live/ann/p%40ss/a001.m3u8", folder: "/a001/",
			edit: func(r *RouteConfig) {
				r.Path, r.OriginPath = "/live/{user}/{password}/{channel}.m3u8", "/{channel}/index.m3u8"
				r.Media = []PathMappingConfig{{Path: "/live/{channel}/*", OriginPath: "/{channel}/*"}}
			},
		},
		"an origin with a path of its own": {
			entry: "/play/a001/index.m3u8", folder: "/store/v1/play/a001/", prefix: "/store/v1",
		},
		"a route for a host": {
			entry: "/play/a001/index.m3u8", folder: "/play/a001/",
			edit: func(r *RouteConfig) { r.Hosts = []string{"tv.example.com"} },
		},
		"an escaped channel": {
			entry: "/play/caf%C3%A9%201/index.m3u8", folder: "/play/caf%C3%A9%201/",
		},
	}
	for name, form := range forms {
		for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
			for _, spelling := range []string{"relative", "root-relative", "absolute"} {
				t.Run(fmt.Sprintf("%s/%v/%s", name, ticketIn, spelling), func(t *testing.T) {
					t.Parallel()
					o := &channelOrigin{folder: form.folder}
					g := newTestGateway(t, func(c *Config) {
						o.spelling(spelling, c.Origins["o"].URL)
						c.Origins["o"].URL += form.prefix
						c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
						c.Routes[0].TicketIn = ticketIn
						if form.edit != nil {
							form.edit(&c.Routes[0])
						}
						// Another host's route of the same path must not be taken for this one.
						c.Routes = append([]RouteConfig{{
							Name: "other", Path: c.Routes[0].Path, Hosts: []string{"other.example.com"}, Origin: "o", Backend: "b",
						}}, c.Routes...)
					})
					g.upstream.Answer = o.ServeHTTP
					g.play(t, form.entry, form.folder)
				})
			}
		}
	}
}

// play follows the channel to its end and requires all media to be the right ones.
func (g *testGateway) play(t *testing.T, entry, folder string) {
	t.Helper()
	p := newPlayer(t, "tv.example.com")
	source := resolve(t, &url.URL{}, g.url+entry+"?token=s3cret")
	master := p.get(t, source)
	if again := p.get(t, source); again != master {
		t.Errorf("the multivariant playlist changed between reloads:\n%s\n%s", master, again)
	}
	variant := resolve(t, source, urisIn(master)[0])
	media := p.get(t, variant)
	if again := p.get(t, variant); again != media {
		t.Errorf("the media playlist changed between reloads:\n%s\n%s", media, again)
	}
	var got []string
	for _, ref := range urisIn(media) {
		got = append(got, p.get(t, resolve(t, variant, ref)))
	}
	var want []string
	for _, file := range []string{"enc.key", "hd/init.mp4", "hd/seg-1.m4s", "hd/seg-2.m4s?sig=a%2Fb&x=1&x=2"} {
		want = append(want, "bytes of "+folder+file)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("media (-want +got):\n%s\nmaster:\n%s\nmedia playlist:\n%s", diff, master, media)
	}
	if n := len(g.table.openRequests()); n != 1 {
		t.Errorf("opened %d times, want once: %+v", n, g.table.openRequests())
	}
	if strings.Contains(master+media, "s3cret") || strings.Contains(master+media, "127.0.0.1") {
		t.Errorf("a playlist names the credentials or a host:\n%s\n%s", master, media)
	}
	if seen := g.upstream.Dump(); strings.Contains(seen, "s3cret") || strings.Contains(seen, "ticket") {
		t.Errorf("the origin received the viewer's data:\n%s", seen)
	}
}

func TestServe_MediaPlaylistBelowTicket_SharedByViewers(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	one, other := g.ticket(t, "a001"), g.ticket(t, "a001")
	first := g.want(t, 200, "/~"+one+"/play/a001/index.m3u8")
	second := g.want(t, 200, "/~"+other+"/play/a001/index.m3u8")
	if first.body != mediaPlaylist || second.body != mediaPlaylist {
		t.Errorf("playlists:\n%s\n%s\nwant the origin's:\n%s", first.body, second.body, mediaPlaylist)
	}
}

func TestServe_ForeignURIs_Unchanged(t *testing.T) {
	t.Parallel()
	foreign := []string{
		"https://ads.example.com/ad.ts", "//cdn.example.com/x.ts", "skd://key", "data:text/plain,x",
	}
	for _, ticketIn := range []hls.TicketTransport{hls.TicketInPath, hls.TicketInQuery, hls.TicketInCookie, hls.TicketInNone} {
		t.Run(ticketIn.String(), func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn, c.CORS.AllowedOrigins = ticketIn, nil })
			g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n" + strings.Join(foreign, "\n") + "\n"
			got := g.want(t, 200, "/play/a001/index.m3u8?token=1").body
			if diff := cmp.Diff(foreign, uris(got)); diff != "" {
				t.Errorf("URIs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetCookies_ChannelsStayApart(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.CORS.AllowedOrigins = []string{"https://tv.example.com"}
		c.Routes[0] = RouteConfig{
			Path: "/live/{user}/{password}/{channel}.m3u8", OriginPath: "/{channel}/index.m3u8",
			Media:    []PathMappingConfig{{Path: "/live/{channel}/*", OriginPath: "/{channel}/*"}},
			TicketIn: hls.TicketInCookie, Origin: "o", Backend: "b",
		}
	})
	g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".m3u8") {
			_, _ = io.WriteString(w, mediaPlaylist)
			return
		}
		_, _ = io.WriteString(w, "bytes of "+r.URL.Path)
	}
	p := newPlayer(t, "")
	var media []*url.URL
	for _, channel := range []string{"1", "2"} {
		source := resolve(t, &url.URL{}, g.url+"/live/ann/pass/"+channel+".m3u8")
		media = append(media, resolve(t, source, uris(p.get(t, source))[0]))
	}
	for i, u := range media {
		if got, want := p.get(t, u), fmt.Sprintf("bytes of /%d/seg-17.ts", i+1); got != want {
			t.Errorf("%s: got %q, want %q", u, got, want)
		}
	}
}

func TestSetCookies_Paths(t *testing.T) {
	t.Parallel()
	cookies := func(c *Config) {
		c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, hls.TicketInCookie
	}
	cases := map[string]struct {
		proto string
		want  []string
	}{
		"over HTTPS": {"https", []string{"Path=/play/a001", "Max-Age=21600", "HttpOnly", "Secure", "SameSite=None", "Partitioned"}},
		"over HTTP":  {"http", []string{"Path=/play/a001", "Max-Age=21600", "HttpOnly"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, cookies)
			got := g.want(t, 200, "/play/a001/index.m3u8?token=1", "X-Forwarded-Proto: "+tc.proto, "Origin: https://tv.example.com")
			fields := strings.Split(got.header.Get("Set-Cookie"), "; ")
			if !strings.HasPrefix(fields[0], "usher_ticket=a.") {
				t.Errorf("cookie: got %q", fields[0])
			}
			if diff := cmp.Diff(tc.want, fields[1:]); diff != "" {
				t.Errorf("cookie's attributes (-want +got):\n%s", diff)
			}
			if got.body != mediaPlaylist {
				t.Errorf("playlist: got\n%s", got.body)
			}
			if got.header.Get("Access-Control-Allow-Credentials") != "true" {
				t.Error("a page's player may not send the cookie")
			}
		})
	}
}

// TestServe_RoutesOfOnePath_StayApart keeps a channel of one host apart from the same name on another.
func TestServe_RoutesOfOnePath_StayApart(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.Origins["second"] = &OriginConfig{URL: c.Origins["o"].URL + "/second"}
		one, two := c.Routes[0], c.Routes[0]
		one.Name, one.Hosts = "one", []string{"one.example.com"}
		two.Name, two.Hosts, two.Origin = "two", []string{"two.example.com"}, "second"
		c.Routes = []RouteConfig{one, two}
	})
	g.upstream.Files["/second/play/a001/index.m3u8"] = mediaPlaylist
	g.upstream.Files["/second/play/a001/seg-17.ts"] = "another seventeenth segment"
	one := g.want(t, 200, "/play/a001/index.m3u8?token=1", "Host: one.example.com")
	two := g.want(t, 200, "/play/a001/index.m3u8?token=1", "Host: TWO.example.com:8080")
	if uris(one.body)[0] == uris(two.body)[0] {
		t.Fatalf("one ticket for two routes: %s", one.body)
	}
	for host, want := range map[string]struct{ uri, body string }{
		"one.example.com": {uris(one.body)[0], segment},
		"two.example.com": {uris(two.body)[0], "another seventeenth segment"},
	} {
		if got := g.want(t, 200, want.uri, "Host: "+host); got.body != want.body {
			t.Errorf("%s: got %q, want %q", host, got.body, want.body)
		}
	}
	g.want(t, 403, uris(one.body)[0], "Host: two.example.com")
	g.want(t, 404, uris(one.body)[0], "Host: three.example.com")
	g.want(t, 200, uris(one.body)[0], "Host: lb", "X-Forwarded-Host: one.example.com")
}

func TestServe_ForwardedHost_OnlyFromProxies(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Routes[0].Hosts = []string{"tv.example.com"}
	})
	g.want(t, 404, "/play/a001/index.m3u8?token=1", "X-Forwarded-Host: tv.example.com")
	g.want(t, 200, "/play/a001/index.m3u8?token=1", "Host: tv.example.com", "X-Forwarded-Host: other")
}

// TestServe_TicketInCookie_OddPaths has browsers play channels whose paths a cookie's attribute cannot hold as they are. They send the cookie
// for each, and for no other channel.
func TestServe_TicketInCookie_OddPaths(t *testing.T) {
	t.Parallel()
	for name, channel := range map[string]string{
		"plain": "a001", "a semicolon": "a;v=1", "an escaped one": "a%3Bv=1", "a comma": "a,b", "a quote": "a%22b", "a blank": "a%20b", "Cyrillic": "%D0%B0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, func(c *Config) {
				c.CORS.AllowedOrigins, c.Routes[0].TicketIn = []string{"https://tv.example.com"}, hls.TicketInCookie
				c.Routes[0].Media = []PathMappingConfig{{Path: "/media/{channel}/*"}}
			})
			g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
				body := segment
				if strings.HasSuffix(r.URL.Path, ".m3u8") {
					body = mediaPlaylist
				}
				_, _ = io.WriteString(w, body)
			}
			folder := "/play/" + channel
			list := g.want(t, http.StatusOK, folder+"/index.m3u8?token=1")
			var paths []string
			for _, field := range list.header.Values("Set-Cookie") {
				pair, attributes, _ := strings.Cut(field, ";")
				path := folder // of the request, where the attribute is missing (RFC 6265, 5.1.4)
				if _, given, hasPath := strings.Cut(attributes, "Path="); hasPath {
					path, _, _ = strings.Cut(given, ";")
				}
				paths = append(paths, path)
				g.want(t, http.StatusOK, folder+"/seg-17.ts", "Cookie: "+pair)
			}
			want := []string{folder, "/media/" + channel}
			if strings.Contains(channel, ";") {
				want = want[:1]
			}
			for i := range paths {
				paths[i] = strings.TrimSuffix(paths[i], "/")
			}
			if diff := cmp.Diff(want, paths); diff != "" {
				t.Errorf("the cookies' paths (-want +got):\n%s", diff)
			}
		})
	}
}
