package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/bench/stage"
	"usher/cmd/usher/config"
	"usher/gateway/admin"
	"usher/gateway/admin/freerides"
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
	if _, list := get(t, r.address+"/play/a099/index.m3u8?token=new"); !strings.Contains(list, "/~k15.") {
		t.Errorf("a new viewer's ticket is not signed by the newest key:\n%s", list)
	}
}

// TestNode_Reload_SameFile: settings of every kind that are read twice are the same, so that nothing is made anew.
func TestNode_Reload_SameFile(t *testing.T) {
	folder := t.TempDir()
	for _, text := range mutationBases(t, folder) {
		path := filepath.Join(folder, "usher.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		var read [2]*settings
		for i := range read {
			var err error
			if read[i], _, err = (fileFlag{Config: path}).load(); err != nil {
				t.Fatal(err)
			}
		}
		if changes := config.Changes(read[0], read[1]); len(changes) > 0 || !reflect.DeepEqual(read[0], read[1]) {
			t.Errorf("of the same text: %q\n%s", changes, text)
		}
	}
}

// TestNode_Reload_Refused: settings of which one cannot be used change nothing, and every problem is named with its place.
func TestNode_Reload_Refused(t *testing.T) {
	origin := stageOrigin(t)
	portal, calls := stagePortal(t)
	good := reloadText(origin, portal)
	r := startReloadNode(t, good)
	p := play(t, r.address, 2)
	route := `  - { path: "/play/{channel}/*", origin: stage, backend: portal }`
	for name, test := range map[string]struct{ text, problems []string }{
		"no YAML":         {[]string{"identity: {", "identity: }"}, []string{"usher.yaml:3:"}},
		"an unknown key":  {[]string{"denial_ttl", "denial_tl"}, []string{"usher.yaml:10:13: sessions.denial_tl: unknown key"}},
		"a wrong pattern": {[]string{route, route + "\n" + `  - { path: "/vod/{channel}/*", origin_path: "/{x}/*", origin: stage, backend: portal }`}, []string{`usher.yaml:10:33: routes[1].origin_path: "/{x}/*" needs a {channel}`}},
		"a file that is missing": {
			[]string{"kind: httprequest,", "kind: httprequest, tls: { ca_file: /nowhere.pem },", `address: "http:`, `address: "https:`},
			[]string{"backends.portal.tls.ca_file: open /nowhere.pem"},
		},
		"what needs a restart, and what is wrong beside it": {
			[]string{
				`listen: "127.0.0.1:0"`, `listen: "127.0.0.1:9999"`, `secret: "0123456789abcdef"`, `secret: "0123456789abcdeX"`,
				"kind: httprequest,", "kind: httprequest, tls: { ca_file: /nowhere.pem },", `address: "http:`, `address: "https:`,
			},
			[]string{
				`usher.yaml:2:1: listen: changed from 127.0.0.1:0 to 127.0.0.1:9999, which needs a restart; undo the change or restart the node`,
				"identity.secret: changed, which needs a restart", "backends.portal.tls.ca_file: open /nowhere.pem",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.write(strings.NewReplacer(test.text...).Replace(good))
			before := r.current.Load()
			status, result := r.post()
			if status != http.StatusUnprocessableEntity || result.Outcome != admin.ReloadRefused || r.current.Load() != before {
				t.Fatalf("%d %+v, want it refused", status, result)
			}
			logged := strings.Join(r.log.lines("settings refused, keeping previous"), "\n")
			for _, want := range test.problems {
				if !slices.ContainsFunc(result.Problems, func(p admin.ReloadProblem) bool {
					return strings.Contains(p.At+": "+p.Setting+": "+p.Message, want)
				}) {
					t.Errorf("no problem with %q: %+v", want, result.Problems)
				}
			}
			for _, p := range result.Problems {
				text, err := json.Marshal(p.Message)
				if err != nil || !strings.Contains(logged, string(text)) || !strings.Contains(logged, p.At) {
					t.Errorf("%q is not logged: %s", p.Message, logged)
				}
			}
		})
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	if status, result := r.post(); status != http.StatusUnprocessableEntity || !strings.Contains(result.Problems[0].Message, "no such file") {
		t.Errorf("without a file: %d %+v", status, result)
	}
	metrics := scraper{t, r.adminHandler()}
	metrics.want(map[string]string{
		"usher_settings_last_reload_successful": "0", `usher_settings_reloads_total{outcome="refused"}`: "6",
		`usher_settings_reloads_total{outcome="applied"}`: "0",
	})
	r.write(good)
	if status, result := r.post(); status != http.StatusOK || result.Outcome != admin.ReloadUnchanged {
		t.Errorf("of the settings in force: %d %+v, want them unchanged", status, result)
	}
	metrics.want(map[string]string{"usher_settings_last_reload_successful": "1"})
	p.wantNoFailure(t)
	if calls.Load() != 2 {
		t.Errorf("%d checks of 2 viewers", calls.Load())
	}
	if audits := r.log.lines(`"action":"reload"`); len(audits) != 7 {
		t.Errorf("%d audit records of 7 reloads: %s", len(audits), audits)
	}
}

// TestNode_Reload_RemovedKey: a reload that takes a key away, or its secret, says how many viewers lose their tickets by it. Those who lose none are not
// counted, and a key with which nobody plays goes silently.
func TestNode_Reload_RemovedKey(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	const a, b, c = `{ id: a, secret: "the first ticket secret" }`, `{ id: b, secret: "the second ticket secret" }`, `{ id: c, secret: "a ticket secret of no use" }`
	keys := func(all ...string) string { return reloadText(origin, portal, "KEYS", strings.Join(all, ", ")) }
	r := startReloadNode(t, keys(a, c))
	open := func(token string) (segment string) {
		t.Helper()
		_, list := get(t, r.address+"/play/a001/index.m3u8?token="+token)
		return withTicket(t, list)
	}
	first := open("1")
	open("2")
	get(t, r.address+"/play/a001/index.m3u8?token=bad")
	r.reloadTo(keys(b, a))
	open("3")
	const warning = "sessions hold tickets of a key that tickets.keys lacks"
	if got := r.log.lines(warning); len(got) > 0 {
		t.Errorf("logged %q of a key that nobody plays with", got)
	}
	if status, _ := get(t, r.address+first); status != http.StatusOK {
		t.Errorf("a ticket of a key that does not sign any more: %d, want 200", status)
	}
	r.reloadTo(keys(b))
	if got := r.log.lines(warning); len(got) != 1 || !strings.Contains(got[0], `"key":"a","sessions":2`) || !strings.Contains(got[0], `"WARN"`) {
		t.Errorf("logged %q, want a warning of two sessions of the key a", got)
	}
	if status, _ := get(t, r.address+first); status != http.StatusForbidden {
		t.Errorf("a ticket of a key that is gone: %d, want 403", status)
	}
	if status, _ := get(t, r.address+open("1")); status != http.StatusOK {
		t.Errorf("the viewer opens the channel again: %d, want 200", status)
	}
	r.reloadTo(keys(strings.ReplaceAll(b, "second", "third")))
	if got := r.log.lines(warning); len(got) != 2 || !strings.Contains(got[1], `"key":"b","sessions":1`) {
		t.Errorf("logged %q, want a warning of the session that was opened with the key b, which has another secret", got)
	}
}

// TestNode_Reload_RemovedKey_Edges: of viewers at edges those hold tickets alone whom the edge matches by cookie.
func TestNode_Reload_RemovedKey_Edges(t *testing.T) {
	portal, _ := stagePortal(t)
	text := func(key string) string {
		return strings.NewReplacer("KEYS", key, "PORTAL", portal, `origins: { stage: { url: "ORIGIN" } }`, "",
			`{ path: "/play/{channel}/*", origin: stage, backend: portal }`, `{ path: /astra, backend: portal, edge: { dialect: astra, networks: [ 127.0.0.1/32 ] } }
  - { path: /nginx, backend: portal, edge: { dialect: nginx, networks: [ 127.0.0.1/32 ], viewer_path: "/play/{channel}/*" } }
  - { path: /cookie, backend: portal, edge: { dialect: nginx, match_by: cookie, networks: [ 127.0.0.1/32 ], viewer_path: "/live/{channel}/*" } }`,
		).Replace(reloadSettingsText)
	}
	r := startReloadNode(t, text(`{ id: a, secret: "the first ticket secret" }`))
	for path, field := range map[string]string{
		"/astra?token=1": "X-Real-Path: /play/a001/index.m3u8", "/nginx": "X-Original-Uri: /play/a001/index.m3u8?token=1",
		"/cookie": "X-Original-Uri: /live/a001/index.m3u8?token=1",
	} {
		if got := getWith(t, r.address+path, field, "X-Real-Ip: 192.0.2.7", "X-Channel-Id: a001", "X-Original-Method: GET"); got != "" {
			t.Errorf("%s: refused: %s", path, got)
		}
	}
	var open int
	r.registry.Each(func(s session.Handle) bool { open++; return s.Decision().Verdict == backends.Allowed })
	if open != 3 {
		t.Fatalf("got %d viewers who are allowed, want 3", open)
	}
	r.reloadTo(text(`{ id: b, secret: "the second ticket secret" }`))
	got := r.log.lines("sessions hold tickets of a key that tickets.keys lacks")
	if len(got) != 1 || !strings.Contains(got[0], `"key":"a","sessions":1`) {
		t.Errorf("logged %q, want a warning of the one session with a cookie", got)
	}
}

// TestReloads_CountLost: a ticket goes with the secret of its opening, which a reload may put back. A session that is opening has none yet.
func TestReloads_CountLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r reloads
		var all []session.Handle
		route := "tickets"
		add := func(d *backends.Decision) {
			all = append(all, openedSession{
				ticket: session.Ticket{Opened: time.Now(), KeyID: "a"}, decision: d, request: &backends.Request{Route: route},
			})
		}
		holds := func(route string) bool { return route == "tickets" }
		first, second := []setting.Key{{ID: "a", Secret: "first"}}, []setting.Key{{ID: "a", Secret: "second"}}
		reload := func(before, now []setting.Key, want map[string]int) {
			t.Helper()
			time.Sleep(time.Minute)
			each := func(visit func(session.Handle) bool) {
				for _, s := range all {
					visit(s)
				}
			}
			if got := r.countLost(before, now, holds, each); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			time.Sleep(time.Minute)
		}
		allowed := &backends.Decision{Verdict: backends.Allowed}
		add(allowed)
		add(allowed)
		add(&backends.Decision{Verdict: backends.Denied})
		add(nil)
		route = "none"
		add(allowed)
		route = "tickets"
		reload(first, second, map[string]int{"a": 2})
		add(allowed)
		reload(second, first, map[string]int{"a": 1})
		reload(first, append([]setting.Key{{ID: "b", Secret: "second"}}, first...), nil)
		reload(first, second, map[string]int{"a": 2})
	})
}

// openedSession is a session of which only these are asked.
type openedSession struct {
	session.Handle
	ticket   session.Ticket
	decision *backends.Decision
	request  *backends.Request
}

func (s openedSession) Ticket() session.Ticket { return s.ticket }

func (s openedSession) Decision() *backends.Decision { return s.decision }

func (s openedSession) Request() *backends.Request { return s.request }

// TestNode_Reload_RenamedRoute: the name of a route is in all tickets of its viewers, so that a reload does not change it. A viewer who
// plays goes on, also while other routes come and go, and with other credentials.
func TestNode_Reload_RenamedRoute(t *testing.T) {
	origin := stageOrigin(t)
	portal, calls := stagePortal(t)
	const route = `  - { path: "/play/{channel}/*", origin: stage, backend: portal }`
	text := reloadText(origin, portal)
	named := strings.Replace(text, "- { path", "- { name: tv, path", 1)
	for name, test := range map[string]struct {
		before, after, problem string // no problem: it is applied
	}{
		"another name":      {named, strings.Replace(named, "name: tv", "name: tv2", 1), "9:7: routes[0].name: changed from tv to tv2, which ends all tickets"},
		"a name":            {text, named, "9:7: routes[0].name: changed from /play/{channel}/* to tv, which ends all tickets"},
		"no name":           {named, text, "9:5: routes[0].name: changed from tv to /play/{channel}/*, which ends all tickets"},
		"further down":      {named, strings.Replace(text, route, strings.ReplaceAll(route, "/play/", "/vod/")+"\n"+route, 1), "routes[1].name: changed from tv to"},
		"the path's name":   {text, strings.Replace(text, "- { path", `- { name: "/play/{channel}/*", path`, 1), ""},
		"one more":          {named, strings.Replace(named, "routes:\n", "routes:\n"+strings.ReplaceAll(route, "/play/", "/vod/")+"\n", 1), ""},
		"other credentials": {named, strings.Replace(named, "- {", "- { credentials: [ token ],", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			r := startReloadNode(t, test.before)
			_, list := get(t, r.address+"/play/a001/index.m3u8?token=t")
			segment := withTicket(t, list)
			r.write(test.after)
			status, result := r.post()
			switch {
			case test.problem == "":
				if status != http.StatusOK {
					t.Errorf("%d %+v, want it applied", status, result)
				}
			case status != http.StatusUnprocessableEntity || len(result.Problems) != 1:
				t.Errorf("%d %+v, want it refused", status, result)
			default:
				if p := result.Problems[0]; !strings.Contains(p.At+": "+p.Setting+": "+p.Message, test.problem) {
					t.Errorf("got %+v, want %q", p, test.problem)
				}
			}
			if status, body := get(t, r.address+segment); status != http.StatusOK || calls.Load() != 1 {
				t.Errorf("the viewer who plays: %d %.100q after %d checks, want 200 after one", status, body, calls.Load())
			}
		})
	}
}

// TestNode_Reload_Triggers reloads by a signal, and when the file or a file that it names has changed.
func TestNode_Reload_Triggers(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	key := writeFile(t, "the ticket secret of a file")
	text := reloadText(origin, portal, "KEYS", fmt.Sprintf("{ id: a, secret: %q }", "file:"+key))
	r := startReloadNode(t, text)
	isLogged := func(trigger, change string) func() bool {
		return func() bool {
			return slices.ContainsFunc(r.log.lines(`"settings reloaded"`), func(line string) bool {
				return strings.Contains(line, `"trigger":"`+trigger+`"`) && strings.Contains(line, change)
			})
		}
	}
	r.write(strings.Replace(text, "denial_ttl: 1s", "denial_ttl: 5s", 1))
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reloaded by the signal", isLogged("signal", "sessions.denial_ttl"))
	r.reloadTo(text + "reload: { poll_interval: 1s }\n")
	if err := os.WriteFile(key, []byte("another ticket secret of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reloaded by a secret's file", isLogged("file", "tickets.keys[0].secret"))
	r.write(strings.Replace(text, "denial_ttl: 1s", "denial_ttl: 2s", 1) + "reload: { poll_interval: 1s }\n")
	eventually(t, "reloaded by the file", isLogged("file", "sessions.denial_ttl"))
	r.write("listen: 1\n")
	eventually(t, "refused", func() bool { return len(r.log.lines("settings refused")) > 0 })
	r.write(strings.Replace(text, "denial_ttl: 1s", "denial_ttl: 3s", 1) + "reload: { poll_interval: 1s }\n")
	eventually(t, "reloaded by the corrected file", func() bool { return len(r.log.lines(`"settings reloaded"`)) == 5 })
}

// TestNode_Reload_RefusedOnce has a file that stays wrong for many looks, is then wrong in another way, and is corrected.
func TestNode_Reload_RefusedOnce(t *testing.T) {
	origin := stageOrigin(t)
	synctest.Test(t, func(t *testing.T) {
		n, log := newBubbleNode(t, origin, `{ kind: iprules, rules: [ "allow all" ] }`, ""), new(logBuffer)
		n.logger = slog.New(slog.NewTextHandler(log, nil))
		var file atomic.Pointer[loadedSettings]
		n.reloads.load = func() (*settings, *config.Source, error) {
			f := file.Load()
			return f.settings, f.source, f.problem
		}
		right := *n.current.Load().settings
		right.Reload.PollInterval = time.Second
		n.current.Load().settings, n.reloads.tried = &right, loadedSettings{settings: &right}
		file.Store(&loadedSettings{settings: &right})
		var looks sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		looks.Go(func() { n.runReloads(ctx) })
		<-time.After(time.Second / 2) // between two looks
		for _, step := range []struct {
			file               loadedSettings
			refused, unchanged int // by then
		}{
			{loadedSettings{problem: errors.New("listen: wrong")}, 1, 0},
			{loadedSettings{problem: errors.New("listen: wrong in another way")}, 2, 0},
			{loadedSettings{settings: &right}, 2, 1},
			{loadedSettings{problem: errors.New("listen: wrong")}, 3, 1},
		} {
			file.Store(&step.file)
			<-time.After(10 * time.Second)
			refused, unchanged := len(log.lines("settings refused")), len(log.lines("settings unchanged"))
			if refused != step.refused || unchanged != step.unchanged {
				t.Errorf("problem %v: %d times refused and %d times unchanged, want %d and %d",
					step.file.problem, refused, unchanged, step.refused, step.unchanged)
			}
		}
		stop()
		looks.Wait()
	})
}

// TestNode_Reload_KeepsBackends: a backend that has not changed keeps its breaker and its connections, also behind another
// one; one that has changed, or whose member has, is made anew.
func TestNode_Reload_KeepsBackends(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	text := reloadText(origin, portal, "backends:\n", `backends:
  other: { kind: httprequest, address: "http://127.0.0.1:9/" }
  both: { kind: any, backends: [ portal, other ] }
  lists: { kind: iprules, rules: [ "allow all" ] }
  only: { kind: any, backends: [ other ] }
`)
	r := startReloadNode(t, text)
	before := r.current.Load()
	r.reloadTo(strings.Replace(text, "timeout: 2s", "timeout: 3s", 1))
	after := r.current.Load()
	for name, isKept := range map[string]bool{"portal": false, "other": true, "both": false, "lists": true, "only": true} {
		if got := after.chains[name] == before.chains[name]; got != isKept {
			t.Errorf("%s: kept is %t, want %t", name, got, isKept)
		}
	}
	if after.origins["stage"] != before.origins["stage"] {
		t.Error("the origin was made anew")
	}
	<-before.ended.all // no request is served by it
}

// signToken returns a JSON Web Token of the key "1" that is valid until 2100.
func signToken(key ed25519.PrivateKey) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"1"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"exp":4102444800}`))
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

// TestNode_Reload_KeepsIssuersKeys: a jwt backend with other settings still knows the keys while their server is away, so that forged
// tokens are no outage.
func TestNode_Reload_KeepsIssuersKeys(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": %q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	defer issuer.Close()
	const skew = "clock_skew: 30s"
	text := reloadText(stageOrigin(t), "http://127.0.0.1:9", "kind: httprequest,", "kind: jwt, algorithms: [ EdDSA ], "+skew+
		fmt.Sprintf(", jwks_url: %q }", issuer.URL)+"\n  other: { kind: httprequest,")
	r := startReloadNode(t, text)
	if status, _ := get(t, r.address+"/play/a001/index.m3u8?token="+signToken(private)); status != http.StatusOK {
		t.Fatalf("a token of the issuer: %d, want 200", status)
	}
	issuer.Close()
	r.reloadTo(strings.Replace(text, skew, "clock_skew: 31s", 1))
	_, forger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if status, _ := get(t, r.address+"/play/a001/index.m3u8?token="+signToken(forger)); status == http.StatusOK {
			t.Error("a forged token: 200")
		}
	}
	if status, _ := get(t, r.address+"/play/a002/index.m3u8?token="+signToken(private)); status != http.StatusOK {
		t.Errorf("a token of the issuer after the reload: %d, want 200", status)
	}
}

// TestNode_Reload_PublicKeyFile: another key in the file that a setting names is a change of that setting.
func TestNode_Reload_PublicKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issuer.pem")
	writeKey := func() ed25519.PrivateKey {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return private
	}
	first := writeKey()
	r := startReloadNode(t, reloadText(stageOrigin(t), "http://127.0.0.1:9", "kind: httprequest,",
		fmt.Sprintf("kind: jwt, algorithms: [ EdDSA ], public_key_file: %q }\n  other: { kind: httprequest,", path)))
	second := writeKey()
	if status, result := r.post(); status != http.StatusOK || !slices.Equal(result.Changed, []string{"backends.portal.public_key_file"}) {
		t.Fatalf("reload: %d %+v, want a change of the file", status, result)
	}
	for key, want := range map[*ed25519.PrivateKey]int{&first: http.StatusForbidden, &second: http.StatusOK} {
		if status, _ := get(t, r.address+"/play/a001/index.m3u8?token="+signToken(*key)); status != want {
			t.Errorf("a token of one of the two keys: %d, want %d", status, want)
		}
	}
	if err := os.WriteFile(path, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, result := r.post(); status != http.StatusUnprocessableEntity {
		t.Errorf("a file without a key: %d %+v, want it refused", status, result)
	}
}

// TestNode_Reload_Backends: sessions follow their route to another backend, and what else a reload changes holds at once.
func TestNode_Reload_Backends(t *testing.T) {
	origin := stageOrigin(t)
	first, firstCalls := stagePortal(t)
	second, secondCalls := stagePortal(t)
	text := reloadText(origin, first)
	r := startReloadNode(t, text)
	p := play(t, r.address, 3)
	moved := strings.Replace(text, "backend: portal", "backend: second", 1)
	moved = strings.Replace(moved, "backends:\n  portal: ", "backends:\n  second: ", 1)
	moved = strings.Replace(moved, first, second, 1)
	r.reloadTo(moved)
	p.wantNoFailure(t)
	if firstCalls.Load() != 3 || secondCalls.Load() != 0 {
		t.Errorf("%d and %d checks, want 3 and none", firstCalls.Load(), secondCalls.Load())
	}
	if status, _ := get(t, r.address+"/play/a009/index.m3u8?token=bad"); status != http.StatusForbidden || secondCalls.Load() != 1 {
		t.Errorf("a viewer who comes later: %d, %d checks of the second backend", status, secondCalls.Load())
	}
	metrics := scraper{t, r.adminHandler()}
	eventually(t, "the sessions are the second backend's", func() bool {
		left, _ := metrics.value(`usher_sessions{backend="portal",route="/play/{channel}/*",state="allowed"}`)
		now, _ := metrics.value(`usher_sessions{backend="second",route="/play/{channel}/*",state="allowed"}`)
		return left == "0" && now == "3"
	})
	if _, ok := metrics.value(`usher_backend_breaker_state{backend="portal",state="closed"}`); ok {
		t.Error("the metrics have a backend that is gone")
	}
	r.reloadTo(strings.Replace(moved, `admin: { token: "0123456789abcdef" }`, `admin: { token: "fedcba9876543210" }`+"\nlog: { level: debug }", 1))
	w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api/v1/backends", nil)
	q.Header.Set("Authorization", "Bearer 0123456789abcdef")
	if r.adminHandler().ServeHTTP(w, q); w.Code != http.StatusUnauthorized {
		t.Errorf("the old token: %d", w.Code)
	}
	if !r.logger.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("the log level is not debug")
	}
}

// TestNode_Reload_Moved_NothingDecided: sessions that follow their route to another backend are no new decisions, denials or
// openings, and stay in the outage that let them in.
func TestNode_Reload_Moved_NothingDecided(t *testing.T) {
	first, _ := stagePortal(t)
	second, _ := stagePortal(t)
	text := reloadText(stageOrigin(t), first) + "records: { log: true, open_events: true }\n"
	const down = "  down: { kind: httprequest, address: \"http://127.0.0.1:9/check\", breaker: { interval: 3m } }\n"
	text = strings.Replace(text, "routes:\n", down+"routes:\n  - { path: \"/other/{channel}/*\", origin: stage, origin_path: \"/play/{channel}/*\", backend: down }\n", 1)
	r := startReloadNode(t, text)
	get(t, r.address+"/play/a001/index.m3u8?token=1")
	get(t, r.address+"/play/a001/index.m3u8?token=2")
	get(t, r.address+"/play/a001/index.m3u8?token=bad")
	get(t, r.address+"/other/a001/index.m3u8?token=3")
	moved := strings.Replace(text, "backends:\n", "backends:\n  second: { kind: httprequest, address: \""+second+"/check\" }\n", 1)
	moved = strings.NewReplacer("backend: portal", "backend: second", "backend: down", "backend: second").Replace(moved)
	r.reloadTo(moved)
	metrics := scraper{t, r.adminHandler()}
	eventually(t, "the sessions are the second backend's", func() bool {
		allowed, _ := metrics.value(`usher_sessions{backend="second",route="/play/{channel}/*",state="allowed"}`)
		denied, _ := metrics.value(`usher_sessions{backend="second",route="/play/{channel}/*",state="denied"}`)
		left, _ := metrics.value(`usher_sessions{backend="down",route="/other/{channel}/*",state="unverified"}`)
		return allowed == "2" && denied == "1" && left == "0"
	})
	metrics.want(map[string]string{
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="denied"}`:                               "0",
		`usher_decisions_total{backend="second",route="/play/{channel}/*",source="backend",verdict="allowed"}`:    "0",
		`usher_decisions_total{backend="second",route="/play/{channel}/*",source="backend",verdict="denied"}`:     "0",
		`usher_decisions_total{backend="second",route="/other/{channel}/*",source="fail-open",verdict="allowed"}`: "0",
	})
	w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api/v1/free-rides", nil)
	q.Header.Set("Authorization", "Bearer 0123456789abcdef")
	r.adminHandler().ServeHTTP(w, q)
	var rides freerides.List
	if err := json.Unmarshal(w.Body.Bytes(), &rides); err != nil || len(rides.Reports) != 1 || rides.Reports[0].Backend != "down" ||
		rides.Reports[0].Sessions != 1 || rides.Reports[0].Unknown != 0 {
		t.Errorf("%s, %v; want one outage, of the backend down, whose session is not unknown", w.Body, err)
	}
	get(t, r.address+"/play/last/index.m3u8?token=4")
	opened := func() []string { return r.log.lines("session opened") }
	eventually(t, "the last session that opened is recorded", func() bool {
		return slices.ContainsFunc(opened(), func(line string) bool { return strings.Contains(line, `"channel":"last"`) })
	})
	if got := opened(); len(got) != 4 {
		t.Errorf("recorded %q, want four sessions that opened", got)
	}
}

// TestNode_Reload_Overview: the overview follows the breakers of the settings in force, also after settings that were refused, and shows
// no other.
func TestNode_Reload_Overview(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	text := reloadText(origin, portal)
	r := startReloadNode(t, text)
	shown := func() map[string]string {
		t.Helper()
		w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api/v1/overview", nil)
		q.Header.Set("Authorization", "Bearer 0123456789abcdef")
		r.adminHandler().ServeHTTP(w, q)
		var o struct {
			Backends []struct{ Name, Breaker string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		states := map[string]string{}
		for _, b := range o.Backends {
			states[b.Name] = b.Breaker
		}
		return states
	}
	force := func(state string) {
		t.Helper()
		w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/api/v1/backends/portal/breaker", strings.NewReader(`{"state": "`+state+`"}`))
		q.Header.Set("Authorization", "Bearer 0123456789abcdef")
		if r.adminHandler().ServeHTTP(w, q); w.Code != http.StatusOK {
			t.Fatalf("force %s: %d %s", state, w.Code, w.Body)
		}
	}
	transitions := func() string {
		t.Helper()
		value, _ := scraper{t, r.adminHandler()}.value(`usher_backend_breaker_transitions_total{backend="portal",state="open"}`)
		return value
	}
	refused := strings.NewReplacer("timeout: 2s", "timeout: 3s", `listen: "127.0.0.1:0"`, `listen: "127.0.0.1:9999"`,
		"backends:\n", "backends:\n  typo: { kind: httprequest, address: \"http://127.0.0.1:9/\" }\n").Replace(text)
	for range 2 { // the second one while the breaker is forced
		r.write(refused)
		if status, result := r.post(); status != http.StatusUnprocessableEntity {
			t.Fatalf("%d %+v, want it refused", status, result)
		}
		force("open")
	}
	if diff := cmp.Diff(map[string]string{"portal": "open"}, shown()); diff != "" || transitions() != "1" {
		t.Errorf("opened %s times; after settings that were refused (-want +got):\n%s", transitions(), diff)
	}
	changed := strings.Replace(text, "timeout: 2s", "timeout: 3s", 1)
	r.reloadTo(changed) // the new breaker is forced as the old one was
	if diff := cmp.Diff(map[string]string{"portal": "open"}, shown()); diff != "" {
		t.Errorf("of the backend made anew (-want +got):\n%s", diff)
	}
	force("auto")
	r.reloadTo(strings.NewReplacer("portal: {", "second: {", "backend: portal", "backend: second").Replace(changed))
	if diff := cmp.Diff(map[string]string{"second": "closed"}, shown()); diff != "" {
		t.Errorf("of the renamed backend (-want +got):\n%s", diff)
	}
}

// TestNode_Reload_OpenPage: a page that is open ends with its token, and otherwise connects again.
func TestNode_Reload_OpenPage(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	const old, kept = "0123456789abcdef", "fedcba9876543210"
	text := strings.Replace(reloadText(origin, portal), "admin: {", `admin: { tokens: [ { name: kept, token: "`+kept+`", role: read } ],`, 1)
	r := startReloadNode(t, text)
	server := httptest.NewServer(r.adminHandler())
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // else a page that does not end hangs
	t.Cleanup(cancel)
	send := func(method, path, cookie string) *http.Response {
		t.Helper()
		q, err := http.NewRequestWithContext(ctx, method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Cookie", cookie)
		resp, err := server.Client().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	cookies, pages := map[string]string{}, map[string]*http.Response{}
	for _, token := range []string{old, kept} {
		resp, err := server.Client().PostForm(server.URL+"/ui/login", url.Values{"token": {token}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		cookies[token] = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
		pages[token] = send(http.MethodGet, "/ui/events", cookies[token])
	}
	r.reloadTo(strings.Replace(text, `token: "`+old+`" }`, `token: "another admin token" }`, 1))
	for token, want := range map[string]int{old: http.StatusUnauthorized, kept: http.StatusOK} {
		if _, err := io.Copy(io.Discard, pages[token].Body); err != nil {
			t.Errorf("the page was broken off: %v", err)
		}
		if got := send(http.MethodGet, "/ui/events", cookies[token]); got.StatusCode != want {
			t.Errorf("it connects again: %d, want %d", got.StatusCode, want)
		}
	}
}

// pausingOrigin is an origin of one segment, which pauses after a megabyte until goOn is closed.
func pausingOrigin(t *testing.T, goOn <-chan struct{}) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, ".m3u8") {
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-1.ts\n")
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("a", 1<<20))
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "the end")
	}))
	t.Cleanup(s.Close)
	return s
}

// beginBody reads so many bytes of a response, and returns the rest.
func beginBody(t *testing.T, url string, size int) io.Reader {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if _, err := io.ReadFull(resp.Body, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	return resp.Body
}

// TestNode_Reload_OpenStream: a response that has begun goes on by the old settings, which end with it.
func TestNode_Reload_OpenStream(t *testing.T) {
	goOn := make(chan struct{})
	origin := pausingOrigin(t, goOn)
	portal, _ := stagePortal(t)
	text := reloadText(origin.URL, portal)
	r := startReloadNode(t, text)
	_, list := get(t, r.address+"/play/a001/index.m3u8?token=t")
	body := beginBody(t, r.address+withTicket(t, list), 1000)
	old := r.current.Load()
	for i := range 3 { // to another origin, and to none of the route
		r.reloadTo(strings.NewReplacer(origin.URL, fmt.Sprintf("http://127.0.0.1:%d", i+1), "/play/", "/other/").Replace(text))
	}
	newest := r.current.Load()
	select {
	case <-old.ended.all:
		t.Error("the settings of a response in flight have ended")
	default:
	}
	close(goOn)
	rest, err := io.ReadAll(body)
	if err != nil || !strings.HasSuffix(string(rest), "the end") {
		t.Errorf("the stream broke after %d bytes: %v", len(rest), err)
	}
	<-old.ended.all
	select {
	case <-newest.ended.all:
		t.Error("the settings in force have ended")
	default:
	}
}

// TestNode_Reload_EndlessResponse: a response without an end does not keep later reloads from ending backends.
func TestNode_Reload_EndlessResponse(t *testing.T) {
	end := make(chan struct{})
	origin := pausingOrigin(t, end)
	defer close(end)
	portal, _ := stagePortal(t)
	var calls atomic.Int64
	removed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("X-AuthDuration", "1")
	}))
	defer removed.Close()
	text := reloadText(origin.URL, portal, "readiness_delay: 0s", "readiness_delay: 0s, timeout: 1s")
	both := strings.NewReplacer(
		"backends:\n", "backends:\n  removed: { kind: httprequest, on_failure: deny, address: \""+removed.URL+"/check\" }\n",
		"routes:\n", "routes:\n  - { path: \"/removed/{channel}/*\", origin: stage, origin_path: \"/play/{channel}/*\", backend: removed }\n",
	).Replace(text)
	r := startReloadNode(t, both)
	get(t, r.address+"/removed/a001/index.m3u8?token=t")
	_, list := get(t, r.address+"/play/a001/index.m3u8?token=t")
	beginBody(t, r.address+withTicket(t, list), 1<<20)
	r.reloadTo(both + "log: { level: warn }\n")
	second := r.current.Load()
	r.reloadTo(text)
	r.reloadTo(text + "log: { level: warn }\n")
	ended := func(step <-chan struct{}) bool {
		select {
		case <-step:
			return true
		default:
			return false
		}
	}
	eventually(t, "the removed backend has ended", func() bool { return ended(second.ended.backends) })
	asked := calls.Load()
	eventually(t, "the outage policy decides on the session of the removed backend", func() bool {
		isDecided := false
		r.registry.Each(func(s session.Handle) bool {
			isDecided = isDecided || s.Request().Route == "/removed/{channel}/*" && !s.Decision().Source.IsAuthoritative()
			return true
		})
		return isDecided
	})
	if now := calls.Load(); now > asked+1 { // one may have been under way
		t.Errorf("the removed backend was asked %d times after it had ended", now-asked)
	}
	if ended(second.ended.all) {
		t.Error("the gateway has ended while the response before it is sent")
	}
}

// TestNode_Reload_KeepsRefusals: who was kicked, and who was banned, is refused after a reload as before.
func TestNode_Reload_KeepsRefusals(t *testing.T) {
	origin := stageOrigin(t)
	portal, _ := stagePortal(t)
	text := reloadText(origin, portal)
	r := startReloadNode(t, text)
	api := func(method, path, body string) {
		t.Helper()
		w, q := httptest.NewRecorder(), httptest.NewRequest(method, "/api/v1/"+path, strings.NewReader(body))
		q.Header.Set("Authorization", "Bearer 0123456789abcdef")
		if r.adminHandler().ServeHTTP(w, q); w.Code != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	viewer := func(i int) string { return fmt.Sprintf("%s/play/a%03d/index.m3u8?token=t%d", r.address, i, i) }
	for i := 1; i <= 3; i++ {
		if status, body := get(t, viewer(i)); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	ids := map[string]string{}
	for s := range r.registry.Each {
		ids[s.Request().Channel] = s.ID().String()
	}
	api(http.MethodPost, "sessions/"+ids["a001"]+"/kick", `{"duration": "1h"}`)
	api(http.MethodPost, "bans", fmt.Sprintf(`{"session": %q, "duration": "1h"}`, ids["a002"]))
	for round, text := range []string{text, strings.NewReplacer("timeout: 2s", "timeout: 3s", "KEYS", "").Replace(text)} {
		if round > 0 {
			r.reloadTo(text)
		}
		for i, want := range map[int]int{1: http.StatusForbidden, 2: http.StatusForbidden, 3: http.StatusOK} {
			if round == 0 { // the kick is on its way
				eventually(t, "the refusals are in force", func() bool { status, _ := get(t, viewer(i)); return status == want })
			}
			if status, _ := get(t, viewer(i)); status != want {
				t.Errorf("viewer %d in round %d: %d, want %d", i, round, status, want)
			}
		}
	}
}

// TestRestartSettings_Complete walks all settings: a change of each is either reloaded or refused, as the two lists say.
func TestRestartSettings_Complete(t *testing.T) {
	reloadable := []string{
		"trusted_proxies", "tickets.keys", "tickets.parameter", "tickets.cookie_name", "tickets.max_uri", "cors", "origins", "routes", "backends",
		"limits.max_url_size", "limits.max_concurrent_requests", "limits.write_timeout", "limits.memory_high_water_percent",
		"sessions.max", "sessions.max_pending", "sessions.open_rate_per_address", "sessions.open_burst_per_address", "sessions.max_addresses",
		"sessions.open_rate_per_network", "sessions.open_burst_per_network", "sessions.open_rate", "sessions.open_burst",
		"sessions.denied_rate_per_network", "sessions.denied_rate", "sessions.stranger_share_percent",
		"sessions.max_variants", "sessions.denial_ttl", "sessions.retry_after", "sessions.recheck", "sessions.kick_duration",
		"sessions.per_user.max_streams", "sessions.per_user.max_sessions_overrides_unique", "sessions.per_user.zap_timeout",
		"fetch", "admin.token", "admin.tokens", "admin.trace_url", "log.level", "reload",
	}
	covered := map[string]bool{}
	isIn := func(list []string, path string) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			isBelow := path == s || strings.HasPrefix(path, s+".") || strings.HasPrefix(path, s+"[")
			covered[s] = covered[s] || isBelow
			return isBelow
		})
	}
	seen := 0
	check := func(path string, change func(s *settings)) {
		before, after := defaultSettings(), defaultSettings()
		change(after)
		changes := config.Changes(before, after)
		if len(changes) != 1 || changes[0].Path != path && changes[0].Path != path+".x" {
			t.Fatalf("%s: the changes are %q", path, changes)
		}
		seen++
		needs := needRestart(changes)
		if isIn(reloadable, path) == isIn(restartSettings(), path) || (needs != nil) != isIn(restartSettings(), path) {
			t.Errorf("%s: is in neither list or in both; a reload says: %v", path, needs)
		}
	}
	eachSetting(reflect.TypeFor[settings](), nil, "", check)
	for _, s := range append(reloadable, restartSettings()...) {
		if !covered[s] {
			t.Errorf("no setting is %s", s)
		}
	}
	if seen < 60 {
		t.Errorf("saw %d settings", seen)
	}
}

// eachSetting calls yield for every setting of a struct, with a function that changes its value.
func eachSetting(of reflect.Type, index []int, path string, yield func(path string, change func(*settings))) {
	for i := range of.NumField() {
		f, at := of.Field(i), append(slices.Clone(index), i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		under := strings.TrimPrefix(path+"."+key, ".")
		_, isText := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(f.Type))
		switch {
		case options == "inline":
			eachSetting(f.Type, at, path, yield)
		case key == "":
		case f.Type.Kind() == reflect.Struct && !isText:
			eachSetting(f.Type, at, under, yield)
		default:
			yield(under, func(s *settings) { alter(reflect.ValueOf(s).Elem().FieldByIndex(at)) })
		}
	}
}

// alter gives a setting another value.
func alter(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), reflect.New(v.Type().Elem().Elem()))
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	default:
		v.SetInt(v.Int() + 1)
	}
}

// TestNode_ForgetMetrics removes the series of what the settings no longer have, as soon as no session counts into them.
func TestNode_ForgetMetrics(t *testing.T) {
	portal, _ := stagePortal(t)
	text := reloadText(stageOrigin(t), portal, "denial_ttl: 1s", "denial_ttl: 1s, idle_timeout: 2s")
	more := strings.NewReplacer(
		"backends:\n", "backends:\n  old: { kind: httprequest, address: \""+portal+"/check\" }\n  unused: { kind: httprequest, address: \""+portal+"/check\" }\n",
		"routes:\n", "routes:\n  - { path: \"/old/{channel}/*\", origin: stage, origin_path: \"/play/{channel}/*\", backend: old }\n"+
			"  - { path: \"/unused/{channel}/*\", origin: stage, backend: unused }\n",
	).Replace(text)
	r := startReloadNode(t, more)
	if status, body := get(t, r.address+"/old/a001/index.m3u8?token=1"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	r.reloadTo(text)
	lines := func(parts ...string) (found []string) {
		w := httptest.NewRecorder()
		r.adminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(line, part) }) {
				found = append(found, line)
			}
		}
		return found
	}
	unused, old := []string{`"unused"`, `"/unused/`, `"backends.unused.`}, []string{`"old"`, `"/old/`, `"backends.old.`}
	before := len(lines(`"portal"`, `"/play/`, `"backends.portal.`))
	eventually(t, "the series of what no session uses are gone", func() bool {
		r.forgetMetrics()
		return len(lines(unused...)) == 0
	})
	if n := len(lines(old...)); n < 40 {
		t.Errorf("%d series of the route and the backend of a session, want all", n)
	}
	eventually(t, "the series are gone with the session", func() bool {
		r.forgetMetrics()
		return len(lines(old...)) == 0
	})
	if n := len(lines(`"portal"`, `"/play/`, `"backends.portal.`)); n != before || n < 40 {
		t.Errorf("%d series of the settings in force, want the %d of before", n, before)
	}
}
