package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// TestNode_FloodOfRandomTokens_Denied sends thousands of random tokens from as many addresses, while the middleware is slow
// and max_in_flight is low. It runs alone, because it disturbs the times of other tests.
func TestNode_FloodOfRandomTokens_Denied(t *testing.T) {
	m := startMiddleware(t)
	n := startNode(t, setup{
		origin: startStage(t, nil), middleware: m.URL(),
		backend: "max_in_flight: 4, max_rechecks_in_flight: 32, max_waiting: 100", sessions: "recheck: { min: 2s }",
	})
	rec := startRecorder(t, n.public)
	viewers := []*viewer{newViewer(t, 0, rec.url+"/play/a001/index.m3u8?token=good")}
	startWatching(t, viewers)
	awaitSegments(t, viewers, 3)
	setMode(t, m, backendtest.Slow(50*time.Millisecond))

	statuses := flood(t, rec.url, 5000)
	t.Logf("random tokens: %v; %d calls of the middleware, %d at once", statuses, m.Calls(), m.MaxInFlight())
	for status := range statuses {
		if status != http.StatusForbidden && status != http.StatusServiceUnavailable {
			t.Errorf("%d random tokens got %d, want 403 or 503 only", statuses[status], status)
		}
	}
	if statuses[http.StatusForbidden] == 0 || statuses[http.StatusServiceUnavailable] == 0 {
		t.Error("want some tokens denied by the middleware, and some refused by max_in_flight")
	}
	if most := m.MaxInFlight(); most > 4+32 {
		t.Errorf("%d calls at once, want max_in_flight=4 and max_rechecks_in_flight=32 at most", most)
	}
	awaitSegments(t, viewers, 2)
	wantNoProblems(t, viewers)
	if got := n.breaker(t); got != "closed" {
		t.Errorf("the breaker is %s, want closed: a flood is no failure of the backend", got)
	}
	eventually(t, waitTimeout, "a new viewer is admitted after the flood", func() error {
		status, _, err := fetch(n.client, n.public+"/single/a001/index.m3u8?token=good-new")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// flood requests a playlist with a random token from each of many addresses, and counts the responses by status.
func flood(t *testing.T, address string, total int) map[int]int {
	t.Helper()
	const atOnce = 128
	client := newClient(t, "")
	statuses := map[int]int{}
	var mu sync.Mutex
	var next atomic.Int64
	var senders sync.WaitGroup
	for range atOnce {
		senders.Go(func() {
			for i := int(next.Add(1)); i <= total; i = int(next.Add(1)) {
				status, err := askFrom(t.Context(), client, address, i)
				if err != nil {
					t.Errorf("random token %d: %v", i, err)
				}
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return statuses
}

// askFrom sends a request through the trusted proxy at 127.0.0.1 for one of many addresses.
func askFrom(ctx context.Context, client *http.Client, address string, i int) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("%s/single/a%03d/index.m3u8?token=random%08x", address, i%10, uint32(i)*2654435761), nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", i%200, i/200, 1+i%250))
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
