package origin

import (
	"errors"
	"fmt"
	"testing"

	"usher/gateway/upstream"
)

func TestCheckPath_ListedAndNot(t *testing.T) {
	t.Parallel()
	for path, test := range map[string]struct{ isListed, isNot bool }{
		"/":            {true, true},
		"/a/x.ts":      {true, true},
		"/a//x.ts":     {true, true},
		"/a%20b/x.ts":  {true, true},
		"/a/.x/..y":    {true, true},
		"/a/x.ts%20":   {true, false}, // some file systems drop the blank
		"":             {false, false},
		"x.ts":         {false, false},
		"a/x.ts":       {false, false},
		"/%zz":         {false, false},
		"/a/..":        {false, false},
		"/a/.":         {false, false},
		"/./a":         {false, false},
		"/../a":        {false, false},
		"/%2e%2e/a":    {false, false},
		"/%2E/a":       {false, false},
		"/a%2f..%2fb":  {false, false},
		"/a\\b":        {false, false},
		"/a%5cb":       {false, false},
		"/a%00":        {false, false},
		"relative\x00": {false, false},
	} {
		for isListed, want := range map[bool]bool{true: test.isListed, false: test.isNot} {
			if err := checkPath(path, isListed); (err == nil) != want || err != nil && !errors.Is(err, ErrPath) {
				t.Errorf("%q, listed %v: got %v, want it allowed: %v", path, isListed, err, want)
			}
		}
	}
}

func TestCacheKey_URL(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		base string
		key  cacheKey
		want string
	}{
		"a path":                    {"http://a", cacheKey{path: "/x.m3u8"}, "http://a/x.m3u8"},
		"below a path":              {"http://a:1/v1/", cacheKey{path: "/x%2Fy.m3u8"}, "http://a:1/v1/x%2Fy.m3u8"},
		"with directives":           {"http://a", cacheKey{path: "/x", variant: "_HLS_msn=1"}, "http://a/x?_HLS_msn=1"},
		"with all queries":          {"https://me:pw@a?k=1", cacheKey{path: "/x", query: "q=2", variant: "d=3"}, "https://me:pw@a/x?k=1&q=2&d=3"},
		"with the second query":     {"http://a", cacheKey{path: "/x", query: "q=2"}, "http://a/x?q=2"},
		"with the outer queries":    {"http://a?k=1", cacheKey{path: "/x", variant: "d=3"}, "http://a/x?k=1&d=3"},
		"media has no range in it":  {"http://a?k=1", cacheKey{path: "/x", query: "q=2", variant: "bytes=0-1", media: true}, "http://a/x?k=1&q=2"},
		"media without any queries": {"http://a", cacheKey{path: "/x", variant: "bytes=0-1", media: true}, "http://a/x"},
	} {
		if got := test.key.url(mustURL(t, test.base)).String(); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestCacheKey_Class_WithoutRange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key     cacheKey
		class   fetchClass
		variant string // without its range
	}{
		"a playlist":          {cacheKey{}, classPlaylist, ""},
		"a held playlist":     {cacheKey{variant: "_HLS_msn=1"}, classBlocking, "_HLS_msn=1"},
		"media":               {cacheKey{media: true}, classMedia, ""},
		"the range of a file": {cacheKey{media: true, variant: "bytes=0-1"}, classMedia, ""},
	} {
		if got := test.key.class(); got != test.class {
			t.Errorf("%s: got class %d, want %d", name, got, test.class)
		}
		if got := test.key.withoutRange().variant; got != test.variant {
			t.Errorf("%s without range: got variant %q, want %q", name, got, test.variant)
		}
	}
}

func TestChannelOf_RequestOrFolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ channel, path, want string }{
		"the request's":          {"a001", "/b/c/x.ts", "a001"},
		"the folder's":           {"", "/b/c/x.ts", "/b/c/"},
		"the uppermost folder's": {"", "/x.ts", "/"},
		"that of a folder":       {"", "/b/", "/b/"},
	} {
		if got := channelOf(&Request{Channel: test.channel}, cacheKey{path: test.path}); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestOrigin_RedirectAddress_Bounded checks that the addresses of redirect hosts are kept, up to a bound.
func TestOrigin_RedirectAddress_Bounded(t *testing.T) {
	t.Parallel()
	o := newFixture(t, func(c *Config) { c.Fetch.MaxConns = 1 }, []string{"http://own/v1?k=1", "http://me:pw@second?k=2"},
		WithUpstream(upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "*.cdn.example.com"}, {Host: "trusted", SendHeaders: true}}}))
	for base, want := range map[string]struct {
		url   string
		sends bool
	}{
		"http://own":               {"http://own?k=1", true},
		"http://second":            {"http://me:pw@second?k=2", true},
		"http://trusted":           {"http://trusted", true},
		"http://0.cdn.example.com": {"http://0.cdn.example.com", false},
		"://":                      {"", false},
	} {
		addr := o.redirectAddress(base)
		if got := addr.url.String(); got != want.url || addr.sendsHeaders != want.sends {
			t.Errorf("%s: got %s, header fields %v; want %s, %v", base, got, addr.sendsHeaders, want.url, want.sends)
		}
		if o.redirectAddress(base) != addr {
			t.Errorf("%s: got another address the second time", base)
		}
	}
	first := o.redirectAddress("http://own")
	for i := len(o.redirectAddresses); i < maxRedirectAddresses; i++ {
		o.redirectAddress(fmt.Sprintf("http://%d.cdn.example.com", i))
	}
	if got := len(o.redirectAddresses); got != maxRedirectAddresses || o.redirectAddress("http://own") != first {
		t.Errorf("%d addresses are kept, want %d with the first", got, maxRedirectAddresses)
	}
	o.redirectAddress("http://more.cdn.example.com")
	if got := len(o.redirectAddresses); got != 1 || o.redirectAddress("http://own") == first {
		t.Errorf("%d addresses are kept beyond the bound, want the last", got)
	}
}

func TestOrigin_LocateBase_KindsOfHosts(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://own/v1"}, WithUpstream(upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "edge"}}}))
	for base, want := range map[string]string{
		"": " /v1/x", "http://own": " /x", "http://edge": "http://edge /v1/x", "http://foreign": "",
	} {
		gotBase, path, err := o.locate(base, "/v1/x")
		if (err != nil) != (want == "") || err == nil && gotBase+" "+path != want {
			t.Errorf("%q: got %q, %q, %v; want %q", base, gotBase, path, err, want)
		}
	}
}
