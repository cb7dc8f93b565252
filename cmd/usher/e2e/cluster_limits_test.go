package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// limited lets the middleware allow so many streams at once to whoever has one of the tokens; they are one user.
func limited(m *backendtest.Server, user string, most int, tokens ...string) {
	for _, token := range tokens {
		m.SetUser(token, backendtest.User{ID: user, Name: user, MaxSessions: most})
	}
}

// TestCluster_StreamLimit_Holds opens a hundred sessions of one user at once on three nodes.
func TestCluster_StreamLimit_Holds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		policy       string
		isOneAddress bool
	}{
		"evict-oldest":                  {"evict-oldest", false},
		"reject-new":                    {"reject-new", false},
		"evict-oldest, all at one home": {"evict-oldest", true},
		"reject-new, all at one home":   {"reject-new", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := test.policy
			const most, tokens, soft = 3, 100, 4 * time.Second
			c := startCluster(t, 3, clusterSetup{
				redis:    startRedis(t).standalone(),
				sessions: fmt.Sprintf("per_user: { policy: %s, grace_period: %s, zap_timeout: 4s }", policy, soft),
			})
			for i := range tokens {
				limited(c.middleware, "crowd", most, fmt.Sprintf("good-%d", i))
			}
			began := time.Now()
			viewers := c.viewers(t, tokens, test.isOneAddress)
			audience(t, viewers)
			var settled []int
			eventually(t, 2*patience, "exactly three play", func() error {
				now, later := c.playing(t, viewers), c.playing(t, viewers)
				if len(now) != most || !slices.Equal(now, later) {
					return fmt.Errorf("%d, then %d of them play", len(now), len(later))
				}
				settled = later
				return nil
			})
			took := time.Since(began)
			if more := c.playing(t, viewers); !slices.Equal(more, settled) {
				t.Errorf("%v play, want %v still", more, settled)
			}
			allowed := c.nodes[0].sessions(t, "user=crowd&verdict=allowed")
			if len(allowed) != most {
				t.Errorf("the API shows %d allowed sessions, want %d: %+v", len(allowed), most, allowed)
			}
			t.Logf("cluster: %s: %d of %d play, seen for sure %s after the first request", name, len(settled), tokens, took.Round(time.Second))
		})
	}
}

// playing are the viewers who got a segment within the next three seconds, which are three segments.
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

// TestCluster_ViewerOnAllNodes_OneSession lets a viewer with a limit of one go from node to node with each request.
func TestCluster_ViewerOnAllNodes_OneSession(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, clusterSetup{
		redis: startRedis(t).standalone(), backend: "validity: 15s",
		sessions: "recheck: { min: 10s }, per_user: { grace_period: 3s, zap_timeout: 4s }",
	})
	limited(c.middleware, "hopper", 1, "good-hop")
	v := c.viewer(t, 0, "/play/a000/low.m3u8?token=good-hop")
	stop := audience(t, []*viewer{v})
	awaitSegments(t, []*viewer{v}, 3)
	pause(t, *hopFor)
	if found := c.nodes[0].sessions(t, "user=hopper"); len(found) != 1 {
		t.Errorf("the viewer has %d sessions, want one: %+v", len(found), found)
	}
	segments, _ := v.progress()
	stop()
	c.wantUndisturbed(t, []*viewer{v})
	eventually(t, patience, "the session closes", func() error {
		if len(c.closings()) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	pause(t, 2*heartbeat) // another node would close it by then
	if closings := c.closings(); len(closings) != 1 {
		t.Errorf("%d closing records, want one:\n%s", len(closings), strings.Join(closings, "\n"))
	}
	t.Logf("cluster: a viewer hopped for %s over three nodes and got %d segments; the middleware was asked %d times; one closing record: %s",
		*hopFor, segments, c.middleware.Calls(), c.closings()[0])
}

// closings are the closing records in the logs of all nodes.
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

// TestCluster_Zapping_NeverRefused lets a set-top box, which may watch one channel, zap through twenty, now and then back to the
// one before.
func TestCluster_Zapping_NeverRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ route, query, policy string }{
		"a box that says which it is":     {"device_fields: [ mac ]", "&mac=00-1a-79-00-00-01", "evict-oldest"},
		"a box that does not":             {"", "", "evict-oldest"},
		"reject-new, a box that does":     {"device_fields: [ mac ]", "&mac=00-1a-79-00-00-01", "reject-new"},
		"reject-new, a box that does not": {"", "", "reject-new"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, clusterSetup{
				redis: startRedis(t).standalone(), route: test.route,
				sessions: fmt.Sprintf("per_user: { policy: %s, grace_period: 5s, zap_timeout: 3s }", test.policy),
			})
			limited(c.middleware, "box", 1, "good-box")
			for i := range 20 {
				channel := i
				if i%5 == 4 {
					channel = i - 2
				}
				v := c.viewer(t, 0, fmt.Sprintf("/play/a%03d/low.m3u8?token=good-box%s", channel, test.query))
				stop := audience(t, []*viewer{v})
				awaitSegments(t, []*viewer{v}, 3+rand.IntN(2)) // three come at once, then one a second
				if i%7 == 6 {
					awaitSegments(t, []*viewer{v}, 6)
				}
				stop()
				wantNoProblems(t, []*viewer{v})
				v.client.CloseIdleConnections()
			}
			c.wantNoRefusal(t)
		})
	}
}
