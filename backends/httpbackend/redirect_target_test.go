package httpbackend

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestNewRedirectTarget(t *testing.T) {
	t.Parallel()
	const (
		plain  = "http://portal.example.com:8080/api/check"
		secure = "https://portal.example.com/api/check"
		unsent = "nothing"
	)
	tests := map[string]struct {
		address, location string
		kind              targetKind
		url, names        string // what the viewer gets, and what `address` would name
	}{
		"another host": {plain, "http://promo.example.net/", targetViewer, "http://promo.example.net/", "http://promo.example.net/"},
		"another host, the check's path with a slash": {plain, "http://other.example.com:8080/api/check/?hop=1", targetViewer, "", ""},
		"another host, the check's path":              {plain, "http://other.example.com:8080/api/check", targetViewer, "", ""},
		"another port":                                {plain, "http://portal.example.com:9000/promo", targetViewer, "", ""},
		"the default port is another":                 {plain, "http://portal.example.com/promo", targetViewer, "", ""},
		"a channel of its own":                        {plain, "http://portal.example.com:8080/promo/index.m3u8?x=1", targetViewer, "http://portal.example.com:8080/promo/index.m3u8?x=1", ""},
		"a path of a channel":                         {plain, "/promo/a.M3U8?x=1", targetViewer, "http://portal.example.com:8080/promo/a.M3U8?x=1", "http://portal.example.com:8080/promo/a.M3U8"},
		"a relative path of a segment":                {plain, "promo.ts", targetViewer, "http://portal.example.com:8080/api/promo.ts", ""},
		"a channel of its own over TLS":               {plain, "https://portal.example.com/promo/index.m3u8", targetViewer, "", ""},
		"media named in the query":                    {plain, "/login?back=/promo/index.m3u8", targetOwnPage, "", ""},
		"a page":                                      {plain, "/login", targetOwnPage, "", ""},
		"a page by its whole address":                 {secure, "https://PORTAL.example.com.:443/login", targetOwnPage, "", ""},
		"its own path":                                {plain, "/api/check?hop=1", targetOwnPage, "", ""},
		"its own query":                               {plain, "?login=1", targetOwnPage, "", ""},
		"its path with a slash":                       {plain, "/api/check/?token=5", targetMoved, "", "http://portal.example.com:8080/api/check/"},
		"its path on another port":                    {plain, "http://portal.example.com:9000/api/check", targetMoved, "", "http://portal.example.com:9000/api/check"},
		"its path over TLS":                           {plain, "https://portal.example.com/api/check?token=5", targetMoved, "", "https://portal.example.com/api/check"},
		"its path without TLS":                        {secure, "http://portal.example.com/api/check", targetMoved, "", "http://portal.example.com/api/check"},
		"another page over TLS":                       {plain, "https://portal.example.com:8443/", targetMoved, "", "https://portal.example.com:8443/api/check"},
		"another page without TLS":                    {secure, "http://portal.example.com/login", targetViewer, "", ""},
		"another host, a key of its own":              {plain + "?key=1&site=%61", "https://new.example.com/api/check?token=5&site=a", targetMoved, "", "https://new.example.com/api/check"},
		"another host, another key":                   {plain + "?key=1", "https://new.example.com/api/check?key=2", targetViewer, "", ""},
		"another page with its key":                   {plain + "?site=1", "https://promo.example.net/?site=1", targetViewer, "", ""},
		"the root with its key":                       {"http://portal.example.com?key=1", "https://new.example.com/?key=1", targetMoved, "", "https://new.example.com/"},
		"no path, a slash":                            {"http://portal.example.com", "http://portal.example.com/", targetOwnPage, "", ""},
		"no address":                                  {plain, "javascript:alert(1)", targetInvalid, "", ""},
		"a user":                                      {plain, "http://u:p@promo.example.net/", targetViewer, unsent, "http://promo.example.net/"},
		"no host":                                     {plain, "http:///promo.m3u8", targetInvalid, "", ""},
		"a space":                                     {plain, "/promo channel.m3u8", targetViewer, unsent, "http://portal.example.com:8080/promo%20channel.m3u8"},
		"a file":                                      {plain, "file:///etc/promo.m3u8", targetInvalid, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, err := url.Parse(tt.address)
			if err != nil {
				t.Fatal(err)
			}
			got := newRedirectTarget(address, tt.location)
			want := redirectTarget{kind: tt.kind, url: got.url, address: got.address, mayBeCheck: got.mayBeCheck, repeatsAddress: got.repeatsAddress}
			if tt.url != "" {
				want.url = strings.TrimPrefix(tt.url, unsent)
			}
			if tt.names != "" {
				want.address = tt.names
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(redirectTarget{})); diff != "" {
				t.Errorf("target (-want +got):\n%s", diff)
			}
		})
	}
}

// A viewer is never sent to a page of the backend's own, nor to what is no address.
func FuzzNewRedirectTarget(f *testing.F) {
	for _, seed := range []string{
		"/promo.m3u8", "//promo.example.net/x", "http://portal.example.com/check/", "https://portal.example.com/", "?a", "..%2f", "http://[::1]:80/x.ts",
		"http:promo.ts", "/%2e%2e/x.ts", "http://portal.example.com:80/login", "\\\\x", "http://u@x/", "#f.ts", "/check;a.ts", "HTTP://PORTAL.EXAMPLE.COM./login",
	} {
		f.Add("http://portal.example.com/check", seed)
	}
	f.Fuzz(func(t *testing.T, at, location string) {
		address, err := url.Parse(at)
		if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Hostname() == "" {
			return
		}
		address = withoutUser(address)
		got := newRedirectTarget(address, location)
		if got.kind == targetInvalid {
			if got != (redirectTarget{}) {
				t.Errorf("%q: got %+v for no target", location, got)
			}
			return
		}
		if got.url == "" { // not sent
			return
		}
		u, err := url.Parse(got.url)
		if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(got.address, "?#") {
			t.Fatalf("%q: got %+v and error %v", location, got, err)
		}
		isOwn := strings.EqualFold(u.Host, address.Host) && (u.Scheme == address.Scheme || u.Scheme == "")
		if got.kind == targetViewer && isOwn && !isMedia(u.Path) {
			t.Errorf("%q: a viewer is sent to %q, a page of the backend's own", location, got.url)
		}
	})
}

func TestMayBeCheck(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"http://other.example.com/api/check": true, "https://other.example.com/api/check/?a=1": true,
		"http://other.example.com/": false, "http://other.example.com/api/check.m3u8": false, "http://other.example.com/api": false,
	} {
		address, other := mustURL(t, "http://portal.example.com:8080/api/check"), mustURL(t, target)
		if got := mayBeCheck(address, other); got != want {
			t.Errorf("%s: %t, want %t", target, got, want)
		}
		if root := mustURL(t, "http://portal.example.com/"); mayBeCheck(root, other) {
			t.Errorf("%s may be the check at the root", target)
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestRedirectWindow_MostAnswers(t *testing.T) {
	t.Parallel()
	start := time.Now()
	const to, other = "https://new.example.com/check", "http://promo.example.net/"
	type answers struct {
		after  time.Duration
		target string
		count  int
		want   bool // of the last one
	}
	tests := map[string][]answers{
		"nineteen say nothing":               {{0, to, 19, false}},
		"the twentieth does":                 {{0, to, 20, true}},
		"half of them do not":                {{0, "", 10, false}, {0, to, 10, false}},
		"one more than half does":            {{0, "", 10, false}, {0, to, 11, true}},
		"two targets are none":               {{0, to, 10, false}, {0, other, 10, false}},
		"another target stays one":           {{0, to, 30, true}, {0, other, 1, false}},
		"answers without one end it":         {{0, to, 20, true}, {0, "", 20, false}, {0, to, 1, true}},
		"it holds into the next window":      {{0, to, 20, true}, {time.Minute, to, 1, true}},
		"the next window can say otherwise":  {{0, to, 20, true}, {time.Minute, "", 20, false}, {time.Minute, to, 1, false}},
		"a window with few answers ends it":  {{0, to, 20, true}, {time.Minute, to, 1, true}, {2 * time.Minute, to, 1, false}},
		"few answers an hour apart are none": {{0, to, 10, false}, {time.Hour, to, 10, false}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w redirectWindow
			for i, step := range steps {
				got := false
				for range step.count {
					got = w.isMoved(start.Add(step.after), step.target)
				}
				if got != step.want {
					t.Errorf("step %d: got %t, want %t", i, got, step.want)
				}
			}
		})
	}
}

func TestRedirectWindow_Bounded(t *testing.T) {
	t.Parallel()
	var w redirectWindow
	for i := range 10 * maxWindowTargets {
		w.isMoved(time.Now(), fmt.Sprint(i))
	}
	if len(w.targets) > maxWindowTargets {
		t.Errorf("got %d targets, want at most %d", len(w.targets), maxWindowTargets)
	}
}

func TestStatusTable_Classify_RedirectsOverride(t *testing.T) {
	t.Parallel()
	const denied, failed = "denied", "failed"
	const promo, own, itself = "http://promo.example.net/x.m3u8", "http://portal.example.com/login", "http://portal.example.com/check/"
	const odd, ownOdd = "http://promo.example.net/a b", "/caf\xc3\xa9"
	long := promo + "?" + strings.Repeat("x", maxRedirectLength)
	tests := map[Redirects]map[string]string{ // by location: the redirect, or what happens instead
		RedirectsByTarget: {promo: promo, own: failed, itself: failed, "ftp://x/": denied, odd: denied, ownOdd: failed, long: denied},
		RedirectsViewer:   {promo: promo, own: own, itself: itself, "ftp://x/": denied, odd: denied, ownOdd: denied, long: denied},
		RedirectsFailure:  {promo: failed, own: failed, itself: failed, "ftp://x/": failed, odd: failed, ownOdd: failed, long: failed},
	}
	for redirects, want := range tests {
		table, err := NewStatusTable(PresetAstra, redirects, nil)
		if err != nil {
			t.Fatal(err)
		}
		for location, want := range want {
			r := table.Classify("portal", ownAddress(), Response{Status: 302, Header: header("Location", location)})
			got := r.Decision.Redirect
			switch {
			case r.Failure != nil:
				got = failed
			case r.Decision.Verdict == backends.Denied && got == "":
				got = denied
			}
			if got != want {
				t.Errorf("redirects %q, to %s: got %s, want %s", redirects, location, got, want)
			}
		}
	}
	for preset := PresetAstra; preset <= PresetAuthProxy; preset++ {
		table, err := NewStatusTable(preset, RedirectsFollow, Statuses{"307": OutcomeDeny})
		if err != nil {
			t.Fatal(err)
		}
		if !table.Follows(302) || table.Follows(307) {
			t.Errorf("%s: follows 302: %t, 307: %t; want the first alone, since statuses win", preset, table.Follows(302), table.Follows(307))
		}
		table, err = NewStatusTable(preset, RedirectsViewer, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := table.Classify("portal", ownAddress(), Response{Status: 403, Header: header("X-Location", own)})
		if r.Decision.Redirect != own {
			t.Errorf("%s: got %+v for X-Location, want it relayed", preset, r.Decision)
		}
	}
}

// A move that no viewer can be sent to is noticed like another.
func TestClient_Interpret_SameUnsentLocationMostly(t *testing.T) {
	t.Parallel()
	c := mustClient(t, nil)
	for i := range 2 * minWindowAnswers {
		_, err := c.Interpret(Response{Status: 301, Header: header("Location", "https://new.example.com/check?name=caf\xc3\xa9")})
		if isFailure, isMoved := backends.AsFailure(err) != nil, i >= minWindowAnswers-1; isFailure != isMoved {
			t.Fatalf("answer %d: got error %v, want a failure: %t", i, err, isMoved)
		}
	}
}

// A target that repeats a parameter of the address is for no viewer, wherever redirects lead.
func TestStatusTable_Classify_RedirectRepeatsAddress(t *testing.T) {
	t.Parallel()
	const target = "https://new.example.com/check?token=1&key=5ecret"
	address := mustURL(t, "http://portal.example.com/check?key=5ecret")
	for _, redirects := range []Redirects{RedirectsByTarget, RedirectsViewer, RedirectsFailure} {
		table, err := NewStatusTable(PresetAstra, redirects, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := table.Classify("portal", address, Response{Status: 301, Header: header("Location", target)})
		if r.Failure == nil || !r.Raised.Has(backends.AlarmAddressMoved) || strings.Contains(r.Detail, "5ecret") ||
			!strings.HasSuffix(r.Detail, "set address to https://new.example.com/check") {
			t.Errorf("redirects %q: got %+v, want a failure that names the address without its query", redirects, r)
		}
		r = table.Classify("portal", address, Response{Status: 403, Header: header("X-Location", target)})
		if r.Failure != nil || r.Decision.Verdict != backends.Denied || r.Decision.Redirect != "" {
			t.Errorf("redirects %q, X-Location: got %+v, want a denial alone", redirects, r)
		}
	}
}

// A 401 or 403 stays a denial where most answers name the same X-Location.
func TestClient_Interpret_SameLocationMostly(t *testing.T) {
	t.Parallel()
	const to = "https://new.example.com/check"
	c := mustClient(t, nil)
	for i := range 60 {
		d, err := c.Interpret(Response{Status: 403, Header: header("X-Location", to)})
		if err != nil || d.Redirect != to {
			t.Fatalf("403 number %d: got %+v and error %v, want denied with the redirect", i, d, err)
		}
	}
	c = mustClient(t, nil)
	for i := range 40 {
		d, err := c.Interpret(Response{Status: 301, Header: header("Location", fmt.Sprintf("%s?token=%d", to, i))})
		switch f := backends.AsFailure(err); {
		case i < minWindowAnswers-1 && (err != nil || d.Redirect == ""):
			t.Fatalf("answer %d: got %+v and error %v, want denied with the redirect", i, d, err)
		case i >= minWindowAnswers-1 && (f == nil || f.Kind != backends.FailureMalformed || !strings.HasSuffix(err.Error(), "set address to "+to)):
			t.Fatalf("answer %d: got %+v and error %v, want a failure that names the address", i, d, err)
		}
	}
	if !c.ContractAlarms().Active().Has(backends.AlarmAddressMoved) {
		t.Error("got no alarm of a move")
	}
	c = mustClient(t, func(cfg *Config) { cfg.Redirects = RedirectsViewer })
	for range 40 {
		if d, err := c.Interpret(Response{Status: 301, Header: header("Location", to)}); err != nil || d.Redirect != to {
			t.Fatalf("redirects: viewer: got %+v and error %v, want denied with the redirect", d, err)
		}
	}
}

// TestClient_Interpret_MostAreRefused has most viewers be sent to the promo, as at the end of a month: each is denied, and running ones
// too.
func TestClient_Interpret_MostAreRefused(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"http://promo.example.net/", "http://promo.example.net/pay", "http://promo.example.net/promo/index.m3u8", "http://promo.example.net/check.m3u8"} {
		c := mustClient(t, nil)
		for i := range 100 {
			if i%5 < 2 {
				if d, err := c.Interpret(Response{Status: 200}); err != nil || d.Verdict != backends.Allowed {
					t.Fatalf("200 number %d: %+v, %v", i, d, err)
				}
				continue
			}
			if d, err := c.Interpret(Response{Status: 302, Header: header("Location", to)}); err != nil || d.Verdict != backends.Denied || d.Redirect != to {
				t.Fatalf("%s, answer %d: %+v, %v; want denied with the redirect", to, i, d, err)
			}
		}
		if c.ContractAlarms().Active().Has(backends.AlarmAddressMoved) {
			t.Errorf("%s: an alarm of a move", to)
		}
	}
	// The root is the path of any server.
	c := mustClient(t, func(cfg *Config) { cfg.Address = "http://portal.example.com/" })
	for range 2 * minWindowAnswers {
		if d, err := c.Interpret(Response{Status: 302, Header: header("Location", "http://promo.example.net/")}); err != nil || d.Redirect == "" {
			t.Fatalf("from the root to another: %+v, %v; want denied with the redirect", d, err)
		}
	}
}

func mustClient(t testing.TB, change func(*Config)) *Client {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Address = "http://portal.example.com/check"
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient("portal", cfg, Deps{Connections: 2})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}
