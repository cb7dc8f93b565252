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

// refusals waits on each node until it refuses each of the viewers, and says when that was.
func refusals(t *testing.T, nodes []*member, gone []watching) (at []time.Time) {
	t.Helper()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range nodes {
		client := newClient(t, "")
		asking.Go(func() {
			for _, w := range gone {
				seen, err := awaitRefusal(client, m.public+w.segment)
				if err != nil {
					t.Errorf("%s goes on to serve %s: %v", m.name, w.token, err)
				}
				mu.Lock()
				at = append(at, seen)
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return at
}

// awaitRefusal asks again and again until the answer is 403, and returns when it was asked for.
func awaitRefusal(client *http.Client, address string) (time.Time, error) {
	for end := time.Now().Add(patience); ; {
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

// openEverywhere opens sessions and lets each node serve a segment of each, so that all hold it.
func openEverywhere(t *testing.T, nodes []*member, prefix string, count int) []watching {
	t.Helper()
	var opened []watching
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

// identify finds the sessions' ids.
func identify(t *testing.T, m *member, opened []watching) {
	t.Helper()
	for i := range opened {
		found := m.sessions(t, "user="+opened[i].token)
		if len(found) != 1 {
			t.Fatalf("%s knows %d sessions of %s, want one: %+v", m.name, len(found), opened[i].token, found)
		}
		opened[i].session = found[0].ID
	}
}

// TestCluster_KicksAndBans_HoldOnAllNodes measures how long it takes from the call of the API until every node refuses. It runs
// alone, as do the two below.
func TestCluster_KicksAndBans_HoldOnAllNodes(t *testing.T) {
	const kicks, bans = 100, 50
	c := startCluster(t, 3, clusterSetup{
		origin: startWideStage(t, ""), redis: startRedis(t).standalone(), binary: plainBinary(t), idle: time.Hour,
	})
	opened := openEverywhere(t, c.nodes, "kick", kicks+bans)
	measure := func(what string, gone []watching, revoke func(*member, watching) error) {
		t.Helper()
		var took []time.Duration
		for i, w := range gone {
			called := time.Now()
			result := make(chan error, 1)
			go func() { result <- revoke(c.nodes[i%len(c.nodes)], w) }()
			for _, at := range refusals(t, c.nodes, []watching{w}) {
				took = append(took, at.Sub(called))
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(took)
		t.Logf("cluster: %d %s, three nodes: from the call to the refusal p50 %s, p99 %s, at most %s",
			len(gone), what, percentile(took, 0.5), percentile(took, 0.99), took[len(took)-1])
	}
	measure("kicks", opened[:kicks], func(m *member, w watching) error { return m.kick(w.session) })
	measure("bans", opened[kicks:], func(m *member, w watching) error {
		_, err := m.ban(w.token)
		return err
	})
	c.wantOut(t, opened[0])
	c.wantUnbanned(t, "good-kick-unban")
}

// wantOut checks that kicked viewers are refused with their tokens on every node.
func (c *cluster) wantOut(t *testing.T, w watching) {
	t.Helper()
	for _, m := range c.nodes {
		for _, path := range []string{w.segment, "/play/a000/low.m3u8?token=" + w.token} {
			if status, _, err := fetch(m.client, m.public+path); err != nil || status != http.StatusForbidden {
				t.Errorf("%s, %s after the kick: %d, %v; want 403", m.name, path, status, err)
			}
		}
	}
}

// wantUnbanned bans a viewer and removes the ban on another node: the viewer is admitted again on every node.
func (c *cluster) wantUnbanned(t *testing.T, token string) {
	t.Helper()
	id, err := c.nodes[0].ban(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.nodes {
		eventually(t, patience, m.name+" refuses "+token, func() error {
			if _, err := m.open(token, "a001"); err == nil {
				return fmt.Errorf("he gets in")
			}
			return nil
		})
	}
	if err := c.nodes[1].tell(http.MethodDelete, "bans/"+id, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.nodes {
		eventually(t, patience, m.name+" lets "+token+" in again", func() error {
			_, err := m.open(token, "a001")
			return err
		})
	}
}

// missed holds revocations issued while nodes could not receive them.
type missed struct {
	gone []watching
	// news are viewers who were banned without a session.
	news []string
}

// revokeFor kicks and bans through a node for so long, twenty of the viewers in all, and as many others who are not here
// yet.
func revokeFor(t *testing.T, m *member, opened []watching, d time.Duration) missed {
	t.Helper()
	told := missed{gone: opened}
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
			news := "good-news-" + w.token
			if _, err := m.ban(news); err != nil {
				t.Errorf("ban %s: %v", news, err)
			}
			told.news = append(told.news, news)
		}
	}
	<-tick.C
	return told
}

// wantHeld waits until all of it holds on the nodes, and prints how long after the return that was.
func (k missed) wantHeld(t *testing.T, what string, nodes []*member, returned time.Time) {
	t.Helper()
	var last time.Duration
	for _, at := range refusals(t, nodes, k.gone) {
		last = max(last, at.Sub(returned))
	}
	for _, m := range nodes {
		for _, token := range k.news {
			if _, err := m.open(token, "a002"); err == nil || !strings.Contains(err.Error(), ": 403 ") {
				t.Errorf("%s, %s: %s was banned meanwhile and gets in: %v", what, m.name, token, err)
			}
		}
	}
	t.Logf("cluster: %s: %d kicks and bans issued meanwhile hold on every node %s after the return", what, len(k.gone)+len(k.news), last.Round(time.Millisecond))
}

// cutFor is how long a node receives nothing.
const cutFor = 5 * time.Second

// TestCluster_SubscriptionLost_RevocationsReplayed lets Redis end every subscription again and again.
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
	told := revokeFor(t, c.nodes[0], opened, cutFor)
	close(stop)
	cutting.Wait()
	if cuts == 0 {
		t.Error("no subscription was cut, so nothing was tried")
	}
	told.wantHeld(t, fmt.Sprintf("subscriptions cut %d times in %s", cuts, cutFor), c.nodes, time.Now())
}

// TestCluster_NetworkDown_RevocationsReplayed puts one node into a network of its own, whose link to Redis goes down: no
// packet says so. The node serves on meanwhile.
func TestCluster_NetworkDown_RevocationsReplayed(t *testing.T) {
	n := startNetwork(t)
	redis := startRedis(t, "--bind", "127.0.0.1 "+n.back[0], "--protected-mode", "no")
	number := port(freePort(t))
	m := backendtest.New(backendtest.Config{Address: "0.0.0.0:" + number, Lookup: isGood})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	origin := "http://%s:" + port(host(startWideStage(t, "0.0.0.0:0")))
	near := clusterSetup{
		origin: fmt.Sprintf(origin, "127.0.0.1"), middleware: "http://127.0.0.1:" + number, redis: redis.standalone(),
		binary: plainBinary(t), idle: time.Hour,
	}
	far := clusterSetup{
		origin: fmt.Sprintf(origin, n.front[0]), middleware: "http://" + n.front[0] + ":" + number, host: n.front[1], netns: n.name,
		redis:  fmt.Sprintf("addresses: [ \"%s:%s\" ]", n.back[0], port(redis.address)),
		binary: near.binary, idle: near.idle,
	}
	nodes := []*member{startMember(t, near, "n1"), startMember(t, near, "n2"), startMember(t, far, "n3")}
	opened := openEverywhere(t, nodes, "link", 20)
	n.cut(t)
	told := revokeFor(t, nodes[0], opened, cutFor)
	refusals(t, nodes[:2], opened)
	for _, w := range opened {
		if status, err := nodes[2].serves(w); err != nil || status != http.StatusOK {
			t.Errorf("the node that is cut off does not serve %s on: %d, %v", w.token, status, err)
		}
	}
	n.mend(t)
	told.wantHeld(t, fmt.Sprintf("link down for %s", cutFor), nodes, time.Now())
}
