package smarty

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

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

func startServer(t testing.TB, d backendtest.Dialect) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = map[string]backendtest.User{"123": {}}
	s := backendtest.New(cfg)
	s.SetDialect(d)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// denyingWith answers valid tokens with error 0, and others with error 1 and that status.
func denyingWith(status int) backendtest.Dialect {
	return func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, known bool) {
		if known {
			_, _ = fmt.Fprint(w, `{"error": 0}`)
			return
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"error": 1}`)
	}
}

// respondingWith gives every request the same response.
func respondingWith(status int, body string, headers ...backends.Header) backendtest.Dialect {
	return func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		for _, h := range headers {
			w.Header().Set(h.Name, h.Value)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// The status of a denial is not public, so both likely ones must pass.
func TestBackend_Contract(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden} {
		t.Run(fmt.Sprintf("denied with %d", status), func(t *testing.T) {
			backendtest.RunContract(t, func(t *testing.T, s *backendtest.Server) backends.Backend {
				s.SetDialect(denyingWith(status))
				return newBackend(t, s.URL(), nil)
			})
		})
	}
}

func TestCheck_CodeDecidesWhereStatusAllows(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		verdict backends.Verdict
		reason  string
	}{
		"valid":           {`{"error": 0}`, backends.Allowed, "error 0: the token is valid"},
		"expired":         {`{"error": 1}`, backends.Denied, "error 1: the token has expired"},
		"other content":   {`{"error": 2}`, backends.Denied, "error 2: the token was made for other content"},
		"another address": {`{"error": 3}`, backends.Denied, "error 3: the token was made for another address"},
	}
	for name, tt := range tests {
		for _, preset := range allPresets() {
			t.Run(fmt.Sprintf("%s under %s", name, preset), func(t *testing.T) {
				t.Parallel()
				s := startServer(t, respondingWith(200, tt.body))
				b := newBackend(t, s.URL(), func(c *Config) { c.HTTP.Preset = preset })
				d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
				if err != nil {
					t.Fatalf("check: %v", err)
				}
				want := backends.Decision{Verdict: tt.verdict, Source: backends.FromBackend, Reason: tt.reason}
				if diff := cmp.Diff(want, d); diff != "" {
					t.Errorf("decision (-want +got):\n%s", diff)
				}
				if raised := b.ContractAlarms().Active(); raised != 0 {
					t.Errorf("got alarms %b, want none", raised)
				}
			})
		}
	}
}

// A 401 or 403 denies without a code, with any code, and with a page; the headers of the denial are read.
func TestCheck_Refused_DeniedWhateverTheBody(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403} {
		for _, body := range []string{"", `{"error": 1}`, `{"error": 0}`, `{"error": 7}`, `{"error`, "<html>Forbidden</html>"} {
			for _, preset := range allPresets() {
				t.Run(fmt.Sprintf("%d %s under %s", status, body, preset), func(t *testing.T) {
					t.Parallel()
					s := startServer(t, respondingWith(status, body))
					b := newBackend(t, s.URL(), func(c *Config) { c.HTTP.Preset = preset })
					d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
					want := backends.Decision{
						Verdict: backends.Denied, Source: backends.FromBackend, Reason: fmt.Sprintf("backend answered %d", status),
					}
					if diff := cmp.Diff(want, d); diff != "" || err != nil {
						t.Errorf("error %v, decision (-want +got):\n%s", err, diff)
					}
					if raised := b.ContractAlarms().Active(); raised != 0 {
						t.Errorf("got alarms %b, want none", raised)
					}
				})
			}
		}
	}
}

func allPresets() []httpbackend.Preset {
	return []httpbackend.Preset{
		httpbackend.PresetAstra, httpbackend.PresetAlta, httpbackend.PresetFlussonic, httpbackend.PresetAuthProxy,
	}
}

func TestCheck_RequestParameters(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("::ffff:192.0.2.7")
	tests := map[string]struct {
		send    []string
		request backends.Request
		want    string
	}{
		"nothing by default, as Astra": {nil, backends.Request{Query: "token=1", Channel: "a", Address: address}, "token=1"},
		"by default the viewer's parameters stay": {
			nil,
			backends.Request{Query: "name=b&token=1&ip=10.0.0.1", Channel: "a", Address: address},
			"name=b&token=1&ip=10.0.0.1",
		},
		"the channel": {
			[]string{"name"}, backends.Request{Query: "token=1", Channel: "a/b", Address: address}, "name=a%2Fb&token=1",
		},
		"the address": {
			[]string{"ip"}, backends.Request{Query: "token=1", Channel: "a", Address: address}, "ip=192.0.2.7&token=1",
		},
		"an IPv6 address, without zone": {
			[]string{"ip"}, backends.Request{Address: netip.MustParseAddr("fe80::1%eth0")}, "ip=fe80%3A%3A1",
		},
		"the viewer's of the same name are replaced": {
			[]string{"ip", "name"},
			backends.Request{
				Query: "ip=10.0.0.1&token=1&%6eame=b&ip[]=2&token=1&names=c", Channel: "a", Address: address,
			},
			"ip=192.0.2.7&name=a&token=1&token=1&names=c",
		},
		"an unknown address is not the channel": {
			[]string{"ip"}, backends.Request{Query: "ip=10.0.0.1&token=1", Channel: "a"}, "ip=&token=1",
		},
		"unknown values replace them too": {
			[]string{"ip", "name"}, backends.Request{Query: "ip=10.0.0.1&name=b&token=1"}, "ip=&name=&token=1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, respondingWith(200, `{"error": 0}`))
			b := newBackend(t, s.URL(), func(c *Config) { c.Send = tt.send })
			if _, err := b.Check(t.Context(), &tt.request); err != nil {
				t.Fatalf("check: %v", err)
			}
			if seen := s.Requests()[0].RawQuery; seen != tt.want {
				t.Errorf("got query %q, want %q", seen, tt.want)
			}
		})
	}
}

func TestCheck_AllowedHeaders(t *testing.T) {
	t.Parallel()
	s := startServer(t, respondingWith(200, `{"error": 0}`,
		backends.Header{Name: "X-AuthDuration", Value: "600"},
		backends.Header{Name: "X-UserId", Value: "7"},
		backends.Header{Name: "X-Session-Name", Value: "alice"},
		backends.Header{Name: "X-Max-Sessions", Value: "2"},
	))
	want := backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "error 0: the token is valid",
		UserID: "7", User: "alice", ValidFor: 10 * time.Minute, MaxSessions: 2,
	}
	d, err := newBackend(t, s.URL(), nil).Check(t.Context(), backendtest.NewRequest("123"))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func TestCheck_AllowedNeedsRequirements(t *testing.T) {
	t.Parallel()
	allowed := `{"error": 0, "server": "smarty"}`
	tests := map[string]struct {
		header, body string
		answer       backendtest.Dialect
		verdict      backends.Verdict
	}{
		"a header that is present": {
			"X-Api: 1", "", respondingWith(200, allowed, backends.Header{Name: "X-Api", Value: "1"}), backends.Allowed,
		},
		"a header that is missing":          {"X-Api", "", respondingWith(200, allowed), backends.Pending},
		"a body that matches":               {"", `"server": "smarty"`, respondingWith(200, allowed), backends.Allowed},
		"a body that does not":              {"", `"server": "other"`, respondingWith(200, allowed), backends.Pending},
		"a denial has no requirements":      {"X-Api", `"server"`, respondingWith(403, `{"error": 2}`), backends.Denied},
		"requirements do not make a denial": {"", "error", respondingWith(200, `{"error": 7}`), backends.Pending},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, tt.answer)
			b := newBackend(t, s.URL(), func(c *Config) { c.HTTP.RequireHeader, c.HTTP.RequireBody = tt.header, tt.body })
			d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
			if d.Verdict != tt.verdict || (err == nil) != (tt.verdict != backends.Pending) {
				t.Fatalf("got %s and error %v, want %s", d.Verdict, err, tt.verdict)
			}
			if err == nil {
				return
			}
			if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureMalformed {
				t.Errorf("got error %v, want a malformed answer", err)
			}
			if !b.ContractAlarms().Active().Has(backends.AlarmUnexpectedAnswer) {
				t.Error("got no alarm of an unexpected answer")
			}
		})
	}
}

// A denial for want of a requirement does not say that the token is valid.
func TestCheck_UnmetRequirementDenies(t *testing.T) {
	t.Parallel()
	s := startServer(t, respondingWith(200, `{"error": 0}`))
	b := newBackend(t, s.URL(), func(c *Config) {
		c.HTTP.RequireHeader, c.HTTP.OnUnmetRequirement = "X-Api", httpbackend.UnmetRequirementDeny
	})
	want := backends.Decision{
		Verdict: backends.Denied, Source: backends.FromBackend, Reason: `backend answered 200, without require_header="X-Api"`,
	}
	d, err := b.Check(t.Context(), backendtest.NewRequest("123"))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func BenchmarkCheck(b *testing.B) {
	s := startServer(b, denyingWith(403))
	backend := newBackend(b, s.URL(), func(c *Config) { c.Send = []string{"name", "ip"} })
	r := backendtest.NewRequest("123")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Check(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
