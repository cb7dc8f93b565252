package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// setStreamLimit makes the tokens those of one user with that stream limit.
func setStreamLimit(m *backendtest.Server, user string, most int, tokens ...string) {
	for _, token := range tokens {
		m.SetUser(token, backendtest.User{ID: user, Name: user, MaxSessions: most})
	}
}

// playing returns the viewers who get a segment within three seconds. The segments are one second long.
func (c *cluster) playing(t *testing.T, viewers []*viewer) []int {
	t.Helper()
	before := make([]int, len(viewers))
	for i, v := range viewers {
		before[i], _ = v.progress()
	}
	pause(t, 3*time.Second)
	var playing []int
	for i, v := range viewers {
		if now, _ := v.progress(); now > before[i] {
			playing = append(playing, i)
		}
	}
	return playing
}

// TestCluster_ViewerOnAllNodes_OneSession sends each request of a viewer with a limit of one to the next node.
func TestCluster_ViewerOnAllNodes_OneSession(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, clusterSetup{
		redis: startRedis(t).standalone(), backend: "validity: 15s",
		sessions: "recheck: { min: 10s }, per_user: { grace_period: 3s, zap_timeout: 4s }",
	})
	setStreamLimit(c.middleware, "hopper", 1, "good-hop")
	v := c.viewer(t, 0, "/play/a000/low.m3u8?token=good-hop")
	stop := startWatching(t, []*viewer{v})
	awaitSegments(t, []*viewer{v}, 3)
	pause(t, *hopFor)
	if found := c.nodes[0].sessions(t, "user=hopper"); len(found) != 1 {
		t.Errorf("the viewer has %d sessions, want one: %+v", len(found), found)
	}
	segments, _ := v.progress()
	stop()
	c.wantUndisturbed(t, []*viewer{v})
	eventually(t, waitTimeout, "the session closes", func() error {
		if len(c.closings()) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	pause(t, 2*heartbeat) // long enough for another node to close it too
	if closings := c.closings(); len(closings) != 1 {
		t.Errorf("%d closing records, want one:\n%s", len(closings), strings.Join(closings, "\n"))
	}
	t.Logf("cluster: a viewer played for %s on three nodes and got %d segments; %d calls of the middleware; one closing record: %s",
		*hopFor, segments, c.middleware.Calls(), c.closings()[0])
}

// closings returns the closing records in the logs of all nodes.
func (c *cluster) closings() []string {
	var found []string
	for _, m := range c.nodes {
		for line := range strings.Lines(m.log()) {
			if strings.Contains(line, `"msg":"session closed"`) {
				found = append(found, m.name+": "+strings.TrimSpace(line))
			}
		}
	}
	return found
}

// TestCluster_LimitOfOne_RedisLosesData has two viewers of one user with a limit of one. The one who plays before Redis loses
// its data plays on, and the other one does not, though both may have been opened in one second.
func TestCluster_LimitOfOne_RedisLosesData(t *testing.T) {
	t.Parallel()
	flush := func(t *testing.T, r *redisServer) { r.do(t, "FLUSHALL") }
	restart := func(t *testing.T, r *redisServer) {
		r.signal(syscall.SIGKILL)
		r.wait(t)
		r.start(t)
	}
	for name, test := range map[string]struct {
		policy string
		lose   func(t *testing.T, r *redisServer)
		plays  int
	}{
		"evict-oldest, flushed":         {"evict-oldest", flush, 1},
		"evict-oldest, restarted empty": {"evict-oldest", restart, 1},
		"reject-new, restarted empty":   {"reject-new", restart, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			c := startCluster(t, 2, clusterSetup{
				redis: r.standalone(), binary: plainBinary(t),
				sessions: fmt.Sprintf("per_user: { policy: %s, grace_period: 4s, zap_timeout: 4s }", test.policy),
			})
			setStreamLimit(c.middleware, "sharer", 1, "good-0", "good-1")
			viewers := c.viewers(t, 2, false)
			startWatching(t, viewers[:1])
			awaitSegments(t, viewers[:1], 1) // the other one is opened later, mostly in the same second
			startWatching(t, viewers[1:])
			want := []int{test.plays}
			settled := 0
			eventually(t, 2*waitTimeout, "the limit holds", func() error {
				if now := c.playing(t, viewers); !slices.Equal(now, want) {
					settled = 0
					return fmt.Errorf("viewers %v play", now)
				}
				if settled++; settled < 2 {
					return fmt.Errorf("not for long yet")
				}
				return nil
			})
			test.lose(t, r)
			for i := range 8 {
				if now := c.playing(t, viewers); !slices.Equal(now, want) {
					t.Fatalf("%d s after the loss viewers %v play, want %v", 3*(i+1), now, want)
				}
			}
		})
	}
}
