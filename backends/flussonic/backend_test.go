package flussonic

import (
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/chain"
	"usher/backends/httpbackend"
	"usher/backends/setting"
	"usher/cmd/usher/config"
)

func TestBackend_Contract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		return newBackend(t, s.URL()+"/auth", nil)
	})
}

func newBackend(t testing.TB, address string, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Address = address
	if change != nil {
		change(&cfg)
	}
	b, err := New("middleware", cfg, httpbackend.Deps{ViewerCount: testViewerCount})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

// testViewerCount counts two viewers on the node, one of them on every channel.
func testViewerCount(string) (ofChannel, all int) { return 1, 2 }

func startServer(t testing.TB) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = map[string]backendtest.User{"123": {}}
	s := backendtest.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func setMode(t *testing.T, s *backendtest.Server, m backendtest.Mode) {
	t.Helper()
	if err := s.SetMode(m); err != nil {
		t.Fatalf("set the middleware to %s: %v", m, err)
	}
}

// onlyRequest returns the parameters of the only request that the middleware received.
func onlyRequest(t *testing.T, s *backendtest.Server) url.Values {
	t.Helper()
	seen := s.Requests()
	if len(seen) != 1 {
		t.Fatalf("got %d requests, want 1", len(seen))
	}
	values, err := url.ParseQuery(seen[0].RawQuery)
	if err != nil {
		t.Fatalf("read the query %q: %v", seen[0].RawQuery, err)
	}
	return values
}

func allowedDecision(change func(*backends.Decision)) backends.Decision {
	d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200"}
	if change != nil {
		change(&d)
	}
	return d
}

func deniedDecision(status int) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered " + strconv.Itoa(status),
	}
}

// The responses are those of the tests of Flussonic's last open version (3.69, 2013), and similar ones.
func TestCheck_Responses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode    backendtest.Mode
		headers map[string]string
		want    backends.Decision
	}{
		"no headers: how long it holds is left open": {backendtest.Healthy(), nil, allowedDecision(nil)},
		"X-AuthDuration: 600": {
			backendtest.Healthy(),
			map[string]string{"X-AuthDuration": "600"},
			allowedDecision(func(d *backends.Decision) { d.ValidFor = 600 * time.Second }),
		},
		"X-UserId: 15": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "15"},
			allowedDecision(func(d *backends.Decision) { d.UserID = "15" }),
		},
		"a user id that is no number": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "8471796306-b"},
			allowedDecision(func(d *backends.Decision) { d.UserID = "8471796306-b" }),
		},
		"X-Unique: true": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Unique": "true"},
			allowedDecision(func(d *backends.Decision) { d.UserID, d.Unique = "10", true }),
		},
		"X-Unique is true in no other spelling": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Unique": "True"},
			allowedDecision(func(d *backends.Decision) { d.UserID = "10" }),
		},
		"X-Max-Sessions: 3": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Max-Sessions": "3"},
			allowedDecision(func(d *backends.Decision) { d.UserID, d.MaxSessions = "10", 3 }),
		},
		"403 without headers": {backendtest.Status(403), nil, deniedDecision(403)},
		"403 that holds for a while": {
			backendtest.Status(403),
			map[string]string{"X-AuthDuration": "600"},
			func() backends.Decision { d := deniedDecision(403); d.ValidFor = 600 * time.Second; return d }(),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			for name, value := range tt.headers {
				s.SetHeader(name, value)
			}
			setMode(t, s, tt.mode)
			d, err := newBackend(t, s.URL(), nil).Check(t.Context(), backendtest.NewRequest("123"))
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// Each class of status is tested for an allowed, a denied and an unknown viewer.
func TestBackend_Statuses(t *testing.T) {
	t.Parallel()
	granted := allowedDecision(func(d *backends.Decision) { d.UserID = "15" })
	kept := func(d backends.Decision) backends.Decision { d.Source = backends.FromCached; return d }
	tests := map[string]struct {
		mode backendtest.Mode
		// answer is the decision for all three viewers. Without a verdict the outage policy decides on a failure of that kind.
		answer  backends.Decision
		failure backends.FailureKind
	}{
		"200 allows":                            {backendtest.Healthy(), allowedDecision(nil), 0},
		"401 denies":                            {backendtest.Status(401), deniedDecision(401), 0},
		"403 denies":                            {backendtest.Status(403), deniedDecision(403), 0},
		"404 denies":                            {backendtest.Status(404), deniedDecision(404), 0},
		"a success that is not 200 denies":      {backendtest.Status(204), deniedDecision(204), 0},
		"429 is a failure":                      {backendtest.Status(429), backends.Decision{}, backends.FailureStatus},
		"500 is a failure":                      {backendtest.Status(500), backends.Decision{}, backends.FailureStatus},
		"502 is a failure":                      {backendtest.Status(502), backends.Decision{}, backends.FailureStatus},
		"503 is a failure":                      {backendtest.Status(503), backends.Decision{}, backends.FailureStatus},
		"a refused connection is a failure":     {backendtest.Refuse(), backends.Decision{}, backends.FailureTransport},
		"a connection that breaks is a failure": {backendtest.Reset(), backends.Decision{}, backends.FailureTransport},
		"no answer in time is a failure":        {backendtest.Hang(), backends.Decision{}, backends.FailureTimeout},
		"what is not HTTP is a failure":         {backendtest.Garbage(), backends.Decision{}, backends.FailureMalformed},
		"a redirect is for the viewer": {
			backendtest.Redirect("http://promo.example.net/"),
			func() backends.Decision { d := deniedDecision(302); d.Redirect = "http://promo.example.net/"; return d }(), 0,
		},
	}
	viewers := map[string]struct {
		current backends.Decision
		outage  backends.Decision
	}{
		"an allowed viewer": {granted, kept(granted)},
		"a denied viewer":   {deniedDecision(403), kept(deniedDecision(403))},
		"an unknown viewer": {backends.Decision{}, backends.Decision{}},
	}
	for name, tt := range tests {
		for viewer, v := range viewers {
			t.Run(name+", "+viewer, func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				setMode(t, s, tt.mode)
				r := backendtest.NewRequest("123")
				r.Current = v.current
				d, err := newChain(t, s).Check(t.Context(), r)
				want := tt.answer
				if failed := want.Verdict == backends.Pending; failed {
					want = v.outage
				}
				if diff := cmp.Diff(want, d); diff != "" {
					t.Errorf("decision (-want +got):\n%s", diff)
				}
				switch f := backends.AsFailure(err); {
				case want.Verdict != backends.Pending && err != nil:
					t.Errorf("got error %v, want none", err)
				case want.Verdict == backends.Pending && (f == nil || f.Kind != tt.failure):
					t.Errorf("got error %v, want the %s failure", err, tt.failure)
				}
			})
		}
	}
}

func newChain(t *testing.T, s *backendtest.Server) *chain.Chain {
	t.Helper()
	b := newBackend(t, s.URL(), nil)
	cfg := chain.DefaultConfig()
	cfg.Timeout = 200 * time.Millisecond
	return chain.New("middleware", cfg, b, chain.Deps{Kind: "flussonic", DefaultPolicy: b.Preset().Policy()})
}

func TestCheck_Tokens(t *testing.T) {
	t.Parallel()
	const made = "01020304-0506-8708-8900-000000000000" // of the request's session
	tests := map[string]struct {
		query string
		auto  bool
		token string // of the request; empty: no request
	}{
		"gets one":                            {"", true, made},
		"with an empty one gets one":          {"token=&a=1", true, made},
		"is denied without a call":            {"", false, ""},
		"with an empty one is denied":         {"token=", false, ""},
		"with another parameter is denied":    {"a=1&mytoken=2", false, ""},
		"with one keeps it":                   {"token=123", true, "123"},
		"with one is checked":                 {"token=123", false, "123"},
		"with two is checked by the first":    {"a=1&token=1%2F2+3&token=123", false, "1/2 3"},
		"may escape the name":                 {"%74oken=123", false, "123"},
		"may have one that cannot be decoded": {"token=100%", false, "100%"},
		"may send odd parameters before":      {"=1&&x%zz=2&token=123", false, "123"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			b := newBackend(t, s.URL(), func(c *Config) { c.AutoToken = tt.auto })
			r := backendtest.NewRequest("")
			r.Query = tt.query
			d, err := b.Check(t.Context(), r)
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			if tt.token != "" {
				if got := onlyRequest(t, s)["token"]; !cmp.Equal(got, []string{tt.token}) {
					t.Errorf("got tokens %q, want %q", got, tt.token)
				}
				return
			}
			want := backends.Decision{
				Verdict: backends.Denied, Source: backends.FromLocal, Reason: "no token, and auto_token is false",
			}
			if diff := cmp.Diff(want, d); diff != "" || s.Calls() != 0 {
				t.Errorf("%d calls, decision (-want +got):\n%s", s.Calls(), diff)
			}
		})
	}
}

// TestBackend_DecideWithoutCall denies a viewer without a token in an outage too, alone and as a member of another backend.
func TestBackend_DecideWithoutCall(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]backends.BreakerState{"nobody listens": backends.BreakerClosed, "open": backends.BreakerOpen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, "http://127.0.0.1:9", func(c *Config) { c.AutoToken = false })
			c := chain.New("middleware", chain.DefaultConfig(), b, chain.Deps{Kind: "flussonic", DefaultPolicy: backends.PolicyAllow})
			order := backends.ForcedBreaker{IsForced: true, State: state, Until: time.Now().Add(time.Hour), Version: 1}
			if err := c.Force(order); err != nil {
				t.Fatal(err)
			}
			for token, want := range map[string]backends.Verdict{"": backends.Denied, "123": backends.Allowed} {
				r := backendtest.NewRequest(token)
				checked, err := c.Check(t.Context(), r)
				fallback, fallbackErr := c.Fallback(r, &backends.Failure{Kind: backends.FailureBreakerOpen})
				if err != nil || fallbackErr != nil || checked.Verdict != want || fallback.Verdict != want {
					t.Errorf("token %q: %v (%v), and in its place %v (%v); want %v", token, checked, err, fallback, fallbackErr, want)
				}
			}
			if d, err := c.WithoutFailOpen().Check(t.Context(), backendtest.NewRequest("")); err != nil || d.Verdict != backends.Denied {
				t.Errorf("a member's: %v, %v; want denied", d, err)
			}
		})
	}
}

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := Config{HTTP: httpbackend.DefaultConfig()}
	want.HTTP.Address = "https://auth.example.com/auth?site=1"
	want.HTTP.Headers = map[string]setting.Secret{"X-Api-Key": "s3cret"}
	want.HTTP.Preset = httpbackend.PresetFlussonic
	want.HTTP.Statuses = httpbackend.Statuses{"302": httpbackend.OutcomeAllow, "5xx": httpbackend.OutcomeDeny}
	want.HTTP.DialTimeout = 300 * time.Millisecond
	want.HTTP.RequireHeader = "X-UserId"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
	if !DefaultConfig().AutoToken {
		t.Error("auto_token is false by default, want true as in Flussonic")
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	_, err := New("middleware", DefaultConfig(), httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "middleware": address: must be set` {
		t.Errorf("got %v", err)
	}
	cfg := DefaultConfig()
	cfg.HTTP.Address, cfg.HTTP.MaxBodySize = "ftp://auth.example.com", 0
	err = cfg.Validate()
	want := "address: must begin with http:// or https://, not \"ftp\"\nmax_body_size: 0 is out of range; want 1B to 16MiB"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCheck_NoViewerCount_SendsZero(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cfg := DefaultConfig()
	cfg.HTTP.Address = s.URL()
	b, err := New("middleware", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	defer b.Close()
	if _, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil {
		t.Fatalf("check: %v", err)
	}
	got := onlyRequest(t, s)
	if got.Get("stream_clients") != "0" || got.Get("total_clients") != "0" {
		t.Errorf("got %s of %s viewers, want 0 of 0", got.Get("stream_clients"), got.Get("total_clients"))
	}
}

func TestCheck_SendsDuration(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := backendtest.NewRequest("123")
	r.Current, r.Number, r.Opened = allowedDecision(nil), 1, time.Now().Add(-time.Hour)
	if _, err := newBackend(t, s.URL(), nil).Check(t.Context(), r); err != nil {
		t.Fatalf("check: %v", err)
	}
	seconds, err := strconv.Atoi(onlyRequest(t, s).Get("duration"))
	if err != nil || seconds < 3600 || seconds > 3660 {
		t.Errorf("got duration %d and error %v, want an hour", seconds, err)
	}
}

func BenchmarkCheck(b *testing.B) {
	s := startServer(b)
	backend := newBackend(b, s.URL()+"/auth", nil)
	r := backendtest.NewRequest("123")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Check(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParameters(b *testing.B) {
	backend := newBackend(b, "http://auth.example.com/auth", nil)
	r := &backends.Request{
		Channel: "vod/bunny.mp4", Query: "token=" + strings.Repeat("0123456789abcdef", 4), Path: "/vod/bunny.mp4/index.m3u8",
		Host: "live.example.com", UserAgent: "VLC/3.0.20 LibVLC/3.0.20", Address: netip.MustParseAddr("192.0.2.7"),
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		_ = backend.parameters(r, httpbackend.QueryValue(r.Query, "token"), now)
	}
}
