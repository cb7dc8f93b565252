package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/hls"
	"usher/gateway/ticket"
)

func newTestHasher(t testing.TB) *sessionHasher {
	t.Helper()
	i := newSessionHasher("an identity secret")
	t.Cleanup(func() { i.playbackIDs.owners.StopAllGoroutines() })
	return i
}

// identityCase holds what a session id is made of.
type identityCase struct {
	secret   setting.Secret
	route    RouteConfig
	path     string
	query    string
	address  string
	agent    string
	playback string
	header   string // X-Token
}

func someViewer() identityCase {
	return identityCase{
		route: RouteConfig{Path: "/play/{channel}/*"}, path: "/play/a001/index.m3u8", query: "token=123",
		address: "192.0.2.7", agent: "VLC/3.0", playback: "P1", secret: "an identity secret",
	}
}

func (a identityCase) newID(t testing.TB) backends.SessionID {
	t.Helper()
	i := newSessionHasher(a.secret)
	defer i.playbackIDs.owners.StopAllGoroutines()
	return a.idBy(t, i)
}

func (a identityCase) idBy(t testing.TB, i *sessionHasher) backends.SessionID {
	t.Helper()
	r, err := newRoute(a.route, nil)
	if err != nil {
		t.Fatalf("route: %v", err)
	}
	found, ok := foundTarget([]*route{r}, "", a.path)
	if !ok {
		t.Fatalf("no route for %s", a.path)
	}
	h := http.Header{}
	h.Set("User-Agent", a.agent)
	h.Set("X-Playback-Session-Id", a.playback)
	h.Set("X-Token", a.header)
	v := Request{Path: a.path, Query: a.query, Header: h}
	c := credentialsOf(&found, &v, v.Query, "ticket")
	id, _ := i.sessionID(&found, &c, &v, client{address: netip.MustParseAddr(a.address)})
	return id
}

func TestSessionHasher_SessionID_SameViewer(t *testing.T) {
	t.Parallel()
	xtream := RouteConfig{Path: "/live/{user}/{password}/{channel}.m3u8"}
	cases := map[string]struct{ one, other func(*identityCase) }{
		"at any time":                         {func(a *identityCase) {}, func(a *identityCase) {}},
		"from another address, shared":        {func(a *identityCase) { a.route.OnNewAddress = ShareSession }, func(a *identityCase) { a.route.OnNewAddress = ShareSession; a.address = "198.51.100.1" }},
		"from their address, otherwise spelt": {func(a *identityCase) {}, func(a *identityCase) { a.address = "::ffff:192.0.2.7" }},
		"from another host of their /64":      {func(a *identityCase) { a.address = "2001:db8::1" }, func(a *identityCase) { a.address = "2001:db8::2:3" }},
		"with another player":                 {func(a *identityCase) {}, func(a *identityCase) { a.agent = "hls.js" }},
		"with another playback":               {func(a *identityCase) {}, func(a *identityCase) { a.playback = "P2" }},
		"for another of its files":            {func(a *identityCase) {}, func(a *identityCase) { a.path = "/play/a001/low.m3u8" }},
		"with a ticket beside":                {func(a *identityCase) {}, func(a *identityCase) { a.query += "&ticket=x" }},
		"with a delivery directive":           {func(a *identityCase) {}, func(a *identityCase) { a.query += "&_HLS_msn=7&_HLS_part=1" }},
		"with media data":                     {func(a *identityCase) {}, func(a *identityCase) { a.query += "&CMCD=bl%3D100" }},
		"with an ignored parameter":           {func(a *identityCase) { a.route.IgnoreQuery = []string{"utm"} }, func(a *identityCase) { a.route.IgnoreQuery = []string{"utm"}; a.query = "utm=x&token=123" }},
		"with an escaped channel":             {func(a *identityCase) { a.path = "/play/caf%C3%A9/i.m3u8" }, func(a *identityCase) { a.path = "/play/caf%c3%a9/i.m3u8" }},
		"with an unlisted credential":         {func(a *identityCase) { a.route.Credentials = []string{"token"} }, func(a *identityCase) { a.route.Credentials = []string{"token"}; a.query += "&more=x" }},
		"with empty pairs":                    {func(a *identityCase) {}, func(a *identityCase) { a.query = "&token=123&" }},
		"with a query escaped otherwise":      {func(a *identityCase) { a.query = "token=a/b==&x=a%20b" }, func(a *identityCase) { a.query = "token=a%2Fb%3D%3D&x=a+b&_HLS_msn=3" }},
		"with a password in the path": {
			func(a *identityCase) { a.route, a.query, a.path = xtream, "", "/live/ann/p%40ss/1.m3u8" },
			func(a *identityCase) { a.route, a.query, a.path = xtream, "", "/live/ann/p@ss/1.m3u8" },
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := someViewer(), someViewer()
			tc.one(&a)
			tc.other(&b)
			if a.newID(t) != b.newID(t) {
				t.Errorf("two sessions for\n%+v\n%+v", a, b)
			}
		})
	}
}

func TestSessionHasher_SessionID_TellsApart(t *testing.T) {
	t.Parallel()
	base := func(edit func(*identityCase)) func(*identityCase) { return edit }
	identity := func(facts ...string) func(*identityCase) {
		return base(func(a *identityCase) { a.route.IdentityFields = facts })
	}
	cases := map[string]struct{ both, other func(*identityCase) }{
		"the secret":                {nil, func(a *identityCase) { a.secret = "another secret, as long" }},
		"the route":                 {nil, func(a *identityCase) { a.route.Name = "other" }},
		"the channel":               {nil, func(a *identityCase) { a.path = "/play/a002/index.m3u8" }},
		"the entry's folder":        {nil, func(a *identityCase) { a.path = "/play/a001/hd/index.m3u8" }},
		"the channel's case":        {nil, func(a *identityCase) { a.path = "/play/A001/index.m3u8" }},
		"the credentials":           {nil, func(a *identityCase) { a.query = "token=124" }},
		"one more credential":       {nil, func(a *identityCase) { a.query = "token=123&x=" }},
		"their order":               {func(a *identityCase) { a.query = "a=1&b=2" }, func(a *identityCase) { a.query = "b=2&a=1" }},
		"an escaped ampersand":      {func(a *identityCase) { a.query = "a=1&b=2" }, func(a *identityCase) { a.query = "a=1%26b=2" }},
		"an escaped equals sign":    {func(a *identityCase) { a.query = "a=b=c" }, func(a *identityCase) { a.query = "a%3Db=c" }},
		"a credential's header":     {func(a *identityCase) { a.route.CredentialHeaders = []string{"x-token"} }, func(a *identityCase) { a.header = "secret" }},
		"an address":                {nil, func(a *identityCase) { a.address = "192.0.2.8" }},
		"an address, if refused":    {func(a *identityCase) { a.route.OnNewAddress = RefuseNewAddress }, func(a *identityCase) { a.address = "192.0.2.8" }},
		"a subscriber's /64":        {func(a *identityCase) { a.address = "2001:db8::1" }, func(a *identityCase) { a.address = "2001:db8:0:1::1" }},
		"IPv4 and IPv6 of its bits": {func(a *identityCase) { a.address = "0.192.0.2" }, func(a *identityCase) { a.address = "0:c0:2::" }},
		"no credentials, though others are shared": {
			func(a *identityCase) { a.query, a.route.OnNewAddress = "", ShareSession }, func(a *identityCase) { a.address = "192.0.2.8" },
		},
		"a player":   {identity("user_agent"), func(a *identityCase) { a.agent = "hls.js" }},
		"a playback": {identity("playback_session"), func(a *identityCase) { a.playback = "P2" }},
		"an address, without credentials": {
			func(a *identityCase) { a.query = "" }, func(a *identityCase) { a.address = "192.0.2.8" },
		},
		"a player, without credentials": {
			func(a *identityCase) { a.query = "" }, func(a *identityCase) { a.agent = "hls.js" },
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := someViewer(), someViewer()
			if tc.both != nil {
				tc.both(&a)
				tc.both(&b)
			}
			tc.other(&b)
			if a.newID(t) == b.newID(t) {
				t.Errorf("one session for\n%+v\n%+v", a, b)
			}
		})
	}
}

func TestSessionHasher_SessionID_PlaybackSession(t *testing.T) {
	t.Parallel()
	a := someViewer()
	a.route.IdentityFields = []string{"playback_session", "user_agent"}
	b := a
	b.agent = "hls.js"
	if a.newID(t) != b.newID(t) {
		t.Error("the same playback in another player is another session")
	}
	b.query = "token=124"
	if a.newID(t) == b.newID(t) {
		t.Error("the same playback with other credentials is the same session")
	}
	a.playback, b = "", a
	b.playback, b.agent = "", "hls.js"
	if a.newID(t) == b.newID(t) {
		t.Error("without a playback the player does not count")
	}
}

func TestPlaybackIDs_Accept_Bounded(t *testing.T) {
	t.Parallel()
	i := newTestHasher(t)
	a := someViewer()
	a.route.IdentityFields = []string{"playback_session"}
	seen := map[backends.SessionID]bool{}
	for n := range 1000 {
		a.playback = fmt.Sprint("P", n)
		seen[a.idBy(t, i)] = true
	}
	if len(seen) != maxPlaybacks+1 {
		t.Errorf("sessions of one token: got %d, want %d and one for all others", len(seen), maxPlaybacks)
	}
	a.playback = "P0"
	if !seen[a.idBy(t, i)] {
		t.Error("a playback that counted does not any more")
	}
	a.query, a.playback = "token=124", "P999"
	if seen[a.idBy(t, i)] {
		t.Error("another token's playbacks do not count")
	}
}

func TestPlaybackIDs_Accept_Expires(t *testing.T) {
	t.Parallel()
	p := newPlaybackIDs()
	t.Cleanup(func() { p.owners.StopAllGoroutines() })
	now := time.Now()
	for n := range maxPlaybacks {
		if !p.accept([]byte("owner"), fmt.Sprint(n), now) {
			t.Fatalf("playback %d does not count", n)
		}
	}
	if p.accept([]byte("owner"), "late", now.Add(playbackTTL)) {
		t.Error("one too many counts")
	}
	if !p.accept([]byte("owner"), "0", now) {
		t.Error("one that counts does not any more once there are as many as may be")
	}
	if !p.accept([]byte("owner"), "late", now.Add(playbackTTL+1)) {
		t.Error("one does not count although the others are gone")
	}
}

func TestCredentialsOf(t *testing.T) {
	t.Parallel()
	const path = "/play/a001/index.m3u8"
	cases := map[string]struct {
		route       RouteConfig
		path, query string
		header      http.Header
		want        string
		headers     []backends.Header
	}{
		"the whole query":                    {RouteConfig{}, path, "b=2&a=1&a=1", nil, "b=2&a=1&a=1", nil},
		"nothing":                            {RouteConfig{}, path, "", nil, "", nil},
		"bytes as they came":                 {RouteConfig{}, path, "t=a%2fb+c%20d=&%74=é", nil, "t=a%2fb+c%20d=&%74=é", nil},
		"a name without value":               {RouteConfig{}, path, "a&b=&=c", nil, "a&b=&=c", nil},
		"broken escapes":                     {RouteConfig{}, path, "a=%zz&%=1", nil, "a=%zz&%=1", nil},
		"not what is never one":              {RouteConfig{}, path, "_HLS_msn=1&t=1&CMCD=x&ticket=y&_HLS_skip=YES", nil, "t=1", nil},
		"not those names, encoded":           {RouteConfig{}, path, "%5FHLS_msn=1&t=1&CM%43D=x&%74icket=y", nil, "t=1", nil},
		"but their like":                     {RouteConfig{}, path, "HLS_msn=1&cmcd=x&Ticket=y", nil, "HLS_msn=1&cmcd=x&Ticket=y", nil},
		"not what the route ignores":         {RouteConfig{IgnoreQuery: []string{"utm", "a b"}}, path, "utm=1&t=1&a+b=2&a%20b=3", nil, "t=1", nil},
		"only what the route lists":          {RouteConfig{Credentials: []string{"t", "u"}}, path, "x=1&t=1&u=2&t=3&y=4", nil, "t=1&u=2&t=3", nil},
		"nothing that the route lists":       {RouteConfig{Credentials: []string{"t"}}, path, "x=1&y=4", nil, "", nil},
		"an ignored one though it is listed": {RouteConfig{Credentials: []string{"t"}, IgnoreQuery: []string{"t"}}, path, "t=1", nil, "", nil},
		"without an empty pair at the end":   {RouteConfig{}, path, "a=1&", nil, "a=1", nil},
		"without empty pairs":                {RouteConfig{}, path, "&&a=1&&b=2&", nil, "a=1&b=2", nil},
		"nothing but empty pairs":            {RouteConfig{}, path, "&&&", nil, "", nil},
		"parts of the path": {
			RouteConfig{Path: "/live/{user}/{password}/{channel}.m3u8"},
			"/live/ann/a%26b%20c/17.m3u8", "x=1", nil,
			"x=1&user=ann&password=a%26b+c", nil,
		},
		"a part of the path behind the channel": {
			RouteConfig{Path: "/live/{channel}/{token}/*"}, "/live/17/abc/index.m3u8", "x=1", nil, "x=1&token=abc", nil,
		},
		"headers in the route's order": {
			RouteConfig{CredentialHeaders: []string{"x-b", "X-A", "X-C"}},
			path, "",
			http.Header{"X-A": {"1", "2"}, "X-B": {"3"}},
			"",
			[]backends.Header{{Name: "X-B", Value: "3"}, {Name: "X-A", Value: "1"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.route.Path == "" {
				tc.route.Path = "/play/{channel}/*"
			}
			r, err := newRoute(tc.route, nil)
			if err != nil {
				t.Fatalf("route: %v", err)
			}
			found, _ := foundTarget([]*route{r}, "", tc.path)
			got := credentialsOf(&found, &Request{Query: tc.query, Header: tc.header}, tc.query, "ticket")
			if diff := cmp.Diff(tc.want, got.Query); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.headers, got.Headers); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRoute_Missing(t *testing.T) {
	t.Parallel()
	r := &route{config: RouteConfig{Required: []string{"token", "X-Device"}}}
	device := []backends.Header{{Name: "X-Device", Value: "1"}}
	cases := map[string]struct {
		credentials backends.Credentials
		want        string
	}{
		"both":             {backends.Credentials{Query: "token=1", Headers: device}, ""},
		"both as queries":  {backends.Credentials{Query: "x-device=1&token=1&X-Device=2"}, ""},
		"an encoded name":  {backends.Credentials{Query: "%74oken=1", Headers: device}, ""},
		"the first only":   {backends.Credentials{Query: "token=1"}, "X-Device"},
		"the second only":  {backends.Credentials{Headers: device}, "token"},
		"an empty value":   {backends.Credentials{Query: "token=&token", Headers: device}, "token"},
		"a longer name":    {backends.Credentials{Query: "token2=1", Headers: device}, "token"},
		"another's value":  {backends.Credentials{Query: "x=token=1", Headers: device}, "token"},
		"nothing whatever": {backends.Credentials{}, "token"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := r.missing(&tc.credentials); got != tc.want {
				t.Errorf("missing: got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWithoutPairs(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ query, part, want string }{
		"all":            {"a=1&b=2", "a=1&b=2", ""},
		"nothing":        {"a=1&b=2", "", "a=1&b=2"},
		"one of two":     {"a=1&a=1", "a=1", "a=1"},
		"what is there":  {"a=1&b=2&c=3", "b=2&d=4", "a=1&c=3"},
		"only the exact": {"a=1&a=%31", "a=1", "a=%31"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := withoutPairs(tc.query, tc.part); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTicketInPath(t *testing.T) {
	t.Parallel()
	type found struct {
		Ticket, Rest string
		Found        bool
	}
	cases := map[string]struct {
		path string
		want found
	}{
		"with a ticket":          {"/~a.b/play/x", found{"a.b", "/play/x", true}},
		"with the tilde escaped": {"/%7Ea.b/play/x", found{"a.b", "/play/x", true}},
		"in small letters":       {"/%7ea.b/play/x", found{"a.b", "/play/x", true}},
		"without":                {"/play/~a/x", found{"", "/play/~a/x", false}},
		"with an empty one":      {"/~/play/x", found{"", "/play/x", true}},
		"with nothing but one":   {"/~a.b", found{"a.b", "/", true}},
		"with an escaped tilde":  {"/%7e", found{"", "/", true}},
		"with two":               {"/~a/~b/x", found{"a", "/~b/x", true}},
		"empty":                  {"", found{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got found
			got.Ticket, got.Rest, got.Found = ticketInPath(tc.path)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ticketInPath(%q) (-want +got):\n%s", tc.path, diff)
			}
		})
	}
}

func TestTicketsInQueryOrCookies(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("usher_ticket=a; ", 100)
	cases := map[string]struct {
		cookie, query string
		ticketIn      hls.TicketTransport
		want          []string
	}{
		"a cookie alone":          {"usher_ticket=a.b", "", hls.TicketInCookie, []string{"a.b"}},
		"among others":            {"x=1; usher_ticket=a.b; y=2", "", hls.TicketInCookie, []string{"a.b"}},
		"without spaces":          {"x=1;usher_ticket=a.b;y=2", "", hls.TicketInCookie, []string{"a.b"}},
		"one for each folder":     {"usher_ticket=a; usher_ticket=b", "", hls.TicketInCookie, []string{"a", "b"}},
		"not too many":            {many, "", hls.TicketInCookie, slices.Repeat([]string{"a"}, maxTicketCookies)},
		"not a longer name":       {"my_usher_ticket=a; usher_ticket2=b", "", hls.TicketInCookie, nil},
		"not without value":       {"usher_ticket; usher_ticket=", "", hls.TicketInCookie, nil},
		"no field":                {"", "", hls.TicketInCookie, nil},
		"not another route's":     {"usher_ticket=a", "ticket=b", hls.TicketInPath, nil},
		"a parameter":             {"usher_ticket=a", "x=1&ticket=b&ticket=c", hls.TicketInQuery, []string{"b"}},
		"a parameter of no value": {"", "ticket=", hls.TicketInQuery, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := &Request{Query: tc.query, Header: http.Header{"Cookie": {tc.cookie}}}
			at := &target{route: &route{config: RouteConfig{TicketIn: tc.ticketIn}}}
			c := DefaultConfig().Tickets
			got := slices.Collect(ticketsInQueryOrCookies(at, req, &c))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("tickets (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzFilterQuery(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2", "&&", "%5FHLS_msn=1&x", "a=%zz&&a", "ticket=1&CMCD=2&t=3", "é=1&+=%", "_=0", "cb=1&%5F=2&_=&cb=1x"} {
		f.Add(seed)
	}
	r := &route{}
	f.Fuzz(func(t *testing.T, query string) {
		got := r.credentialQuery(query, "ticket")
		if again := r.credentialQuery(got, "ticket"); again != got {
			t.Errorf("%q: filtered to %q, and again to %q", query, got, again)
		}
		var want []string
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
			isNumber := value != "" && strings.Trim(value, "0123456789") == ""
			never := name == "ticket" || name == "CMCD" || strings.HasPrefix(name, "_HLS_") ||
				isNumber && slices.Contains([]string{"_", "_t", "cb", "nocache"}, name)
			if pair != "" && !never {
				want = append(want, pair)
			}
		}
		kept := strings.Split(got, "&")
		if got == "" {
			kept = nil
		}
		if !slices.Equal(kept, want) {
			t.Errorf("%q: kept %q, want %q", query, kept, want)
		}
	})
}

func BenchmarkSessionID(b *testing.B) {
	a := someViewer()
	i := newTestHasher(b)
	r, _ := newRoute(a.route, nil)
	found, _ := foundTarget([]*route{r}, "", a.path)
	v := Request{Path: a.path, Query: a.query, Header: http.Header{"User-Agent": {a.agent}}}
	c := credentialsOf(&found, &v, v.Query, "ticket")
	b.ReportAllocs()
	for b.Loop() {
		i.sessionID(&found, &c, &v, client{address: netip.MustParseAddr(a.address)})
	}
}

// exactHeader is a header that finds a field by its canonical name alone, as that of a listener without TLS.
type exactHeader http.Header

func (h exactHeader) Get(name string) string {
	if all := h[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}

func (h exactHeader) Values(name string) []string { return h[name] }

func TestRequestContext_Device(t *testing.T) {
	t.Parallel()
	show := func(names []string, query string, header http.Header) string {
		r, err := newRoute(RouteConfig{Path: "/play/{channel}/*", DeviceFields: names}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return (&requestContext{request: &Request{Query: query, Header: exactHeader(header)}, target: target{route: r}}).device()
	}
	box := http.Header{"X-Serial": {"7"}}
	same := map[string][2]string{
		"a query, however it is written": {
			show([]string{"mac"}, "mac=00:1A:79:00:00:01&token=1", nil), show([]string{"mac"}, "token=2&mac=00%3A1A%3A79%3A00%3A00%3A01", nil),
		},
		"a header field, in any case": {show([]string{"x-serial"}, "", box), show([]string{"X-Serial"}, "a=b", box)},
		"nothing shown is no device":  {show([]string{"mac", "X-Serial"}, "token=1", nil), ""},
		"nothing named is no device":  {show(nil, "mac=1", box), ""},
	}
	for name, two := range same {
		if two[0] != two[1] {
			t.Errorf("%s: %q is not %q", name, two[0], two[1])
		}
	}
	several := []string{"mac", "X-Serial"}
	seen := map[string]string{}
	for name, device := range map[string]string{
		"both":                show(several, "mac=1", box),
		"another mac":         show(several, "mac=2", box),
		"the mac alone":       show(several, "mac=1", nil),
		"the serial alone":    show(several, "", box),
		"a mac of both":       show(several, "mac=17", nil),
		"the serial as a mac": show(several, "mac=7", nil),
	} {
		if other, ok := seen[device]; ok || device == "" {
			t.Errorf("%s and %s are one device, %q", name, other, device)
		}
		seen[device] = name
	}
}

// TestSessionHasher_Golden pins what two versions of Usher on two nodes must agree on.
func TestSessionHasher_Golden(t *testing.T) {
	t.Parallel()
	a := someViewer()
	share := a
	share.route.OnNewAddress = ShareSession
	bare := a
	bare.query = ""
	for name, tc := range map[string]struct{ got, want string }{
		"a viewer with credentials":    {a.newID(t).String(), "hPO9f1gWjMVSnJSbiXCnFQ"},
		"a viewer of a shared session": {share.newID(t).String(), "PnXgGN-2Q_Sw4kg8b2uMSA"},
		"a viewer without credentials": {bare.newID(t).String(), "tBYXDe7OaHIGND7T7kg6IQ"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got session %s, want %s", name, tc.got, tc.want)
		}
	}
	i := newTestHasher(t)
	for text, want := range map[string]string{"192.0.2.7/32": "7367fd93", "2001:db8::/64": "a6113ae9", "": "522714e8"} {
		prefix, _ := netip.ParsePrefix(text)
		if got := fmt.Sprintf("%x", i.tag(prefix)); got != want {
			t.Errorf("tag of %q: got %s, want %s", text, got, want)
		}
	}
	root := backends.SessionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if got, want := i.sibling(root, ticket.Tag{1, 2, 3, 4}, ticket.Tag{5, 6, 7, 8}).String(), "PFlUh7UQ60c3zKjSnqoIhg"; got != want {
		t.Errorf("sibling: got %s, want %s", got, want)
	}
}

// TestSessionHasher_Sibling finds the session that the same credentials open at another address.
func TestSessionHasher_Sibling(t *testing.T) {
	t.Parallel()
	i := newTestHasher(t)
	addresses := []string{"192.0.2.7", "192.0.2.8", "2001:db8:0:1::7", "2001:db8:0:2::7"}
	ids := map[string]backends.SessionID{}
	tag := func(address string) ticket.Tag {
		return i.tag(backends.SubscriberPrefix(netip.MustParseAddr(address)))
	}
	for _, address := range addresses {
		a := someViewer()
		a.address = address
		ids[address] = a.idBy(t, i)
		if got, want := tag(address).IsIPv6(), strings.Contains(address, ":"); got != want {
			t.Errorf("%s: the tag says IPv6 %v", address, got)
		}
	}
	for _, from := range addresses {
		for _, to := range addresses {
			if got := i.sibling(ids[from], tag(from), tag(to)); got != ids[to] {
				t.Errorf("from %s to %s: got %s, want %s", from, to, got, ids[to])
			}
		}
	}
	if len(ids) != len(addresses) {
		t.Errorf("%d sessions at %d addresses", len(ids), len(addresses))
	}
}

func TestTarget_NamesCredential(t *testing.T) {
	t.Parallel()
	at := newTestTarget(t, RouteConfig{Path: "/{user}/{channel}.m3u8", Credentials: []string{"a"}, Required: []string{"b"}}, "/ann/tv.m3u8")
	for name, want := range map[string]bool{"a": true, "b": true, "user": true, "channel": true, "c": false, "": false} {
		if got := at.namesCredential(name); got != want {
			t.Errorf("namesCredential(%q): got %v", name, got)
		}
	}
}

func TestIsCacheBuster(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, value string
		want        bool
	}{
		{"_", "17", true},
		{"_t", "0123456789", true},
		{"cb", "1", true},
		{"nocache", "1", true},
		{"_", "", false},
		{"_", "x", false},
		{"cb", "1x2", false},
		{"t", "17", false},
		{"", "17", false},
	} {
		if got := isCacheBuster(tc.name, tc.value); got != tc.want {
			t.Errorf("isCacheBuster(%q, %q): got %v", tc.name, tc.value, got)
		}
	}
}

func TestRoute_IsIgnored(t *testing.T) {
	t.Parallel()
	r := &route{config: RouteConfig{Credentials: []string{"cb"}, Required: []string{"_t"}, IgnoreQuery: []string{"utm"}}}
	for _, tc := range []struct {
		name, value string
		want        bool
	}{
		{"_HLS_msn", "1", true},
		{"CMCD", "x", true},
		{"utm", "x", true},
		{"_", "1", true},
		{"_", "x", false},
		{"cb", "1", false},
		{"_t", "1", false},
		{"token", "1", false},
	} {
		if got := r.isIgnored(tc.name, tc.value); got != tc.want {
			t.Errorf("isIgnored(%q, %q): got %v", tc.name, tc.value, got)
		}
	}
}

func TestParameter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ query, want string }{
		{"t=1", "1"},
		{"a=2&t=1&t=3", "1"},
		{"a=2&&t=1=2", "1=2"},
		{"t=&t=1", ""},
		{"t", ""},
		{"", ""},
		{"%74=1&tt=2&T=3", ""},
	} {
		if got := parameter(tc.query, "t"); got != tc.want {
			t.Errorf("parameter(%q): got %q, want %q", tc.query, got, tc.want)
		}
	}
}

func TestHasParameter(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"t=1": true, "a=2&t=1": true, "%74=1": true, "t=&t=1": true, "t=": false, "t": false, "tt=1": false, "": false,
	} {
		if got := hasParameter(query, "t"); got != want {
			t.Errorf("hasParameter(%q): got %v", query, got)
		}
	}
}

func TestFilterQuery(t *testing.T) {
	t.Parallel()
	notB := func(name, value string) bool { return name != "b" && value != "0" }
	for query, want := range map[string]string{
		"": "", "&": "", "a=1": "a=1", "a=1&": "a=1", "&a=1": "a=1", "a=1&&c=2": "a=1&c=2", "a=1&b=2&c": "a=1&c", "%62=1": "", "a=0&a=%30": "a=%30",
		"b=1&": "", "a=1&c=2": "a=1&c=2",
	} {
		if got := filterQuery(query, notB); got != want {
			t.Errorf("filterQuery(%q): got %q, want %q", query, got, want)
		}
	}
}
