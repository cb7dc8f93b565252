package httpbackend_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/chain"
	"usher/backends/httpbackend"
)

const (
	errorPage = "<br />\n<b>Fatal error</b>:  Uncaught Error: Class &quot;Stb&quot; not found"
	loginPage = "<!doctype html><title>Log in</title>"
)

func TestClient_Decide_BrokenPage(t *testing.T) {
	t.Parallel()
	const (
		stays   = "allowed"
		briefly = "allowed as briefly as possible"
		fails   = "malformed"
	)
	tests := map[string]struct {
		body, contentType string
		meaning           httpbackend.BrokenPage
		want              string
		alarm             bool
	}{
		"an empty body of PHP":           {"", "text/html; charset=UTF-8", 0, stays, false},
		"a word of PHP":                  {"OK", "text/html; charset=UTF-8", 0, stays, false},
		"a page":                         {loginPage, "text/html", 0, stays, true},
		"a page without a type":          {loginPage, "", 0, stays, true},
		"a page as plain text":           {loginPage, "text/plain", 0, stays, true},
		"an error page":                  {errorPage, "text/html", 0, briefly, true},
		"an error page in plain text":    {"Traceback (most recent call last):", "text/plain", 0, briefly, true},
		"an error page after much space": {strings.Repeat(" ", 4000) + errorPage, "text/html", 0, briefly, true},
		"JSON that speaks of an error":   {`{"note":"Fatal error: none"}`, "application/json", 0, stays, false},
		"and begins with a mark":         {"\ufeff\n" + `["Fatal error: none"]`, "application/problem+json; charset=utf-8", 0, stays, false},
		"an error page as JSON":          {errorPage, "application/json; charset=utf-8", 0, briefly, true},
		"as JSON, as a failure":          {errorPage, "Application/JSON", httpbackend.BrokenPageFailure, fails, true},
		"in plain text, as JSON":         {"\nFatal error: Uncaught PDOException: SQLSTATE[HY000]", "application/vnd.api+json", 0, briefly, true},
		"PHP's warning before JSON":      {"<br />\n<b>Warning</b>:  x<br />\n{}", "application/json", 0, stays, true},
		"an error page as XML":           {errorPage, "application/xml", 0, briefly, true},
		"an error page as bytes":         {errorPage, "application/octet-stream", 0, briefly, true},
		"an error page of no known type": {errorPage, "json", 0, briefly, true},
		"a picture":                      {"<html>", "image/png", 0, stays, false},
		"a page, ignored":                {loginPage, "text/html", httpbackend.BrokenPageIgnore, stays, false},
		"an error page, ignored":         {errorPage, "text/html", httpbackend.BrokenPageIgnore, stays, false},
		"a page beside failures":         {loginPage, "text/html", httpbackend.BrokenPageFailure, stays, true},
		"an error page as a failure":     {errorPage, "text/html", httpbackend.BrokenPageFailure, fails, true},
		"an empty body beside failures":  {"", "text/html", httpbackend.BrokenPageFailure, stays, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header()["Content-Type"] = nil
				if tt.contentType != "" {
					w.Header().Set("Content-Type", tt.contentType)
				}
				w.Header().Set("X-AuthDuration", "36000")
				_, _ = io.WriteString(w, tt.body)
			})
			c := newClient(t, s.URL(), func(cfg *httpbackend.Config) { cfg.BrokenPage = tt.meaning })
			d, err := c.Decide(t.Context(), httpbackend.Call{})
			got := d.Verdict.String()
			switch f := backends.AsFailure(err); {
			case f != nil:
				got = f.Kind.String()
			case d.ValidFor == backends.ShortestValidity:
				got = briefly
			}
			if got != tt.want {
				t.Errorf("got %s (error %v), want %s", got, err, tt.want)
			}
			if isTold := strings.Contains(d.Reason, ", with an error page"); isTold != (tt.want == briefly) {
				t.Errorf("got the reason %q of %s", d.Reason, got)
			}
			if raised := c.ContractAlarms().Active().Has(backends.AlarmBrokenPage); raised != tt.alarm {
				t.Errorf("alarm %t, want %t", raised, tt.alarm)
			}
		})
	}
}

// Where redirects are followed, a yes that is a web page is a login page, whatever the config says of pages.
func TestClient_Decide_FollowedToALoginPage_Failure(t *testing.T) {
	t.Parallel()
	const warnings = "<br />\n<b>Warning</b>:  m in <b>/srv/check.php</b> on line <b>3</b><br />\n"
	for body, want := range map[string]backends.Verdict{
		loginPage: backends.Pending, warnings + loginPage: backends.Pending, "OK": backends.Allowed, "": backends.Allowed,
		warnings + "OK": backends.Allowed, `{"ok":1,"see":"<html>"}`: backends.Allowed,
	} {
		for meaning := httpbackend.BrokenPageAlarm; meaning <= httpbackend.BrokenPageIgnore; meaning++ {
			s := startServer(t, nil)
			s.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
				if r.URL.Path != "/login" {
					http.Redirect(w, r, "/login", http.StatusFound)
					return
				}
				if body != "" && body[0] == '{' {
					w.Header().Set("Content-Type", "application/json")
				}
				_, _ = io.WriteString(w, body)
			})
			for _, required := range []string{"", "(?s).*"} {
				c := newClient(t, s.URL(), func(cfg *httpbackend.Config) {
					cfg.Redirects, cfg.BrokenPage, cfg.RequireBody = httpbackend.RedirectsFollow, meaning, required
				})
				d, err := c.Decide(t.Context(), httpbackend.Call{})
				f := backends.AsFailure(err)
				if isFailure := f != nil && f.Kind == backends.FailureMalformed; d.Verdict != want || isFailure != (want == backends.Pending) {
					t.Errorf("%q, broken_page %s, require_body %q: got %s and error %v, want %s", body, meaning, required, d.Verdict, err, want)
				}
				if raised := c.ContractAlarms().Active().Has(backends.AlarmRedirectToItself); raised != (want == backends.Pending) {
					t.Errorf("%q, broken_page %s, require_body %q: alarm %t", body, meaning, required, raised)
				}
			}
		}
	}
}

// A denial says what it says, whatever page comes with it.
func TestClient_Decide_DenialWithPage_NoAlarm(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<html><title>403 Forbidden</title>")
	})
	for _, meaning := range []httpbackend.BrokenPage{httpbackend.BrokenPageAlarm, httpbackend.BrokenPageFailure} {
		c := newClient(t, s.URL(), func(cfg *httpbackend.Config) { cfg.BrokenPage = meaning })
		if d, err := c.Decide(t.Context(), httpbackend.Call{}); err != nil || d.Verdict != backends.Denied || d.ValidFor != 0 {
			t.Errorf("%s: got %+v and error %v, want denied", meaning, d, err)
		}
		if raised := c.ContractAlarms().Active(); raised != 0 {
			t.Errorf("%s: got alarms %b, want none", meaning, raised)
		}
	}
}

func TestClient_Decide_OnUnmetRequirement(t *testing.T) {
	t.Parallel()
	const deny, failure = httpbackend.UnmetRequirementDeny, httpbackend.UnmetRequirementFailure
	broken := httpbackend.AlarmSet(0).With(backends.AlarmBrokenPage)
	tests := map[string]struct {
		onUnmet      httpbackend.UnmetRequirement
		header, body string // as configured
		page         httpbackend.BrokenPage
		say          string
		want         backends.Verdict // pending: a failure
		alarm        httpbackend.AlarmSet
	}{
		"met":                      {deny, "", "^yes", 0, "yes", backends.Allowed, 0},
		"a No with 200":            {deny, "", "^yes", 0, "wrong password", backends.Denied, 0},
		"a No with 200 in HTML":    {deny, "", "^yes", 0, loginPage, backends.Denied, 0},
		"a No without the header":  {deny, "X-UserId", "", 0, "wrong password", backends.Denied, 0},
		"a No without a body":      {deny, "", "^yes", 0, "", backends.Denied, 0},
		"an error page is no No":   {deny, "", "^yes", 0, errorPage, backends.Pending, broken},
		"nor without the header":   {deny, "X-UserId", "", 0, errorPage, backends.Pending, broken},
		"unless pages are ignored": {deny, "", "^yes", httpbackend.BrokenPageIgnore, errorPage, backends.Denied, 0},
		"a failure by default":     {failure, "", "^yes", 0, "wrong password", backends.Pending, httpbackend.AlarmSet(0).With(backends.AlarmUnexpectedAnswer)},
		"met, before an error":     {failure, "", "^yes", 0, "yes" + errorPage, backends.Allowed, broken},
		"which is a failure":       {failure, "", "^yes", httpbackend.BrokenPageFailure, "yes" + errorPage, backends.Pending, broken},
		"with a denial beside it":  {deny, "X-Seen", "^yes", httpbackend.BrokenPageFailure, "yes" + errorPage, backends.Pending, broken},
		"or is ignored":            {failure, "", "^yes", httpbackend.BrokenPageIgnore, "yes" + errorPage, backends.Allowed, 0},
		"met by a page":            {failure, "", "Log in", httpbackend.BrokenPageFailure, loginPage, backends.Allowed, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("X-Seen", "1")
				_, _ = io.WriteString(w, tt.say)
			})
			c := newClient(t, s.URL(), func(cfg *httpbackend.Config) {
				cfg.OnUnmetRequirement, cfg.RequireHeader, cfg.RequireBody, cfg.BrokenPage = tt.onUnmet, tt.header, tt.body, tt.page
			})
			d, err := c.Decide(t.Context(), httpbackend.Call{})
			if d.Verdict != tt.want || (backends.AsFailure(err) != nil) != (tt.want == backends.Pending) {
				t.Errorf("got %s and error %v, want %s", d.Verdict, err, tt.want)
			}
			isBrief := tt.want == backends.Allowed && tt.alarm == broken
			if isTold := strings.Contains(d.Reason, "backend answered 200, "); isTold != (tt.want == backends.Denied || isBrief) {
				t.Errorf("got the reason %q of %s", d.Reason, d.Verdict)
			}
			if (d.ValidFor == backends.ShortestValidity) != isBrief {
				t.Errorf("got an answer that holds for %v", d.ValidFor)
			}
			if raised := c.ContractAlarms().Active(); raised != tt.alarm {
				t.Errorf("got alarms %b, want %b", raised, tt.alarm)
			}
		})
	}
}

// A PHP script that dies after it has set its type has given no answer, so no denial either.
func TestClient_OnUnmetRequirement_ErrorPageDeclaredAsJSON_Failure(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, errorPage)
	})
	c := newClient(t, s.URL(), func(cfg *httpbackend.Config) {
		cfg.RequireBody, cfg.OnUnmetRequirement = `"allowed":true`, httpbackend.UnmetRequirementDeny
	})
	if d, err := c.Decide(t.Context(), httpbackend.Call{}); backends.AsFailure(err) == nil {
		t.Errorf("got %+v and error %v, want a failure", d, err)
	}
}

// Wrong passwords at a portal that denies with 200 are no outage.
func TestClient_OnUnmetRequirement_WrongPasswordsOpenNoBreaker(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		_, _ = io.WriteString(w, `{"ok":false}`)
	})
	c := newClient(t, s.URL(), func(cfg *httpbackend.Config) {
		cfg.RequireBody, cfg.OnUnmetRequirement = `"ok":true`, httpbackend.UnmetRequirementDeny
	})
	portal := chain.New("portal", chain.DefaultConfig(), backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		return c.Decide(ctx, httpbackend.Call{Query: r.Query})
	}), chain.Deps{})
	for i := range byte(8) {
		r := backendtest.NewRequest("wrong")
		r.Address = netip.AddrFrom4([4]byte{192, 0, 2, i})
		if d, err := portal.Check(t.Context(), r); err != nil || d.Verdict != backends.Denied || d.Source != backends.FromBackend {
			t.Errorf("viewer %d: got %s from %s and error %v, want denied by the backend", i, d.Verdict, d.Source, err)
		}
	}
	if portal.IsDown() {
		t.Error("eight wrong passwords opened the breaker")
	}
}
