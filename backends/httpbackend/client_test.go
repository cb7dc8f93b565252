package httpbackend_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

func startServer(t testing.TB, users map[string]backendtest.User) *backendtest.Server {
	t.Helper()
	cfg := backendtest.DefaultConfig()
	cfg.Users = users
	s := backendtest.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func newClient(t testing.TB, address string, change func(*httpbackend.Config)) *httpbackend.Client {
	t.Helper()
	cfg := httpbackend.DefaultConfig()
	cfg.Address = address
	if change != nil {
		change(&cfg)
	}
	c, err := httpbackend.NewClient("portal", cfg, httpbackend.Deps{Propagator: propagation.TraceContext{}})
	if err != nil {
		t.Fatalf("make the client: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func onlyRequest(t *testing.T, s *backendtest.Server) backendtest.Request {
	t.Helper()
	seen := s.Requests()
	if len(seen) != 1 {
		t.Fatalf("got %d requests, want 1", len(seen))
	}
	return seen[0]
}

// TestClient_Do_HeadersInOtherSpelling configures headers that Usher sends too: each is sent once, as configured.
func TestClient_Do_HeadersInOtherSpelling(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	c := newClient(t, s.URL()+"/check", func(cfg *httpbackend.Config) {
		cfg.Headers = map[string]setting.Secret{"user-agent": "MyGW/1", "X-Channel-Id": "one", "x-real-ip": "192.0.2.1"}
	})
	if _, err := c.Do(t.Context(), httpbackend.Call{Header: http.Header{"X-Channel-ID": {"own"}, "X-Real-IP": {"192.0.2.7"}}}); err != nil {
		t.Fatal(err)
	}
	want := http.Header{"User-Agent": {"MyGW/1"}, "X-Channel-Id": {"one"}, "X-Real-Ip": {"192.0.2.1"}}
	if diff := cmp.Diff(want, onlyRequest(t, s).Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestClient_Do_RequestOnTheWire(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	address := strings.Replace(s.URL(), "http://", "http://astra:pass%20word@", 1) + "/auth%2Fv1/check?key=S"
	c := newClient(t, address, func(cfg *httpbackend.Config) {
		cfg.Headers = map[string]setting.Secret{"X-Api-Key": "config"}
	})
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
	}))
	_, err := c.Do(ctx, httpbackend.Call{
		Query:      "token=a%2Fb&key=evil",
		Parameters: []httpbackend.Parameter{{Name: "ip", Value: "192.0.2.7"}},
		Header:     http.Header{"X-Real-IP": {"192.0.2.7"}, "X-App-ID": {"adapter"}},
		Credentials: []backends.Header{
			{Name: "X-Token", Value: "one"},
			{Name: "X-Token", Value: "two\r\nX-Real-Ip: 10.0.0.1"},
			{Name: "x-api-key", Value: "viewer"},
			{Name: "x-app-id", Value: "viewer"},
			{Name: "X-Real-Ip", Value: "10.0.0.1"},
			{Name: "X-Forwarded-For", Value: "10.0.0.1"},
			{Name: "Transfer-Encoding", Value: "chunked"},
			{Name: "Traceparent", Value: "viewer"},
			{Name: "Bad Name", Value: "x"},
		},
	})
	if err != nil {
		t.Fatalf("ask: %v", err)
	}
	r := onlyRequest(t, s)
	if r.Method != http.MethodGet || r.Path != "/auth%2Fv1/check" || r.RawQuery != "key=S&ip=192.0.2.7&token=a%2Fb" {
		t.Errorf("got %s %s?%s", r.Method, r.Path, r.RawQuery)
	}
	want := http.Header{
		"User-Agent":    {"usher"},
		"X-Api-Key":     {"config"},
		"X-App-Id":      {"adapter"},
		"Authorization": {"Basic YXN0cmE6cGFzcyB3b3Jk"},
		"X-Real-Ip":     {"192.0.2.7"},
		"X-Token":       {"one", "twoX-Real-Ip: 10.0.0.1"},
		"Traceparent":   {"00-01000000000000000000000000000000-0200000000000000-01"},
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if strings.Contains(r.Host, "astra") {
		t.Errorf("got host %q, want no password in it", r.Host)
	}
	if got, want := c.DisplayAddress(), s.URL()+"/auth/v1/check"; got != want {
		t.Errorf("shown as %q, want %q", got, want)
	}
}

// A viewer's Authorization reaches the middleware as sent, unless the config has one of its own.
func TestClient_Do_Authorization(t *testing.T) {
	t.Parallel()
	const viewer = "Basic YWxpY2U6d29uZGVybGFuZA=="
	tests := map[string]struct {
		user    string
		headers map[string]setting.Secret
		want    []string
	}{
		"none of the config's":              {"", nil, []string{viewer}},
		"user and password in the address":  {"astra:pass%20word@", nil, []string{"Basic YXN0cmE6cGFzcyB3b3Jk"}},
		"a configured header":               {"", map[string]setting.Secret{"Authorization": "Bearer config"}, []string{"Bearer config"}},
		"a configured header in lower case": {"", map[string]setting.Secret{"authorization": "Bearer config"}, []string{"Bearer config"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, nil)
			c := newClient(t, strings.Replace(s.URL(), "://", "://"+tt.user, 1), func(cfg *httpbackend.Config) { cfg.Headers = tt.headers })
			ctx, all := httpbackend.WithTrace(t.Context())
			if _, err := c.Do(ctx, httpbackend.Call{
				Credentials: []backends.Header{{Name: "Authorization", Value: viewer}},
			}); err != nil {
				t.Fatalf("ask: %v", err)
			}
			if diff := cmp.Diff(tt.want, onlyRequest(t, s).Header.Values("Authorization")); diff != "" {
				t.Errorf("Authorization (-want +got):\n%s", diff)
			}
			if text := fmt.Sprintf("%+v", all.Entries()); strings.Contains(text, "YWxpY2U6") || strings.Contains(text, "YXN0cmE6") {
				t.Errorf("the trace shows a password: %s", text)
			}
		})
	}
}

func TestClient_Do_Redirects(t *testing.T) {
	t.Parallel()
	s := startServer(t, map[string]backendtest.User{"good": {}})
	elsewhere := startServer(t, map[string]backendtest.User{"good": {Name: "alice"}})
	set := func(s *backendtest.Server, m backendtest.Mode) {
		if err := s.SetMode(m); err != nil {
			t.Fatalf("set the middleware: %v", err)
		}
	}
	ask := func(preset httpbackend.Preset) (backends.Decision, error) {
		c := newClient(t, s.URL()+"/check?key=S", func(cfg *httpbackend.Config) {
			cfg.Preset = preset
			cfg.Headers = map[string]setting.Secret{"X-Api-Key": "5ecret"}
		})
		return c.Decide(t.Context(), httpbackend.Call{
			Query: "token=good", Header: http.Header{"X-Real-IP": {"192.0.2.7"}},
			Credentials: []backends.Header{{Name: "Cookie", Value: "5ecret"}, {Name: "X-Token", Value: "5ecret"}},
		})
	}

	set(s, backendtest.Redirect("http://promo.example.net/"))
	d, err := ask(httpbackend.PresetAstra)
	if err != nil || d.Verdict != backends.Denied || d.Redirect != "http://promo.example.net/" {
		t.Errorf("astra: got %+v and error %v, want denied with the redirect", d, err)
	}
	set(s, backendtest.Redirect(strings.Replace(elsewhere.URL(), "127.0.0.1", "localhost", 1)+"/moved?token=good"))
	d, err = ask(httpbackend.PresetAuthProxy)
	if err != nil || d.Verdict != backends.Allowed || d.User != "alice" {
		t.Errorf("auth-proxy: got %+v and error %v, want the yes of where it leads", d, err)
	}
	if r := onlyRequest(t, elsewhere); r.Header.Get("X-Real-Ip") != "192.0.2.7" || r.Header.Get("X-Api-Key") != "" ||
		r.Header.Get("Cookie") != "" || r.Header.Get("X-Token") != "" {
		t.Errorf("another host got %v, want the viewer's facts and no secrets", r.Header)
	}

	set(s, backendtest.RedirectSelf())
	before := s.Calls()
	_, err = ask(httpbackend.PresetAuthProxy)
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureMalformed {
		t.Errorf("auth-proxy: got %v for a loop, want a malformed failure", err)
	}
	if calls := s.Calls() - before; calls != 11 {
		t.Errorf("got %d calls, want the first and 10 redirects", calls)
	}
	_, err = ask(httpbackend.PresetAstra)
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureMalformed {
		t.Errorf("astra: got %v for a redirect to itself, want a malformed failure", err)
	}
	set(s, backendtest.Redirect("http://[broken"))
	if d, err = ask(httpbackend.PresetAstra); err != nil || d.Verdict != backends.Denied || d.Redirect != "" {
		t.Errorf("got %+v and error %v for a broken place, want a bare no", d, err)
	}
}

func TestClient_Interpret_RecordsAlarms(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	if err := s.SetMode(backendtest.Status(http.StatusGone)); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	c := newClient(t, s.URL(), nil)
	if d, err := c.Decide(t.Context(), httpbackend.Call{}); err != nil || d.Verdict != backends.Denied {
		t.Fatalf("got %+v and error %v, want denied", d, err)
	}
	if got := c.ContractAlarms().Count(backends.AlarmUnexpectedStatus); got != 1 {
		t.Errorf("got %d alarms, want 1", got)
	}
}

func TestClient_Do_ClassifiesErrorsWithoutCredentials(t *testing.T) {
	t.Parallel()
	quiet := log.New(io.Discard, "", 0)
	secured := httptest.NewUnstartedServer(http.NotFoundHandler())
	secured.Config.ErrorLog = quiet
	secured.StartTLS()
	t.Cleanup(secured.Close)
	plain := startServer(t, nil)
	hanging, silent := newLateContext(t), newLateContext(t)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(hanging.over)
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // connects, and shakes no hands
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	var shaking sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); shaking.Wait() })
	shaking.Go(func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = c.Read(make([]byte, 1))
		close(silent.over)
	})
	resetting := startServer(t, nil)
	if err := resetting.SetMode(backendtest.Reset()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	refusing := startServer(t, nil)
	if err := refusing.SetMode(backendtest.Refuse()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	tests := map[string]struct {
		ctx     context.Context //nolint:containedctx // whose time is over at that server
		address string
		want    backends.FailureKind
		wasSent bool
	}{
		"an untrusted certificate":   {t.Context(), secured.URL, backends.FailureTransport, false},
		"no TLS where there must be": {t.Context(), strings.Replace(plain.URL(), "http:", "https:", 1), backends.FailureTransport, false},
		"connection refused":         {t.Context(), refusing.URL(), backends.FailureTransport, false},
		"a name that cannot exist":   {t.Context(), "http://portal..invalid/", backends.FailureTransport, false},
		"no TLS handshake in time":   {silent, "https://" + listener.Addr().String(), backends.FailureTimeout, false},
		"no answer in time":          {hanging, hangs.URL, backends.FailureTimeout, true},
		"a reset":                    {t.Context(), resetting.URL(), backends.FailureTransport, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, strings.Replace(tt.address, "://", "://u:5ecret@", 1)+"?key=5ecret", nil)
			_, err := c.Do(tt.ctx, httpbackend.Call{Query: "token=5ecret"})
			f := backends.AsFailure(err)
			if f == nil || f.Kind != tt.want {
				t.Fatalf("got %v, want a failure of kind %s", err, tt.want)
			}
			if f.WasSent != tt.wasSent || f.IsConnect() == tt.wasSent {
				t.Errorf("got WasSent=%t, want %t", f.WasSent, tt.wasSent)
			}
			for cause := err; cause != nil; cause = errors.Unwrap(cause) {
				if strings.Contains(fmt.Sprintf("%v %+v", cause, cause), "5ecret") {
					t.Errorf("the error shows a secret: %v", cause)
				}
			}
		})
	}
}

// lateContext is a context whose deadline is when over is closed, however long that takes.
type lateContext struct {
	context.Context //nolint:containedctx // it is one

	over chan struct{}
}

func newLateContext(t *testing.T) lateContext { return lateContext{t.Context(), make(chan struct{})} }

func (c lateContext) Done() <-chan struct{} { return c.over }

func (c lateContext) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestClient_Do_Bodies(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	s.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
		size := 100
		if r.URL.Query().Get("big") != "" {
			size = 101
		}
		_, _ = io.WriteString(w, strings.Repeat("x", size))
	})
	c := newClient(t, s.URL(), func(cfg *httpbackend.Config) { cfg.MaxBodySize = 100 })
	a, err := c.Do(t.Context(), httpbackend.Call{NeedsBody: true})
	if err != nil || len(a.Body) != 100 {
		t.Errorf("got %d bytes and error %v, want 100", len(a.Body), err)
	}
	a, err = c.Do(t.Context(), httpbackend.Call{Query: "big=1"})
	if err != nil || a.Body != nil {
		t.Errorf("got %d bytes and error %v, want an answer without a body", len(a.Body), err)
	}
	_, err = c.Do(t.Context(), httpbackend.Call{Query: "big=1", NeedsBody: true})
	want := `check backend "portal": malformed: body larger than max_body_size=100B`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestClient_Do_BodyNeverComes_AnswerKept(t *testing.T) {
	t.Parallel()
	s := startServer(t, map[string]backendtest.User{"good": {}})
	if err := s.SetMode(backendtest.SlowBody()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	c := newClient(t, s.URL(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d, err := c.Decide(ctx, httpbackend.Call{Query: "token=good"})
	if err != nil || d.Verdict != backends.Allowed {
		t.Errorf("got %s and error %v, want the yes of the headers", d.Verdict, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Do(ctx, httpbackend.Call{Query: "token=good", NeedsBody: true})
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTimeout {
		t.Errorf("got %v for a call that needs the body, want a timeout", err)
	}
}

func TestClient_ReusesConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	c := newClient(t, s.URL(), nil)
	for range 20 {
		if _, err := c.Do(t.Context(), httpbackend.Call{}); err != nil {
			t.Fatalf("ask: %v", err)
		}
	}
	remotes := map[string]bool{}
	for _, r := range s.Requests() {
		remotes[r.Remote] = true
	}
	if len(remotes) != 1 {
		t.Errorf("got %d connections for 20 calls in a row, want 1", len(remotes))
	}
}

func TestClient_MutualTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Session-Name", r.TLS.PeerCertificates[0].Subject.Organization[0])
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatalf("marshal the key: %v", err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatalf("write %s: %v", name, err)
		}
		return path
	}
	certFile := write("cert.pem", "CERTIFICATE", certificate.Certificate[0])
	c := newClient(t, server.URL, func(cfg *httpbackend.Config) {
		cfg.TLS = setting.TLSConfig{
			CAFile: certFile, CertFile: certFile, KeyFile: write("key.pem", "PRIVATE KEY", key), ServerName: "example.com",
		}
	})
	d, err := c.Decide(t.Context(), httpbackend.Call{})
	if err != nil || d.Verdict != backends.Allowed || d.User != "Acme Co" {
		t.Errorf("got %+v and error %v, want allowed with the client certificate", d, err)
	}
}

func TestTrace_HidesTheConfigsSecrets(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	c := newClient(t, s.URL()+"/check?my.key=5ecret", func(cfg *httpbackend.Config) {
		cfg.Headers = map[string]setting.Secret{"X-Api-Key": "5ecret"}
	})
	ctx, all := httpbackend.WithTrace(t.Context())
	if _, err := c.Do(ctx, httpbackend.Call{Query: "token=123"}); err != nil {
		t.Fatalf("ask: %v", err)
	}
	x := all.Entries()[0]
	if text := fmt.Sprintf("%+v", x); strings.Contains(text, "5ecret") || !strings.Contains(text, "token=123") {
		t.Errorf("want the viewer's query and no secret, got %s", text)
	}
	if len(all.Entries()) != 1 || x.Backend != "portal" || x.Status != http.StatusForbidden || x.ResponseHeader == nil {
		t.Errorf("got %+v, want the answer's 403", x)
	}
}

func BenchmarkClient_Decide(b *testing.B) {
	s := startServer(b, map[string]backendtest.User{"good": {Name: "alice", ValidFor: time.Minute}})
	c := newClient(b, s.URL()+"/check", nil)
	r := backendtest.NewRequest("good")
	b.ReportAllocs()
	for b.Loop() {
		d, err := c.Decide(b.Context(), httpbackend.Call{Query: r.Query, Header: httpbackend.AstraHeaders(r)})
		if err != nil || d.Verdict != backends.Allowed {
			b.Fatalf("got %s and error %v", d.Verdict, err)
		}
	}
}

// A 401 with a challenge refuses the Authorization that was sent. Where it is Usher's own, it says nothing of the viewer.
func TestClient_Interpret_OwnCredentialsRefused(t *testing.T) {
	t.Parallel()
	const denied, failed = "denied", "failed"
	challenge := http.Header{"Www-Authenticate": {`Basic realm="billing API"`}}
	proxy := http.Header{"Proxy-Authenticate": {`Basic realm="proxy"`}}
	tests := map[string]struct {
		user    string // of the address
		change  func(*httpbackend.Config)
		status  int
		header  http.Header
		want    string // with the challenge that the viewer gets
		isAlarm bool
	}{
		"no credentials of Usher's": {"", nil, 401, challenge, denied + challenge.Get("WWW-Authenticate"), false},
		"a password in the address": {"usher:old@", nil, 401, challenge, failed, true},
		"a header":                  {"", setHeaders("authorization"), 401, challenge, failed, true},
		"without a challenge":       {"usher:old@", nil, 401, nil, denied, false},
		"a 403":                     {"usher:old@", nil, 403, challenge, denied, false},
		"as Flussonic":              {"usher:old@", setPreset(httpbackend.PresetFlussonic), 401, challenge, failed, true},
		"as Alta, which denies":     {"usher:old@", setPreset(httpbackend.PresetAlta), 401, challenge, denied, true},
		"statuses says that it is a no": {
			"usher:old@", func(cfg *httpbackend.Config) { cfg.Statuses = httpbackend.Statuses{"401": httpbackend.OutcomeDeny} }, 401, challenge, denied, false,
		},
		"a proxy":                       {"", setHeaders("Proxy-Authorization"), 407, proxy, failed, true},
		"a proxy without a password":    {"", nil, 407, proxy, denied, true},
		"a password that no proxy asks": {"usher:old@", nil, 407, proxy, denied, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, "http://"+tt.user+"portal.example.com/check", tt.change)
			d, err := c.Interpret(httpbackend.Response{Status: tt.status, Header: tt.header})
			got := d.Verdict.String() + d.Challenge
			if f := backends.AsFailure(err); f != nil {
				got = failed
				if f.Kind != backends.FailureStatus || f.Status != tt.status || !f.MayBeDenial {
					t.Errorf("got failure %+v, want one that may be a denial", f)
				}
			}
			if raised := c.ContractAlarms().Active().Has(backends.AlarmUnexpectedStatus); got != tt.want || raised != tt.isAlarm {
				t.Errorf("got %s and alarm %t, want %s and %t", got, raised, tt.want, tt.isAlarm)
			}
		})
	}
}

func setHeaders(name string) func(*httpbackend.Config) {
	return func(cfg *httpbackend.Config) { cfg.Headers = map[string]setting.Secret{name: "Bearer old"} }
}

func setPreset(p httpbackend.Preset) func(*httpbackend.Config) {
	return func(cfg *httpbackend.Config) { cfg.SetPreset(p) }
}
