package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// quickBackendTimes has a middleware given up soon. A healthy one has that long to answer.
const quickBackendTimes = "timeout: 1500ms, answer_deadline: 1500ms, breaker: { interval: 7500ms, bucket_period: 500ms }"

// evil is the node of a test in which one address makes the middleware fail.
type evil struct {
	*node
	middleware *backendtest.Server
	client     *http.Client // of the one address
	sent       int
	others     int
}

func startEvil(t *testing.T) *evil {
	t.Helper()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: quickBackendTimes})
	return &evil{node: n, middleware: m, client: newClient(t, "127.0.66.66")}
}

// open requests a playlist, and returns its status.
func (e *evil) open(ctx context.Context, client *http.Client, token string) (int, error) {
	v := &viewer{client: client}
	_, err := v.get(ctx, e.public+"/single/a1/index.m3u8?token="+token)
	if err == nil {
		return http.StatusOK, nil
	}
	if status := statusOf(err); status != 0 {
		return status, nil
	}
	return 0, err
}

// attack sends that many openings of the one address, many at once, and requires their statuses.
func (e *evil) attack(t *testing.T, count int, want ...int) {
	t.Helper()
	const atOnce = 10
	var attacking sync.WaitGroup
	for sender := range atOnce {
		from := e.sent + sender
		attacking.Go(func() {
			for i := from; i < from+count-sender; i += atOnce {
				status, err := e.open(t.Context(), e.client, fmt.Sprintf("evil%d", i))
				if err != nil || !slices.Contains(want, status) {
					t.Errorf("the viewer who makes the middleware fail got %d, %v; want one of %v", status, err, want)
				}
			}
		})
	}
	attacking.Wait()
	e.sent += count
}

// wantChecked has a paying and an unpaid viewer come from addresses of their own, and requires that the middleware decides.
func (e *evil) wantChecked(t *testing.T) {
	t.Helper()
	for token, want := range map[string]int{"good": http.StatusOK, "bad": http.StatusForbidden} {
		e.others++
		client := newViewer(t, e.others, "").client
		status, err := e.open(t.Context(), client, fmt.Sprintf("%s-other%d", token, e.others))
		client.CloseIdleConnections()
		if err != nil || status != want {
			t.Errorf("viewer %s: %d, %v; want %d", token, status, err, want)
		}
	}
}

// wantClosed requires that the breaker has been closed all the time.
func (e *evil) wantClosed(t *testing.T) {
	t.Helper()
	if state := e.breaker(t); state != "closed" || strings.Contains(e.errs.String(), "backend unavailable") {
		t.Fatalf("the breaker is %s, want closed all the time:\n%s", state, e.errs)
	}
}

// TestNode_OneViewerFailsMiddleware_OthersStayChecked has ten viewers, one of whom makes the middleware fail for what they
// send: eight times, then a hundred times, while others ask and while nobody else does.
func TestNode_OneViewerFailsMiddleware_OthersStayChecked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode     backendtest.Mode
		statuses []int // of the one viewer; on_failure: allow admits those whose check has no answer at all
	}{
		"drops the connection": {backendtest.Reset(), []int{http.StatusOK}},
		"takes 4 s":            {backendtest.Slow(4 * time.Second), []int{http.StatusOK}},
		"answers 500":          {backendtest.Status(500), []int{http.StatusServiceUnavailable}},
		"answers garbage":      {backendtest.Garbage(), []int{http.StatusServiceUnavailable}},
		"answers 404":          {backendtest.Status(404), []int{http.StatusServiceUnavailable, http.StatusForbidden}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEvil(t)
			for range 5 {
				e.wantChecked(t)
			}
			e.middleware.SetModeFor("token=evil", tt.mode)
			e.attack(t, 8, tt.statuses...)
			e.wantClosed(t)
			for range 10 {
				e.attack(t, 10, tt.statuses...)
				e.wantChecked(t)
			}
			e.wantClosed(t)
			quiet := time.NewTicker(500 * time.Millisecond)
			defer quiet.Stop()
			for range 20 { // twice breaker.interval: nobody else has asked in it
				e.attack(t, 10, tt.statuses...)
				<-quiet.C
			}
			e.wantClosed(t)
			e.wantChecked(t)
			e.wantClosed(t)
		})
	}
}

// TestNode_MiddlewareFailsForOneAddress_BreakerOpens has all viewers share an address, as behind a carrier's NAT, and the
// middleware fail for all of them.
func TestNode_MiddlewareFailsForOneAddress_BreakerOpens(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]backendtest.Mode{
		"drops the connection": backendtest.Reset(),
		"hangs":                backendtest.Hang(),
		"answers 500":          backendtest.Status(500),
		"refuses":              backendtest.Refuse(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEvil(t)
			if status, err := e.open(t.Context(), e.client, "good"); err != nil || status != http.StatusOK {
				t.Fatalf("the first viewer: %d, %v", status, err)
			}
			setMode(t, e.middleware, mode)
			var opening sync.WaitGroup
			for i := range 5 { // as many as breaker.consecutive_failures
				opening.Go(func() { _, _ = e.open(t.Context(), e.client, fmt.Sprintf("good%d", i)) })
			}
			opening.Wait()
			e.awaitBreaker(t, "open")
			if status, err := e.open(t.Context(), e.client, "bad"); err != nil || status != http.StatusOK {
				t.Errorf("a viewer in the outage: %d, %v; want 200", status, err)
			}
		})
	}
}

// TestNode_OnePrivateAddress_Warns has all viewers come from one private address, as behind a proxy that is not listed.
func TestNode_OnePrivateAddress_Warns(t *testing.T) {
	t.Parallel()
	e := startEvil(t)
	for i := range 50 {
		if status, err := e.open(t.Context(), e.client, fmt.Sprintf("good%d", i)); err != nil || status != http.StatusOK {
			t.Fatalf("viewer %d: %d, %v", i, status, err)
		}
	}
	const want = "all viewers come from one private address"
	if !strings.Contains(e.errs.String(), want) || !strings.Contains(e.errs.String(), `trusted_proxies":["127.0.0.1/32"]`) {
		t.Errorf("no warning in the log:\n%s", e.errs)
	}
	status, body, err := fetch(e.node.client, e.admin+"/readyz?verbose")
	if err != nil || status != http.StatusOK || !strings.Contains(string(body), want+", 127.0.66.66: ") || !strings.Contains(string(body), "trusted_proxies") {
		t.Errorf("readyz?verbose: %d %s, %v; want ready and the warning", status, body, err)
	}
}

// TestNode_NotFound_ConcernsOneViewer has the middleware answer 404 for one viewer's URL, and others get their answers: the
// viewer is denied, and allowed once the URL is right. A viewer who watches stays.
func TestNode_NotFound_ConcernsOneViewer(t *testing.T) {
	t.Parallel()
	m := startMiddleware(t)
	n := startNode(t, setup{
		origin: startStage(t, nil), middleware: m.URL(), backend: "validity: 2s", sessions: "recheck: { min: 1s }, denial_ttl: 2s, retry_after: 1s",
	})
	e := &evil{node: n, middleware: m, client: newClient(t, "127.0.66.66")}
	await := func(token string, want int) {
		t.Helper()
		eventually(t, waitTimeout, fmt.Sprintf("%s gets %d", token, want), func() error {
			e.wantChecked(t)
			status, err := e.open(t.Context(), e.client, token)
			if err == nil && status != want {
				err = fmt.Errorf("status %d", status)
			}
			return err
		})
	}
	await("good404-watching", http.StatusOK)
	m.SetModeFor("token=good404", backendtest.Status(http.StatusNotFound))
	before := m.Calls()
	if status, err := e.open(t.Context(), e.client, "good404-wrong"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("before others are answered: %d, %v; want 503", status, err)
	}
	await("good404-wrong", http.StatusForbidden)
	eventually(t, waitTimeout, "the viewer who watches is re-checked twice", func() error {
		e.wantChecked(t)
		if status, err := e.open(t.Context(), e.client, "good404-watching"); err != nil || status != http.StatusOK {
			t.Fatalf("the viewer who watches: %d, %v; want 200", status, err)
		}
		rechecks := 0
		for _, r := range m.Requests()[before:] {
			if strings.Contains(r.RawQuery, "good404-watching") {
				rechecks++
			}
		}
		if rechecks < 2 {
			return fmt.Errorf("%d re-checks", rechecks)
		}
		return nil
	})
	m.SetModeFor("", backendtest.Healthy())
	await("good404-wrong", http.StatusOK)
	e.wantClosed(t)
}

// TestNode_NotFound_ForEverybody_IsAnOutage has the address be wrong, as the seed lists among the reasons of free access.
func TestNode_NotFound_ForEverybody_IsAnOutage(t *testing.T) {
	t.Parallel()
	e := startEvil(t)
	setMode(t, e.middleware, backendtest.Status(http.StatusNotFound))
	for i := range 5 {
		v := newViewer(t, i, "")
		if status, err := e.open(t.Context(), v.client, "bad"); err != nil || status != http.StatusServiceUnavailable && i < 4 {
			t.Errorf("viewer %d: %d, %v; want 503", i, status, err)
		}
	}
	e.awaitBreaker(t, "open")
	if status, err := e.open(t.Context(), e.client, "bad"); err != nil || status != http.StatusOK {
		t.Errorf("a viewer in the outage: %d, %v; want 200", status, err)
	}
}
