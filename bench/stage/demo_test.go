package stage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeDemo replaces the demo command: the page under /demo/, its three resources, and an origin behind a gateway that denies
// mallory.
type fakeDemo struct {
	*httptest.Server
	origin *Origin

	mu            sync.Mutex
	mode          string
	isUnavailable bool
	isNative      bool              // the page has no hls.js
	change        func(*Status)     // of what the page is told; nil: none
	refused       map[string]string // the answer to each token that the gateway refuses, with 403 unless it begins with 503
	received      []Switch
	kicks         []Kick
	// directives is the query of the last blocking reload with a delta update.
	directives string
}

func newFakeDemo(t *testing.T) *fakeDemo {
	t.Helper()
	d := &fakeDemo{origin: NewOrigin(Config{}), mode: "healthy", refused: map[string]string{"mallory": "denied by backend"}}
	mux := http.NewServeMux()
	mux.Handle("GET /demo/", Player())
	mux.HandleFunc("GET /demo/hls.min.js", d.serveLibrary)
	mux.HandleFunc("GET /demo/status.json", d.serveStatus)
	mux.HandleFunc("POST /demo/middleware", d.serveMiddleware)
	mux.HandleFunc("POST /demo/kick", d.serveKick)
	mux.HandleFunc("/", d.serveViewer)
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func (d *fakeDemo) serveLibrary(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isNative {
		Player().ServeHTTP(w, r)
	}
}

func (d *fakeDemo) serveViewer(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d.mu.Lock()
	refusal, isRefused := d.refused[q.Get("token")]
	if q.Has("_HLS_part") && q.Has("_HLS_skip") {
		d.directives = r.URL.RawQuery
	}
	d.mu.Unlock()
	switch text, isUnavailable := strings.CutPrefix(refusal, "503 "); {
	case isUnavailable:
		http.Error(w, text, http.StatusServiceUnavailable)
	case isRefused:
		http.Error(w, refusal, http.StatusForbidden)
	case strings.HasPrefix(r.URL.Path, "/none/"):
		http.Error(w, "no route serves this path and host", http.StatusNotFound)
	default:
		d.origin.ServeHTTP(w, r)
	}
}

// setMode changes the mode of the middleware and whether the status is unavailable.
func (d *fakeDemo) setMode(mode string, isUnavailable bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode, d.isUnavailable = mode, isUnavailable
}

// setChange changes what the page is told from now on.
func (d *fakeDemo) setChange(change func(*Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change = change
}

// setRefusal has the gateway refuse a token from now on; an empty text admits it.
func (d *fakeDemo) setRefusal(token, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.refused, token); text != "" {
		d.refused[token] = text
	}
}

func (d *fakeDemo) serveStatus(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isUnavailable {
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
		return
	}
	s := fakeStatus(d.mode)
	if d.change != nil {
		d.change(&s)
	}
	src, err := url.Parse(r.URL.Query().Get("src"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, live := range s.Sessions {
		if live.Name == src.Query().Get("token") && live.Place == path.Dir(src.Path) {
			s.Own = live.ID
		}
	}
	_ = json.NewEncoder(w).Encode(s)
}

func (d *fakeDemo) serveMiddleware(w http.ResponseWriter, r *http.Request) {
	var s Switch
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode = s.Mode
	d.received = append(d.received, s)
}

// serveKick knows bob alone.
func (d *fakeDemo) serveKick(w http.ResponseWriter, r *http.Request) {
	var k Kick
	if err := json.NewDecoder(r.Body).Decode(&k); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicks = append(d.kicks, k)
	if k.Session != bobsSession {
		http.Error(w, "session: not found", http.StatusNotFound)
		return
	}
	_, _ = fmt.Fprintln(w, `{"matched":2,"addresses":1,"kicked":2,"bans":["b1"]}`)
}

func (d *fakeDemo) switches() []Switch {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.received)
}

func (d *fakeDemo) kicked() []Kick {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.kicks)
}

// awaitDeltaReload waits for a blocking reload with a delta update and returns its query.
func (d *fakeDemo) awaitDeltaReload(t *testing.T) string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(untilTimeout); ; <-tick.C {
		d.mu.Lock()
		directives := d.directives
		d.mu.Unlock()
		if directives != "" {
			return directives
		}
		if time.Now().After(deadline) {
			t.Fatalf("no blocking reload asked for a delta update within %s", untilTimeout)
		}
	}
}

const (
	alicesSession  = "kQ7xVhJ2m0WbT9uZs4cYRg"
	bobsSession    = "Zr1nB8eLq3XoM5yPd6tKUw"
	mallorysDenial = "Hc2vG9fSw7JaN4kRi0mQEx"
	markup         = "<img src=x onerror=alert(1)>"
	longToken      = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6Ikpv…"
)

// fakeStatus has a session of each kind: bob and the one with markup have left, the others play.
func fakeStatus(mode string) Status {
	now := time.Now().AddDate(5, 0, 0).UTC() // the browser's clock is wrong
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	s := Status{
		Now: now, Source: "/play/a001/index.m3u8?token=alice", Tokens: []string{"alice", "bob", "mallory"},
		Middleware: MiddlewareStatus{Mode: mode, Modes: []string{"healthy", "refuse", "hang", "error"}, Calls: 1204},
		OnFailure:  "allow", Breaker: "closed",
	}
	source, reason := "backend", "backend answered 200"
	if mode != "healthy" {
		source, s.Breaker = "cached", "open"
	}
	s.Sessions = []SessionStatus{
		{
			ID: alicesSession, Name: "alice", Place: "/play/a001", Address: "192.0.2.7", Verdict: "allowed", Source: source, Reason: reason,
			Since: ago(95 * time.Second), LastSeen: ago(time.Second), Requests: 61, Bytes: 2_600_000,
		},
		{
			ID: bobsSession, Name: "bob", Place: "/play/a002", Address: "2001:db8:1234:5678:9abc:def0:1234:5678", Verdict: "allowed",
			Source: source, Reason: reason, Since: ago(3 * time.Hour), LastSeen: ago(25 * time.Second), Requests: 9_040, Bytes: 288_000_000,
		},
		{
			ID: mallorysDenial, Name: "mallory", Place: "/play/a001", Address: "192.0.2.9", Verdict: "denied", Source: "backend",
			Reason: "backend answered 403", Since: ago(2 * time.Second), LastSeen: ago(2 * time.Second), Requests: 4,
		},
		{
			ID: "Lp5dT3zYu8CbO1gWe6hVXn", Name: markup, Place: "/single/a001", Address: "192.0.2.8", Verdict: "allowed",
			Source: source, Reason: reason, Since: ago(9 * time.Minute), LastSeen: ago(8 * time.Minute), Requests: 512, Bytes: 15_400_000,
		},
		{
			ID: "Pn2sW8xEv4BcR6tYh1jUMa", Name: longToken, Place: "/ll/a-channel-with-a-name-that-is-too-long-for-any-column",
			Address: "192.0.2.8", Verdict: "pending", Source: "none", Since: now, LastSeen: now, Requests: 1,
		},
	}
	s.Events = []Event{
		{ago(12 * time.Second), "mallory on /play/a001: denied by backend, backend answered 403", 1},
		{ago(95 * time.Second), "alice on /play/a001: allowed by backend", 3},
	}
	if mode == "healthy" {
		return s
	}
	s.Sessions = append(s.Sessions, SessionStatus{
		ID: "Uj4oK6rDq9EsA2lMx7bNFt", Name: "no token", Place: "/play/a003", Address: "192.0.2.8", Verdict: "allowed", Source: "fail-open",
		Reason: "no answer: transport", Since: ago(4 * time.Second), LastSeen: ago(time.Second), Requests: 7, Bytes: 310_000,
	})
	s.Events = append(
		s.Events,
		Event{ago(4 * time.Second), "no token on /play/a003: allowed by fail-open, no answer: transport", 1},
		Event{ago(6 * time.Second), "alice on /play/a001: allowed by cached, backend answered 200", 1},
		Event{ago(8 * time.Second), "breaker opened: checks nobody, probes the middleware every 2s", 1},
	)
	return s
}

// withoutSession returns a change that ends a session.
func withoutSession(id string) func(*Status) {
	return func(s *Status) {
		s.Sessions = slices.DeleteFunc(s.Sessions, func(s SessionStatus) bool { return s.ID == id })
	}
}

func TestPlayer_ServesFilesUnderAnyPath(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.StripPrefix("/anywhere", Player()))
	t.Cleanup(server.Close)
	tests := map[string]struct {
		path        string
		status      int
		contentType string
		contains    string
	}{
		"the page":           {"/anywhere/", 200, "text/html; charset=utf-8", "<title>Usher demo</title>"},
		"its style":          {"/anywhere/player.css", 200, "text/css; charset=utf-8", "#summary"},
		"its script":         {"/anywhere/player.js", 200, "text/javascript; charset=utf-8", "usherDemo"},
		"hls.js":             {"/anywhere/hls.min.js", 200, "text/javascript; charset=utf-8", "1.7.4"},
		"the licence of it":  {"/anywhere/hls.LICENSE.txt", 200, "text/plain; charset=utf-8", "Apache License"},
		"its icon":           {"/anywhere/icon.svg", 200, "image/svg+xml", "<svg"},
		"what is not there":  {"/anywhere/secret.txt", 404, "text/plain; charset=utf-8", "not found"},
		"a climb out of it":  {"/anywhere/../player.go", 404, "text/plain; charset=utf-8", "not found"},
		"a status not wired": {"/anywhere/status.json", 404, "text/plain; charset=utf-8", "not found"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, body := get(t, server.URL+test.path)
			if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.contentType {
				t.Errorf("got %s, %q", response.Status, response.Header.Get("Content-Type"))
			}
			if !strings.Contains(body, test.contains) {
				t.Errorf("%q is not in the body", test.contains)
			}
			if test.status == 200 && response.Header.Get("Content-Security-Policy") != contentSecurityPolicy {
				t.Errorf("Content-Security-Policy: got %q", response.Header.Get("Content-Security-Policy"))
			}
		})
	}
}

func TestPlayer_NoForeignResourcesAndNoMarkup(t *testing.T) {
	t.Parallel()
	files, err := loadPlayerFiles()
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for name, body := range files {
		if strings.HasPrefix(name, "hls.") || name == "icon.svg" {
			continue
		}
		own++
		for _, forbidden := range []string{"http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "<style", " style=", "onclick="} {
			if strings.Contains(string(body), forbidden) {
				t.Errorf("%s contains %q", name, forbidden)
			}
		}
	}
	if own < 8 {
		t.Errorf("looked at %d files only", own)
	}
}

func TestPlayer_Post_MethodNotAllowed(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Player().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/demo/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("got %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}
