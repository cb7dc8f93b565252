package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNode_FloodOfRandomTokens_MiddlewareAskedLittle sends thousands of random tokens from as many addresses at once to a node with
// a budget of denials, and has a viewer zap through channels meanwhile. It runs alone, because it disturbs the times of other tests.
func TestNode_FloodOfRandomTokens_MiddlewareAskedLittle(t *testing.T) {
	m := startMiddleware(t)
	n := startNode(t, setup{
		origin: startStage(t, nil), middleware: m.URL(), sessions: "denied_rate: 20, denied_rate_per_network: 5",
	})
	rec := startRecorder(t, n.public)
	viewers := []*viewer{newViewer(t, 0, rec.url+"/play/a001/index.m3u8?token=good")}
	startWatching(t, viewers)
	awaitSegments(t, viewers, 2)
	began, before := time.Now(), int(m.Calls())
	flooded := make(chan map[int]int, 1)
	go func() { flooded <- flood(t, rec.url, 8000) }()
	zaps := 0
	var statuses map[int]int
	for statuses == nil {
		select {
		case statuses = <-flooded:
		default:
			// Each is a session of its own with the token that was allowed before.
			status, body, err := fetch(n.client, fmt.Sprintf("%s/single/z%d/index.m3u8?token=good", n.public, zaps))
			if zaps++; err != nil || status == http.StatusServiceUnavailable || status == http.StatusForbidden {
				t.Fatalf("zap %d of a viewer who was allowed before: %d %s, error %v", zaps, status, body, err)
			}
		}
	}
	took := time.Since(began)
	asked := int(m.Calls()) - before - zaps
	t.Logf("random tokens: %v in %v; the middleware was asked about %d of them, beside %d zaps", statuses, took, asked, zaps)
	if most := 20*10 + int(20*took.Seconds()) + 20; asked > most {
		t.Errorf("the middleware was asked about %d strangers, want at most %d", asked, most)
	}
	if statuses[http.StatusForbidden] == 0 || statuses[http.StatusForbidden]+statuses[http.StatusServiceUnavailable] != 8000 {
		t.Errorf("the random tokens got %v, want 403 and 503 only", statuses)
	}
	awaitSegments(t, viewers, 2)
	wantNoProblems(t, viewers)
	_, metrics, err := fetch(n.client, n.admin+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	shed := 0
	for line := range strings.Lines(string(metrics)) {
		if strings.HasPrefix(line, `usher_overloads_total{setting="sessions.denied_rate`) {
			_, number, _ := strings.Cut(line, "} ")
			var value int
			_, _ = fmt.Sscan(number, &value)
			shed += value
		}
	}
	if shed != statuses[http.StatusServiceUnavailable] {
		t.Errorf("the metrics count %d who were shed, want %d", shed, statuses[http.StatusServiceUnavailable])
	}
}

// TestNode_MemoryShort_StrangersShed fills the memory of a node that may use little with sessions. It runs alone, because it
// disturbs the times of other tests.
func TestNode_MemoryShort_StrangersShed(t *testing.T) {
	m := startMiddleware(t)
	listen, admin := freePort(t), freePort(t)
	n := &node{
		public: "http://" + listen, admin: "http://" + admin, client: newClient(t, ""), file: filepath.Join(t.TempDir(), "usher.yaml"),
	}
	s := setup{
		origin: startStage(t, nil), middleware: m.URL(),
		sessions: "denial_ttl: 10m, denied_rate: 100000, denied_rate_per_network: 100000, max: 100000",
		more:     "cache: { max_size: 1MiB, max_object_size: 1MiB }\nlimits: { memory_high_water_percent: 70 }",
	}
	if err := os.WriteFile(n.file, []byte(s.yaml(listen, admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.process = start(t, "/usr/bin/env", "GOMEMLIMIT=48MiB", plainBinary(t), "serve", "--config", n.file)
	eventually(t, waitTimeout, "the node is ready", func() error { return n.readiness(http.StatusOK) })
	rec := startRecorder(t, n.public)
	viewers := []*viewer{newViewer(t, 0, rec.url+"/play/a001/index.m3u8?token=good")}
	startWatching(t, viewers)
	awaitSegments(t, viewers, 2)
	const least, most = 1_000, 60_000
	client, shed, body := newClient(t, ""), 0, ""
	opened := 0
	for ; opened < most && shed < least; opened++ {
		status, err := askFrom(t.Context(), client, rec.url, opened)
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusServiceUnavailable {
			shed++
		}
	}
	if shed < least {
		t.Fatalf("of %d sessions %d were shed, want %d", opened, shed, least)
	}
	status, text, err := fetch(n.client, n.public+"/single/a001/index.m3u8?token=never-seen")
	if body = string(text); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "overloaded: limits.memory_high_water_percent=70 reached") {
		t.Errorf("a stranger got %d %q, error %v", status, body, err)
	}
	_, metrics, err := fetch(n.client, n.admin+"/metrics")
	if err != nil || !strings.Contains(string(metrics), "usher_memory_shedding{sessions=\"strangers\"} 1\n") ||
		!strings.Contains(string(metrics), "usher_memory_limit_bytes 5.0331648e+07\n") {
		t.Errorf("the metrics do not show it, error %v", err)
	}
	awaitSegments(t, viewers, 3)
	wantNoProblems(t, viewers)
	log := n.errs.String()
	if got := strings.Count(log, `"msg":"memory short`); got == 0 || got > 4 {
		t.Errorf("%d warnings, want one for each transition", got)
	}
	t.Logf("%d sessions, %d of them shed", opened, shed)
}
