package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/cmd/usher/config"
)

// logBuffer is a log that a test reads while a node writes it. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends a log line.
func (j *logBuffer) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// lines returns the lines that contain the text.
func (j *logBuffer) lines(with string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []string
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, with) {
			found = append(found, line)
		}
	}
	return found
}

// TestNode_WrongServer_LoggedOnce requires one log line, and a metric that counts each wrong answer, when another server
// answers at the middleware's address.
func TestNode_WrongServer_LoggedOnce(t *testing.T) {
	page := func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>It works!</html>")
	}
	for name, test := range map[string]struct {
		mode    backendtest.Mode
		dialect backendtest.Dialect
		more    string
		alarm   backends.Alarm
	}{
		"a wrong address":             {backendtest.Status(404), backendtest.Astra, "", backends.AlarmWrongAddress},
		"a web page, header required": {backendtest.Healthy(), page, "require_header: X-UserId", backends.AlarmUnexpectedAnswer},
		"a web page, body required":   {backendtest.Healthy(), page, `require_body: "^$"`, backends.AlarmUnexpectedAnswer},
		"a redirect to a login page":  {backendtest.RedirectSelf(), backendtest.Astra, "", backends.AlarmRedirectToItself},
	} {
		t.Run(name, func(t *testing.T) {
			m := middleware(t)
			m.SetDialect(test.dialect)
			if err := m.SetMode(test.mode); err != nil {
				t.Fatal(err)
			}
			s := defaultSettings()
			text := fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
backends: { portal: { kind: httprequest, address: %q, %s } }
routes: [ { path: "/*", backend: portal, edge: { dialect: astra, networks: [ 127.0.0.1/32 ] } } ]
`, m.URL()+"/check", test.more)
			if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
				t.Fatal(err)
			}
			log := new(logBuffer)
			n, err := newNode(s, slog.New(slog.NewTextHandler(log, nil)), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(n.close)
			r := backendtest.NewRequest("good")
			for i := range 3 {
				r.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
				if d, err := n.current.Load().chains["portal"].Check(t.Context(), r); err == nil && d.Source == backends.FromBackend {
					t.Errorf("answered %s", d.Verdict)
				}
			}
			logged := log.lines("backend violates its contract")
			if len(logged) != 1 || !strings.Contains(logged[0], "alarm="+test.alarm.String()) || !strings.Contains(logged[0], "advice=") ||
				!strings.Contains(logged[0], "backend=portal") {
				t.Errorf("%d log lines about the violation, want one: %q", len(logged), logged)
			}
			w := httptest.NewRecorder()
			n.adminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			for _, want := range []string{
				fmt.Sprintf(`usher_backend_contract_violation{backend="portal",violation="%s"} 1`, test.alarm),
				fmt.Sprintf(`usher_backend_contract_violations_total{backend="portal",violation="%s"} 3`, test.alarm),
			} {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("/metrics has no %s:\n%s", want, w.Body)
				}
			}
		})
	}
}
