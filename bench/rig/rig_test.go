package rig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/bench/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "usher")
	if out, err := exec.Command("go", "build", "-o", file, "usher/cmd/usher").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

func options(binary string) Options {
	return Options{
		Server: Usher, Binary: binary, Nodes: 2, Redis: true, Balancer: true, Collector: true, Validity: time.Minute, Segment: time.Second, OnFailure: "allow",
		RecheckRate: 100, Settings: map[string]any{"sessions": map[string]any{"retry_after": "3s"}},
	}
}

// watch requests a playlist as a viewer, and returns the status; 0: none came.
func watch(ctx context.Context, g *Rig, token string) int {
	_, status, err := get(ctx, g.URLs()[0]+"/play/ch1/index.m3u8?token="+token, "")
	if err != nil {
		return 0
	}
	return status
}

// awaitStatus watches with tokens that nobody showed before until the status comes.
func awaitStatus(t *testing.T, g *Rig, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		got := watch(ctx, g, "good")
		if got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("status %d, want %d", got, want)
		}
	}
}

// TestRig_Faults_BreakAndMend begins and ends each kind of fault on two nodes that share a Redis.
func TestRig_Faults_BreakAndMend(t *testing.T) {
	g, err := Start(t.Context(), options(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if good, bad := watch(t.Context(), g, "good"), watch(t.Context(), g, BadToken+"1"); good != http.StatusOK || bad != http.StatusForbidden {
		t.Fatalf("good viewer %d, bad viewer %d; want 200, 403", good, bad)
	}
	for _, what := range Faults() {
		what = strings.Replace(what, "500ms", "1ms", 1)
		f, err := g.Fault(what)
		if err != nil {
			t.Error(err)
			continue
		}
		end, err := f.Begin(t.Context())
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err := end(t.Context()); err != nil {
			t.Errorf("end of %s: %v", what, err)
		}
		awaitStatus(t, g, http.StatusOK)
	}
	if mode := g.Middleware.Mode(); mode != g.healthy() {
		t.Errorf("middleware %v after all faults, want %v", mode, g.healthy())
	}
}

// TestStart_OperatorsVariables_NoEffect requires the nodes to ask the middleware of the rig, not that of an operator whose shell has
// settings of Usher.
func TestStart_OperatorsVariables_NoEffect(t *testing.T) {
	var asked atomic.Int64
	operators := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer operators.Close()
	t.Setenv("USHER_BACKENDS_PORTAL_ADDRESS", operators.URL)
	t.Setenv("USHER_BENCH_METRICS_TOKEN", "secret")
	g, err := Start(t.Context(), options(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if got := watch(t.Context(), g, "good"); got != http.StatusOK || g.Middleware.Calls() == 0 || asked.Load() > 0 {
		t.Errorf("status %d, %d calls of the rig's middleware, %d of the operator's; want 200, some, none", got, g.Middleware.Calls(), asked.Load())
	}
}

// TestRig_OriginHangs_ServedWhenOver has requests wait for the end of the fault, and no longer.
func TestRig_OriginHangs_ServedWhenOver(t *testing.T) {
	g := &Rig{}
	entered := make(chan bool)
	origin, err := g.startOrigin(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	inner := g.origin.Handler
	g.origin.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		inner.ServeHTTP(w, r)
	})
	for _, what := range []string{"origin hang", "origin slow 1h"} {
		f, err := g.Fault(what)
		if err != nil {
			t.Fatal(err)
		}
		end, err := f.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		go func() {
			_, status, err := get(t.Context(), origin+"/single/ch1/index.m3u8", "")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			answered <- err
		}()
		<-entered
		select {
		case err := <-answered:
			t.Errorf("%s: answered during the fault: %v", what, err)
		default:
		}
		if err := end(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("%s: %v after the fault", what, err)
		}
	}
}

// TestRig_Balancer_LeavesDeadNodes kills all nodes but the last.
func TestRig_Balancer_LeavesDeadNodes(t *testing.T) {
	g, err := Start(t.Context(), options(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.Nodes[0].Kill()
	for range 4 {
		if got := watch(t.Context(), g, "good"); got != http.StatusOK {
			t.Errorf("status %d, want 200", got)
		}
	}
}

// TestRig_TLS_Serves has viewers speak TLS with each node, and through the balancer.
func TestRig_TLS_Serves(t *testing.T) {
	binary := build(t)
	for name, hasBalancer := range map[string]bool{"each node": false, "the balancer": true} {
		t.Run(name, func(t *testing.T) {
			o := options(binary)
			o.TLS, o.Balancer = true, hasBalancer
			g, err := Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: g.TLS, DisableKeepAlives: true}}
			for range len(g.Nodes) { // the balancer asks one after the other
				for _, url := range g.URLs() {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/play/ch1/index.m3u8?token=good", http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					answer, err := client.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					_ = answer.Body.Close()
					if answer.StatusCode != http.StatusOK || answer.TLS == nil {
						t.Errorf("%s: status %d, TLS %v; want 200 with TLS", url, answer.StatusCode, answer.TLS)
					}
				}
			}
		})
	}
}

// TestRig_Sample reads what the servers count themselves.
func TestRig_Sample(t *testing.T) {
	g, err := Start(t.Context(), options(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	r := record.New(time.Now())
	g.Sample(t.Context(), r)
	for _, token := range []string{"good", "good", BadToken + "1"} {
		watch(t.Context(), g, token)
	}
	g.Sample(t.Context(), r)
	m := r.Finish(time.Now())
	for name, want := range map[string]float64{"middleware.calls": 2, "sessions.opened": 2, "refusals": 1, "free_riders": 0, "rechecks_granted": 0} {
		if got, isKnown := m.Counts[name]; !isKnown || got < want || got > want+1 {
			t.Errorf("%s: %v (known: %t), want %v", name, got, isKnown, want)
		}
	}
	if len(m.Processes) != 4 {
		t.Errorf("processes %v, want two nodes, redis and the generator", m.Processes)
	}
	for _, p := range m.Processes {
		if p.Resident == 0 {
			t.Errorf("%s: no resident memory", p.Name)
		}
	}
}

func TestRig_Fault_Errors(t *testing.T) {
	g, err := External{URLs: []string{"http://127.0.0.1:1"}}.Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for what, want := range map[string]error{
		"": ErrUnknownFault, "node": ErrUnknownFault, "server kill 1": ErrUnknownFault, "node kill 1 2": ErrUnknownFault, "origin hang 1": ErrUnknownFault,
		"middleware hang": ErrNoServer, "origin status 503": ErrNoServer, "redis kill": ErrNoServer, "node kill 1": ErrNoServer,
	} {
		if _, err := g.Fault(what); !errors.Is(err, want) || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v, want %v", what, err, want)
		}
	}
	for _, what := range []string{"middleware sleep", "middleware status 99", "origin slow 0s", "origin slow soon", "origin status 200"} {
		if _, err := g.Fault(what); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v, want an error with it", what, err)
		}
	}
}

func TestMerge_KeepsOtherKeys(t *testing.T) {
	m := map[string]any{"a": map[string]any{"b": 1, "c": 2}, "d": 3}
	merge(m, map[string]any{"a": map[string]any{"c": 4, "e": 5}, "d": map[string]any{"f": 6}})
	a := m["a"].(map[string]any) //nolint:forcetypeassert // it is above
	if a["b"] != 1 || a["c"] != 4 || a["e"] != 5 || m["d"].(map[string]any)["f"] != 6 {
		t.Errorf("merged: %v", m)
	}
}

// TestExternal_Start_Errors names the flag whose value cannot be.
func TestExternal_Start_Errors(t *testing.T) {
	for want, e := range map[string]External{
		"--pid=0":            {PIDs: []int{0}},
		"--middleware=there": {Middleware: "there"},
		"--origin=there":     {Origin: "there"},
	} {
		if _, err := e.Start(t.Context(), Options{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
}

// serveMetrics serves a text as metrics, to those with the token alone.
func serveMetrics(t *testing.T, text string, isDown *atomic.Bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || isDown.Load() {
			http.Error(w, text, http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestExternal_Start_MetricsOfAnother refuses pages that say nothing of a node of Usher, before anything is measured.
func TestExternal_Start_MetricsOfAnother(t *testing.T) {
	var isDown atomic.Bool
	good, other := serveMetrics(t, "usher_free_rides_total 0\n", &isDown), serveMetrics(t, "go_goroutines 7\n", &isDown)
	for name, tt := range map[string]struct {
		e    External
		want string
	}{
		"another server's":        {External{Metrics: []string{good, other}, Token: "secret"}, "--metrics=" + other + ": no metrics of Usher: no line of it begins with usher_"},
		"without the right token": {External{Metrics: []string{good + "?key=abc"}, Token: "wrong"}, "--metrics=" + good + "?key=[hidden]: no metrics of Usher: status 401"},
		"of no server":            {External{Metrics: []string{"http://127.0.0.1:1/"}}, "--metrics=http://127.0.0.1:1/: "},
	} {
		g, err := tt.e.Start(t.Context(), Options{})
		if err == nil {
			g.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "abc") {
			t.Errorf("%s: %v, want %s…", name, err, tt.want)
		}
	}
}

// TestRig_Sample_NodeWithoutAnswer has one of two nodes answer nothing for a sample: the sums of both are unknown then, and what they
// counted meanwhile is in the next one.
func TestRig_Sample_NodeWithoutAnswer(t *testing.T) {
	var isDown, never atomic.Bool
	text := "usher_free_rides_total 5\nusher_sessions{state=\"allowed\"} 3\n"
	e := External{Metrics: []string{serveMetrics(t, text, &never), serveMetrics(t, text, &isDown)}, Token: "secret"}
	g, err := e.Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	r := record.New(time.Now())
	for i := range 3 {
		isDown.Store(i == 1)
		g.Sample(t.Context(), r)
		r.Tick(time.Now())
	}
	m := r.Finish(time.Now())
	for _, l := range m.Series.Lines {
		if l.Name != "sessions.allowed" && l.Name != "free_riders" {
			continue
		}
		if l.Values[0] == nil || l.Values[1] != nil || l.Values[2] == nil {
			t.Errorf("%s: %v; want the second value to be unknown", l.Name, l.Values)
		}
	}
	if n := m.Counts["free_riders"]; n != 0 {
		t.Errorf("%v free riders, want none beyond the first reading", n)
	}
	if want := "--metrics=" + e.Metrics[1] + " could not be read at times"; len(m.Notes) != 1 || !strings.HasPrefix(m.Notes[0], want) {
		t.Errorf("notes %q, want %s…", m.Notes, want)
	}
}

// TestRig_Unasked names the servers that the operator's asked nothing.
func TestRig_Unasked(t *testing.T) {
	g, err := External{Middleware: "127.0.0.1:0", Origin: "127.0.0.1:0"}.Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	want := "--middleware=127.0.0.1:0: no server of yours asked it\n--origin=127.0.0.1:0: no server of yours asked it"
	if err := g.Unasked(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/single/ch1/index.m3u8", http.NoBody)
	g.origin.Handler.ServeHTTP(httptest.NewRecorder(), request)
	if _, _, err := get(t.Context(), g.Middleware.URL()+"/check?token=good", ""); err != nil {
		t.Fatal(err)
	}
	if err := g.Unasked(); err != nil {
		t.Errorf("%v after both were asked", err)
	}
}

// BenchmarkRig_Middleware is what one call costs the harness, so that a reader knows when the middleware is the bottleneck.
func BenchmarkRig_Middleware(b *testing.B) {
	g := &Rig{}
	if err := g.startMiddleware("127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	keep := &http.Client{Transport: &http.Transport{}}
	defer keep.CloseIdleConnections()
	for b.Loop() {
		answer, err := keep.Get(g.Middleware.URL() + "/check?token=good")
		if err != nil {
			b.Fatal(err)
		}
		answer.Body.Close()
	}
}
