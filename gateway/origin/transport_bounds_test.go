package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"usher/backends/setting"
	"usher/gateway/upstream"
)

// TestOrigin_CheckRedirect_NextRequest checks where a redirect leads, with whose password and header fields.
func TestOrigin_CheckRedirect_NextRequest(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://me:first@own", "http://me:second@fallback"}, WithUpstream(upstream.Config{
		PublicNames: []string{"tv.example.com"}, RedirectHosts: []upstream.RedirectHost{{Host: "edge"}},
		Headers: map[string]setting.Secret{"X-Key": "k"},
	}))
	for name, test := range map[string]struct {
		first, next string
		want        string // refused without it
		wantsKey    bool
	}{
		"to the same host":                 {"http://me:first@own/a", "http://own/b", "http://me:first@own/b", true},
		"to another address":               {"http://me:first@own/a", "http://fallback/b", "http://me:second@fallback/b", true},
		"to another user":                  {"http://me:first@own/a", "http://you:other@own/b", "http://you:other@own/b", true},
		"to an edge":                       {"http://me:first@own/a", "http://edge/b", "http://edge/b", false},
		"to a public name":                 {"http://me:first@own/a", "https://tv.example.com/b", "http://me:first@own/b", true},
		"to a public name, by a fallback":  {"http://me:second@fallback/a", "https://tv.example.com/b", "http://me:second@fallback/b", true},
		"to a public name, by an edge":     {"http://edge/a", "https://tv.example.com/b", "http://me:first@own/b", true},
		"to a public name, by that itself": {"https://tv.example.com/a", "https://tv.example.com/b", "http://me:first@own/b", true},
		"to a foreign host":                {"http://me:first@own/a", "http://foreign/b", "", false},
	} {
		h := &hop{isConnected: true}
		next := (&http.Request{URL: mustURL(t, test.next), Header: http.Header{"X-Key": {"k"}, "Referer": {"http://own/a"}}}).WithContext(h.trace(t.Context()))
		first := &http.Request{URL: mustURL(t, test.first), Header: http.Header{"Range": {"bytes=0-1"}}}
		err := o.checkRedirect(next, []*http.Request{first})
		if test.want == "" {
			if !errors.Is(err, errRedirect) || h.isRedirected || !h.isConnected {
				t.Errorf("%s: got %v, %+v; want it refused", name, err, h)
			}
			continue
		}
		if err != nil || next.URL.String() != test.want || h.url != next.URL || !h.isRedirected || h.isConnected {
			t.Errorf("%s: got %s, %v, %+v; want %s", name, next.URL, err, h, test.want)
		}
		if got := next.Header; (got.Get("X-Key") == "k") != test.wantsKey || got.Get("Referer") != "" || got.Get("Range") != "bytes=0-1" {
			t.Errorf("%s: got the header %v, want the key: %v", name, got, test.wantsKey)
		}
	}
}

func TestOrigin_CheckRedirect_AtMostThree(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://own"})
	for n, want := range map[int]bool{1: true, maxRedirects: true, maxRedirects + 1: false} {
		next := &http.Request{URL: mustURL(t, "http://own/b")}
		via := slices.Repeat([]*http.Request{{URL: mustURL(t, "http://own/a")}}, n)
		if err := o.checkRedirect(next, via); (err == nil) != want {
			t.Errorf("redirect %d: got %v, want it allowed: %v", n, err, want)
		}
	}
}

func TestOrigin_IsOwnAddress_PublicNameIsNone(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://own:8000"}, WithUpstream(upstream.Config{
		PublicNames: []string{"tv.example.com"}, RedirectHosts: []upstream.RedirectHost{{Host: "edge"}},
	}))
	for text, want := range map[string]bool{
		"http://own:8000/x": true, "http://own/x": false, "http://tv.example.com/x": false, "http://edge/x": false, "http://foreign/x": false,
	} {
		if got := o.isOwnAddress(mustURL(t, text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestOrigin_RedirectHeader_OfTheFetchOnly(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://own"})
	first := http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {`"v"`}, "Referer": {"x"}, "X-Key": {"k"}, "Range": {}}
	got := o.redirectHeader(first, false)
	want := http.Header{"User-Agent": {"usher"}, "Accept-Encoding": {"gzip"}, "If-None-Match": {`"v"`}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOrigin_Dial_AddressAllowed(t *testing.T) {
	t.Parallel()
	server := strings.TrimPrefix(serve(t, respondWith("inner")), "http://")
	for name, test := range map[string]struct {
		own      string
		networks []netip.Prefix
		want     bool
	}{
		"a configured address":     {server, nil, true},
		"an address in a network":  {"10.0.0.1", loopback(), true},
		"an address in no network": {"10.0.0.1", nil, false},
	} {
		o := newFixture(t, nil, []string{"http://" + test.own}, WithUpstream(upstream.Config{AllowedNetworks: test.networks}))
		conn, err := o.dial()(t.Context(), "tcp", server)
		if conn != nil {
			_ = conn.Close()
		}
		refused, isRefused := errors.AsType[*HostError](err)
		if (err == nil) != test.want || isRefused == test.want || isRefused && (refused.Host != server || !refused.Address.IsLoopback()) {
			t.Errorf("%s: got %v, want it allowed: %v", name, err, test.want)
		}
	}
}

// TestNewTransport_Dial_ErrorKept checks that only a dial that timed out gets the error of the timeout.
func TestNewTransport_Dial_ErrorKept(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	o := newFixture(t, nil, []string{"http://own"})
	dial := o.config.Fetch.within(func(context.Context, string, string) (net.Conn, error) { return nil, refused })
	if _, err := dial(t.Context(), "tcp", "own:80"); err != refused { //nolint:errorlint // the very error
		t.Errorf("got %v, want the dial's error", err)
	}
}

// TestCookies_SetCookies_Distinct counts the cookies that are told apart, of hosts that get the origin's header fields.
func TestCookies_SetCookies_Distinct(t *testing.T) {
	t.Parallel()
	hosts, err := upstream.NewHosts([]*url.URL{mustURL(t, "http://own")}, nil, upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "edge"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newCookies(hosts)
	for _, step := range []struct {
		url, path string
		want      int
	}{
		{"http://own/a/x", "", 1},
		{"http://own/a/y", "", 1},
		{"http://own/a/", "", 1},
		{"http://own/b/x", "/a/", 1},
		{"http://own/b/x", "", 2},
		{"http://own/x", "", 3},
		{"http://own/b/x", "/", 3},
		{"http://edge/x", "/c", 3},
	} {
		c.SetCookies(mustURL(t, step.url), []*http.Cookie{{Name: "n", Value: "v", Path: step.path}})
		if got := len(c.names); got != step.want {
			t.Errorf("%s %s: %d cookies, want %d", step.url, step.path, got, step.want)
		}
	}
	if own, edge := c.Cookies(mustURL(t, "http://own/a/x")), c.Cookies(mustURL(t, "http://edge/c")); len(own) == 0 || len(edge) != 0 {
		t.Errorf("got %d cookies for the origin, %d for another host", len(own), len(edge))
	}
}

func TestCookies_SetCookies_Bounded(t *testing.T) {
	t.Parallel()
	hosts, err := upstream.NewHosts([]*url.URL{mustURL(t, "http://own")}, nil, upstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, own := newCookies(hosts), mustURL(t, "http://own/")
	set := func(n int) {
		for i := range n {
			c.SetCookies(own, []*http.Cookie{{Name: fmt.Sprint("c", i), Value: "v", Path: "/"}})
		}
	}
	set(maxCookies)
	if got := len(c.Cookies(own)); got != maxCookies {
		t.Errorf("%d cookies, want %d", got, maxCookies)
	}
	set(maxCookies + 1)
	if got := len(c.Cookies(own)); got != 1 || len(c.names) != 0 {
		t.Errorf("%d cookies beyond the bound, %d of them counted; want the last", got, len(c.names))
	}
}
