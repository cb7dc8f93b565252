package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// awaitRefusals waits until each node refuses each session's segment, and returns the times of the refused requests.
func awaitRefusals(t *testing.T, nodes []*clusterNode, revoked []openedSession) (at []time.Time) {
	t.Helper()
	var mu sync.Mutex
	var requests sync.WaitGroup
	for _, m := range nodes {
		client := newClient(t, "")
		requests.Go(func() {
			for _, w := range revoked {
				seen, err := awaitRefusal(client, m.public+w.segment)
				if err != nil {
					t.Errorf("%s still serves %s: %v", m.name, w.token, err)
				}
				mu.Lock()
				at = append(at, seen)
				mu.Unlock()
			}
		})
	}
	requests.Wait()
	return at
}

// awaitRefusal requests the address until the status is 403, and returns when that request was sent.
func awaitRefusal(client *http.Client, address string) (time.Time, error) {
	for end := time.Now().Add(waitTimeout); ; {
		now := time.Now()
		status, _, err := fetch(client, address)
		switch {
		case err == nil && status == http.StatusForbidden:
			return now, nil
		case now.After(end):
			return now, fmt.Errorf("status %d, %w", status, err)
		}
	}
}

// openEverywhere opens sessions, and fetches a segment of each from every node, so that every node holds them.
func openEverywhere(t *testing.T, nodes []*clusterNode, prefix string, count int) []openedSession {
	t.Helper()
	var opened []openedSession
	for i := range count {
		w, err := nodes[i%len(nodes)].open(fmt.Sprintf("good-%s-%d", prefix, i), fmt.Sprintf("a%03d", i%20))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range nodes {
			if status, err := m.serves(w); err != nil || status != http.StatusOK {
				t.Fatalf("%s does not serve %s: %d, %v", m.name, w.token, status, err)
			}
		}
		opened = append(opened, w)
	}
	identify(t, nodes[0], opened)
	return opened
}

// identify sets the sessions' ids.
func identify(t *testing.T, m *clusterNode, opened []openedSession) {
	t.Helper()
	for i := range opened {
		found := m.sessions(t, "user="+opened[i].token)
		if len(found) != 1 {
			t.Fatalf("%s knows %d sessions of %s, want one: %+v", m.name, len(found), opened[i].token, found)
		}
		opened[i].session = found[0].ID
	}
}

// TestCluster_KicksAndBans_HoldOnAllNodes measures the time from the API call until every node refuses. It runs alone, as
// do the two tests below.
func TestCluster_KicksAndBans_HoldOnAllNodes(t *testing.T) {
	const kicks, bans = 100, 50
	c := startCluster(t, 3, clusterSetup{
		origin: startWideStage(t, ""), redis: startRedis(t).standalone(), binary: plainBinary(t), idle: time.Hour,
	})
	opened := openEverywhere(t, c.nodes, "kick", kicks+bans)
	measure := func(what string, sessions []openedSession, revoke func(*clusterNode, openedSession) error) {
		t.Helper()
		var took []time.Duration
		for i, w := range sessions {
			called := time.Now()
			result := make(chan error, 1)
			go func() { result <- revoke(c.nodes[i%len(c.nodes)], w) }()
			for _, at := range awaitRefusals(t, c.nodes, []openedSession{w}) {
				took = append(took, at.Sub(called))
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(took)
		t.Logf("cluster: %d %s, three nodes: from the call to the refusal p50 %s, p99 %s, at most %s",
			len(sessions), what, percentile(took, 0.5), percentile(took, 0.99), took[len(took)-1])
	}
	measure("kicks", opened[:kicks], func(m *clusterNode, w openedSession) error { return m.kick(w.session) })
	measure("bans", opened[kicks:], func(m *clusterNode, w openedSession) error {
		_, err := m.ban(w.token)
		return err
	})
	c.wantKicked(t, opened[0])
	c.wantUnbanned(t, "good-kick-unban")
}

// wantKicked requires every node to refuse a kicked session's ticket and token.
func (c *cluster) wantKicked(t *testing.T, w openedSession) {
	t.Helper()
	for _, m := range c.nodes {
		for _, path := range []string{w.segment, "/play/a000/low.m3u8?token=" + w.token} {
			if status, _, err := fetch(m.client, m.public+path); err != nil || status != http.StatusForbidden {
				t.Errorf("%s, %s after the kick: %d, %v; want 403", m.name, path, status, err)
			}
		}
	}
}

// wantUnbanned bans a user and removes the ban on another node, and requires every node to admit the user again.
func (c *cluster) wantUnbanned(t *testing.T, token string) {
	t.Helper()
	id, err := c.nodes[0].ban(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.nodes {
		eventually(t, waitTimeout, m.name+" refuses "+token, func() error {
			if _, err := m.open(token, "a001"); err == nil {
				return fmt.Errorf("the viewer is still admitted")
			}
			return nil
		})
	}
	if err := c.nodes[1].call(http.MethodDelete, "bans/"+id, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.nodes {
		eventually(t, waitTimeout, m.name+" admits "+token+" again", func() error {
			_, err := m.open(token, "a001")
			return err
		})
	}
}

// missedRevocations holds revocations issued while nodes could not receive them.
type missedRevocations struct {
	revoked []openedSession
	// banned are tokens that were banned before they had a session.
	banned []string
}

// revokeFor kicks and bans the sessions through a node, spread over that time, and bans some tokens without a session.
func revokeFor(t *testing.T, m *clusterNode, opened []openedSession, d time.Duration) missedRevocations {
	t.Helper()
	issued := missedRevocations{revoked: opened}
	tick := time.NewTicker(d / time.Duration(len(opened)+1))
	defer tick.Stop()
	for i, w := range opened {
		<-tick.C
		revoke := func() error { return m.kick(w.session) }
		if i%2 == 1 {
			revoke = func() error {
				_, err := m.ban(w.token)
				return err
			}
		}
		if err := revoke(); err != nil {
			t.Errorf("revoke %s: %v", w.token, err)
		}
		if i%4 == 0 {
			token := "good-new-" + w.token
			if _, err := m.ban(token); err != nil {
				t.Errorf("ban %s: %v", token, err)
			}
			issued.banned = append(issued.banned, token)
		}
	}
	<-tick.C
	return issued
}

// wantHeld waits until all revocations hold on the nodes, and logs how long that took since recovered.
func (k missedRevocations) wantHeld(t *testing.T, what string, nodes []*clusterNode, recovered time.Time) {
	t.Helper()
	var last time.Duration
	for _, at := range awaitRefusals(t, nodes, k.revoked) {
		last = max(last, at.Sub(recovered))
	}
	for _, m := range nodes {
		for _, token := range k.banned {
			if _, err := m.open(token, "a002"); err == nil || !strings.Contains(err.Error(), ": 403 ") {
				t.Errorf("%s, %s: %s was banned meanwhile and is admitted: %v", what, m.name, token, err)
			}
		}
	}
	t.Logf("cluster: %s: %d kicks and bans issued meanwhile hold on every node %s after the recovery", what, len(k.revoked)+len(k.banned), last.Round(time.Millisecond))
}

// cutFor is how long a node receives no revocations.
const cutFor = 5 * time.Second

// TestCluster_SubscriptionLost_RevocationsReplayed lets Redis close every subscription again and again.
func TestCluster_SubscriptionLost_RevocationsReplayed(t *testing.T) {
	redis := startRedis(t)
	c := startCluster(t, 3, clusterSetup{origin: startWideStage(t, ""), redis: redis.standalone(), binary: plainBinary(t), idle: time.Hour})
	opened := openEverywhere(t, c.nodes, "cut", 20)
	stop, cutting, cuts := make(chan struct{}), sync.WaitGroup{}, 0
	cutting.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				if n, err := redis.try("CLIENT", "KILL", "TYPE", "pubsub"); err != nil {
					t.Error(err)
				} else if n != "0" {
					cuts++
				}
			}
		}
	})
	issued := revokeFor(t, c.nodes[0], opened, cutFor)
	close(stop)
	cutting.Wait()
	if cuts == 0 {
		t.Error("no subscription was cut, so the test proves nothing")
	}
	issued.wantHeld(t, fmt.Sprintf("subscriptions cut %d times in %s", cuts, cutFor), c.nodes, time.Now())
}

// TestCluster_NetworkDown_RevocationsReplayed runs one node in a network namespace whose link to Redis goes down without an
// error to the node. The node serves meanwhile.
func TestCluster_NetworkDown_RevocationsReplayed(t *testing.T) {
	n := startNetwork(t)
	redis := startRedis(t, "--bind", "127.0.0.1 "+n.back[0], "--protected-mode", "no")
	// A port that is reserved on 127.0.0.1 alone may be lent to connections from other addresses.
	m := backendtest.New(backendtest.Config{Address: "0.0.0.0:0", Lookup: isGood})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	number := port(host(m.URL()))
	origin := "http://%s:" + port(host(startWideStage(t, "0.0.0.0:0")))
	near := clusterSetup{
		route:  "on_new_address: share", // the nodes see the test's client at two addresses
		origin: fmt.Sprintf(origin, "127.0.0.1"), middleware: "http://127.0.0.1:" + number, redis: redis.standalone(),
		binary: plainBinary(t), idle: time.Hour,
	}
	far := clusterSetup{
		origin: fmt.Sprintf(origin, n.front[0]), middleware: "http://" + n.front[0] + ":" + number, host: n.front[1], netns: n.name,
		redis:  fmt.Sprintf("addresses: [ \"%s:%s\" ]", n.back[0], port(redis.address)),
		binary: near.binary, idle: near.idle, route: near.route,
	}
	nodes := []*clusterNode{startClusterNode(t, near, "n1"), startClusterNode(t, near, "n2"), startClusterNode(t, far, "n3")}
	opened := openEverywhere(t, nodes, "link", 20)
	n.cut(t)
	issued := revokeFor(t, nodes[0], opened, cutFor)
	awaitRefusals(t, nodes[:2], opened)
	for _, w := range opened {
		if status, err := nodes[2].serves(w); err != nil || status != http.StatusOK {
			t.Errorf("the node without its link does not serve %s: %d, %v", w.token, status, err)
		}
	}
	n.mend(t)
	issued.wantHeld(t, fmt.Sprintf("link down for %s", cutFor), nodes, time.Now())
}
