package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// TestCluster_FrozenNode_WritesNothingStale freezes a node while it waits for the middleware to allow. Another node checks
// after the lease has expired, and gets a denial. The first node resumes with the stale permission, which must not count.
func TestCluster_FrozenNode_WritesNothingStale(t *testing.T) {
	t.Parallel()
	const slow = 1500 * time.Millisecond
	tests := map[string]struct {
		// begin starts a check on node 0, and returns its number among the middleware's calls.
		begin func(t *testing.T, c *cluster) (calls uint64)
	}{
		"at the opening": {func(t *testing.T, c *cluster) uint64 {
			setMode(t, c.middleware, backendtest.Slow(slow))
			ask(t, c.nodes[0].public)
			return 1
		}},
		"at a re-check": {func(t *testing.T, c *cluster) uint64 {
			if _, err := c.nodes[0].open("good-slow", "a000"); err != nil {
				t.Fatal(err)
			}
			setMode(t, c.middleware, backendtest.Slow(slow))
			v := &viewer{source: c.nodes[0].public + "/play/a000/low.m3u8?token=good-slow", client: newClient(t, "")}
			startWatching(t, []*viewer{v})
			return 2
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, clusterSetup{
				redis: startRedis(t).standalone(), backend: "timeout: 3s, answer_deadline: 3s, validity: 10s, breaker: { interval: 20s }",
				sessions: "recheck: { min: 10s }, denial_ttl: 5m",
			})
			calls := test.begin(t, c)
			if err := c.middleware.Wait(t.Context(), calls); err != nil {
				t.Fatal(err)
			}
			c.nodes[0].signal(syscall.SIGSTOP)
			pause(t, 2*slow) // the allowed answer waits in the frozen node's socket
			c.middleware.SetUser("good-slow", backendtest.User{})
			setMode(t, c.middleware, backendtest.Status(http.StatusForbidden))
			address := "/play/a000/low.m3u8?token=good-slow"
			for _, m := range c.nodes[1:] {
				eventually(t, waitTimeout, m.name+" denies", func() error { return refuses(m, address) })
			}
			calls = c.middleware.Calls()
			setMode(t, c.middleware, backendtest.Healthy()) // only another call could allow now
			c.nodes[0].signal(syscall.SIGCONT)
			eventually(t, waitTimeout, "the resumed node denies", func() error { return refuses(c.nodes[0], address) })
			fresh := startClusterNode(t, c.setup, "fresh")
			if err := refuses(fresh, address); err != nil {
				t.Errorf("Redis has the frozen node's stale decision: %v", err)
			}
			for _, m := range c.nodes {
				if err := refuses(m, address); err != nil {
					t.Errorf("%s has the frozen node's stale decision: %v", m.name, err)
				}
			}
			if now := c.middleware.Calls(); now != calls {
				t.Errorf("%d more calls of the middleware, want none: the decision was known", now-calls)
			}
			t.Logf("cluster: a lease holder frozen %s: %d calls in all; nothing stale was written", name, calls)
		})
	}
}

// ask sends a viewer's first request and does not wait for the response.
func ask(t *testing.T, address string) {
	t.Helper()
	client, done := newClient(t, ""), make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = fetch(client, address+"/play/a000/low.m3u8?token=good-slow")
	}()
	t.Cleanup(func() { <-done })
}

// refuses requests a playlist from a node, and returns an error unless it is refused.
func refuses(m *clusterNode, path string) error {
	status, _, err := fetch(m.client, m.public+path)
	if err == nil && status != http.StatusForbidden {
		err = fmt.Errorf("%s: status %d, want 403", m.name, status)
	}
	return err
}
