package iptvportal

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/cmd/usher/config"
)

// statusOnly responds with a status alone: a portal's headers are not public.
func statusOnly(w http.ResponseWriter, _ *http.Request, _ backendtest.User, known bool) {
	if !known {
		w.WriteHeader(http.StatusForbidden)
	}
}

func newBackend(t testing.TB, address string, flussonic bool) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Address, cfg.UseFlussonicEndpoint = address, flussonic
	b, err := New("portal", cfg, httpbackend.Deps{})
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

func startPortal(t testing.TB, d backendtest.Dialect) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = map[string]backendtest.User{
		"123": {ID: "42", Name: "alice", ValidFor: time.Hour, MaxSessions: 2, Unique: true},
	}
	s := backendtest.New(cfg)
	s.SetDialect(d)
	if err := s.Start(); err != nil {
		t.Fatalf("start the portal: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestBackend_Contract(t *testing.T) {
	for name, flussonic := range map[string]bool{"as Astra": false, "as Flussonic": true} {
		t.Run(name, func(t *testing.T) {
			backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
				s.SetDialect(statusOnly)
				return newBackend(t, s.URL(), flussonic)
			})
		})
	}
}

// The format of a token is not public, so the viewer's query must reach the portal unchanged: as the query, and as
// Flussonic's qs.
func TestCheck_QueryUnchanged(t *testing.T) {
	t.Parallel()
	queries := map[string]string{
		"an escaped plus":               "token=a%2Bb",
		"escapes in either case":        "token=%2b%2B%aF",
		"a raw plus":                    "token=a+b",
		"padding of base64":             "token=abc==",
		"a raw slash":                   "token=a/b//c",
		"a NUL":                         "token=a%00b",
		"bytes that are no UTF-8":       "token=%FF%FE\xff",
		"a percent sign out of place":   "token=100%&x=%zz",
		"the same parameter twice":      "token=1&token=2&token=1",
		"parameters named as Flussonic": "name=a001&ip=192.0.2.9&session_id=1",
		"no name at all":                "c2VjcmV0",
		"semicolons":                    "a=1;b=2",
		"separators in a row":           "&&a=1&&",
		"a question mark":               "a=?&b=??",
	}
	for name, query := range queries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, statusOnly)
			for _, flussonic := range []bool{false, true} {
				if _, err := newBackend(t, s.URL(), flussonic).Check(t.Context(), &backends.Request{Query: query}); err != nil {
					t.Fatalf("check: %v", err)
				}
			}
			seen := s.Requests()
			if r := seen[0]; r.Method != http.MethodGet || r.Path != astraPath || r.RawQuery != query {
				t.Errorf("got %s %s?%q, want GET %s?%q", r.Method, r.Path, r.RawQuery, astraPath, query)
			}
			sent, err := url.ParseQuery(seen[1].RawQuery)
			if err != nil || seen[1].Path != flussonicPath || !slices.Equal(sent["qs"], []string{query}) {
				t.Errorf("as Flussonic: got %s?%q, %v; want qs=%q", seen[1].Path, seen[1].RawQuery, err, query)
			}
		})
	}
}

// A viewer who names Flussonic's parameters, in any spelling that PHP reads so, replaces none of them.
func TestCheck_Flussonic_ViewerCannotOverrideParameters(t *testing.T) {
	t.Parallel()
	contract := []string{
		"name", "ip", "proto", "request_type", "request_number", "session_id", "stream_clients", "total_clients", "token", "qs",
		"user_agent", "referer", "host", "dvr", "duration", "bytes",
	}
	forged := []string{"token=good"}
	for _, name := range contract {
		forged = append(forged, name+"=forged", name+"[]=forged", "+"+name+"=forged", name+"%00x=forged",
			fmt.Sprintf("%%%02x%s=forged", name[0], name[1:]), strings.ReplaceAll(name, "_", ".")+"=forged")
	}
	s := startPortal(t, statusOnly)
	opened := time.Unix(1350274200, 0)
	call := newBackend(t, s.URL(), true).flussonicCall(&backends.Request{
		Channel: "a001", Query: strings.Join(forged, "&"), Address: netip.MustParseAddr("192.0.2.7"), Opened: opened,
		Path: "/play/a001/archive-1350274200-4200.m3u8", Host: "live.example.com", UserAgent: "VLC/3.0.20", Referer: "http://ya.ru/",
		Number: 2, Bytes: 12345, Current: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend},
	}, opened.Add(7*time.Second))
	if _, err := newBackend(t, s.URL(), true).Decide(t.Context(), call); err != nil {
		t.Fatalf("check: %v", err)
	}
	got, err := url.ParseQuery(s.Requests()[0].RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"name": {"a001"}, "ip": {"192.0.2.7"}, "proto": {"hls"}, "request_type": {"update_session"}, "request_number": {"2"},
		"session_id": {"00000000-0000-8000-8000-000000000000"}, "stream_clients": {"0"}, "total_clients": {"0"},
		"token": {"good"}, "qs": {strings.Join(forged, "&")}, "user_agent": {"VLC/3.0.20"}, "referer": {"http://ya.ru/"},
		"host": {"live.example.com"}, "dvr": {"true"}, "duration": {"7"}, "bytes": {"12345"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

func TestCheck_Responses(t *testing.T) {
	t.Parallel()
	allowed := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200"}
	full := allowed
	full.UserID, full.User, full.ValidFor, full.MaxSessions, full.Unique = "42", "alice", time.Hour, 2, true
	denied := func(reason string) backends.Decision {
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: reason}
	}
	unexpected := httpbackend.AlarmSet(0).With(backends.AlarmUnexpectedStatus)
	tests := map[string]struct {
		dialect backendtest.Dialect
		mode    backendtest.Mode
		want    backends.Decision
		alarms  httpbackend.AlarmSet
	}{
		"a bare 200":               {statusOnly, backendtest.Healthy(), allowed, 0},
		"headers are honoured":     {backendtest.Astra, backendtest.Healthy(), full, 0},
		"403 denies":               {statusOnly, backendtest.Status(403), denied("backend answered 403"), 0},
		"an unknown status denies": {statusOnly, backendtest.Status(402), denied("backend answered 402"), unexpected},
		"another 2xx denies":       {statusOnly, backendtest.Status(204), denied("backend answered 204"), unexpected},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, tt.dialect)
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the portal: %v", err)
			}
			b := newBackend(t, s.URL(), false)
			d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if got := b.ContractAlarms().Active(); got != tt.alarms {
				t.Errorf("got alarms %b, want %b", got, tt.alarms)
			}
		})
	}
}

func TestConfig_WithEndpoint(t *testing.T) {
	t.Parallel()
	const cloud = "https://go.iptvportal.cloud"
	tests := map[string]struct {
		address   string
		flussonic bool
		want      string
	}{
		"the cloud":                    {cloud, false, cloud + "/auth/arescrypt/"},
		"the cloud, as Flussonic":      {cloud, true, cloud + "/auth/flussonic/arescrypt/"},
		"a slash at the end":           {"http://local/", false, "http://local/auth/arescrypt/"},
		"a query stays behind it":      {"http://local?site=1", true, "http://local/auth/flussonic/arescrypt/?site=1"},
		"in full":                      {cloud + "/auth/arescrypt/", false, cloud + "/auth/arescrypt/"},
		"in full, without a slash":     {cloud + "/auth/arescrypt", false, cloud + "/auth/arescrypt"},
		"in full, with a query":        {cloud + "/auth/arescrypt/?a=/", false, cloud + "/auth/arescrypt/?a=/"},
		"in full, as Flussonic":        {"http://l/auth/flussonic/arescrypt/", true, "http://l/auth/flussonic/arescrypt/"},
		"in full, without saying it":   {"http://l/auth/flussonic/arescrypt/", false, "http://l/auth/flussonic/arescrypt/"},
		"a path with a similar suffix": {"http://l/oauth/arescrypt/", false, "http://l/oauth/arescrypt/auth/arescrypt/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.HTTP.Address, cfg.UseFlussonicEndpoint = tt.address, tt.flussonic
			if got := cfg.withEndpoint().Address; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if err := cfg.Validate(); err != nil {
				t.Errorf("validate: %v", err)
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
	want := DefaultConfig()
	want.HTTP.Address, want.UseFlussonicEndpoint = "https://go.iptvportal.cloud", true
	want.HTTP.Statuses = httpbackend.Statuses{"402": httpbackend.OutcomeDeny}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	const contradiction = "use_flussonic_endpoint: true uses /auth/flussonic/arescrypt/, but address ends in /auth/arescrypt/"
	tests := map[string]struct{ address, want string }{
		"no address":       {"", "address: must be set"},
		"no scheme":        {"go.iptvportal.cloud", `address: must begin with http:// or https://, not ""`},
		"a contradiction":  {"http://local/auth/arescrypt/?site=1", contradiction},
		"a shorter one":    {"http://local/auth/arescrypt", contradiction},
		"two mistakes":     {"https:///auth/arescrypt", "address: has no host; want a URL such as http://10.0.0.5:8080/check\n" + contradiction},
		"no host is named": {"https://", "address: has no host; want a URL such as http://10.0.0.5:8080/check"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.HTTP.Address, cfg.UseFlussonicEndpoint = tt.address, true
			if err := cfg.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("validate: got %v, want %s", err, tt.want)
			}
			_, err := New("portal", cfg, httpbackend.Deps{})
			if err == nil || err.Error() != `make backend "portal": `+tt.want {
				t.Errorf("new: got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestNew_InvalidCAFile(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.HTTP.Address, cfg.HTTP.TLS.CAFile = "https://go.iptvportal.cloud", "testdata/full.yaml"
	_, err := New("portal", cfg, httpbackend.Deps{})
	if err == nil || err.Error() != `make backend "portal": tls.ca_file: no certificate in testdata/full.yaml` {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	s := startPortal(b, statusOnly)
	backend := newBackend(b, s.URL(), false)
	r := backendtest.NewRequest("123")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Check(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
