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

// journal is a log that a test reads while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes what is logged.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// lines are those that hold a text.
func (j *journal) lines(with string) []string {
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

// What answers in the middleware's place is told of in one line of the log and in a metric, however often it is asked.
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
		"a wrong address":           {backendtest.Status(404), backendtest.Astra, "", backends.AlarmWrongAddress},
		"a web page, header wanted": {backendtest.Healthy(), page, "require_header: X-UserId", backends.AlarmUnexpectedAnswer},
		"a web page, body wanted":   {backendtest.Healthy(), page, `require_body: "^$"`, backends.AlarmUnexpectedAnswer},
		"a login":                   {backendtest.RedirectSelf(), backendtest.Astra, "", backends.AlarmRedirectToItself},
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
			log := new(journal)
			n, err := newNode(s, slog.New(slog.NewTextHandler(log, nil)), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(n.close)
			r := backendtest.NewRequest("good")
			for i := range 3 {
				r.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
				if d, err := n.chains["portal"].Check(t.Context(), r); err == nil && d.Source == backends.FromBackend {
					t.Errorf("answered %s", d.Verdict)
				}
			}
			told := log.lines("backend violates its contract")
			if len(told) != 1 || !strings.Contains(told[0], "alarm="+test.alarm.String()) || !strings.Contains(told[0], "advice=") ||
				!strings.Contains(told[0], "backend=portal") {
				t.Errorf("the log tells of it in %d lines: %q", len(told), told)
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
