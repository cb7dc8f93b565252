package events

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// testNode is a broker that runs on a real Redis, and what it has handed on.
type testNode struct {
	*Broker
	bans *Bans
	log  *redistest.Log
	stop func()

	mu     sync.Mutex
	handed []string
	delays []time.Duration // of what other nodes issued
}

func (n *testNode) note(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handed = append(n.handed, what)
}

// count returns how often something was handed on.
func (n *testNode) count(what string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.handed {
		if one == what {
			count++
		}
	}
	return count
}

// revoked applies a revocation as a node does.
func (n *testNode) revoked(v session.Revocation) {
	switch v.Kind {
	case session.RevokedBanned:
		if len(n.bans.Add(time.Now(), v.Ban)) > 0 {
			n.note("ban " + v.Ban.ID)
		}
	case session.RevokedUnbanned:
		if len(n.bans.Remove(v.Ban.ID, v.Ban.Until)) > 0 {
			n.note("unban " + v.Ban.ID)
		}
	default:
		n.note(v.Kind.String() + " " + v.Session.String())
	}
}

// received notes a revocation of another node.
func (n *testNode) received(kind session.RevocationKind, delay time.Duration) {
	n.note("received " + kind.String())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delays = append(n.delays, delay)
}

func startNode(t *testing.T, server *redistest.Server, name string) *testNode {
	t.Helper()
	return startNodeWith(t, server, name, 5*time.Second)
}

// startNodeWith starts a node that waits for Redis no longer than the timeout.
func startNodeWith(t *testing.T, server *redistest.Server, name string, timeout time.Duration) *testNode {
	t.Helper()
	client, err := redisclient.New(
		redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 8}, timeout, discard())
	must(t, err)
	n := &testNode{bans: NewBans(), log: new(redistest.Log)}
	n.Broker = New(Options{
		Client: client, Cipher: goldenCipher(t), Bans: n.bans, Forced: NewForced(), OnForced: func(backends.ForcedBreaker) {}, NodeID: NewID(), NodeName: name, Started: time.Now(),
		Retention: time.Hour, Status: func() NodeStatus { return NodeStatus{Name: name, Sessions: 3} }, Logger: n.log.Logger(),
		OnRevocation: n.revoked, OnReceived: n.received, RecheckAll: func() { n.note("recheck") }, OnStateLost: func([]Issued) { n.note("lost") },
		OnDecision: func(id backends.SessionID) { n.note("decision " + id.String()) }, OnTicketReplaced: func(backends.SessionID) {}, OnTicketsMissed: func() { n.note("tickets missed") },
		OnLimitExceeded: func(user string) { n.note("limit " + user) },
		Answer:          func(_ context.Context, request []byte) []byte { return fmt.Appendf(nil, "%s says %s", name, request) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		client.Close()
	})
	t.Cleanup(n.stop)
	return n
}

// awaitMessages waits until messages reach the node.
func (n *testNode) awaitMessages(t *testing.T, server *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, "messages reach the node", func() bool {
		// A node that has sent heartbeats before it was subscribed subscribes once more.
		must(t, server.Client.Publish(t.Context(), "usher:limits", "probe").Err())
		return n.count("limit probe") > 0 && n.registry.lastEcho.Load()+1 >= n.registry.heartbeats.Load() && n.registry.heartbeats.Load() > 3
	})
}

// startNodes runs two nodes, and waits until each knows the other one.
func startNodes(t *testing.T) (*redistest.Server, *testNode, *testNode) {
	t.Helper()
	server := redistest.Start(t)
	a, b := startNode(t, server, "n1"), startNode(t, server, "n2")
	for _, n := range []*testNode{a, b} {
		redistest.Eventually(t, "a node knows the other one", func() bool {
			others, _ := n.registry.lastOthers()
			return n.LiveNodes() == 2 && len(others) == 1
		})
		n.awaitMessages(t, server)
	}
	return server, a, b
}

// TestBroker_HeartbeatFails_StaysSubscribed has Redis refuse writes for a while: the connection of the subscription lives, and each message
// reaches the node.
func TestBroker_HeartbeatFails_StaysSubscribed(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t), t.Context()
	n := startNode(t, server, "n1")
	n.awaitMessages(t, server)
	must(t, server.Client.ConfigSet(ctx, "maxmemory", "1").Err())
	before := n.registry.heartbeats.Load()
	redistest.Eventually(t, "heartbeats fail", func() bool { return n.registry.heartbeats.Load() > before+4 })
	must(t, server.Client.ConfigSet(ctx, "maxmemory", "0").Err())
	recovered := n.registry.heartbeats.Load()
	redistest.Eventually(t, "heartbeats come back", func() bool {
		if receivers := server.Client.Publish(ctx, "usher:limits", "probe").Val(); receivers != 1 {
			t.Fatalf("a message reaches %d nodes", receivers)
		}
		return n.registry.lastEcho.Load() > recovered+3
	})
}

// TestBroker_RedisFrozen_StaysSubscribed freezes Redis while heartbeats fail, which it runs when it wakes: each node keeps the connection of
// its subscription. There are many nodes, since a heartbeat that came back after the late ones would hide them.
func TestBroker_RedisFrozen_StaysSubscribed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var nodes [8]*testNode
	var before [len(nodes)]int
	for i := range nodes {
		nodes[i] = startNodeWith(t, server, fmt.Sprintf("n%d", i), 100*time.Millisecond)
	}
	// awaitHeartbeats waits until each node's number exceeds what it has sent by the count.
	awaitHeartbeats := func(name string, count uint64, number func(*nodeRegistry) uint64) {
		var sent [len(nodes)]uint64
		for i, n := range nodes {
			sent[i] = n.registry.heartbeats.Load()
		}
		for i, n := range nodes {
			redistest.Eventually(t, name, func() bool { return number(n.registry) > sent[i]+count })
		}
	}
	for i, n := range nodes {
		n.awaitMessages(t, server)
		before[i] = n.count("tickets missed")
	}
	server.Signal(syscall.SIGSTOP)
	awaitHeartbeats("heartbeats fail", 5, func(r *nodeRegistry) uint64 { return r.heartbeats.Load() })
	server.Signal(syscall.SIGCONT)
	awaitHeartbeats("heartbeats come back", 3, func(r *nodeRegistry) uint64 { return r.lastEcho.Load() })
	for i, n := range nodes {
		if got := n.count("tickets missed") - before[i]; got != 0 {
			t.Errorf("node %d subscribed again %d times", i, got)
		}
	}
}

func TestBroker_Run_SharesRevocationsAndBans(t *testing.T) {
	t.Parallel()
	server, a, b := startNodes(t)
	ctx, until := t.Context(), time.Now().Add(time.Hour)
	must(t, a.Publish(ctx, session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Until: until}))
	ban := session.Ban{ID: "b", User: "ann", Until: until}
	a.bans.Add(time.Now(), ban)
	must(t, a.StoreBans(ctx, ban))
	tombstone := Tombstone(ban, someSession, until)
	a.bans.Add(time.Now(), tombstone)
	a.AddTombstone(tombstone)
	kicked := "kicked " + idOf(1).String()
	redistest.Eventually(t, "the other node knows all", func() bool {
		return b.count(kicked) == 1 && b.count("ban b") == 1 && b.count("ban "+tombstone.ID) == 1
	})
	late := startNode(t, server, "n3") // which comes when all is over
	redistest.Eventually(t, "a new node knows the bans", func() bool {
		return late.count("ban b") == 1 && late.count("ban "+tombstone.ID) == 1
	})
	b.bans.Remove("b", until)
	must(t, b.RemoveBans(ctx, map[string]time.Time{"b": until, tombstone.ID: {}}))
	redistest.Eventually(t, "the ban is removed everywhere", func() bool {
		return a.count("unban b") == 1 && late.count("unban b") == 1
	})
	if got := server.Client.HKeys(ctx, "usher:{all}:bans").Val(); len(got) != 0 {
		t.Errorf("redis has the bans %v, want none", got)
	}
	must(t, server.Client.Publish(ctx, "usher:limits", "17").Err())
	must(t, server.Client.Publish(ctx, "usher:decisions", idOf(2).String()).Err())
	for _, n := range []*testNode{a, b} {
		redistest.Eventually(t, "messages arrive", func() bool {
			return n.count("limit 17") == 1 && n.count("decision "+idOf(2).String()) == 1
		})
		if n.count("tickets missed") == 0 {
			t.Error("nothing makes up for tickets that were replaced before it was subscribed")
		}
		if n.count(kicked) != 1 || n.count("recheck") != 0 || n.count("lost") != 0 {
			t.Errorf("handed on %q, want each once", n.handed)
		}
	}
}

// TestBroker_OnReceived_OthersNewsAlone tells each node how late the revocations of others are: of each once, and of none that it
// issued, that follows from a ban, or that was issued before the node was there.
func TestBroker_OnReceived_OthersNewsAlone(t *testing.T) {
	t.Parallel()
	server, a, b := startNodes(t)
	ctx, until := t.Context(), time.Now().Add(time.Hour)
	must(t, a.Publish(ctx, session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Until: until}))
	ban := session.Ban{ID: "b", User: "ann", Until: until}
	a.bans.Add(time.Now(), ban)
	must(t, a.StoreBans(ctx, ban))
	tombstone := Tombstone(ban, someSession, until)
	a.bans.Add(time.Now(), tombstone)
	a.AddTombstone(tombstone)
	redistest.Eventually(t, "the other node knows the tombstone", func() bool { return b.count("ban "+tombstone.ID) == 1 })
	late := startNode(t, server, "n3")
	late.awaitMessages(t, server)
	a.bans.Remove("b", until)
	must(t, a.RemoveBans(ctx, map[string]time.Time{"b": until}))
	redistest.Eventually(t, "all know that the ban is removed", func() bool {
		return b.count("unban b") == 1 && late.count("unban b") == 1
	})
	for _, test := range []struct {
		node *testNode
		want []string
	}{
		{a, nil},
		{b, []string{"received kicked", "received banned", "received unbanned"}},
		{late, []string{"received unbanned"}},
	} {
		test.node.mu.Lock()
		got := slices.DeleteFunc(slices.Clone(test.node.handed), func(what string) bool { return !strings.HasPrefix(what, "received ") })
		delays := slices.Clone(test.node.delays)
		test.node.mu.Unlock()
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.node.rpc.nodeName, got, test.want)
		}
		if len(delays) > 0 && slices.Min(delays) < 0 {
			t.Errorf("%s: delays of %v, want none below zero", test.node.rpc.nodeName, delays)
		}
	}
}

// TestBroker_Run_RestoresWhatRedisLost has Redis lose its data: the nodes write again what they know, bans and the ids of those
// that were removed, and issue their revocations again.
func TestBroker_Run_RestoresWhatRedisLost(t *testing.T) {
	t.Parallel()
	server, a, b := startNodes(t)
	ctx, until := t.Context(), time.Now().Add(time.Hour)
	must(t, a.Publish(ctx, session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Until: until}))
	for i := range 4 {
		ban := session.Ban{ID: fmt.Sprint("b", i), User: "ann", Until: until}
		a.bans.Add(time.Now(), ban)
		must(t, a.StoreBans(ctx, ban))
	}
	redistest.Eventually(t, "the other node knows the bans", func() bool { return b.count("ban b3") == 1 })
	for _, id := range []string{"b0", "b3"} {
		a.bans.Remove(id, until)
	}
	must(t, a.RemoveBans(ctx, map[string]time.Time{"b0": until, "b3": until}))
	redistest.Eventually(t, "the other node knows that two are removed", func() bool {
		return b.count("unban b0") == 1 && b.count("unban b3") == 1
	})
	if a.log.Count("bans restored to redis")+b.log.Count("bans restored to redis") != 0 {
		t.Errorf("restored before anything was lost:\n%s%s", a.log, b.log)
	}
	must(t, server.Client.FlushAll(ctx).Err())
	if err := a.AwaitBans(ctx); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "all is restored", func() bool {
		bans := server.Client.HKeys(ctx, "usher:{all}:bans").Val()
		unbanned := server.Client.ZRange(ctx, "usher:{all}:unbanned", 0, -1).Val()
		slices.Sort(bans)
		slices.Sort(unbanned)
		return slices.Equal(bans, []string{"b1", "b2"}) && slices.Equal(unbanned, []string{"b0", "b3"}) &&
			server.Client.XLen(ctx, "usher:{all}:revocations").Val() > 0
	})
	if a.log.Count("bans restored to redis")+b.log.Count("bans restored to redis") == 0 {
		t.Errorf("nobody restored anything:\n%s%s", a.log, b.log)
	}
	if a.count("lost") != 1 {
		t.Errorf("the node that issued it handed on %q, want the loss once", a.handed)
	}
	late := startNode(t, server, "n3")
	redistest.Eventually(t, "a new node knows the bans", func() bool { return late.count("ban b1") == 1 && late.count("ban b2") == 1 })
	if b.count("ban b1") != 1 || b.count("unban b0") != 1 || b.count("recheck") != 0 {
		t.Errorf("handed on %q, want nothing twice", b.handed)
	}
}

// TestBroker_Sync_ManyBans compares more bans than one call reads.
func TestBroker_Sync_ManyBans(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := startNode(t, server, "n1")
	var bans []session.Ban
	for i := range 2*bansPerPage + 1 {
		bans = append(bans, session.Ban{ID: fmt.Sprint(i), User: fmt.Sprint(i), Until: time.Now().Add(time.Hour)})
	}
	a.bans.Add(time.Now(), bans...)
	must(t, a.StoreBans(t.Context(), bans...))
	b := startNode(t, server, "n2")
	redistest.Eventually(t, "a new node knows them all", func() bool { return len(b.bans.List(time.Now())) == len(bans) })
	redistest.Eventually(t, "the bans need no comparison any more", func() bool { return !b.isAwaited() })
}

// isAwaited reports whether the next heartbeat compares the bans.
func (n *testNode) isAwaited() bool { return n.Broker.bans.isNeeded() }

func TestBroker_Call(t *testing.T) {
	t.Parallel()
	server, a, b := startNodes(t)
	replies, silent := a.Call(t.Context(), []byte("hello"))
	if len(silent) != 0 || string(replies["n1"]) != "n1 says hello" || string(replies["n2"]) != "n2 says hello" || len(replies) != 2 {
		t.Errorf("replies %q, silent %q", replies, silent)
	}
	twin := startNode(t, server, "n2") // of the same name
	redistest.Eventually(t, "three nodes live", func() bool { return a.LiveNodes() == 3 })
	twin.awaitMessages(t, server)
	replies, silent = a.Call(t.Context(), []byte("hello"))
	if len(silent) != 0 || len(replies) != 3 || string(replies["n2'"]) != "n2 says hello" {
		t.Errorf("replies %q, silent %q; want the twin's beside them", replies, silent)
	}
	nodes, err := a.Nodes(t.Context())
	must(t, err)
	var names []string
	for _, n := range nodes {
		names = append(names, fmt.Sprintf("%s %d %t %t", n.Name, n.Sessions, n.IsAlive, n.IsSelf))
		if time.Since(n.Started) > time.Minute || time.Since(n.LastSeen) > time.Minute {
			t.Errorf("%s started at %v and was seen at %v", n.Name, n.Started, n.LastSeen)
		}
	}
	if want := "n1 3 true true, n2 3 true false, n2 3 true false"; strings.Join(names, ", ") != want {
		t.Errorf("listed %s, want %s", strings.Join(names, ", "), want)
	}
	b.stop()
	twin.stop()
	redistest.Eventually(t, "nodes that end are removed at once", func() bool {
		nodes, err := a.Nodes(t.Context())
		return err == nil && len(nodes) == 1
	})
	if b.log.Count("node not removed") != 0 {
		t.Errorf("logged:\n%s", b.log)
	}
	must(t, server.Client.HSet(t.Context(), "usher:{all}:nodes", "odd", "{", "gone", `{"name":"n9"}`).Err())
	redistest.Eventually(t, "one node lives", func() bool { return a.LiveNodes() == 1 })
	replies, silent = a.Call(t.Context(), []byte("hello"))
	if len(replies) != 1 || len(silent) != 0 {
		t.Errorf("replies %q, silent %q; want none of nodes without heartbeats", replies, silent)
	}
}

// TestBroker_Call_SilentNode names a node that lives and does not reply, and returns the replies of those that do.
func TestBroker_Call_SilentNode(t *testing.T) {
	t.Parallel()
	server, a, b := startNodes(t)
	ctx := t.Context()
	now, err := server.Client.Time(ctx).Result()
	must(t, err)
	must(t, server.Client.HSet(ctx, "usher:{all}:nodes", "silent", `{"name":"n0"}`).Err())
	must(t, server.Client.ZAdd(ctx, "usher:{all}:heartbeats", redis.Z{Score: float64(now.Add(time.Minute).UnixMilli()), Member: "silent"}).Err())
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	replies, silent := a.Call(ctx, []byte("hello"))
	if !slices.Equal(silent, []string{"n0"}) || string(replies["n2"]) != "n2 says hello" || len(replies) != 2 {
		t.Errorf("replies %q, silent %q; want n0 silent", replies, silent)
	}
	if a.log.Count("not answered")+b.log.Count("not answered") != 0 {
		t.Errorf("logged:\n%s%s", a.log, b.log)
	}
}

// TestBroker_AwaitBans_Alone: a node that starts alone knows all bans once any other one would have written its part.
func TestBroker_AwaitBans_Alone(t *testing.T) {
	t.Parallel()
	n := startNode(t, redistest.Start(t), "n1")
	ctx, cancel := context.WithTimeout(t.Context(), redistest.Timeout)
	defer cancel()
	must(t, n.AwaitBans(ctx))
}
