package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
	"usher/bench/stage"
	"usher/gateway/admin"
)

// breakerRig is nodes with one middleware.
type breakerRig struct {
	*kickRig
	middleware *backendtest.Server
	text       string // the settings of a node whose name is NODE
}

func newBreakerRig(t *testing.T, cluster string) *breakerRig {
	t.Helper()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	k := &breakerRig{kickRig: &kickRig{t: t}, middleware: middleware(t)}
	k.text = fmt.Sprintf(`
trusted_proxies: [ 127.0.0.1/32 ]
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
backends:
  portal: { kind: httprequest, address: "%s/check?key=secret-of-the-address" }
  own: { kind: iprules, rules: [ "allow 192.0.2.0/24" ] }
  both: { kind: any, backends: [ portal, own ] }
routes: [ { path: "/play/{channel}/*", origin: stage, backend: portal, required: [token] } ]
sessions: { denial_ttl: 1s }
cluster: { node_name: NODE, %s }
admin: { listen: "127.0.0.1:0", token: %q }
`, origin.URL, k.middleware.URL(), cluster, apiToken)
	return k
}

// start starts a node, and returns its number.
func (k *breakerRig) start() (node int) {
	k.t.Helper()
	n, address, _ := launchNode(k.t, strings.ReplaceAll(k.text, "NODE", fmt.Sprint("n", len(k.nodes)+1)), sdktrace.NewTracerProvider())
	api := httptest.NewServer(n.adminHandler())
	k.t.Cleanup(api.Close)
	k.nodes, k.addresses, k.apis = append(k.nodes, n), append(k.addresses, address), append(k.apis, api.URL)
	for _, n := range k.nodes {
		eventually(k.t, "all nodes are known", func() bool { return n.cluster.Live() == len(k.nodes) })
	}
	return len(k.nodes) - 1
}

// force sends an order through a node, and requires it to hold on all.
func (k *breakerRig) force(node int, body map[string]any) (done admin.ForceResult) {
	k.t.Helper()
	status := k.api(node, "POST", "backends/portal/breaker", body, &done)
	if status != http.StatusOK || len(done.Nodes) != len(k.nodes) || len(done.NotForced) != 0 {
		k.t.Fatalf("%d %+v, want it to hold on %d nodes", status, done, len(k.nodes))
	}
	return done
}

// open has a viewer with the token open a session, and returns the status and how often the middleware was asked.
func (k *breakerRig) open(node, viewer int, token string) (status int, calls uint64) {
	k.t.Helper()
	before := k.middleware.Calls()
	got := k.ask(viewing{node: node, path: "/play/a001/low.m3u8?token=" + token, address: fmt.Sprint("192.0.2.", viewer), agent: "VLC"})
	return got.status, k.middleware.Calls() - before
}

func (k *breakerRig) wantOpened(what string, node, viewer int, token string, wantStatus int, wantCalls uint64) {
	k.t.Helper()
	if status, calls := k.open(node, viewer, token); status != wantStatus || calls != wantCalls {
		k.t.Errorf("%s: %d after %d calls, want %d after %d", what, status, calls, wantStatus, wantCalls)
	}
}

// portal returns the backend as a node shows it.
func (k *breakerRig) portal(node int) admin.Backend {
	k.t.Helper()
	var list struct{ Backends []admin.Backend }
	k.api(node, "GET", "backends", nil, &list)
	for _, b := range list.Backends {
		if b.Name == "portal" {
			return b
		}
	}
	k.t.Fatalf("no portal in %+v", list)
	return admin.Backend{}
}

func (k *breakerRig) wantMetric(node int, line string) {
	k.t.Helper()
	w := httptest.NewRecorder()
	k.nodes[node].adminHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), line+"\n") {
		k.t.Errorf("/metrics of node %d has not %s", node, line)
	}
}

// TestNode_ForceBreaker_AllNodes forces a breaker open, closed and auto: on the nodes that run, on one that starts later, and
// without other nodes.
func TestNode_ForceBreaker_AllNodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cluster func() string
		nodes   int
	}{
		"a single node": {func() string { return "memory: { max_sessions: 1000 }" }, 1},
		"two nodes and one that joins": {func() string {
			return fmt.Sprintf(`redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ]`, startRedis(t))
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newBreakerRig(t, test.cluster())
			for range test.nodes {
				k.start()
			}
			last := test.nodes - 1
			k.wantOpened("before", 0, 1, "good", http.StatusOK, 1)
			done := k.force(last, map[string]any{"state": "open", "duration": "1h", "reason": "upgrade"})
			if done.Forced == nil || done.Forced.State != "open" || done.Forced.Reason != "upgrade" || time.Until(done.Forced.Until) < 59*time.Minute {
				t.Errorf("forced %+v", done.Forced)
			}
			if test.nodes > 1 {
				last = k.start()
				eventually(t, "the new node is forced too", func() bool { return k.portal(last).Forced != nil })
			}
			for node := range k.nodes {
				k.wantOpened("forced open", node, 10+node, "bad", http.StatusOK, 0)
				if b := k.portal(node); b.Breaker != "open" || b.Forced == nil || b.Forced.Reason != "upgrade" || b.Forced.By == "" {
					t.Errorf("node %d shows %+v, forced %+v", node, b, b.Forced)
				}
				k.wantMetric(node, `usher_backend_breaker_state{backend="portal",state="open"} 1`)
				k.wantMetric(node, `usher_backend_forced{backend="portal",state="open"} 1`)
				if warnings := k.nodes[node].warnings(); len(warnings) == 0 || !strings.Contains(warnings[len(warnings)-1], "forced open by an operator") {
					t.Errorf("/readyz?verbose says %q", warnings)
				}
			}
			if err := k.middleware.SetMode(backendtest.Status(500)); err != nil {
				t.Fatal(err)
			}
			k.force(last, map[string]any{"state": "closed", "reason": "watch it"})
			for viewer := range 30 {
				// Sessions of others may be checked again meanwhile.
				if status, calls := k.open(0, 20+viewer, "bad"); status != http.StatusServiceUnavailable || calls == 0 {
					t.Errorf("forced closed: %d after %d calls, want 503 after a call", status, calls)
				}
			}
			if b := k.portal(0); b.Breaker != "closed" || time.Until(b.Forced.Until) > 10*time.Minute {
				t.Errorf("shows %s, until %s; want closed for ten minutes", b.Breaker, b.Forced.Until)
			}
			if err := k.middleware.SetMode(backendtest.Healthy()); err != nil {
				t.Fatal(err)
			}
			k.force(0, map[string]any{"state": "auto"})
			for node := range k.nodes {
				if status, calls := k.open(node, 60+node, "good"); status != http.StatusOK || calls == 0 {
					t.Errorf("auto: %d after %d calls, want 200 after a call", status, calls)
				}
				if b := k.portal(node); b.Breaker != "closed" || b.Forced != nil {
					t.Errorf("node %d shows %+v", node, b)
				}
				k.wantMetric(node, `usher_backend_forced{backend="portal",state="open"} 0`)
			}
		})
	}
}

// TestNode_ForceBreaker_Refused names what is wrong with an order or a probe.
func TestNode_ForceBreaker_Refused(t *testing.T) {
	t.Parallel()
	k := newBreakerRig(t, "memory: { max_sessions: 1000 }")
	k.start()
	for path, want := range map[string]int{
		"backends/nobody/breaker": http.StatusNotFound, "backends/nobody/probe": http.StatusNotFound,
		"backends/own/breaker": http.StatusBadRequest, "backends/both/breaker": http.StatusBadRequest,
		"backends/own/probe": http.StatusBadRequest, "backends/both/probe": http.StatusBadRequest,
		"backends/portal/probe": http.StatusConflict,
	} {
		var body map[string]any
		if strings.HasSuffix(path, "/breaker") {
			body = map[string]any{"state": "open"}
		}
		if got := k.api(0, "POST", path, body, nil); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	for name, body := range map[string]map[string]any{
		"no state": {}, "an unknown state": {"state": "half-open"}, "too short": {"state": "open", "duration": "1ms"},
		"too long": {"state": "open", "duration": "25h"}, "auto for a time": {"state": "auto", "duration": "1h"},
		"a long reason": {"state": "open", "reason": strings.Repeat("x", 201)}, "an unknown key": {"state": "open", "for": "1h"},
	} {
		if got := k.api(0, "POST", "backends/portal/breaker", body, nil); got != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, got)
		}
	}
	if k.portal(0).Forced != nil {
		t.Error("a refused order holds")
	}
}

// TestNode_ProbeBackend asks through an open breaker about the viewer whom each node asked about last.
func TestNode_ProbeBackend(t *testing.T) {
	t.Parallel()
	k := newBreakerRig(t, fmt.Sprintf(`redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ]`, startRedis(t)))
	k.start()
	k.start()
	k.wantOpened("a viewer", 0, 1, "good", http.StatusOK, 1)
	k.force(0, map[string]any{"state": "open"})
	probe := func() map[string]string {
		t.Helper()
		before := k.middleware.Calls()
		var done admin.ProbeResult
		if status := k.api(1, "POST", "backends/portal/probe", nil, &done); status != http.StatusOK || len(done.UnreachableNodes) > 0 {
			t.Fatalf("%d %+v", status, done)
		}
		if calls := k.middleware.Calls() - before; calls != 1 {
			t.Errorf("the middleware was asked %d times, want once", calls)
		}
		got := map[string]string{}
		for _, p := range done.Probes {
			got[p.Node] = p.Outcome + ": " + p.Error
			if strings.Contains(p.Error, "secret-of-the-address") || strings.Contains(p.Error, "good") {
				t.Errorf("the error shows a credential: %s", p.Error)
			}
			if (p.Outcome != "") != (p.DurationMS > 0) {
				t.Errorf("%+v, want a duration of a call", p)
			}
		}
		return got
	}
	nobody := ": nobody to ask about: the backend has answered no check of a viewer since the node started"
	if got := probe(); !maps.Equal(got, map[string]string{"n1": "allowed: ", "n2": nobody}) {
		t.Errorf("healthy: %q", got)
	}
	if err := k.middleware.SetMode(backendtest.Status(500)); err != nil {
		t.Fatal(err)
	}
	if got := probe(); !maps.Equal(got, map[string]string{"n1": `status: check backend "portal": status 500`, "n2": nobody}) {
		t.Errorf("with an error: %q", got)
	}
	if b := k.portal(0); b.Breaker != "open" || b.Forced == nil {
		t.Errorf("a probe moved the breaker: %+v", b)
	}
	k.middleware.Close()
	var list struct{ Backends []json.RawMessage }
	if status := k.api(0, "POST", "backends/portal/probe", nil, nil); status != http.StatusOK {
		t.Errorf("without the middleware: %d", status)
	}
	k.api(0, "GET", "backends", nil, &list)
	shown := fmt.Sprintf("%s", list.Backends)
	for _, want := range []string{`"outcome":"transport"`, `"outcome":"status","error":"check backend \"portal\": status 500"`, `"state":"open"}]`} {
		if !strings.Contains(shown, want) {
			t.Errorf("the list has no %s: %s", want, shown)
		}
	}
	if strings.Contains(shown, "secret-of-the-address") || strings.Contains(shown, "good") {
		t.Errorf("the list shows a credential: %s", shown)
	}
}

// TestNode_DenialsJump has a portal lose its database while its viewers watch, after a flood of strangers who are denied too.
func TestNode_DenialsJump(t *testing.T) {
	t.Parallel()
	const viewers, strangers = 40, 60
	address, folder := startPHP(t)
	var subscribers strings.Builder
	for i := range viewers {
		fmt.Fprintf(&subscribers, "subscriber%d\n", i)
	}
	database := filepath.Join(folder, "subscribers.txt")
	if err := os.WriteFile(database, []byte(subscribers.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newPHPNode(t, "httprequest", address+"/database.php", "")
	s := *n.current.Load().settings
	s.Admin.Token = apiToken
	api := n.newAdminHandler(&s, nil)
	read := func(path string) string {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+apiToken)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Body.String()
	}
	play := func(viewer int, token string, want int) {
		t.Helper()
		if status, _ := n.play(t, fmt.Sprint("192.0.2.", viewer), "token="+token); status != want {
			t.Fatalf("%s: %d, want %d", token, status, want)
		}
	}
	for i := range strangers {
		play(100+i, fmt.Sprint("stranger", i), http.StatusForbidden)
	}
	const violation = `usher_backend_contract_violation{backend="portal",violation="denials_jumped"} `
	if metrics := read("/metrics"); !strings.Contains(metrics, violation+"0") {
		t.Error("strangers raised the alarm, or there is none")
	}
	for i := range viewers {
		play(i, fmt.Sprint("subscriber", i), http.StatusOK)
	}
	eventually(t, "the alarm", func() bool { return strings.Contains(read("/metrics"), violation+"1") })
	for path, want := range map[string]string{
		"/api/v1/backends": `"denials_jumped":{"count":1,"active":true,"detail":"`,
		"/readyz?verbose":  `warning: backend "portal" violates its contract, denials_jumped: check the backend's database`,
	} {
		if got := read(path); !strings.Contains(got, want) {
			t.Errorf("%s has not %s:\n%s", path, want, got)
		}
	}
	if logged := n.log.lines("denials_jumped"); len(logged) != 1 || !strings.Contains(logged[0], "level=WARN") || !strings.Contains(logged[0], "whom it had allowed") {
		t.Errorf("logged %q", logged)
	}
	if all := read("/api/v1/backends") + strings.Join(n.log.lines(""), ""); strings.Contains(all, "subscriber1") || strings.Contains(all, "stranger1") {
		t.Errorf("a token is shown:\n%s", all)
	}
}
