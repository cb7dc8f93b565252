package httpbackend_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// newLoudClient returns a client and its log, without times.
func newLoudClient(t *testing.T, change func(*httpbackend.Config)) (*httpbackend.Client, *bytes.Buffer) {
	t.Helper()
	cfg := httpbackend.DefaultConfig()
	cfg.Address = "http://portal.example.com/check"
	if change != nil {
		change(&cfg)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	c, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{Log: log})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(c.Close)
	return c, &out
}

func TestClient_Interpret_AllowedMustMeetTheRequirements(t *testing.T) {
	t.Parallel()
	const (
		noHeader = `check backend "portal": malformed: allowed, but without require_header="X-Auth"`
		noValue  = `check backend "portal": malformed: allowed, but without require_header="X-Auth: usher v1"`
		noBody   = `check backend "portal": malformed: allowed, but the body does not match require_body="^\\{.*\"ok\": *true"`
	)
	const body = `^\{.*"ok": *true`
	tests := map[string]struct {
		header, body string // as configured
		answer       http.Header
		text         string
		want         string // an error; empty: allowed
	}{
		"nothing is required":               {"", "", nil, "", ""},
		"the header is there":               {"X-Auth", "", http.Header{"X-Auth": {"whatever"}}, "", ""},
		"the header is not":                 {"X-Auth", "", http.Header{"X-Other": {"1"}}, "", noHeader},
		"the header is empty":               {"X-Auth", "", http.Header{"X-Auth": {""}}, "", noHeader},
		"a name in other case":              {"x-auTH", "", http.Header{"X-Auth": {"1"}}, "", ""},
		"the value is right":                {"x-auth:  usher v1 ", "", http.Header{"X-Auth": {"usher v1"}}, "", ""},
		"the value is another":              {"X-Auth: usher v1", "", http.Header{"X-Auth": {"usher v10"}}, "", noValue},
		"the value is in other case":        {"X-Auth: usher v1", "", http.Header{"X-Auth": {"Usher v1"}}, "", noValue},
		"a value is wanted, none there":     {"X-Auth: usher v1", "", nil, "", noValue},
		"a colon and no value is any value": {"X-Auth:", "", http.Header{"X-Auth": {"1"}}, "", ""},
		"the body matches":                  {"", body, nil, `{"user":1,"ok":true}`, ""},
		"the body does not":                 {"", body, nil, `{"user":1,"ok":false}`, noBody},
		"there is no body":                  {"", body, nil, "", noBody},
		"both are there":                    {"X-Auth", body, http.Header{"X-Auth": {"1"}}, `{"ok":true}`, ""},
		"one of both is not":                {"X-Auth", body, http.Header{"X-Auth": {"1"}}, `{}`, noBody},
		"neither is there":                  {"X-Auth", body, nil, `{}`, noHeader},
		"a web page": {
			"X-Auth", "",
			http.Header{"Content-Type": {"Text/HTML; charset=utf-8"}},
			"<html>s3cret</html>",
			noHeader + "; it is a web page",
		},
		"a web page as a body": {
			"", body, http.Header{"Content-Type": {"text/html"}}, "<html>s3cret</html>", noBody + "; it is a web page",
		},
		"a web page where nothing is required": {"", "", http.Header{"Content-Type": {"text/html"}}, "<html>", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newLoudClient(t, func(cfg *httpbackend.Config) {
				cfg.RequireHeader, cfg.RequireBody = tt.header, tt.body
			})
			d, err := c.Interpret(httpbackend.Response{Status: http.StatusOK, Header: tt.answer, Body: []byte(tt.text)})
			var alarms uint64
			if tt.want == "" {
				if err != nil || d.Verdict != backends.Allowed {
					t.Errorf("got %s and error %v, want allowed", d.Verdict, err)
				}
			} else {
				alarms = 1
				f := backends.AsFailure(err)
				if f == nil || f.Kind != backends.FailureMalformed || f.Error() != tt.want {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				if diff := cmp.Diff(backends.Decision{}, d); diff != "" {
					t.Errorf("a decision beside the failure (-want +got):\n%s", diff)
				}
			}
			if got := c.ContractAlarms().Count(backends.AlarmUnexpectedAnswer); got != alarms {
				t.Errorf("got %d alarms, want %d", got, alarms)
			}
		})
	}
}

// A denial and a failure need not meet the requirements: they admit no viewer.
func TestClient_Interpret_OtherAnswersNeedNotMeetTheRequirements(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status   int
		statuses httpbackend.Statuses
		verdict  backends.Verdict
		failure  string
	}{
		"denied":               {403, nil, backends.Denied, ""},
		"an unexpected status": {418, nil, backends.Denied, ""},
		"a failure":            {503, nil, backends.Pending, `check backend "portal": status 503`},
		"allowed by statuses": {
			404,
			httpbackend.Statuses{"404": httpbackend.OutcomeAllow},
			backends.Pending,
			`check backend "portal": malformed: allowed, but without require_header="X-Auth"`,
		},
		"a 200 that statuses deny": {200, httpbackend.Statuses{"200": httpbackend.OutcomeDeny}, backends.Denied, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newLoudClient(t, func(cfg *httpbackend.Config) {
				cfg.RequireHeader, cfg.RequireBody, cfg.Statuses = "X-Auth", "^ok$", tt.statuses
			})
			d, err := c.Interpret(httpbackend.Response{Status: tt.status, Header: http.Header{}})
			if d.Verdict != tt.verdict || tt.failure != "" && (err == nil || err.Error() != tt.failure) ||
				tt.failure == "" && err != nil {
				t.Errorf("got %s and error %v, want %s and %q", d.Verdict, err, tt.verdict, tt.failure)
			}
		})
	}
}

// require_body makes the client read the body, even if the adapter does not need it, with the same bound.
func TestClient_Do_ReadsARequiredBody(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
		_, _ = io.WriteString(w, r.URL.Query().Get("say"))
	})
	c := newClient(t, s.URL(), func(cfg *httpbackend.Config) { cfg.RequireBody, cfg.MaxBodySize = "^ok", 100 })
	for say, want := range map[string]string{
		"ok":                           "",
		"no":                           `check backend "portal": malformed: allowed, but the body does not match require_body="^ok"`,
		"ok" + strings.Repeat("x", 98): "",
		"ok" + strings.Repeat("x", 99): `check backend "portal": malformed: body larger than max_body_size=100B`,
	} {
		d, err := c.Decide(t.Context(), httpbackend.Call{Query: "say=" + say})
		if want == "" && (err != nil || d.Verdict != backends.Allowed) || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%.9s: got %s and error %v, want %q", say, d.Verdict, err, want)
		}
	}
}

func TestConfig_Validate_Requirements(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ header, body, want string }{
		"neither":                {"", "", ""},
		"both":                   {"X-Auth: 1", "ok", ""},
		"a value with a colon":   {"X-Auth: a:b", "", ""},
		"a header without name":  {": 1", "", `require_header: ": 1": want a header's name, or name: value`},
		"a name with a space":    {"X Auth: 1", "", `require_header: "X Auth: 1": want a header's name, or name: value`},
		"an expression of sorts": {"", "(ok", "require_body: error parsing regexp: missing closing ): `(ok`"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := httpbackend.DefaultConfig()
			cfg.Address, cfg.RequireHeader, cfg.RequireBody = "http://portal.example.com/", tt.header, tt.body
			got := ""
			if err := cfg.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if _, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{}); (err != nil) != (tt.want != "") {
				t.Errorf("the client says %v, Validate says %q", err, got)
			}
		})
	}
}

// The log has one line when an alarm begins, with advice, and one when it ends. A good answer alone does not end it; one
// after a minute without the alarm does.
func TestClient_Interpret_LogsEachAlarmOnceWithAdvice(t *testing.T) {
	t.Parallel()
	good := httpbackend.Response{Status: http.StatusOK, Header: http.Header{"X-Auth": {"1"}}}
	login := http.Header{"Location": {"/login"}, "X-Auth": {"1"}}
	const begins = `level=WARN msg="backend violates its contract" backend=portal `
	const ends = `level=WARN msg="backend keeps its contract again" backend=portal `
	tests := map[string]struct {
		bad   httpbackend.Response
		alarm backends.Alarm
		lines []string
	}{
		"a wrong address": {
			httpbackend.Response{Status: http.StatusNotFound, Header: http.Header{}},
			backends.AlarmWrongAddress,
			[]string{
				begins + `alarm=wrong_address detail="status 404" advice="check the path in address"`,
				ends + `alarm=wrong_address`,
			},
		},
		"an unexpected answer": {
			httpbackend.Response{Status: http.StatusOK, Header: http.Header{}, Body: []byte("<!doctype html>")},
			backends.AlarmUnexpectedAnswer,
			[]string{
				begins + `alarm=unexpected_answer` +
					` detail="allowed, but without require_header=\"X-Auth\"; it is a web page"` +
					` advice="check address: something else than the backend answers there"`,
				ends + `alarm=unexpected_answer`,
			},
		},
		"a login page": {
			httpbackend.Response{Status: http.StatusFound, Header: login},
			backends.AlarmRedirectToItself,
			[]string{
				begins + `alarm=redirect_to_itself detail="status 302 redirects to a page of the backend's own"` +
					` advice="check address: the backend redirects to a page of its own, for example a login page"`,
				ends + `alarm=redirect_to_itself`,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, out := newLoudClient(t, func(cfg *httpbackend.Config) { cfg.RequireHeader = "X-Auth" })
				read := func(a httpbackend.Response, raised bool, lines int) {
					t.Helper()
					_, _ = c.Interpret(a)
					if got := strings.Count(out.String(), "\n"); got != lines {
						t.Fatalf("got %d lines, want %d:\n%s", got, lines, out)
					}
					if got := c.ContractAlarms().Active().Has(tt.alarm); got != raised {
						t.Fatalf("raised: got %t, want %t", got, raised)
					}
				}
				read(good, false, 0)
				for range 50 {
					read(tt.bad, true, 1)
				}
				time.Sleep(59 * time.Second)
				read(good, true, 1)
				read(tt.bad, true, 1)
				time.Sleep(time.Minute)
				read(good, false, 2)
				if diff := cmp.Diff(strings.Join(tt.lines, "\n")+"\n", out.String()); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				read(tt.bad, true, 3)
				if got := c.ContractAlarms().Count(tt.alarm); got != 52 {
					t.Errorf("got %d alarms, want 52", got)
				}
			})
		})
	}
}

func TestClient_Interpret_404IsAWrongAddressWhereItIsAFailure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		preset   httpbackend.Preset
		statuses httpbackend.Statuses
		want     uint64
	}{
		"astra":                       {httpbackend.PresetAstra, nil, 1},
		"alta":                        {httpbackend.PresetAlta, nil, 0},
		"flussonic":                   {httpbackend.PresetFlussonic, nil, 0},
		"auth-proxy":                  {httpbackend.PresetAuthProxy, nil, 0},
		"astra, and the config means": {httpbackend.PresetAstra, httpbackend.Statuses{"404": httpbackend.OutcomeDeny}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newLoudClient(t, func(cfg *httpbackend.Config) { cfg.Preset, cfg.Statuses = tt.preset, tt.statuses })
			_, err := c.Interpret(httpbackend.Response{Status: http.StatusNotFound, Header: http.Header{}})
			if failed := backends.AsFailure(err) != nil; failed != (tt.want > 0) {
				t.Errorf("got error %v", err)
			}
			if got := c.ContractAlarms().Count(backends.AlarmWrongAddress); got != tt.want {
				t.Errorf("got %d alarms, want %d", got, tt.want)
			}
		})
	}
}

// A viewer is never redirected to the middleware, however its address is written.
func TestClient_Interpret_RedirectToItsOwnHost(t *testing.T) {
	t.Parallel()
	const itself, moved, elsewhere, nonsense = "itself", "moved", "elsewhere", "nonsense"
	tests := map[string]struct{ place, want string }{
		"a path":                     {"/login", itself},
		"a relative path":            {"login.php?back=check", itself},
		"a query":                    {"?login=1", itself},
		"its name":                   {"http://portal.example.com/login", itself},
		"its name, over TLS":         {"https://portal.example.com/login", moved},
		"its path, over TLS":         {"https://portal.example.com/check?token=5", moved},
		"its path, with a slash":     {"/check/", moved},
		"its path, on another port":  {"http://portal.example.com:8080/check", moved},
		"its name, on another port":  {"http://portal.example.com:8080/", elsewhere},
		"its name in capitals":       {"HTTP://PORTAL.Example.COM/login", itself},
		"its name, with the root":    {"http://portal.example.com./login", itself},
		"its name, without a scheme": {"//portal.example.com/login", itself},
		"a name that begins so":      {"http://portal.example.com.example.net/", elsewhere},
		"a name that ends so":        {"http://my.portal.example.com/", elsewhere},
		"another, after a user":      {"http://portal.example.com@promo.example.net/", nonsense},
		"no address":                 {"javascript:alert(1)", nonsense},
	}
	for name, tt := range tests {
		for _, preset := range []httpbackend.Preset{httpbackend.PresetAstra, httpbackend.PresetFlussonic} {
			t.Run(preset.String()+", "+name, func(t *testing.T) {
				t.Parallel()
				c, _ := newLoudClient(t, func(cfg *httpbackend.Config) { cfg.Preset = preset })
				d, err := c.Interpret(httpbackend.Response{Status: http.StatusFound, Header: http.Header{"Location": {tt.place}}})
				f := backends.AsFailure(err)
				switch {
				case (tt.want == itself || tt.want == moved) && (f == nil || f.Kind != backends.FailureMalformed || d.Redirect != ""):
					t.Errorf("302: got %+v and error %v, want a malformed failure", d, err)
				case tt.want == elsewhere && (err != nil || d.Verdict != backends.Denied || d.Redirect != tt.place):
					t.Errorf("302: got %+v and error %v, want denied with the redirect", d, err)
				case tt.want == nonsense && (err != nil || d.Verdict != backends.Denied || d.Redirect != ""):
					t.Errorf("302: got %+v and error %v, want a bare no", d, err)
				}
				if got := c.ContractAlarms().Active().Has(backends.AlarmRedirectToItself); got != (tt.want == itself) {
					t.Errorf("302: alarm %t, want %t", got, !got)
				}
				if got := c.ContractAlarms().Active().Has(backends.AlarmAddressMoved); got != (tt.want == moved) {
					t.Errorf("302: alarm of a move %t, want %t", got, !got)
				}

				d, err = c.Interpret(httpbackend.Response{Status: http.StatusForbidden, Header: http.Header{"X-Location": {tt.place}}})
				if err != nil || d.Verdict != backends.Denied || (d.Redirect != "") != (tt.want == elsewhere) {
					t.Errorf("403: got %+v and error %v, want denied", d, err)
				}
			})
		}
	}
}

// Where redirects are followed, a login page at their end has the status 200. The requirements detect it.
func TestClient_Interpret_LoginPageBehindARedirect_Failure(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
		if r.URL.Path == "/login" {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>Log in</html>")
			return
		}
		http.Redirect(w, r, "/login", http.StatusFound)
	})
	c := newClient(t, s.URL()+"/check", func(cfg *httpbackend.Config) {
		cfg.Preset, cfg.RequireHeader = httpbackend.PresetAuthProxy, "X-Auth"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := c.Decide(ctx, httpbackend.Call{Query: "token=123"})
	want := `check backend "portal": malformed: allowed, but without require_header="X-Auth"; it is a web page`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if got := c.ContractAlarms().Count(backends.AlarmUnexpectedAnswer); got != 1 {
		t.Errorf("got %d alarms, want 1", got)
	}
	if s.Calls() != 2 {
		t.Errorf("got %d calls, want the check and the page", s.Calls())
	}
}
