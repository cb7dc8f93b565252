package ministra

import (
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/cmd/usher/config"
)

func TestBackend_Contract(t *testing.T) {
	for name, v := range versions() {
		t.Run("portal of "+name, func(t *testing.T) {
			backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
				s.SetDialect(v.dialect)
				return newBackend(t, s.URL()+"/stalker_portal")
			})
		})
	}
}

func TestCheck_PortalVersions(t *testing.T) {
	t.Parallel()
	allowed := backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
	}
	full := allowed
	full.ValidFor, full.Unique, full.UserID = 10*time.Hour, true, "7"
	limited := func(n int) backends.Decision {
		d := full
		d.MaxSessions = int32(n)
		return d
	}
	tests := map[string]struct {
		version string
		want    backends.Decision
	}{
		"the first one sends no headers":          {"2014-06-23", allowed},
		"duration, unique and user":               {"2014-06-25", full},
		"a limit of one":                          {"5.1.0", limited(1)},
		"a limit of ten, and unique nevertheless": {"5.1.1", limited(10)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, versions()[tt.version].dialect)
			b := newBackend(t, s.URL()+"/stalker_portal")
			d, err := b.Check(t.Context(), backendtest.NewRequest(token))
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if raised := b.ContractAlarms().Active(); raised != 0 {
				t.Errorf("got alarms %b, want none", raised)
			}
		})
	}
}

func TestCheck_RejectedTokens_Denied(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"no query":                    "",
		"an empty token":              "token=",
		"an unknown token":            "token=ffffffffffffffffffffffffffffffff",
		"a token of 0, empty to PHP":  "token=0",
		"two tokens, the last counts": "token=" + token + "&token=0",
		"a token under another name":  "Token=" + token,
	}
	for name, query := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, versions()["5.1.1"].dialect)
			s.RemoveUser("")
			d, err := newBackend(t, s.URL()).Check(t.Context(), &backends.Request{Query: query})
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			want := backends.Decision{
				Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered 403",
			}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			if seen := s.Requests()[0].RawQuery; seen != query {
				t.Errorf("got query %q, want %q as the viewer sent it", seen, query)
			}
		})
	}
}

// A check does not consume a token, so the adapter must neither cache nor delay it.
func TestCheck_TokenLife(t *testing.T) {
	t.Parallel()
	var c clock
	s := startPortal(t, c.dialect(versions()["5.1.0"], 5*time.Second))
	b := newBackend(t, s.URL()+"/stalker_portal")
	for _, step := range []struct {
		age  int64
		want backends.Verdict
	}{{0, backends.Allowed}, {1, backends.Allowed}, {6, backends.Denied}} {
		c.age.Store(step.age)
		d, err := b.Check(t.Context(), backendtest.NewRequest(token))
		if err != nil || d.Verdict != step.want {
			t.Errorf("at +%d s: got %s and error %v, want %s", step.age, d.Verdict, err, step.want)
		}
	}
	if s.Calls() != 3 {
		t.Errorf("got %d calls, want one per check: 3", s.Calls())
	}
}

func TestCheck_NoPortalResponse_Failure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode  backendtest.Mode
		kind  backends.FailureKind
		alarm httpbackend.AlarmSet
	}{
		"PHP broke": {backendtest.Status(500), backends.FailureStatus, 0},
		"no such page": {
			backendtest.Status(404), backends.FailureStatus, httpbackend.AlarmSet(0).With(backends.AlarmWrongAddress),
		},
		"the portal wants a login": {
			backendtest.RedirectSelf(), backends.FailureMalformed,
			httpbackend.AlarmSet(0).With(backends.AlarmRedirectToItself),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, versions()["5.1.1"].dialect)
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the portal: %v", err)
			}
			b := newBackend(t, s.URL())
			d, err := b.Check(t.Context(), backendtest.NewRequest(token))
			f := backends.AsFailure(err)
			if f == nil || f.Kind != tt.kind || d != (backends.Decision{}) {
				t.Errorf("got %+v and error %v, want a failure of kind %s", d, err, tt.kind)
			}
			if got := b.ContractAlarms().Active(); got != tt.alarm {
				t.Errorf("got alarms %b, want %b", got, tt.alarm)
			}
		})
	}
}

// The script's yes has no body. Any other text is another page's, but PHP's warnings are the script's.
func TestCheck_AllowedWithBody(t *testing.T) {
	t.Parallel()
	const alarm, failure, ignore = httpbackend.BrokenPageAlarm, httpbackend.BrokenPageFailure, httpbackend.BrokenPageIgnore
	const index = "<!doctype html><html><head><title>TV</title></head><div id=app></div>"
	const warning = "<br />\n<b>Warning</b>:  Undefined variable $uid in <b>/srv/chk.php</b> on line <b>3</b><br />\n"
	tests := map[string]struct {
		contentType, body string
		meaning           httpbackend.BrokenPage
		want              backends.Verdict // pending: a failure
		isAlarm           bool
	}{
		"white space":             {"text/html; charset=UTF-8", "\r\n \n", failure, backends.Allowed, false},
		"a byte order mark":       {"text/html; charset=UTF-8", "\ufeff\n", failure, backends.Allowed, false},
		"PHP's warning":           {"text/html; charset=UTF-8", warning, failure, backends.Allowed, true},
		"PHP's notice in text":    {"text/html; charset=UTF-8", "\nNotice: Undefined index: uid in /srv/chk.php on line 3", failure, backends.Allowed, true},
		"PHP's standards":         {"text/html; charset=UTF-8", "\nStrict Standards: By reference in /srv/chk.php on line 3", failure, backends.Allowed, true},
		"PHP's warning in red":    {"text/html", "<span style='color: #ff0000'>" + warning + "</span>", failure, backends.Allowed, true},
		"PHP's recoverable error": {"text/html", "\nRecoverable fatal error: Object of class A", failure, backends.Pending, true},
		"PHP's log":               {"text/html; charset=UTF-8", "PHP Deprecated:  x in /srv/chk.php on line 3\n", failure, backends.Allowed, true},
		"PHP's fatal error":       {"text/html; charset=UTF-8", "<br />\n<b>Fatal error</b>:  Uncaught Error", failure, backends.Pending, true},
		"PHP's warning, then what load.php says": {
			"text/html; charset=UTF-8", warning + "Identification failed", failure, backends.Pending, true,
		},
		"PHP's warning, then a page":  {"text/html", warning + index, failure, backends.Pending, true},
		"a notice of a site":          {"text/html", "<p>Notice: please log in</p>", failure, backends.Pending, true},
		"what load.php says":          {"text/html; charset=UTF-8", "Identification failed", failure, backends.Pending, true},
		"JSON":                        {"application/json", `{"js":[],"text":""}`, failure, backends.Pending, true},
		"a page for every path":       {"text/html", index, failure, backends.Pending, true},
		"a page, where that is known": {"text/html", index, alarm, backends.Allowed, true},
		"text, where that is known":   {"text/html", "OK", alarm, backends.Allowed, true},
		"text, where nobody wants to": {"text/html", "OK", ignore, backends.Allowed, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startPortal(t, func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("Content-Type", tt.contentType)
				_, _ = io.WriteString(w, tt.body)
			})
			cfg := DefaultConfig()
			cfg.HTTP.Address, cfg.HTTP.BrokenPage = s.URL(), tt.meaning
			b, err := New("portal", cfg, httpbackend.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			d, err := b.Check(t.Context(), backendtest.NewRequest(token))
			f := backends.AsFailure(err)
			if isFailure := f != nil && f.Kind == backends.FailureMalformed; d.Verdict != tt.want || isFailure != (tt.want == backends.Pending) {
				t.Errorf("got %s and error %v, want %s", d.Verdict, err, tt.want)
			}
			if got := b.ContractAlarms().Active().Has(backends.AlarmBrokenPage); got != tt.isAlarm {
				t.Errorf("got an alarm: %t, want %t", got, tt.isAlarm)
			}
		})
	}
}

func TestConfig_Warnings(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"http://host/stalker_portal":                                       "",
		"http://host/stalker_portal/server/api/chk_flussonic_tmp_link.php": "",
		"http://host/p?a=load.php":                                         "",
		"http://host/stalker_portal/server/load.php?a=1": "address: ends in load.php, which is called as it is and may answer 200 to anybody; " +
			"want the portal's URL, or that of its chk_flussonic_tmp_link.php",
	} {
		cfg := DefaultConfig()
		cfg.HTTP.Address = address
		got := ""
		if err := cfg.Warnings(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	const script = "/server/api/chk_flussonic_tmp_link.php"
	tests := map[string]struct{ address, want string }{
		"the classic portal":        {"http://host/stalker_portal", "http://host/stalker_portal" + script},
		"with a slash":              {"http://host/stalker_portal/", "http://host/stalker_portal" + script},
		"Ministra Pro's root":       {"https://host", "https://host" + script},
		"in full":                   {"http://host/stalker_portal" + script, "http://host/stalker_portal" + script},
		"in full with a query":      {"http://host" + script + "?site=1", "http://host" + script + "?site=1"},
		"another script":            {"http://host/own/check.php", "http://host/own/check.php"},
		"a query stays behind it":   {"http://host/p?site=1", "http://host/p" + script + "?site=1"},
		"a query that ends in .php": {"http://host/p?a=b.php", "http://host/p" + script + "?a=b.php"},
		"a password":                {"http://u:p@host/p", "http://u:p@host/p" + script},
		"none stays none":           {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := endpoint(tt.address); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
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
	want.HTTP.Address = "http://portal.example.com/stalker_portal"
	want.HTTP.RequireHeader = "X-UserId"
	want.HTTP.DialTimeout = 300 * time.Millisecond
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ address, want string }{
		"no address":        {"", "address: must be set"},
		"no scheme":         {"portal.example.com", `address: must begin with http:// or https://, not ""`},
		"no host":           {"http://", "address: has no host; want a URL such as http://10.0.0.5:8080/check"},
		"the end of a page": {"http://portal.example.com/#", "address: has a '#', which is never sent; write %23"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.HTTP.Address = tt.address
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

func BenchmarkCheck(b *testing.B) {
	s := startPortal(b, versions()["5.1.1"].dialect)
	backend := newBackend(b, s.URL()+"/stalker_portal")
	r := backendtest.NewRequest(token)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Check(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
