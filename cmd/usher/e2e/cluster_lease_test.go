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
		// begin lets node 0 have the question under way, which is the middleware's request number calls; it returns a segment's
		// path if a session runs.
		begin func(t *testing.T, c *cluster) (calls uint64)
	}{
		"at the opening": {func(t *testing.T, c *cluster) uint64 {
			set(t, c.middleware, backendtest.Slow(slow))
			ask(t, c.nodes[0].public)
			return 1
		}},
		"at a re-check": {func(t *testing.T, c *cluster) uint64 {
			if _, err := c.nodes[0].open("good-slow", "a000"); err != nil {
				t.Fatal(err)
			}
			set(t, c.middleware, backendtest.Slow(slow))
			v := &viewer{source: c.nodes[0].public + "/play/a000/low.m3u8?token=good-slow", client: newClient(t, "")}
			audience(t, []*viewer{v})
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
			pause(t, 2*slow) // the yes lies in the frozen node's socket
			c.middleware.SetUser("good-slow", backendtest.User{})
			set(t, c.middleware, backendtest.Status(http.StatusForbidden))
			address := "/play/a000/low.m3u8?token=good-slow"
			for _, m := range c.nodes[1:] {
				eventually(t, patience, m.name+" has the no", func() error { return refuses(m, address) })
			}
			asked := c.middleware.Calls()
			set(t, c.middleware, backendtest.Healthy()) // only who asks again could say yes now
			c.nodes[0].signal(syscall.SIGCONT)
			eventually(t, patience, "the node that was frozen has the no", func() error { return refuses(c.nodes[0], address) })
			fresh := startMember(t, c.setup, "fresh")
			if err := refuses(fresh, address); err != nil {
				t.Errorf("Redis was told what the frozen node found: %v", err)
			}
			for _, m := range c.nodes {
				if err := refuses(m, address); err != nil {
					t.Errorf("%s believes the frozen node: %v", m.name, err)
				}
			}
			if now := c.middleware.Calls(); now != asked {
				t.Errorf("the middleware was asked %d times more, want never: what holds was known", now-asked)
			}
			t.Logf("cluster: a lease holder frozen %s: %d calls in all; nothing stale was written", name, asked)
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
func refuses(m *member, path string) error {
	status, _, err := fetch(m.client, m.public+path)
	if err == nil && status != http.StatusForbidden {
		err = fmt.Errorf("%s: status %d, want 403", m.name, status)
	}
	return err
}
