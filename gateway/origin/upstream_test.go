package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"usher/backends/setting"
	"usher/gateway/upstream"
)

// recordingServer is an HTTP server that keeps the requests that it got.
type recordingServer struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func record(t *testing.T, h http.HandlerFunc) *recordingServer {
	t.Helper()
	s := &recordingServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Clone(t.Context()))
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *recordingServer) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// host returns the server's host and port, by another name of this machine if one is given.
func (s *recordingServer) host(name string) string {
	host := strings.TrimPrefix(s.URL, "http://")
	if name == "" {
		return host
	}
	return name + host[strings.LastIndexByte(host, ':'):]
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func redirectTo(target string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target+r.URL.RequestURI(), http.StatusFound)
	}
}

func TestOrigin_Base_FetchesFromTheRedirectHost(t *testing.T) {
	t.Parallel()
	edge, own := record(t, respondWith("edge")), record(t, respondWith("own"))
	o := newFixture(t, nil, []string{own.URL + "/v1?key=inner"}, WithUpstream(upstream.Config{
		RedirectHosts:   []upstream.RedirectHost{{Host: edge.host("")}},
		PublicNames:     []string{"tv.example.com"},
		AllowedNetworks: loopback(),
	}))
	for _, test := range []struct {
		request Request
		want    string
		path    string
	}{
		{Request{Path: "/1.ts"}, "own", "/v1/1.ts?key=inner"},
		{Request{Base: edge.URL, Path: "/1.ts", Query: "t=1"}, "edge", "/1.ts?t=1"},
		{Request{Base: "https://tv.example.com", Path: "/v1/2.ts"}, "own", "/v1/2.ts?key=inner"},
		{Request{Base: own.URL, Path: "/v1/3.ts"}, "own", "/v1/3.ts?key=inner"},
		{Request{Base: own.URL, Path: "/v2/3.ts", Query: "t=1"}, "own", "/v2/3.ts?key=inner&t=1"},
		{Request{Base: "https://tv.example.com", Path: "/v2/4.ts"}, "own", "/v2/4.ts?key=inner"},
	} {
		_, body := mustMedia(t, o, test.request)
		var last *http.Request
		for _, s := range []*recordingServer{edge, own} {
			if all := s.requests(); len(all) > 0 && body == test.want && (body == "edge") == (s == edge) {
				last = all[len(all)-1]
			}
		}
		if last == nil || last.RequestURI != test.path {
			t.Errorf("%s%s: got %q, want %s by %q", test.request.Base, test.request.Path, body, test.path, test.want)
		}
	}
	// The same object by another name is the same cache entry.
	fetches := o.Stats().Fetches
	for _, r := range []Request{{Path: "/1.ts"}, {Base: own.URL, Path: "/v1/1.ts"}, {Base: "http://tv.example.com", Path: "/v1/1.ts"}, {Path: "/2.ts"}} {
		if _, body := mustMedia(t, o, r); body != "own" {
			t.Errorf("%s%s: got %q", r.Base, r.Path, body)
		}
	}
	if got := o.Stats().Fetches; got != fetches {
		t.Errorf("%d further fetches, want none", got-fetches)
	}
}

func TestOrigin_Base_Unlisted_RefusedWithoutRequest(t *testing.T) {
	t.Parallel()
	edge, own := record(t, respondWith("edge")), record(t, respondWith("own"))
	o := newFixture(t, nil, []string{own.URL})
	for _, base := range []string{edge.URL, "http://169.254.169.254", "ftp://" + own.host(""), "http://" + own.host("") + "@" + edge.host(""), "x", "://"} {
		r := reloadRequest()
		r.Base = base
		_, errPlaylist := o.Playlist(t.Context(), new(r))
		_, errMedia := o.Media(t.Context(), r)
		for _, err := range []error{errPlaylist, errMedia} {
			host, ok := errors.AsType[*HostError](err)
			if !ok || !strings.Contains(err.Error(), "origins.test.redirect_hosts") || !strings.Contains(base, host.Host) {
				t.Errorf("%s: got %v, want a HostError that names host and setting", base, err)
			}
		}
	}
	if len(edge.requests())+len(own.requests()) > 0 {
		t.Error("a request was sent")
	}
}

// TestOrigin_RedirectHost_AddressChecked checks every hop of a redirect after the host's name was resolved.
func TestOrigin_RedirectHost_AddressChecked(t *testing.T) {
	t.Parallel()
	inner := record(t, respondWith("inner"))
	for name, test := range map[string]struct {
		networks []netip.Prefix
		host     string // by which the origin names the inner server
		hops     int    // redirects before that
		want     string
	}{
		"an address":                    {host: inner.host("")},
		"a name of a private address":   {host: inner.host("localhost")},
		"an IPv4-mapped address":        {host: inner.host("[::ffff:127.0.0.1]")},
		"the unspecified address":       {host: inner.host("0.0.0.0")},
		"at the second hop":             {host: inner.host("localhost"), hops: 1},
		"another network is listed":     {host: inner.host(""), networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"its network is listed":         {host: inner.host(""), networks: loopback(), want: "inner"},
		"a name's network is listed":    {host: inner.host("localhost"), networks: loopback(), want: "inner"},
		"a mapped address, also listed": {host: inner.host("[::ffff:127.0.0.1]"), networks: loopback(), want: "inner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := record(t, func(w http.ResponseWriter, r *http.Request) {
				if hop := len(r.URL.Query()["hop"]); hop < test.hops {
					http.Redirect(w, r, "/x?hop=1", http.StatusFound)
					return
				}
				http.Redirect(w, r, "http://"+test.host+"/x", http.StatusFound)
			})
			o := newFixture(t, nil, []string{own.URL}, WithUpstream(upstream.Config{
				RedirectHosts: []upstream.RedirectHost{{Host: test.host}}, AllowedNetworks: test.networks,
			}))
			for _, r := range []Request{{Path: "/x"}, {Base: "http://" + test.host, Path: "/x"}} {
				_, body, err := fetchMedia(t, o, r)
				if body != test.want || (err == nil) != (test.want != "") {
					t.Fatalf("%+v: got %q, %v; want %q", r, body, err, test.want)
				}
				refused, ok := errors.AsType[*HostError](err)
				if err != nil && (!ok || !refused.Address.IsValid() || !strings.Contains(err.Error(), "origins.test.allowed_networks")) {
					t.Errorf("%+v: got %v, want a HostError with the address and the setting", r, err)
				}
			}
			if s := o.Stats(); s.EjectedAddresses != 0 {
				t.Error("the origin's own address was ejected")
			}
		})
	}
}

// TestOrigin_Headers_OwnAddressesOnly checks which hosts get the origin's header fields, cookies and password.
func TestOrigin_Headers_OwnAddressesOnly(t *testing.T) {
	t.Parallel()
	trusted, edge := record(t, respondWith("trusted")), record(t, respondWith("edge"))
	var second, own *recordingServer
	back := record(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, second.URL+"/end", http.StatusFound) })
	second = record(t, respondWith("own again"))
	own = record(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1", Path: "/"})
		to := map[string]*recordingServer{"/edge": edge, "/trusted": trusted, "/back": back}[r.URL.Path]
		if to != nil {
			http.Redirect(w, r, to.URL+r.URL.Path, http.StatusFound)
		}
	})
	o := newFixture(t, nil, []string{strings.Replace(own.URL, "//", "//me:5ecret@", 1) + "?key=inner", second.URL}, WithUpstream(upstream.Config{
		RedirectHosts:   []upstream.RedirectHost{{Host: edge.host("")}, {Host: trusted.host(""), SendHeaders: true}, {Host: back.host("")}},
		AllowedNetworks: loopback(), KeepCookies: true,
		Headers: map[string]setting.Secret{"User-Agent": "Lavf/60", "referer": "https://tv.example.com/", "X-Key": "k"},
	}))
	for _, path := range []string{"/first", "/edge", "/trusted", "/back"} {
		mustMedia(t, o, Request{Path: path})
	}
	mustMedia(t, o, Request{Base: edge.URL, Path: "/direct"})
	mustMedia(t, o, Request{Base: trusted.URL, Path: "/direct"})
	fields := func(r *http.Request) string {
		return fmt.Sprintf("%s %s %s %s %s", r.URL.Path, r.UserAgent(), r.Referer(), r.Header.Get("X-Key"), r.Header.Get("Accept-Encoding"))
	}
	const full = " Lavf/60 https://tv.example.com/ k identity"
	for name, test := range map[string]struct {
		server *recordingServer
		want   []string
	}{
		"the own address":             {own, []string{"/first" + full, "/edge" + full, "/trusted" + full, "/back" + full}},
		"a host with send_headers":    {trusted, []string{"/trusted" + full, "/direct" + full}},
		"a host without":              {edge, []string{"/edge usher   identity", "/direct usher   identity"}},
		"redirected back to a second": {second, []string{"/end" + full}},
	} {
		var got []string
		for _, r := range test.server.requests() {
			got = append(got, fields(r))
		}
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		for i, r := range test.server.requests() {
			user, password, _ := r.BasicAuth()
			cookie, _ := r.Cookie("sid")
			if isOwn := test.server == own; (user+":"+password == "me:5ecret") != isOwn || isOwn && (cookie != nil) != (i > 0) {
				t.Errorf("%s: user %q, cookie %v in request %d", name, user, cookie, i)
			}
			if !strings.HasPrefix(name, "the own") && (cookie != nil && test.server == edge || strings.Contains(fmt.Sprint(r.Header, r.URL), "inner")) {
				t.Errorf("%s: got what is the origin's: %v %v", name, r.Header, r.URL)
			}
		}
	}
}

func TestOrigin_RedirectToPublicName_AskedAtTheAddress(t *testing.T) {
	t.Parallel()
	own := record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/start.ts" {
			http.Redirect(w, r, "https://tv.example.com/v1/end.ts?s=1", http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, r.RequestURI)
	})
	o := newFixture(t, nil, []string{own.URL + "/v1"}, WithUpstream(upstream.Config{PublicNames: []string{"tv.example.com"}}))
	if _, body := mustMedia(t, o, Request{Path: "/start.ts"}); body != "/v1/end.ts?s=1" {
		t.Errorf("got %q", body)
	}
}

func TestOrigin_Locate(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://10.0.0.5:8000/v1", "http://[2001:db8::5]/v2/", "http://10.0.0.5:8000/v3"},
		WithOtherOrigins(mustURL(t, "http://10.0.0.6")),
		WithUpstream(upstream.Config{PublicNames: []string{"tv.example.com"}, RedirectHosts: []upstream.RedirectHost{{Host: "*.cdn.example.com:*"}}}))
	for uri, want := range map[string]Location{
		"http://10.0.0.5:8000/v1/a/x.ts":        {upstream.Own, "", "/a/x.ts"},
		"http://10.0.0.5:8000/v3/a/x.ts":        {upstream.Own, "", "/a/x.ts"},
		"http://10.0.0.5:8000/v12/a/x.ts":       {upstream.Own, "http://10.0.0.5:8000", "/v12/a/x.ts"},
		"http://10.0.0.5:8000/v2/a/x.ts":        {upstream.Own, "http://10.0.0.5:8000", "/v2/a/x.ts"},
		"http://[2001:DB8::5]:80/v2/x.ts":       {upstream.Own, "", "/x.ts"},
		"https://tv.example.com/v3/x.ts":        {upstream.Own, "", "/x.ts"},
		"https://tv.example.com/x.ts":           {upstream.Own, "http://10.0.0.5:8000", "/x.ts"},
		"http://10.0.0.6/x.ts":                  {upstream.Listed, "http://10.0.0.6", "/x.ts"},
		"https://E.cdn.example.com:443/v1/x.ts": {upstream.Listed, "https://e.cdn.example.com", "/v1/x.ts"},
		"https://ads.example.net/x.ts":          {upstream.Foreign, "https://ads.example.net", "/x.ts"},
	} {
		u := mustURL(t, uri)
		if got := o.Locate(u.Scheme, u.Host, u.EscapedPath()); got != want {
			t.Errorf("%s: got %+v, want %+v", uri, got, want)
		}
		if got := o.HostKind(u.Scheme, u.Host); got != want.Kind {
			t.Errorf("%s: kind %d, want %d", uri, got, want.Kind)
		}
	}
}

func TestOrigin_Cookies_OnRequestAndBounded(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := record(t, func(w http.ResponseWriter, r *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: r.URL.Query().Get("name"), Value: "1"})
			})
			o := newFixture(t, nil, []string{own.URL}, WithUpstream(upstream.Config{KeepCookies: keep}))
			most := 0
			for i := range maxCookies + 100 {
				mustMedia(t, o, Request{Path: "/1.ts", Query: fmt.Sprint("name=c", i)})
				seen := own.requests()
				most = max(most, len(seen[len(seen)-1].Cookies()))
			}
			if want := map[bool]int{true: maxCookies, false: 0}[keep]; most != want {
				t.Errorf("at most %d cookies in a request, want %d", most, want)
			}
		})
	}
}

// TestPlaylist_RedirectedElsewhere_NewSource checks that a playlist whose redirect moves to another edge lists what that one
// has, even if it says that the bytes are the same.
func TestPlaylist_RedirectedElsewhere_NewSource(t *testing.T) {
	t.Parallel()
	for name, tag := range map[string]string{"with an ETag": `"v1"`, "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", tag)
				if tag != "" && r.Header.Get("If-None-Match") == tag {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				_, _ = io.WriteString(w, "#EXTM3U")
			}
			var edges []string
			for range 2 {
				edges = append(edges, serve(t, answer))
			}
			var requests atomic.Int32
			own := serve(t, func(w http.ResponseWriter, r *http.Request) {
				redirectTo(edges[(requests.Add(1)-1)/2%2])(w, r)
			})
			o := newFixture(t, nil, []string{own}, allowLoopback(edges...))
			var objects []*Object
			for i := range 4 {
				p := mustPlaylist(t, o, Request{Path: "/live.m3u8"})
				if want := edges[i/2] + "/live.m3u8"; p.Source.URL() != want || string(p.Body) != "#EXTM3U" {
					t.Errorf("fetch %d: got %q from %s, want it from %s", i, p.Body, p.Source.URL(), want)
				}
				objects = append(objects, p.Object)
			}
			if objects[0] != objects[1] || objects[2] != objects[3] || objects[1] == objects[2] {
				t.Error("an object was not kept, or was kept for another source")
			}
		})
	}
}

// FuzzOrigin_Locate checks that a URI which a playlist names is fetched from its own host and path, or not at all.
func FuzzOrigin_Locate(f *testing.F) {
	for _, uri := range []string{
		"http://10.0.0.5:8000/v1/a/x.ts?q", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v12/x", "http://[2001:db8::5]:80/v2//x", "https://tv.example.com/v2/x.ts",
		"https://a.cdn.example.com:8080/x%2Fy.ts", "http://me:pw@10.0.0.5:8000/v1/x", "http://a.cdn.example.com./x", "//10.0.0.5/x", "http://10.0.0.5:8000/v1/../x",
	} {
		f.Add(uri)
	}
	o := newFixture(f, nil, []string{"http://10.0.0.5:8000/v1", "http://[2001:db8::5]/v2/"},
		WithUpstream(upstream.Config{PublicNames: []string{"tv.example.com"}, RedirectHosts: []upstream.RedirectHost{{Host: "*.cdn.example.com:*"}}}))
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.Parse(uri)
		if err != nil {
			return
		}
		at := o.Locate(u.Scheme, u.Host, u.EscapedPath())
		base, path, err := o.locate(at.Base, at.Path)
		if at.Kind == upstream.Foreign {
			if at.Base != "" && err == nil {
				t.Fatalf("%s: foreign, and fetched from %s", uri, base)
			}
			return
		}
		if err != nil || base != at.Base || path != at.Path || checkPath(path, true) != nil && strings.HasPrefix(path, "/") && !hasBadSegment(path) {
			t.Fatalf("%s: located at %+v, which is %s %s, %v", uri, at, base, path, err)
		}
		isFound := false
		for _, addr := range o.addressesOf(cacheKey{base: base, path: path}, "") {
			fetched := cacheKey{base: base, path: path}.url(addr.url)
			m, want := o.hosts.Match(fetched.Scheme, fetched.Host), o.hosts.Match(u.Scheme, u.Host)
			isSameHost := upstream.Canonical(fetched.Scheme, fetched.Host) == upstream.Canonical(u.Scheme, u.Host)
			isFound = isFound || fetched.EscapedPath() == u.EscapedPath() && (isSameHost || want.IsPublicName)
			if m.Kind != at.Kind || at.Kind == upstream.Listed && !isSameHost {
				t.Fatalf("%s: fetched from %s", uri, fetched)
			}
		}
		if !isFound {
			t.Fatalf("%s: not fetched from there, but by %+v", uri, at)
		}
	})
}

// hasBadSegment reports whether a path has what is never sent to an origin.
func hasBadSegment(path string) bool {
	plain, err := url.PathUnescape(path)
	return err != nil || strings.ContainsAny(plain, "\x00\\") || slices.ContainsFunc(strings.Split(plain, "/"), func(s string) bool { return s == "." || s == ".." })
}
