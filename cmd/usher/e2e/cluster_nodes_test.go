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
	crowd = 500
	// validFor is for how long the middleware's answers hold under the crowd, and jittered the share of it after which
	// a re-check may come.
	validFor = 15 * time.Second
	jittered = 0.9
)

// TestCluster_NodeKilled_ViewersContinue kills and restarts nodes at random under five hundred viewers, whose every request goes to
// another node. It runs alone, for it keeps the machine busy.
func TestCluster_NodeKilled_ViewersContinue(t *testing.T) {
	redis := startRedis(t)
	// The deadlines are such as a machine keeps that has other things to do as well: a Redis that is late is another test.
	c := startCluster(t, 3, clusterSetup{
		origin: startSlowStage(t), redis: redis.standalone(), binary: plainBinary(t), deadline: 1500 * time.Millisecond,
		backend: "timeout: 3s, answer_deadline: 3s, breaker: { interval: 20s }, validity: " + validFor.String(), sessions: "recheck: { min: 10s }",
	})
	viewers, stop := c.watch(t, crowd)
	awaitSegments(t, viewers, 1)

	kills, restarts := c.disturb(t, *nodesFor)
	awaitSegments(t, viewers, 1)
	ended := time.Now()
	stop()
	c.wantNoRefusal(t)
	broken := 0
	for _, v := range viewers {
		_, problems := v.progress()
		for _, p := range problems {
			if !strings.Contains(p, "broke off") { // what was under way on a killed node cannot be sent again
				t.Error(p)
			}
			broken++
		}
	}
	t.Logf("cluster: %d viewers, %d SIGKILLs, %d restarts in order; %d answers broke off with their node", crowd, kills, restarts, broken)
	c.wantCallsOfOne(t, ended, kills)
}

// disturb kills a node, or ends it in order, waits a moment and starts it again, for so long. Two nodes always live.
func (c *cluster) disturb(t *testing.T, d time.Duration) (kills, restarts int) {
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
		pause(t, time.Second+time.Duration(rand.Int64N(int64(2*time.Second)))) // the balancer has to see it
	}
	return kills, restarts
}

// wantCallsOfOne compares how often the middleware was asked with what one node alone would have asked: each session once
// at its opening and then whenever its decision runs out, up to a tenth earlier.
func (c *cluster) wantCallsOfOne(t *testing.T, ended time.Time, kills int) {
	t.Helper()
	const slack = 500 * time.Millisecond
	earliest := time.Duration(jittered*float64(validFor)) - slack
	calls, least, most, early := 0, 0, 0, 0
	var gaps []time.Duration
	for _, asked := range c.asked() {
		calls += len(asked)
		life := ended.Sub(asked[0])
		least += 1 + int(life/(validFor+3*time.Second)) // a copy looks a moment after the end of what a dead node knew
		most += 1 + int(life/earliest)
		for i := range asked[1:] {
			gap := asked[i+1].Sub(asked[i])
			gaps = append(gaps, gap)
			if gap < earliest {
				early++
			}
		}
	}
	slices.Sort(gaps)
	t.Logf("cluster: the middleware was asked %d times about %d sessions; one node alone would have asked %d to %d times; "+
		"%d times too early, after %d SIGKILLs; between two questions p1 %s, p50 %s, p99 %s",
		calls, len(c.asked()), least, most, early, kills, percentile(gaps, 0.01), percentile(gaps, 0.5), percentile(gaps, 0.99))
	if sessions := len(c.asked()); sessions != crowd {
		t.Errorf("the middleware was asked about %d sessions, want %d", sessions, crowd)
	}
	// A node that is killed while it asks, or before the others have its answer, takes its leases along.
	if lost := 10 * kills; early > lost || calls > most+lost || calls < least {
		t.Errorf("%d calls, %d of them early; want %d to %d, and at most %d early ones", calls, early, least, most, lost)
	}
}

// asked is when the middleware was asked about each token.
func (c *cluster) asked() map[string][]time.Time {
	asked := map[string][]time.Time{}
	for _, r := range c.middleware.Requests() {
		query, _ := url.ParseQuery(r.RawQuery)
		asked[query.Get("token")] = append(asked[query.Get("token")], r.At)
	}
	return asked
}

// TestCluster_RollingRestart_ViewersContinue ends one node after the other in order, as an upgrade does. Sessions live on in Redis, so nobody
// is asked about them, and every node lists them all.
func TestCluster_RollingRestart_ViewersContinue(t *testing.T) {
	t.Parallel()
	const count = 40
	c := startCluster(t, 3, clusterSetup{redis: startRedis(t).standalone(), backend: "validity: 1h"})
	viewers, _ := c.watch(t, count)
	awaitSegments(t, viewers, 3)
	calls := c.middleware.Calls()
	if calls != count {
		t.Errorf("the middleware was asked %d times to open %d sessions", calls, count)
	}
	for i, m := range c.nodes {
		other := c.nodes[(i+1)%len(c.nodes)]
		m.signal(syscall.SIGTERM)
		eventually(t, patience, other.name+" shows that "+m.name+" drains", func() error {
			text, err := other.command("nodes")
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				if strings.Contains(line, m.name) && strings.Contains(line, "draining") {
					return nil
				}
			}
			return fmt.Errorf("nodes:\n%s", text)
		})
		if code := m.wait(t); code != 0 {
			t.Errorf("%s ended with %d, want 0", m.name, code)
		}
		m.start(t)
		awaitSegments(t, viewers, 2)
	}
	t.Logf("cluster: three nodes restarted under %d viewers: %d calls of the middleware besides the openings", count, c.middleware.Calls()-calls)
	if now := c.middleware.Calls(); now != calls {
		t.Errorf("the middleware was asked %d times more after the restarts, want never", now-calls)
	}
	for _, m := range c.nodes {
		eventually(t, patience, m.name+" lists all sessions", func() error {
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
