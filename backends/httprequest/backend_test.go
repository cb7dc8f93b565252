package httprequest

import (
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/backends/httpbackend/signature"
	"usher/backends/setting"
	"usher/cmd/usher/config"
)

func TestBackend_Contract(t *testing.T) {
	backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
		return newBackend(t, s.URL()+"/check", nil)
	})
}

func newBackend(t testing.TB, address string, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Address = address
	if change != nil {
		change(&cfg)
	}
	b, err := New("middleware", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

func startServer(t testing.TB) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = map[string]backendtest.User{
		"123": {ID: "42", Name: "alice", ValidFor: 10 * time.Hour, MaxSessions: 3, Unique: true},
	}
	s := backendtest.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// adapterHeaders removes the headers that Go's client adds.
func adapterHeaders(r backendtest.Request) http.Header {
	h := r.Header.Clone()
	h.Del("User-Agent")
	return h
}

// The request is the example of Astra's manual, header by header.
func TestCheck_ManualExample(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	b := newBackend(t, s.URL()+"/check", nil)
	r := &backends.Request{
		Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}, Channel: "a001",
		Query: "token=123", Path: "/play/a001/index.m3u8", Scheme: "https", Host: "live.example.com",
		UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("::ffff:192.0.2.7"),
	}
	d, err := b.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	want := backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
		UserID: "42", User: "alice", ValidFor: 10 * time.Hour, MaxSessions: 3, Unique: true,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	seen := s.Requests()[0]
	if seen.Method != http.MethodGet || seen.Path != "/check" || seen.RawQuery != "token=123" {
		t.Errorf("got %s %s?%s, want GET /check?token=123", seen.Method, seen.Path, seen.RawQuery)
	}
	wantHeader := http.Header{
		"X-Session-Id":  {"640511947003803"},
		"X-Channel-Id":  {"a001"},
		"X-Real-Ip":     {"192.0.2.7"},
		"X-Real-Path":   {"/play/a001/index.m3u8"},
		"X-Real-Ua":     {"VLC/3.0.20"},
		"X-Real-Host":   {"live.example.com"},
		"X-Real-Origin": {"https://live.example.com"},
	}
	if diff := cmp.Diff(wantHeader, adapterHeaders(seen)); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestCheck_RequestHeaders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		address string
		request backends.Request
		query   string
		headers http.Header
	}{
		"unknown facts are omitted": {
			"/check", backends.Request{Query: "token=123"}, "token=123", http.Header{"X-Session-Id": {"0"}},
		},
		"an IPv6 viewer, without zone": {
			"/check",
			backends.Request{Address: netip.MustParseAddr("fe80::1%eth0")},
			"",
			http.Header{"X-Session-Id": {"0"}, "X-Real-Ip": {"fe80::1"}},
		},
		"a named header is passed on, our own cannot be faked": {
			"/check",
			backends.Request{Headers: []backends.Header{
				{Name: "Authorization", Value: "Bearer abc"},
				{Name: "X-Session-Id", Value: "1"},
				{Name: "X-Real-Ip", Value: "10.0.0.1"},
			}},
			"",
			http.Header{"X-Session-Id": {"0"}, "Authorization": {"Bearer abc"}},
		},
		"control characters cannot break a call": {
			"/check",
			backends.Request{UserAgent: "evil\r\nX-Real-IP: 10.0.0.1\x00"},
			"",
			http.Header{"X-Session-Id": {"0"}, "X-Real-Ua": {"evilX-Real-IP: 10.0.0.1"}},
		},
		"an endless fact is cut": {
			"/check",
			backends.Request{UserAgent: strings.Repeat("x", 100_000)},
			"",
			http.Header{"X-Session-Id": {"0"}, "X-Real-Ua": {strings.Repeat("x", 4096)}},
		},
		"an address with a query of its own": {
			"/check?site=1",
			backends.Request{Query: "token=123&token=%26&site=2"},
			"site=1&token=123&token=%26",
			http.Header{"X-Session-Id": {"0"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			if _, err := newBackend(t, s.URL()+tt.address, nil).Check(t.Context(), &tt.request); err != nil {
				t.Fatalf("check: %v", err)
			}
			seen := s.Requests()[0]
			if seen.RawQuery != tt.query {
				t.Errorf("got query %q, want %q", seen.RawQuery, tt.query)
			}
			if diff := cmp.Diff(tt.headers, adapterHeaders(seen)); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_Responses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode    backendtest.Mode
		headers map[string]string
		want    backends.Decision
		alarm   backends.Alarm
		alarms  uint64
	}{
		"401 denies": {backendtest.Status(401), nil, deniedDecision("backend answered 401", ""), 0, 0},
		"403 denies": {backendtest.Status(403), nil, deniedDecision("backend answered 403", ""), 0, 0},
		"a 403 that sends the viewer elsewhere": {
			backendtest.Status(403),
			map[string]string{"X-Location": "http://promo.example.net/"},
			deniedDecision("backend answered 403", "http://promo.example.net/"), 0, 0,
		},
		"a redirect is for the viewer": {
			backendtest.Redirect("http://promo.example.net/"), nil,
			deniedDecision("backend answered 302", "http://promo.example.net/"), 0, 0,
		},
		"an invalid header changes nothing else": {
			backendtest.Healthy(),
			map[string]string{"X-AuthDuration": "-1", "X-Max-Sessions": "", "X-Session-Name": "bob"},
			backends.Decision{
				Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
				UserID: "42", User: "bob", MaxSessions: 3, Unique: true,
			},
			backends.AlarmBadHeader, 1,
		},
		"an unexpected status denies with an alarm": {
			backendtest.Status(418), nil, deniedDecision("backend answered 418", ""), backends.AlarmUnexpectedStatus, 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			for name, value := range tt.headers {
				s.SetHeader(name, value)
			}
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the middleware: %v", err)
			}
			b := newBackend(t, s.URL(), nil)
			d, err := b.Check(t.Context(), &backends.Request{Query: "token=123"})
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if got := b.ContractAlarms().Count(tt.alarm); got != tt.alarms {
				t.Errorf("got %d alarms of %s, want %d", got, tt.alarm, tt.alarms)
			}
		})
	}
}

func deniedDecision(reason, redirect string) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason, Redirect: redirect,
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
	want := Config{HTTP: httpbackend.Config{
		Address:   "https://auth.example.com/check?site=1",
		Headers:   map[string]setting.Secret{"X-Api-Key": "s3cret"},
		Preset:    httpbackend.PresetFlussonic,
		Statuses:  httpbackend.Statuses{"404": httpbackend.OutcomeDeny, "5xx": httpbackend.OutcomeFailure},
		Redirects: httpbackend.RedirectsFollow,

		DialTimeout: 300 * time.Millisecond, TLSTimeout: time.Second, IdleTimeout: 30 * time.Second,
		MaxConnectionAge: 5 * time.Minute, MaxResponseHeaderSize: 8192, MaxBodySize: 1024,
		AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},

		TLS: setting.TLSConfig{ServerName: "auth.internal"},
		Signature: signature.Config{
			Keys:   []setting.Key{{ID: "a", Secret: "0123456789abcdef"}},
			Header: "X-Sig", TimestampHeader: "X-Time", SignedHeaders: []string{"X-Real-IP"},
		},
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	_, err := New("middleware", DefaultConfig(), httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "middleware": address: must be set` {
		t.Errorf("got %v", err)
	}
	cfg := DefaultConfig()
	cfg.HTTP.Address = "https://auth.example.com/check"
	cfg.HTTP.TLS.CAFile = "testdata/full.yaml"
	_, err = New("middleware", cfg, httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "middleware": tls.ca_file: no certificate in testdata/full.yaml` {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	s := startServer(b)
	backend := newBackend(b, s.URL()+"/check", nil)
	r := backendtest.NewRequest("123")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Check(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
