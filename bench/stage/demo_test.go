package stage

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeDemo replaces the demo command: the page under /demo/, its two resources, and an origin behind a gateway that denies
// mallory.
type fakeDemo struct {
	*httptest.Server
	origin *Origin

	mu            sync.Mutex
	mode          string
	isUnavailable bool
	received      []Switch
	// directives is the query of the last blocking reload with a delta update.
	directives string
}

func newFakeDemo(t *testing.T) *fakeDemo {
	t.Helper()
	d := &fakeDemo{origin: NewOrigin(Config{}), mode: "healthy"}
	mux := http.NewServeMux()
	mux.Handle("GET /demo/", Player())
	mux.HandleFunc("GET /demo/status.json", d.serveStatus)
	mux.HandleFunc("POST /demo/middleware", d.serveMiddleware)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") == "mallory" {
			http.Error(w, "denied", http.StatusForbidden)
			return
		}
		if q := r.URL.Query(); q.Has("_HLS_part") && q.Has("_HLS_skip") {
			d.mu.Lock()
			d.directives = r.URL.RawQuery
			d.mu.Unlock()
		}
		d.origin.ServeHTTP(w, r)
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

// setMode changes the mode of the middleware and whether the status is unavailable.
func (d *fakeDemo) setMode(mode string, isUnavailable bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode, d.isUnavailable = mode, isUnavailable
}

func (d *fakeDemo) serveStatus(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isUnavailable {
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
		return
	}
	_ = json.NewEncoder(w).Encode(fakeStatus(d.mode))
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

func (d *fakeDemo) switches() []Switch {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Switch(nil), d.received...)
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

func fakeStatus(mode string) Status {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d).UTC() }
	s := Status{
		Source:     "/play/a001/index.m3u8?token=alice",
		Middleware: MiddlewareStatus{Mode: mode, Modes: []string{"healthy", "refuse", "hang", "error"}, Calls: 1204},
		Breaker:    "closed",
	}
	source := "backend"
	if mode != "healthy" {
		source, s.Breaker = "cached", "open"
	}
	s.Sessions = []SessionStatus{
		{"kQ7xVhJ2m0WbT9uZs4cYRg", "a001", "alice", "allowed", source, ago(95 * time.Second), 61, 2_600_000},
		{"Zr1nB8eLq3XoM5yPd6tKUw", "a002", "bob", "allowed", source, ago(3 * time.Hour), 9_040, 288_000_000},
		{"Hc2vG9fSw7JaN4kRi0mQEx", "a001", "mallory", "denied", "backend", ago(12 * time.Second), 4, 0},
		{"Lp5dT3zYu8CbO1gWe6hVXn", "a001", "<img src=x onerror=alert(1)>", "allowed", source, ago(9 * time.Minute), 512, 15_400_000},
	}
	s.Events = []Event{
		{ago(12 * time.Second), "mallory refused on a001 by the middleware"},
		{ago(95 * time.Second), "alice opened a001: allowed by the middleware in 3 ms"},
	}
	if mode == "healthy" {
		return s
	}
	s.Sessions = append(
		s.Sessions,
		SessionStatus{"Uj4oK6rDq9EsA2lMx7bNFt", "a003", "", "allowed", "fail-open", ago(4 * time.Second), 7, 310_000},
	)
	s.Events = append(
		s.Events,
		Event{ago(4 * time.Second), "a viewer admitted on a003 without a check: connection refused"},
		Event{ago(6 * time.Second), "alice keeps watching a001 on the last known answer"},
		Event{ago(8 * time.Second), "breaker opened after 5 failures"},
	)
	return s
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
	if own < 5 {
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
