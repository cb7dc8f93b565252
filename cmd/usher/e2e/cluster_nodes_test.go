package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	viewerCount = 500
	// validFor is how long the middleware's answers are valid. A re-check may come after this share of it.
	validFor      = 15 * time.Second
	earliestShare = 0.9
)

// TestCluster_NodeKilled_ViewersContinue kills and restarts nodes at random while five hundred viewers play. The balancer
// sends each request to the next node. The test runs alone, because it loads the machine.
func TestCluster_NodeKilled_ViewersContinue(t *testing.T) {
	redis := startRedis(t)
	// The deadlines are long enough for a loaded machine. Other tests have a slow Redis.
	c := startCluster(t, 3, clusterSetup{
		origin: startSlowStage(t), redis: redis.standalone(), binary: plainBinary(t), deadline: 1500 * time.Millisecond,
		backend: "timeout: 3s, answer_deadline: 3s, breaker: { interval: 20s }, validity: " + validFor.String(), sessions: "recheck: { min: 10s }",
	})
	viewers, stop := c.watch(t, viewerCount)
	awaitSegments(t, viewers, 1)

	kills, restarts := c.killNodes(t, *nodesFor)
	awaitSegments(t, viewers, 1)
	ended := time.Now()
	stop()
	c.wantNoRefusal(t)
	broken := 0
	for _, v := range viewers {
		_, problems := v.progress()
		for _, p := range problems {
			if !strings.Contains(p, "broke off") { // the balancer cannot resend a response that a killed node has begun
				t.Error(p)
			}
			broken++
		}
	}
	t.Logf("cluster: %d viewers, %d SIGKILLs, %d graceful restarts; %d responses broken off", viewerCount, kills, restarts, broken)
	c.wantCallsOfOneNode(t, ended, kills)
}

// killNodes kills or gracefully stops one node after the other for that time, and starts each again after a moment. Two
// nodes always run.
func (c *cluster) killNodes(t *testing.T, d time.Duration) (kills, restarts int) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		m := c.nodes[rand.IntN(len(c.nodes))]
		if rand.IntN(3) > 0 {
			m.signal(syscall.SIGKILL)
			kills++
		} else {
			m.signal(syscall.SIGTERM)
			restarts++
		}
		m.wait(t)
		pause(t, time.Duration(rand.Int64N(int64(2*time.Second))))
		m.start(t)
		pause(t, time.Second+time.Duration(rand.Int64N(int64(2*time.Second)))) // until the balancer uses it again
	}
	return kills, restarts
}

// wantCallsOfOneNode compares the middleware's calls with those of a single node: one at a session's opening, and one when
// its decision expires or up to a tenth earlier.
func (c *cluster) wantCallsOfOneNode(t *testing.T, ended time.Time, kills int) {
	t.Helper()
	const slack = 500 * time.Millisecond
	earliest := time.Duration(earliestShare*float64(validFor)) - slack
	calls, least, most, early := 0, 0, 0, 0
	var gaps []time.Duration
	for _, times := range c.callTimes() {
		calls += len(times)
		life := ended.Sub(times[0])
		least += 1 + int(life/(validFor+3*time.Second)) // the other nodes look up a dead node's decision after it expires
		most += 1 + int(life/earliest)
		for i := range times[1:] {
			gap := times[i+1].Sub(times[i])
			gaps = append(gaps, gap)
			if gap < earliest {
				early++
			}
		}
	}
	slices.Sort(gaps)
	t.Logf("cluster: %d calls of the middleware for %d sessions; a single node would make %d to %d; "+
		"%d too early, after %d SIGKILLs; between two calls p1 %s, p50 %s, p99 %s",
		calls, len(c.callTimes()), least, most, early, kills, percentile(gaps, 0.01), percentile(gaps, 0.5), percentile(gaps, 0.99))
	if sessions := len(c.callTimes()); sessions != viewerCount {
		t.Errorf("calls of the middleware for %d sessions, want %d", sessions, viewerCount)
	}
	// A node that is killed during a check, or before its answer is stored, loses its leases.
	if lost := 10 * kills; early > lost || calls > most+lost || calls < least {
		t.Errorf("%d calls, %d of them early; want %d to %d, and at most %d early ones", calls, early, least, most, lost)
	}
}

// callTimes returns the times of the middleware's calls by token.
func (c *cluster) callTimes() map[string][]time.Time {
	times := map[string][]time.Time{}
	for _, r := range c.middleware.Requests() {
		query, _ := url.ParseQuery(r.RawQuery)
		times[query.Get("token")] = append(times[query.Get("token")], r.At)
	}
	return times
}

// TestCluster_RollingRestart_ViewersContinue gracefully restarts one node after the other, as an upgrade does. The sessions
// stay in Redis, so there is no further check, and every node lists them all.
func TestCluster_RollingRestart_ViewersContinue(t *testing.T) {
	t.Parallel()
	const count = 40
	// A look-up that takes longer on a busy machine would have the middleware asked.
	c := startCluster(t, 3, clusterSetup{redis: startRedis(t).standalone(), backend: "validity: 1h, answer_deadline: 9s", deadline: 4 * time.Second})
	viewers, _ := c.watch(t, count)
	awaitSegments(t, viewers, 3)
	calls := c.middleware.Calls()
	if calls != count {
		t.Errorf("%d calls of the middleware to open %d sessions", calls, count)
	}
	for i, m := range c.nodes {
		other := c.nodes[(i+1)%len(c.nodes)]
		m.signal(syscall.SIGTERM)
		eventually(t, waitTimeout, other.name+" shows that "+m.name+" drains", func() error {
			var got struct {
				Nodes []struct {
					Name     string
					Draining bool
				}
			}
			other.api(t, "nodes", &got)
			for _, n := range got.Nodes {
				if n.Name == m.name && n.Draining {
					return nil
				}
			}
			return fmt.Errorf("nodes: %+v", got.Nodes)
		})
		if code := m.wait(t); code != 0 {
			t.Errorf("%s ended with %d, want 0", m.name, code)
		}
		m.start(t)
		awaitSegments(t, viewers, 2)
	}
	t.Logf("cluster: three nodes restarted with %d viewers: %d calls of the middleware besides the openings", count, c.middleware.Calls()-calls)
	if now := c.middleware.Calls(); now != calls {
		t.Errorf("%d more calls of the middleware after the restarts, want none", now-calls)
	}
	for _, m := range c.nodes {
		eventually(t, waitTimeout, m.name+" lists all sessions", func() error {
			text, err := m.command("list", "--limit", "1000")
			if err != nil {
				return err
			}
			for i := range count {
				if !strings.Contains(text, fmt.Sprintf("good-%d ", i)) {
					return fmt.Errorf("good-%d is not in:\n%s", i, text)
				}
			}
			return nil
		})
	}
	c.wantUndisturbed(t, viewers)
}
