package smarty

import (
	"context"
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

func alarms(list ...backends.Alarm) httpbackend.AlarmSet {
	var set httpbackend.AlarmSet
	for _, a := range list {
		set = set.With(a)
	}
	return set
}

// failureSummary is a failure without its text.
type failureSummary struct {
	Kind   backends.FailureKind
	Status int
}

func TestCheck_ResponseWithoutCode_Failure(t *testing.T) {
	t.Parallel()
	malformed := failureSummary{Kind: backends.FailureMalformed}
	status := func(n int) failureSummary { return failureSummary{backends.FailureStatus, n} }
	page := backends.Header{Name: "Content-Type", Value: "text/html; charset=utf-8"}
	tests := map[string]struct {
		preset httpbackend.Preset
		answer backendtest.Dialect
		want   failureSummary
		alarms httpbackend.AlarmSet
	}{
		"an empty 200":                  {0, respondingWith(200, ""), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"a login page":                  {0, respondingWith(200, "<html>", page), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"no error":                      {0, respondingWith(200, `{"status": 0}`), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"an unknown code":               {0, respondingWith(200, `{"error": 4}`), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"half a response":               {0, respondingWith(200, `{"error": 0`), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"a string":                      {0, respondingWith(200, `{"error": "no"}`), malformed, alarms(backends.AlarmUnexpectedAnswer)},
		"a body too large":              {0, respondingWith(200, `{"error": 0}`+strings.Repeat(" ", 64<<10)), malformed, 0},
		"a wrong address":               {0, respondingWith(404, "<html>", page), status(404), alarms(backends.AlarmWrongAddress)},
		"too many requests":             {0, respondingWith(429, "slow down"), status(429), 0},
		"a server error":                {0, respondingWith(500, "Traceback"), status(500), 0},
		"a server error with a code":    {0, respondingWith(502, `{"error": 502}`), status(502), 0},
		"a fault by Flussonic's preset": {httpbackend.PresetFlussonic, respondingWith(503, ""), status(503), 0},
		"an error page where none is a contract": {
			0, respondingWith(200, "<b>Fatal error</b>: Uncaught Error"), malformed, alarms(backends.AlarmUnexpectedAnswer),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, tt.answer)
			b := newBackend(t, s.URL(), func(c *Config) { c.HTTP.Preset = tt.preset })
			d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
			f := backends.AsFailure(err)
			if f == nil || d != (backends.Decision{}) {
				t.Fatalf("got %+v and error %v, want a failure", d, err)
			}
			if diff := cmp.Diff(tt.want, failureSummary{f.Kind, f.Status}); diff != "" {
				t.Errorf("failure (-want +got):\n%s", diff)
			}
			if got := b.ContractAlarms().Active(); got != tt.alarms {
				t.Errorf("got alarms %b, want %b", got, tt.alarms)
			}
		})
	}
}

func TestCheck_ResponseWithoutCode_SaysWhatCame(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"<html><body>Log in": `check backend "middleware": malformed: the response is not one JSON object; it is a web page`,
		"Log in":             `check backend "middleware": malformed: the response is not one JSON object`,
	} {
		s := startServer(t, respondingWith(200, body))
		if _, err := newBackend(t, s.URL(), nil).Check(t.Context(), backendtest.NewRequest("123")); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
}

func TestCheck_Redirects(t *testing.T) {
	t.Parallel()
	const promo = "http://promo.example.net/"
	denied := func(redirect string) backends.Decision {
		return backends.Decision{
			Verdict: backends.Denied, Source: backends.FromBackend, Reason: "backend answered 302", Redirect: redirect,
		}
	}
	tests := map[string]struct {
		change func(*Config)
		mode   backendtest.Mode
		want   backends.Decision
		kind   backends.FailureKind // of a failure
		alarms httpbackend.AlarmSet
	}{
		"for the viewer": {nil, backendtest.Redirect(promo), denied(promo), 0, 0},
		"to a login of its own": {
			nil, backendtest.RedirectSelf(),
			backends.Decision{},
			backends.FailureMalformed,
			alarms(backends.AlarmRedirectToItself),
		},
		"denied by Alta's preset": {
			func(c *Config) { c.HTTP.Preset = httpbackend.PresetAlta }, backendtest.Redirect(promo), denied(""), 0, 0,
		},
		"never allowed, even if the config says so": {
			func(c *Config) { c.HTTP.Statuses = httpbackend.Statuses{"302": httpbackend.OutcomeAllow} },
			backendtest.Redirect(promo),
			backends.Decision{},
			backends.FailureMalformed,
			alarms(backends.AlarmUnexpectedAnswer),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, respondingWith(200, `{"error": 0}`))
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the middleware: %v", err)
			}
			b := newBackend(t, s.URL(), tt.change)
			d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
			if diff := cmp.Diff(tt.want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			f := backends.AsFailure(err)
			if decided := tt.want.Verdict != backends.Pending; decided != (err == nil) || !decided && f.Kind != tt.kind {
				t.Errorf("got error %v, want none with a decision, else a failure of kind %s", err, tt.kind)
			}
			if got := b.ContractAlarms().Active(); got != tt.alarms {
				t.Errorf("got alarms %b, want %b", got, tt.alarms)
			}
		})
	}
}

func TestCheck_BodyHangs_Timeout(t *testing.T) {
	t.Parallel()
	s := startServer(t, respondingWith(200, ""))
	if err := s.SetMode(backendtest.SlowBody()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := newBackend(t, s.URL(), nil).Check(ctx, backendtest.NewRequest("123"))
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTimeout {
		t.Errorf("got error %v, want a timeout", err)
	}
}

// Any response within the contract clears an alarm, also a denial.
func TestCheck_DeniedClearsAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, "http://smarty.example.com", nil)
		denial := httpbackend.Response{Status: http.StatusOK, Body: []byte(`{"error": 1}`)}
		if _, err := b.decide(httpbackend.Response{Status: http.StatusOK}); err == nil {
			t.Fatal("got no error for an empty response")
		}
		for _, step := range []struct {
			after time.Duration
			want  httpbackend.AlarmSet
		}{{time.Second, alarms(backends.AlarmUnexpectedAnswer)}, {time.Minute, 0}} {
			time.Sleep(step.after) // in the bubble
			if _, err := b.decide(denial); err != nil {
				t.Fatalf("decide: %v", err)
			}
			if got := b.ContractAlarms().Active(); got != step.want {
				t.Errorf("%s later: got alarms %b, want %b", step.after, got, step.want)
			}
		}
	})
}
