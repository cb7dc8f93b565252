package flussonic

import (
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/chain"
	"usher/backends/httpbackend"
)

func TestBackendPassesTheContract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		return newBackend(t, s.URL()+"/auth", nil)
	})
}

func newBackend(t testing.TB, address string, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.URL = address
	if change != nil {
		change(&cfg)
	}
	b, err := New("middleware", cfg, httpbackend.Deps{ViewerCount: audience})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

// audience is of a node that serves two viewers, one of them on each channel that is asked about.
func audience(string) (ofChannel, all int) { return 1, 2 }

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

func set(t *testing.T, s *backendtest.Server, m backendtest.Mode) {
	t.Helper()
	if err := s.SetMode(m); err != nil {
		t.Fatalf("set the middleware to %s: %v", m, err)
	}
}

// heard is the only question that the middleware got, as it understands it.
func heard(t *testing.T, s *backendtest.Server) url.Values {
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

func yes(change func(*backends.Decision)) backends.Decision {
	d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200"}
	if change != nil {
		change(&d)
	}
	return d
}

func no(status int) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered " + strconv.Itoa(status),
	}
}

// The answers of the tests that Flussonic's last open version (3.69, 2013) came with, and their neighbours.
func TestAnswers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode    backendtest.Mode
		headers map[string]string
		want    backends.Decision
	}{
		"no headers: how long it holds is left open": {backendtest.Healthy(), nil, yes(nil)},
		"X-AuthDuration: 600": {
			backendtest.Healthy(),
			map[string]string{"X-AuthDuration": "600"},
			yes(func(d *backends.Decision) { d.ValidFor = 600 * time.Second }),
		},
		"X-UserId: 15": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "15"},
			yes(func(d *backends.Decision) { d.UserID = "15" }),
		},
		"a user id that is no number": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "8471796306-b"},
			yes(func(d *backends.Decision) { d.UserID = "8471796306-b" }),
		},
		"X-Unique: true": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Unique": "true"},
			yes(func(d *backends.Decision) { d.UserID, d.Unique = "10", true }),
		},
		"X-Unique is true in no other spelling": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Unique": "True"},
			yes(func(d *backends.Decision) { d.UserID = "10" }),
		},
		"X-Max-Sessions: 3": {
			backendtest.Healthy(),
			map[string]string{"X-UserId": "10", "X-Max-Sessions": "3"},
			yes(func(d *backends.Decision) { d.UserID, d.MaxSessions = "10", 3 }),
		},
		"403 without headers": {backendtest.Status(403), nil, no(403)},
		"403 that holds for a while": {
			backendtest.Status(403),
			map[string]string{"X-AuthDuration": "600"},
			func() backends.Decision { d := no(403); d.ValidFor = 600 * time.Second; return d }(),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			for name, value := range tt.headers {
				s.SetHeader(name, value)
			}
			set(t, s, tt.mode)
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

// What each class of status does to a viewer who watches, to one who was refused, and to one whom nobody knows.
func TestStatusesThroughTheChain(t *testing.T) {
	t.Parallel()
	granted := yes(func(d *backends.Decision) { d.UserID = "15" })
	kept := func(d backends.Decision) backends.Decision { d.Source = backends.FromCached; return d }
	tests := map[string]struct {
		mode backendtest.Mode
		// answer holds for all three; without a verdict it is a failure of that kind, which the outage policy answers.
		answer  backends.Decision
		failure backends.FailureKind
	}{
		"200 lets in":                           {backendtest.Healthy(), yes(nil), 0},
		"401 denies":                            {backendtest.Status(401), no(401), 0},
		"403 denies":                            {backendtest.Status(403), no(403), 0},
		"404 denies":                            {backendtest.Status(404), no(404), 0},
		"a success that is not 200 denies":      {backendtest.Status(204), no(204), 0},
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
			func() backends.Decision { d := no(302); d.Redirect = "http://promo.example.net/"; return d }(), 0,
		},
	}
	viewers := map[string]struct {
		standing backends.Decision
		outage   backends.Decision
	}{
		"one who watches":     {granted, kept(granted)},
		"one who was refused": {no(403), kept(no(403))},
		"one nobody knows":    {backends.Decision{}, backends.Decision{}},
	}
	for name, tt := range tests {
		for viewer, v := range viewers {
			t.Run(name+", "+viewer, func(t *testing.T) {
				t.Parallel()
				s := startServer(t)
				set(t, s, tt.mode)
				r := backendtest.NewRequest("123")
				r.Current = v.standing
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

func TestAViewerWithoutAToken(t *testing.T) {
	t.Parallel()
	const made = "01020304-0506-8708-8900-000000000000" // of the request's session
	tests := map[string]struct {
		query string
		auto  bool
		token string // as asked about; empty: not asked
	}{
		"is given one":                                {"", true, made},
		"with an empty one is given one":              {"token=&a=1", true, made},
		"is denied without a call":                    {"", false, ""},
		"with an empty one is denied":                 {"token=", false, ""},
		"with another parameter is denied":            {"a=1&mytoken=2", false, ""},
		"who has one keeps it":                        {"token=123", true, "123"},
		"who has one is asked about":                  {"token=123", false, "123"},
		"who has two is asked about by the first":     {"a=1&token=1%2F2+3&token=123", false, "1/2 3"},
		"may spell the name as he likes":              {"%74oken=123", false, "123"},
		"may have one that cannot be decoded":         {"token=100%", false, "100%"},
		"who made up a name before is none the wiser": {"=1&&x%zz=2&token=123", false, "123"},
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
				if got := heard(t, s)["token"]; !cmp.Equal(got, []string{tt.token}) {
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

func TestConfigInYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := yaml.UnmarshalWithOptions(text, &got, yaml.Strict()); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := Config{HTTP: httpbackend.DefaultConfig()}
	want.HTTP.URL = "https://auth.example.com/auth?site=1"
	want.HTTP.Headers = map[string]backends.Secret{"X-Api-Key": "s3cret"}
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

func TestNewRefusesAWrongConfig(t *testing.T) {
	t.Parallel()
	_, err := New("middleware", DefaultConfig(), httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "middleware": url: must be set` {
		t.Errorf("got %v", err)
	}
	cfg := DefaultConfig()
	cfg.HTTP.URL, cfg.HTTP.MaxBodySize = "ftp://auth.example.com", 0
	err = cfg.Validate()
	want := "url: must begin with http:// or https://, not \"ftp\"\nmax_body_size: 0 must be at least 1B"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestANodeThatDoesNotCountHasNoViewers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cfg := DefaultConfig()
	cfg.HTTP.URL = s.URL()
	b, err := New("middleware", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	defer b.Close()
	if _, err := b.Check(t.Context(), backendtest.NewRequest("123")); err != nil {
		t.Fatalf("check: %v", err)
	}
	got := heard(t, s)
	if got.Get("stream_clients") != "0" || got.Get("total_clients") != "0" {
		t.Errorf("got %s of %s viewers, want 0 of 0", got.Get("stream_clients"), got.Get("total_clients"))
	}
}

func TestCheckTellsTheTimeThatPassed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := backendtest.NewRequest("123")
	r.Current, r.Number, r.Opened = yes(nil), 1, time.Now().Add(-time.Hour)
	if _, err := newBackend(t, s.URL(), nil).Check(t.Context(), r); err != nil {
		t.Fatalf("check: %v", err)
	}
	seconds, err := strconv.Atoi(heard(t, s).Get("duration"))
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

func BenchmarkFacts(b *testing.B) {
	backend := newBackend(b, "http://auth.example.com/auth", nil)
	r := &backends.Request{
		Channel: "vod/bunny.mp4", Query: "token=" + strings.Repeat("0123456789abcdef", 4), Path: "/vod/bunny.mp4/index.m3u8",
		Host: "live.example.com", UserAgent: "VLC/3.0.20 LibVLC/3.0.20", Address: netip.MustParseAddr("192.0.2.7"),
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		_ = backend.facts(r, httpbackend.QueryValue(r.Query, "token"), now)
	}
}
