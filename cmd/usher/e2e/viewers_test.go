package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// TestNode_ViewerHeaders_NotTrusted sends header fields that only a gateway may set. None reaches the middleware.
func TestNode_ViewerHeaders_NotTrusted(t *testing.T) {
	t.Parallel()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL()})
	rec := startRecorder(t, n.public)
	const invented, address = "203.0.113.66", "127.0.77.7"
	fields := map[string]string{
		"X-Real-IP": invented, "X-Real-Path": "/invented/path", "X-Real-UA": "invented", "X-Real-Host": "invented.example",
		"X-Real-Origin": "http://invented.example", "X-Session-ID": "4242424242", "X-Session-Name": "invented",
		"X-Channel-ID": "invented", "X-Forwarded-For": invented, "X-Forwarded-Host": "invented.example",
		"X-Forwarded-Proto": "invented", "X-Forwarded-Uri": "/invented", "Forwarded": "for=" + invented,
	}
	client := newClient(t, address)
	for name, base := range map[string]string{"directly": n.public, "through a trusted proxy": rec.url} {
		t.Run(name, func(t *testing.T) {
			before := m.Calls()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
				fmt.Sprintf("%s/play/a001/index.m3u8?token=good-%d", base, before), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("User-Agent", "a player")
			for field, value := range fields {
				r.Header.Set(field, value)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || m.Calls() != before+1 {
				t.Fatalf("%d after %d calls, want 200 after one", resp.StatusCode, m.Calls()-before)
			}
			wantFacts(t, m.Requests()[before], address)
			for _, s := range n.sessions(t, "") {
				if s.Address != address {
					t.Errorf("the session's address is %s, want %s", s.Address, address)
				}
			}
		})
	}
	// The proxy appended the address to the viewer's forged one. It records a request when the answer has ended.
	var got string
	eventually(t, waitTimeout, "the proxy has recorded the request", func() error {
		all := rec.list(nil)
		if len(all) == 0 {
			return errors.New("nothing is recorded")
		}
		got = all[0].forwarded
		return nil
	})
	if want := invented + ", " + address; got != want {
		t.Errorf("the node got X-Forwarded-For: %s, want %s", got, want)
	}
}

// wantFacts requires a check to hold the facts of a viewer at that address, and nothing forged.
func wantFacts(t *testing.T, check backendtest.Request, address string) {
	t.Helper()
	for field, values := range check.Header {
		for _, value := range values {
			if strings.Contains(value, "invented") || strings.Contains(value, "203.0.113.66") || value == "4242424242" {
				t.Errorf("the middleware got %s: %s", field, value)
			}
		}
	}
	for field, want := range map[string]string{
		"X-Real-Ip": address, "X-Real-Path": "/play/a001/index.m3u8", "X-Real-Ua": "a player", "X-Channel-Id": "a001",
	} {
		if got := check.Header.Values(field); !slices.Equal(got, []string{want}) {
			t.Errorf("the middleware got %s: %q, want %q", field, got, want)
		}
	}
}

// TestNode_ConcurrentFirstRequests_OneCall runs alone, because it disturbs the times of other tests.
func TestNode_ConcurrentFirstRequests_OneCall(t *testing.T) {
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: "answer_deadline: 20s, timeout: 20s, dial_timeout: 20s, breaker: { interval: 100s }"})
	setMode(t, m, backendtest.Slow(2*time.Second))
	address := n.public + "/play/a001/index.m3u8?token=good"
	client := newClient(t, "")
	var requests sync.WaitGroup
	answers := make([]string, 1000)
	for i := range answers {
		requests.Go(func() {
			status, body, err := fetch(client, address)
			answers[i] = fmt.Sprintf("%d %v %.7s", status, err, body)
		})
	}
	requests.Wait()
	for i, got := range answers {
		if want := "200 <nil> #EXTM3U"; got != want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
	if calls := m.Calls(); calls != 1 {
		t.Errorf("the middleware was called %d times, want once", calls)
	}
}

func TestNode_DeniedRetries_OneCallPerDenialTTL(t *testing.T) {
	t.Parallel()
	const denialTTL = 2 * time.Second
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), sessions: "denial_ttl: 2s"})
	address := n.public + "/play/a001/index.m3u8?token=bad"
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	over := time.After(waitTimeout)
	sent := 0
	for sent < 50 || m.Calls() < 3 {
		if status, body, err := fetch(n.client, address); err != nil || status != http.StatusForbidden {
			t.Fatalf("retry %d: %d %s, %v; want 403", sent, status, body, err)
		}
		sent++
		select {
		case <-retry.C:
		case <-over:
			t.Fatalf("%d requests and %d calls within %s are too few to tell", sent, m.Calls(), waitTimeout)
		}
	}
	calls := m.Requests()
	t.Logf("%d requests, %d calls", sent, len(calls))
	for i := 1; i < len(calls); i++ {
		if gap := calls[i].At.Sub(calls[i-1].At); gap < denialTTL {
			t.Errorf("call %d came %v after the one before, want denial_ttl=%v at least", i, gap, denialTTL)
		}
	}
}
