package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"usher/bench/stage"
	"usher/gateway/admin"
)

// reloadNode is a node that serves by a settings file, as `usher serve` does.
type reloadNode struct {
	*node

	t       *testing.T
	path    string // of the settings file
	address string
	log     *logBuffer
}

// reloadSettingsText is a settings file with what the others put into it.
const reloadSettingsText = `
listen: "127.0.0.1:0"
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ KEYS ] }
origins: { stage: { url: "ORIGIN" } }
backends:
  portal: { kind: httprequest, address: "PORTAL/check", timeout: 2s, answer_deadline: 2s, breaker: { interval: 3m } }
routes:
  - { path: "/play/{channel}/*", origin: stage, backend: portal }
sessions: { denial_ttl: 1s, recheck: { min: 1s, jitter_percent: 0 } }
drain: { readiness_delay: 0s }
admin: { token: "0123456789abcdef" }
`

// reloadText replaces the words of reloadSettingsText.
func reloadText(origin, portal string, more ...string) string {
	return strings.NewReplacer(append(more,
		"KEYS", `{ id: a, secret: "the first ticket secret" }`, "ORIGIN", origin, "PORTAL", portal)...,
	).Replace(reloadSettingsText)
}

// startReloadNode starts a node by a settings file.
func startReloadNode(t *testing.T, text string) *reloadNode {
	t.Helper()
	r := &reloadNode{t: t, path: writeFile(t, text), log: new(logBuffer)}
	ctx, stop := context.WithCancel(context.Background())
	ended, started := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- serveCommand{fileFlag{Config: r.path}}.run(runtime{ctx, console{out: io.Discard, err: r.log}}, func(n *node, at net.Addr) {
			r.node, r.address = n, "http://"+at.String()
			close(started)
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with: %v", err)
		}
	})
	select {
	case <-started:
	case err := <-ended:
		ended <- err
		t.Fatalf("the node did not start: %v", err)
	}
	eventually(t, "the node serves", func() bool { return r.server.Ready() })
	return r
}

// write replaces the settings file at once.
func (r *reloadNode) write(text string) {
	r.t.Helper()
	next := filepath.Join(filepath.Dir(r.path), "next.yaml")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.path); err != nil {
		r.t.Fatal(err)
	}
}

// post reloads by the API.
func (r *reloadNode) post() (status int, result admin.ReloadResult) {
	r.t.Helper()
	w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/api/v1/reload", nil)
	q.Header.Set("Authorization", "Bearer 0123456789abcdef")
	r.adminHandler().ServeHTTP(w, q)
	if err := json.Unmarshal(w.Body.Bytes(), &result); err != nil {
		r.t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return w.Code, result
}

// reloadTo writes the text and requires that a reload applies it.
func (r *reloadNode) reloadTo(text string) {
	r.t.Helper()
	r.write(text)
	if status, result := r.post(); status != http.StatusOK || result.Outcome != admin.ReloadApplied {
		r.t.Fatalf("reload: %d %+v, want it applied", status, result)
	}
}

// stagePortal is a middleware that allows all but the token "bad", and counts its calls.
func stagePortal(t *testing.T) (address string, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		calls.Add(1)
		w.Header().Set("X-AuthDuration", "3600")
		if strings.HasPrefix(q.URL.Query().Get("token"), "bad") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func stageOrigin(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(s.Close)
	return s.URL
}

// playing is viewers who play until stop, each request of which must be answered with 200.
type playing struct {
	requests, failed atomic.Int64
	first            atomic.Pointer[string] // the first failure
	end              context.CancelFunc
	viewers          sync.WaitGroup
}

// play starts viewers on a channel of their own, who reload playlists and fetch segments. They keep the first ticket.
func play(t *testing.T, address string, count int) *playing {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	p := &playing{end: end}
	for i := range count {
		p.viewers.Go(func() { p.watch(ctx, address, fmt.Sprintf("/play/a%03d/index.m3u8?token=t%d", i+1, i)) })
	}
	t.Cleanup(p.stop)
	eventually(t, "all viewers play", func() bool { return p.requests.Load() > int64(10*count) })
	return p
}

func (p *playing) stop() {
	p.end()
	p.viewers.Wait()
}

func (p *playing) watch(ctx context.Context, address, first string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for next := []string{first}; ctx.Err() == nil; {
		var listed []string
		for _, path := range next {
			body := p.get(ctx, client, address+path)
			for line := range strings.Lines(body) {
				if strings.HasPrefix(line, "/~") {
					listed = append(listed, strings.TrimSpace(line))
				}
			}
		}
		if next = listed; len(listed) == 0 {
			next = []string{first}
		}
	}
}

// get returns the body if it is a playlist.
func (p *playing) get(ctx context.Context, client *http.Client, url string) string {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return p.fail(ctx, url, err.Error())
	}
	resp, err := client.Do(q)
	if err != nil {
		return p.fail(ctx, url, err.Error())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return p.fail(ctx, url, fmt.Sprint(resp.Status, " ", err))
	}
	p.requests.Add(1)
	if !bytes.HasPrefix(body, []byte("#EXTM3U")) {
		return ""
	}
	return string(body)
}

func (p *playing) fail(ctx context.Context, url, why string) string {
	if ctx.Err() == nil {
		p.failed.Add(1)
		p.first.CompareAndSwap(nil, new(url+": "+why))
	}
	return ""
}

// wantNoFailure requires that no request failed, and that the viewers play on.
func (p *playing) wantNoFailure(t *testing.T) {
	t.Helper()
	before := p.requests.Load()
	eventually(t, "the viewers play on", func() bool { return p.requests.Load() > before+20 })
	if n := p.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", n, p.requests.Load(), *p.first.Load())
	}
}

// TestNode_Reload_UnderLoad reloads twenty times while viewers play: no request fails, no viewer is checked again.
func TestNode_Reload_UnderLoad(t *testing.T) {
	origin := stageOrigin(t)
	portal, calls := stagePortal(t)
	r := startReloadNode(t, reloadText(origin, portal))
	const viewers = 6
	p := play(t, r.address, viewers)
	keys := []string{`{ id: a, secret: "the first ticket secret" }`}
	for i := range 20 {
		more := []string{"idle: x", "idle: x"}
		switch i % 5 {
		case 0: // a key is added in front
			keys = append([]string{fmt.Sprintf(`{ id: k%d, secret: "the ticket secret of reload %d" }`, i, i)}, keys...)
		case 1: // the backend changes
			more = []string{"timeout: 2s", fmt.Sprintf("timeout: %ds", 3+i)}
		case 2: // the origin changes
			more = []string{`url: "ORIGIN"`, fmt.Sprintf(`url: "%s", fallback: [ "http://127.0.0.1:%d" ]`, origin, i+1)}
		case 3: // routes are added
			more = []string{"routes:\n", fmt.Sprintf("routes:\n  - { path: \"/more%d/{channel}/*\", origin: stage, backend: portal }\n", i)}
		case 4: // the sessions' settings change
			more = []string{"denial_ttl: 1s", fmt.Sprintf("denial_ttl: %ds", i)}
		}
		r.reloadTo(reloadText(origin, portal, append(more, "KEYS", strings.Join(keys, ", "))...))
	}
	p.wantNoFailure(t)
	if got := calls.Load(); got != viewers {
		t.Errorf("%d checks of %d viewers", got, viewers)
	}
	if n := r.registry.Len(); n != viewers {
		t.Errorf("%d sessions, want %d", n, viewers)
	}
}
