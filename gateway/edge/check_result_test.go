package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// fieldRecorder records the fields of a response in one line. It drops empty ones, as the gateway does.
type fieldRecorder struct{ text string }

func (w *fieldRecorder) Set(name, value string) {
	if value != "" {
		w.text += fmt.Sprintf(" | %s: %s", name, value)
	}
}

// encoded returns the encoded result as one line: the status, then the fields.
func encoded(d Dialect, r CheckResult) string {
	var w fieldRecorder
	return fmt.Sprint(d.Encode(r, &w)) + w.text
}

// fullDecision returns a decision with all fields set.
func fullDecision() *backends.Decision {
	return &backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "backend answered 200",
		UserID: "u7", User: "Ada", ValidFor: time.Hour, MaxSessions: 2, Unique: true, Redirect: "http://promo.example.com/?a=b",
	}
}

func TestDialect_Encode(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		decision *backends.Decision
		want     string // a line for each dialect and status
	}{
		"with a decision": {fullDecision(), `
astra 200: 200 | X-Session-Name: Ada
astra 302: 403 | X-Location: http://promo.example.com/?a=b
astra 400: 403
astra 403: 403
astra 404: 403
astra 503: 403
alta 200: 200 | X-Session-Name: Ada
alta 302: 403 | X-Location: http://promo.example.com/?a=b
alta 400: 403
alta 403: 403
alta 404: 403
alta 503: 403
flussonic 200: 200 | X-Authduration: 62 | X-Userid: u7 | X-Max-Sessions: 2 | X-Unique: true
flussonic 302: 403 | X-Authduration: 62
flussonic 400: 403 | X-Authduration: 62
flussonic 403: 403 | X-Authduration: 62
flussonic 404: 403 | X-Authduration: 62
flussonic 503: 500
nginx 200: 200 | X-Session-Name: Ada | X-Userid: u7 | X-Usher-Source: backend
nginx 302: 403 | X-Usher-Source: backend | X-Location: http://promo.example.com/?a=b
nginx 400: 403 | X-Usher-Source: backend
nginx 403: 403 | X-Usher-Source: backend
nginx 404: 403 | X-Usher-Source: backend
nginx 503: 403 | X-Usher-Source: backend
forward-auth 200: 200 | X-Session-Name: Ada | X-Userid: u7 | X-Usher-Source: backend
forward-auth 302: 302 | X-Usher-Source: backend | Location: http://promo.example.com/?a=b
forward-auth 400: 400 | X-Usher-Source: backend
forward-auth 403: 403 | X-Usher-Source: backend
forward-auth 404: 404 | X-Usher-Source: backend
forward-auth 503: 503 | X-Usher-Source: backend | Retry-After: 2
envoy 200: 200 | X-Session-Name: Ada | X-Userid: u7 | X-Usher-Source: backend
envoy 302: 302 | X-Usher-Source: backend | Location: http://promo.example.com/?a=b
envoy 400: 400 | X-Usher-Source: backend
envoy 403: 403 | X-Usher-Source: backend
envoy 404: 404 | X-Usher-Source: backend
envoy 503: 503 | X-Usher-Source: backend | Retry-After: 2
`},
		"with a decision that says little": {&backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}, `
astra 200: 200
astra 302: 403 | X-Location: http://promo.example.com/?a=b
astra 400: 403
astra 403: 403
astra 404: 403
astra 503: 403
alta 200: 200
alta 302: 403 | X-Location: http://promo.example.com/?a=b
alta 400: 403
alta 403: 403
alta 404: 403
alta 503: 403
flussonic 200: 200 | X-Authduration: 62
flussonic 302: 403 | X-Authduration: 62
flussonic 400: 403 | X-Authduration: 62
flussonic 403: 403 | X-Authduration: 62
flussonic 404: 403 | X-Authduration: 62
flussonic 503: 500
nginx 200: 200 | X-Usher-Source: fail-open
nginx 302: 403 | X-Usher-Source: fail-open | X-Location: http://promo.example.com/?a=b
nginx 400: 403 | X-Usher-Source: fail-open
nginx 403: 403 | X-Usher-Source: fail-open
nginx 404: 403 | X-Usher-Source: fail-open
nginx 503: 403 | X-Usher-Source: fail-open
forward-auth 200: 200 | X-Usher-Source: fail-open
forward-auth 302: 302 | X-Usher-Source: fail-open | Location: http://promo.example.com/?a=b
forward-auth 400: 400 | X-Usher-Source: fail-open
forward-auth 403: 403 | X-Usher-Source: fail-open
forward-auth 404: 404 | X-Usher-Source: fail-open
forward-auth 503: 503 | X-Usher-Source: fail-open | Retry-After: 2
envoy 200: 200 | X-Usher-Source: fail-open
envoy 302: 302 | X-Usher-Source: fail-open | Location: http://promo.example.com/?a=b
envoy 400: 400 | X-Usher-Source: fail-open
envoy 403: 403 | X-Usher-Source: fail-open
envoy 404: 404 | X-Usher-Source: fail-open
envoy 503: 503 | X-Usher-Source: fail-open | Retry-After: 2
`},
		"without a decision": {nil, `
astra 200: 200
astra 302: 403 | X-Location: http://promo.example.com/?a=b
astra 400: 403
astra 403: 403
astra 404: 403
astra 503: 403
alta 200: 200
alta 302: 403 | X-Location: http://promo.example.com/?a=b
alta 400: 403
alta 403: 403
alta 404: 403
alta 503: 403
flussonic 200: 200
flussonic 302: 403
flussonic 400: 403
flussonic 403: 403
flussonic 404: 403
flussonic 503: 500
nginx 200: 200
nginx 302: 403 | X-Location: http://promo.example.com/?a=b
nginx 400: 403
nginx 403: 403
nginx 404: 403
nginx 503: 403
forward-auth 200: 200
forward-auth 302: 302 | Location: http://promo.example.com/?a=b
forward-auth 400: 400
forward-auth 403: 403
forward-auth 404: 404
forward-auth 503: 503 | Retry-After: 2
envoy 200: 200
envoy 302: 302 | Location: http://promo.example.com/?a=b
envoy 400: 400
envoy 403: 403
envoy 404: 404
envoy 503: 503 | Retry-After: 2
`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			for d := Astra; d < numDialects; d++ {
				for _, status := range []int{200, 302, 400, 403, 404, 503} {
					r := CheckResult{Status: status, Decision: tc.decision, ValidFor: time.Minute}
					switch status {
					case 302:
						r.Location = "http://promo.example.com/?a=b"
					case 503:
						r.RetryAfter = "2"
					}
					fmt.Fprintf(&got, "%s %d: %s\n", d, status, encoded(d, r))
				}
			}
			if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), got.String()); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDialect_Encode_AnyError requires a challenge to reach those players alone whose edge passes it on, and flussonic to take
// a failure of ours for a failure.
func TestDialect_Encode_AnyError(t *testing.T) {
	t.Parallel()
	want := `
astra 401: 403
astra 500: 403
alta 401: 403
alta 500: 403
flussonic 401: 403
flussonic 500: 500
nginx 401: 401 | Www-Authenticate: Basic | Www-Authenticate: Bearer
nginx 500: 403
forward-auth 401: 401 | Www-Authenticate: Basic | Www-Authenticate: Bearer
forward-auth 500: 500
envoy 401: 401 | Www-Authenticate: Basic | Www-Authenticate: Bearer
envoy 500: 500
`
	var got strings.Builder
	for d := Astra; d < numDialects; d++ {
		for _, status := range []int{401, 500} {
			fmt.Fprintf(&got, "%s %d: %s\n", d, status, encoded(d, CheckResult{Status: status, Challenges: []string{"Basic", "Bearer"}}))
		}
	}
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got.String()); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestDialect_Encode_SessionName(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]backends.Decision{
		"200 | X-Session-Name: Ada": {User: "Ada", UserID: "u7"},
		"200 | X-Session-Name: u7":  {UserID: "u7"},
		"200":                       {},
	} {
		for _, dialect := range []Dialect{Astra, Alta} {
			if got := encoded(dialect, CheckResult{Status: 200, Decision: &d}); got != want {
				t.Errorf("%s: got %q, want %q", dialect, got, want)
			}
		}
	}
}

func TestDialect_Encode_FlussonicAuthDuration(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		left time.Duration
		want string
	}{
		"a minute":                          {time.Minute, "62"},
		"a minute and a little: rounded up": {time.Minute + 1, "63"},
		"a minute but a little: rounded up": {time.Minute - 1, "62"},
		"the least":                         {8 * time.Second, "10"},
		"a little more than the least":      {8*time.Second + 1, "11"},
		"less than the least":               {3 * time.Second, "10"},
		"none: a renewal is under way":      {0, "10"},
		"over long ago":                     {-time.Hour, "10"},
		"no decision, no duration":          {-1 << 63, "10"},
		"ten hours, as Ministra says":       {10 * time.Hour, "36002"},
		"as long as an answer may hold":     {366 * 24 * time.Hour, "31622402"},
	} {
		for status, more := range map[int]string{200: "200", 403: "403"} {
			want := more + " | X-Authduration: " + tc.want
			if got := encoded(Flussonic, CheckResult{Status: status, Decision: &backends.Decision{}, ValidFor: tc.left}); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}

func TestDialect_Encode_FlussonicUnique(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]backends.Decision{
		"200 | X-Authduration: 10 | X-Userid: 7 | X-Max-Sessions: 1": {UserID: "7", MaxSessions: 1},
		"200 | X-Authduration: 10 | X-Userid: 7 | X-Unique: true":    {UserID: "7", Unique: true},
		"200 | X-Authduration: 10 | X-Userid: 7":                     {UserID: "7"},
		"200 | X-Authduration: 10 | X-Max-Sessions: 1000000":         {MaxSessions: 1_000_000},
	} {
		if got := encoded(Flussonic, CheckResult{Status: 200, Decision: &d}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
