package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"usher/backends/backendtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usher runs the command line, and returns its exit code and output.
func usher(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(args, console{out: &o, err: &e, now: time.Now})
	return code, o.String(), e.String()
}

// writeFile writes a settings file into a temporary folder.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// settingsFor returns a small settings file with a middleware at that address.
func settingsFor(address string) string {
	return fmt.Sprintf(`
identity: { secret: "7f3a9c1e5b8d2046" }
tickets: { keys: [ { id: a, secret: "7f3a9c1e5b8d2046" } ] }
origins: { stage: { url: "http://127.0.0.1:9" } }
backends:
  portal: { kind: httprequest, address: %q, timeout: 300ms, headers: { X-Api-Key: "the operator's own" } }
routes:
  - { path: "/play/{channel}/*", origin: stage, backend: portal, required: [token] }
`, address)
}

func middleware(t *testing.T) *backendtest.Server {
	t.Helper()
	s := backendtest.New(backendtest.Config{
		Address: "127.0.0.1:0", Record: 100,
		Users: map[string]backendtest.User{"good": {ID: "7", Name: "alice", ValidFor: time.Minute}},
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestValidate_NamesEveryProblemWithPosition(t *testing.T) {
	path := writeFile(t, "listen: 8080\nidentiy: {}\nbackends: { portal: { kind: httprequest, timeout: soon } }\n")
	code, out, errs := usher("validate", "--config", path)
	if code != 2 || out != "" {
		t.Errorf("exit code %d, output %q; want 2 and nothing", code, out)
	}
	for _, want := range []string{
		path + `:2:1: identiy: unknown key; did you mean "identity"?`,
		path + `:3:51: backends.portal.timeout: `,
		"routes: none",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("the problems do not name %q:\n%s", want, errs)
		}
	}
	for _, command := range []string{"serve", "check"} {
		args := []string{command, "--config", path}
		if command == "check" {
			args = append(args, "--url", "http://host/play/a/index.m3u8")
		}
		if code, _, other := usher(args...); code != 2 || other != errs {
			t.Errorf("%s: exit code %d and\n%s\nwant 2 and the errors of validate", command, code, other)
		}
	}
}

func TestValidate_ClusterTimes(t *testing.T) {
	const shared = `redis: { addresses: [ "127.0.0.1:6379" ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ]`
	for name, test := range map[string]struct{ cluster, backend, says string }{
		"a single node": {cluster: "redis_timeout: 5s, heartbeat_interval: 1m"},
		"the defaults":  {cluster: shared},
		"a heartbeat too slow for idle_timeout": {
			cluster: shared + ", heartbeat_interval: 21s",
			says:    "cluster.heartbeat_interval: 21s is too long for sessions.idle_timeout: 1m0s; want a third of that at most",
		},
		"records that are lost": {
			cluster: shared + ", session_ttl: 2m19s",
			says: "cluster.session_ttl: 2m19s is too short for sessions.idle_timeout: 1m0s and cluster.heartbeat_interval: 20s; want at least 2m20s, " +
				"or Redis forgets a session before it is recorded",
		},
		"records that are just kept":    {cluster: shared + ", session_ttl: 2m20s"},
		"a single node records at once": {cluster: "session_ttl: 1m"},
		"no time left for the backend": {
			cluster: shared + ", redis_timeout: 600ms",
			says:    "cluster.redis_timeout: 600ms is too long for backends.portal.answer_deadline: 1s; want half of that at most, so that time is left for the backend",
		},
		"no time left for a local backend": {
			cluster: shared + ", redis_timeout: 600ms", backend: `kind: iprules, rules: [ "allow all" ]`,
			says: "cluster.redis_timeout: 600ms is too long for backends.portal, which answers within: 1s",
		},
		"a Redis without a key": {cluster: `redis: { addresses: [ "127.0.0.1:6379" ] }`, says: "cluster.encryption_keys: none"},
	} {
		t.Run(name, func(t *testing.T) {
			text := settingsFor("http://127.0.0.1:9/") + "cluster: { " + test.cluster + " }\n"
			if test.backend != "" {
				text = regexp.MustCompile(`portal: \{ .*`).ReplaceAllLiteralString(text, "portal: { "+test.backend+" }")
			}
			code, _, errs := usher("validate", "--config", writeFile(t, text))
			if (code == 0) != (test.says == "") || !strings.Contains(errs, test.says) {
				t.Errorf("exit code %d, want %q:\n%s", code, test.says, errs)
			}
		})
	}
}

func TestValidate_PrintHidesSecrets(t *testing.T) {
	path := writeFile(t, settingsFor("http://me:5ecret@127.0.0.1:9/check?key=mine"))
	code, out, errs := usher("validate", "--config", path, "--print")
	if code != 0 || errs != "" || !strings.Contains(out, "required:") {
		t.Fatalf("exit code %d, %q\n%s", code, errs, out)
	}
	for _, secret := range []string{"7f3a9c1e5b8d2046", "the operator's own", "5ecret", "mine"} {
		if strings.Contains(out, secret) {
			t.Errorf("the settings show the secret %q:\n%s", secret, out)
		}
	}
}

func TestCheck_ReportsResponse(t *testing.T) {
	tests := map[string]struct {
		mode  backendtest.Mode
		url   string
		code  int
		wants []string
	}{
		"a good token is allowed": {
			mode: backendtest.Healthy(), url: "http://tv.example/play/a001/index.m3u8?token=good", code: 0,
			wants: []string{"X-Real-Path: /play/a001/index.m3u8", "X-Channel-ID: a001", "< 200", "verdict   allowed (source backend)", "alice 7", "valid for 1m0s"},
		},
		"a bad token is denied": {
			mode: backendtest.Healthy(), url: "http://tv.example/play/a001/index.m3u8?token=bad", code: 1,
			wants: []string{"< 403", "verdict   denied"},
		},
		"refused": {
			mode: backendtest.Refuse(), url: "http://tv.example/play/a001/index.m3u8?token=good", code: 2,
			wants: []string{"connection refused; the backend server is down", "WARNING   while the backend is unavailable"},
		},
		"hanging": {
			mode: backendtest.Hang(), url: "http://tv.example/play/a001/index.m3u8?token=good", code: 2,
			wants: []string{"the request hangs", "timeout=300ms", "free access"},
		},
		"wrong address": {
			mode: backendtest.Status(http.StatusNotFound), url: "http://tv.example/play/a001/index.m3u8?token=good", code: 2,
			wants: []string{"wrong URL; check the path in address"},
		},
		"a segment opens no session": {
			mode: backendtest.Healthy(), url: "http://tv.example/play/a001/seg.ts?token=good", code: 2,
			wants: []string{"only playlists open sessions"},
		},
		"a required credential is missing": {
			mode: backendtest.Healthy(), url: "http://tv.example/play/a001/index.m3u8", code: 2,
			wants: []string{"the credential token is missing"},
		},
		"no route": {
			mode: backendtest.Healthy(), url: "http://tv.example/other", code: 2, wants: []string{"no route serves this path"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := middleware(t)
			if err := m.SetMode(test.mode); err != nil {
				t.Fatal(err)
			}
			path := writeFile(t, settingsFor(m.URL()+"/check?key=mine"))
			code, out, errs := usher("check", "--config", path, "--url", test.url)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.wants {
				if !strings.Contains(out+errs, want) {
					t.Errorf("the output has no %q:\n%s%s", want, out, errs)
				}
			}
			for _, secret := range []string{"the operator's own", "key=mine"} {
				if strings.Contains(out+errs, secret) {
					t.Errorf("the output shows %q:\n%s%s", secret, out, errs)
				}
			}
		})
	}
}

func TestCheck_JSON(t *testing.T) {
	m := middleware(t)
	path := writeFile(t, settingsFor(m.URL()+"/check"))
	code, out, _ := usher("check", "--config", path, "--json", "--url", "http://tv.example/play/a001/index.m3u8?token=good", "--ip", "192.0.2.9")
	var got checkReport
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v:\n%s", code, err, out)
	}
	if got.Verdict != "allowed" || got.Status != 200 || got.RequestHeaders["X-Real-IP"] != "192.0.2.9" || got.Channel != "a001" {
		t.Errorf("report: %+v", got)
	}
	if calls := m.Calls(); calls != 1 {
		t.Errorf("the middleware was called %d times, want once", calls)
	}
}

func TestServe_UnknownFlag_Rejected(t *testing.T) {
	code, _, errs := usher("serve", "--confg", "x")
	if code != 2 || !strings.Contains(errs, "--confg") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestVersion_Prints(t *testing.T) {
	want := regexp.MustCompile(`^usher \S+ \(commit \S+, go\S+ \w+/\w+\)\n$`)
	if code, out, _ := usher("version"); code != 0 || !want.MatchString(out) {
		t.Errorf("exit code %d: %q", code, out)
	}
}

func TestFormatDuration_InLogs(t *testing.T) {
	for format, want := range map[string]string{"json": `"delay":"5s"`, "text": "delay=5s"} {
		var out bytes.Buffer
		logger, _ := logSettings{Format: format}.newLogger(&out)
		logger.Info("draining", slog.Duration("delay", 5*time.Second))
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s has no %s", format, out.String(), want)
		}
	}
}

func TestServe_CannotStart_NamesReason(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, test := range map[string]struct{ text, want string }{
		"public port taken": {"listen: " + taken.Addr().String(), "listen=" + taken.Addr().String()},
		"admin port taken": {
			"listen: 127.0.0.1:0\nadmin: { listen: " + taken.Addr().String() + ", token: 0123456789abcdef }",
			"admin.listen=" + taken.Addr().String(),
		},
		"no certificate": {
			"listen: 127.0.0.1:0\ntls: { cert_file: /nowhere.pem, key_file: /nowhere.key }", "tls.cert_file: open /nowhere.pem",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, settingsFor("http://127.0.0.1:9/check")+test.text+"\n")
			code, _, errs := usher("serve", "--config", path)
			if code != 2 || !strings.Contains(errs, test.want) || strings.Contains(errs, "node started") {
				t.Errorf("exit code %d: %q; want 2, %q and no start", code, errs, test.want)
			}
		})
	}
}

// TestTracingSettings_HTTPPath sees at which path a receiver gets traces.
func TestTracingSettings_HTTPPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"": "/v1/traces", "/": "/v1/traces", "/v1/traces": "/v1/traces", "/v1/traces/": "/v1/traces", "/otlp/": "/otlp/v1/traces", "/otlp/v1/traces": "/otlp/v1/traces",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Path }))
			t.Cleanup(receiver.Close)
			settings := tracingSettings{Endpoint: receiver.URL + path, Protocol: "http", Sample: 1}
			if err := settings.Validate(); err != nil {
				t.Fatal(err)
			}
			exporter, err := settings.exporter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := exporter.ExportSpans(t.Context(), tracetest.SpanStubs{{Name: "session.open"}}.Snapshots()); err != nil {
				t.Error(err)
			}
			if path := <-got; path != want {
				t.Errorf("traces are sent to %s, want %s", path, want)
			}
		})
	}
}

// TestTracingSettings_Validate_Endpoint checks that what would not be sent is refused, and that no error shows a password.
func TestTracingSettings_Validate_Endpoint(t *testing.T) {
	t.Parallel()
	for endpoint, test := range map[string]struct{ protocol, want string }{
		"http://h:4318/?key=S3k1":       {"http", "endpoint: has a query"},
		"http://h:4318/v1/traces#S3k1":  {"http", "endpoint: has a query"},
		"http://me:S3k1@h:4318":         {"http", "endpoint: has a user or a password"},
		"https://S3k1@h:4317":           {"grpc", "endpoint: has a user or a password"},
		"http://me:S3k1@h:4317/a b%":    {"grpc", "endpoint: want http://host:4317"},
		"ftp://h/S3k1":                  {"http", "endpoint: want http://host:4317"},
		"me:S3k1@h:4317":                {"grpc", "endpoint: want http://host:4317"},
		"http://h:4317/v1/traces":       {"grpc", `endpoint: has the path "/v1/traces"`},
		"http://h:4317/":                {"grpc", ""},
		"https://h:4318/otlp/v1/traces": {"http", ""},
	} {
		err := tracingSettings{Endpoint: endpoint, Protocol: test.protocol, Sample: 1}.Validate()
		if (err == nil) != (test.want == "") || err != nil && (!strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "S3k1")) {
			t.Errorf("%s by %s: %v, want %q without the password", endpoint, test.protocol, err, test.want)
		}
	}
}

func TestServe_TraceReceiverUnavailable_Serves(t *testing.T) {
	var log bytes.Buffer
	settings := tracingSettings{Endpoint: "http://127.0.0.1:9", Protocol: "http", Sample: 1}
	logger, _ := logSettings{Format: "text"}.newLogger(&log)
	tracer, dropped, flush, err := settings.tracer(t.Context(), logger, "n1")
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), "session.open")
	span.End()
	flush()
	if got := dropped.Failed.Load(); got != 1 {
		t.Errorf("%d spans failed, want 1", got)
	}
	if got := log.String(); strings.Count(got, "traces not exported") != 1 || !strings.Contains(got, "endpoint=http://127.0.0.1:9") {
		t.Errorf("the log is %q, want one line that names tracing.endpoint and its value", got)
	}
}

// TestServe_TraceReceiverBroken_SpansAreCounted has receivers that answer, but not as one of OTLP does.
func TestServe_TraceReceiverBroken_SpansAreCounted(t *testing.T) {
	for _, mode := range []backendtest.Mode{backendtest.Garbage(), backendtest.Reset(), backendtest.Status(http.StatusBadRequest)} {
		receiver := backendtest.New(backendtest.DefaultConfig())
		if err := errors.Join(receiver.Start(), receiver.SetMode(mode)); err != nil {
			t.Fatal(err)
		}
		settings := tracingSettings{Endpoint: receiver.URL(), Protocol: "http", Sample: 1}
		tracer, dropped, flush, err := settings.tracer(t.Context(), slog.New(slog.DiscardHandler), "n1")
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracer.Start(t.Context(), "session.open")
		span.End()
		flush()
		receiver.Close()
		if got := dropped.Failed.Load(); got != 1 {
			t.Errorf("%s: %d spans failed, want 1", mode, got)
		}
	}
}
