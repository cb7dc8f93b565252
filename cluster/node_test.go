package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redistest"
)

func revocationEntry(payload, previous string) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: "usher:{all}:revocations", Values: []any{"p", payload, "q", previous}}
}

// peer is a node that records its events.
type peer struct {
	*Node
	log     *redistest.Log
	arrived chan struct{} // holds one: a revocation arrived

	mu       sync.Mutex
	revoked  []string // kind and session or ban, in order
	rechecks int
	exceeded []string
	forced   []string // state and reason of orders on breakers, in order
}

func (p *peer) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.revoked)
}

func (p *peer) countReceived(what string) (n int) {
	for _, one := range p.received() {
		if one == what {
			n++
		}
	}
	return n
}

func (p *peer) recheckCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rechecks
}

func describe(v session.Revocation) string {
	if v.Kind == session.RevokedBanned || v.Kind == session.RevokedUnbanned {
		return v.Kind.String() + " " + v.Ban.ID
	}
	return v.Kind.String() + " " + v.Session.String()
}

// startPeer runs a node until the test ends, or stop is called.
func startPeer(t testing.TB, c Config, name string, edit func(*Options)) (p *peer, stop func()) {
	t.Helper()
	p = &peer{log: new(redistest.Log), arrived: make(chan struct{}, 1)}
	c.NodeName, c.Memory.MaxSessions = name, 1000
	o := Options{
		Config: c, ReviveFor: reviveFor, Limits: testRules,
		Version: "v1", Address: ":8080", Logger: p.log.Logger(),
	}
	if edit != nil {
		edit(&o)
	}
	var err error
	p.Node, err = Open(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	p.Handle(p.handlers())
	running.Go(func() { p.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		p.Close()
	})
	t.Cleanup(stop)
	return p, stop
}

func (p *peer) handlers() Handlers {
	return Handlers{
		OnForced: func(order backends.ForcedBreaker) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.forced = append(p.forced, describeForced(order))
		},
		OnRevocation: func(v session.Revocation) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.revoked = append(p.revoked, describe(v))
			select {
			case p.arrived <- struct{}{}:
			default:
			}
		},
		RecheckAll: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.rechecks++
		},
		OnLimitExceeded: func(user string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.exceeded = append(p.exceeded, user)
		},
		Answer: func(_ context.Context, request []byte) []byte {
			return fmt.Appendf(nil, "%s says %s", p.Name(), request)
		},
	}
}

// startPeers runs nodes that share a server, and waits until each knows all of them.
func startPeers(t testing.TB, count int) (*redistest.Server, []*peer) {
	t.Helper()
	server := redistest.Start(t)
	peers := make([]*peer, count)
	for i := range peers {
		peers[i], _ = startPeer(t, testConfig(server), fmt.Sprint("n", i+1), nil)
	}
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" knows all nodes", func() bool { return p.Live() == count })
	}
	return server, peers
}

func denial(reason string) backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromOperator, Reason: reason}
}

// wantAllReceive waits until all peers received these revocations, and fails if one received any of them twice.
func wantAllReceive(t testing.TB, peers []*peer, what ...string) {
	t.Helper()
	for _, p := range peers {
		for _, one := range what {
			redistest.Eventually(t, p.Name()+" receives "+one, func() bool { return p.countReceived(one) > 0 })
		}
	}
	for _, p := range peers {
		for _, one := range what {
			if n := p.countReceived(one); n != 1 {
				t.Errorf("%s received %s %d times", p.Name(), one, n)
			}
		}
	}
}

func TestNode_Revoke_ReachesAllNodesOnce(t *testing.T) {
	t.Parallel()
	_, peers := startPeers(t, 3)
	var want []string
	for i := range 60 {
		ban, err := peers[i%3].Kick(t.Context(), idOf(i), time.Time{}, session.Ban{Session: idOf(i), Until: time.Now().Add(time.Minute)}, nil)
		must(t, err)
		want = append(want, "banned "+ban.ID, "kicked "+idOf(i).String())
	}
	for kind := session.RevokedDenied; kind <= session.RevokedSuperseded; kind++ {
		v := session.Revocation{Kind: kind, Session: idOf(100 + int(kind)), Opened: openedAgo(1), Decision: denial("x")}
		must(t, peers[0].Revoke(t.Context(), v))
		want = append(want, describe(v))
	}
	wantAllReceive(t, peers, want...)
	for _, p := range peers {
		if got, err := p.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); err != nil || got.Record.RevokedBefore.IsZero() {
			t.Errorf("%s: %+v, %v", p.Name(), got, err)
		}
	}
}

func TestNode_Revoke_BrokenSubscriptions(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	var want []string
	for i := range 100 {
		if i%5 == 0 {
			must(t, server.Client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
		}
		must(t, peers[0].Revoke(t.Context(), session.Revocation{Kind: session.RevokedDenied, Session: idOf(i), Decision: denial("x")}))
		want = append(want, "denied "+idOf(i).String())
	}
	wantAllReceive(t, peers, want...)
}

func TestNode_RedisFrozen_OthersCatchUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	c.RedisTimeout = time.Second
	a, _ := startPeer(t, c, "a", nil)
	b, _ := startPeer(t, c, "b", nil)
	redistest.Eventually(t, "the nodes know each other", func() bool { return a.Live() == 2 && b.Live() == 2 })
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, a, a.RedisDown)
	kick, err := a.Kick(t.Context(), idOf(1), time.Time{}, session.Ban{Session: idOf(1), Until: time.Now().Add(time.Hour)}, nil)
	if !errors.Is(err, backends.ErrStoreUnavailable) || kick.ID == "" {
		t.Errorf("a kick: %+v, %v", kick, err)
	}
	ban, err := a.Ban(t.Context(), session.Ban{User: "Ann", Until: time.Now().Add(time.Hour)})
	if !errors.Is(err, backends.ErrStoreUnavailable) || ban.ID == "" {
		t.Errorf("a ban: %+v, %v", ban, err)
	}
	want := []string{"banned " + kick.ID, "kicked " + idOf(1).String(), "banned " + ban.ID}
	wantAllReceive(t, []*peer{a}, want...)
	if heard := b.received(); len(heard) > 0 {
		t.Errorf("the other one received %q", heard)
	}
	server.Signal(syscall.SIGCONT)
	wantAllReceive(t, []*peer{a, b}, want...)
	fresh, _ := startPeer(t, c, "fresh", nil)
	redistest.Eventually(t, "a new node knows both bans", func() bool { return len(fresh.Bans()) == 2 })
}

func TestNode_Flush_KeepsBans(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	ctx := t.Context()
	kept, err := peers[0].Ban(ctx, session.Ban{User: "Ann", Until: time.Now().Add(time.Hour), Reason: "unpaid"})
	must(t, err)
	lifted, err := peers[0].Ban(ctx, session.Ban{User: "Bob", Until: time.Now().Add(time.Hour)})
	must(t, err)
	wantAllReceive(t, peers, "banned "+kept.ID, "banned "+lifted.ID)
	unban(t, peers[1].Node, lifted.ID)
	wantAllReceive(t, peers, "unbanned "+lifted.ID)
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(1), Decision: denial("x")}))
	must(t, server.Client.FlushAll(ctx).Err())
	redistest.Eventually(t, "the shared state is restored", func() bool {
		return server.Client.HLen(ctx, "usher:{all}:bans").Val() == 1 && server.Client.ZCard(ctx, "usher:{all}:unbanned").Val() == 1 &&
			server.Client.XLen(ctx, "usher:{all}:revocations").Val() > 0
	})
	fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
	redistest.Eventually(t, "a new node knows the ban", func() bool { return len(fresh.Bans()) == 1 })
	got := fresh.Bans()[0]
	if got.ID != kept.ID || got.User != "Ann" || got.Reason != "unpaid" || got.Until.Sub(kept.Until).Abs() > redistest.Timeout {
		t.Errorf("the ban is %+v, want %+v", got, kept)
	}
	if found, err := fresh.Unban(ctx, "nonsense"); found || err != nil {
		t.Errorf("a ban that is none: %v", err)
	}
}

// TestNode_TrimmedStream_RechecksAll removes from the stream what no node has received.
func TestNode_TrimmedStream_RechecksAll(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	ctx := t.Context()
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(1), Decision: denial("x")}))
	wantAllReceive(t, peers, "denied "+idOf(1).String())
	// No node receives what is not published; the heartbeat shows that it is missing.
	must(t, server.Client.XAdd(ctx, revocationEntry("lost", "0-0")).Err())
	id, err := server.Client.XAdd(ctx, revocationEntry("there", "9999999999999-0")).Result()
	must(t, err)
	must(t, server.Client.XTrimMaxLen(ctx, "usher:{all}:revocations", 1).Err())
	must(t, server.Client.HSet(ctx, "usher:{all}:state", "last", id).Err())
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" rechecks all sessions", func() bool { return p.recheckCount() == 1 })
	}
	if logged := peers[1].log.Count("unreadable"); logged > 1 {
		t.Errorf("an unreadable revocation was logged %d times", logged)
	}
}

func TestNode_Nodes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	draining := true
	a, _ := startPeer(t, testConfig(server), "a", func(o *Options) { o.Sessions = func() int { return 7 } })
	b, stop := startPeer(t, testConfig(server), "b", func(o *Options) { o.Draining = func() bool { return draining } })
	redistest.Eventually(t, "the nodes know each other", func() bool { return a.Live() == 2 && b.Live() == 2 })
	list := func() map[string]session.NodeInfo {
		all, err := a.Nodes(t.Context())
		must(t, err)
		found := map[string]session.NodeInfo{}
		for _, n := range all {
			found[n.Name] = n
		}
		return found
	}
	found := list()
	for name, want := range map[string]session.NodeInfo{
		"a": {Name: "a", Address: ":8080", Version: "v1", Sessions: 7, IsAlive: true, IsSelf: true},
		"b": {Name: "b", Address: ":8080", Version: "v1", IsDraining: true, IsAlive: true},
	} {
		got := found[name]
		if got.ID == "" || time.Since(got.Started) > redistest.Timeout || time.Since(got.LastSeen) > redistest.Timeout {
			t.Errorf("node %s: %+v", name, got)
		}
		got.ID, got.Started, got.LastSeen = "", time.Time{}, time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("node %s (-want +got):\n%s", name, diff)
		}
	}
	stop()
	redistest.Eventually(t, "the one that ended is gone", func() bool { return a.Live() == 1 && len(list()) == 1 })
}

// TestNode_Nodes_RedisUnavailable lists the nodes as they were when this one last reached Redis.
func TestNode_Nodes_RedisUnavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, _ := startPeer(t, testConfig(server), "a", func(o *Options) { o.Sessions = func() int { return 7 } })
	b, stop := startPeer(t, testConfig(server), "b", nil)
	redistest.Eventually(t, "the nodes know each other", func() bool { return a.Live() == 2 && b.Live() == 2 })
	isKnown := func(since time.Time, id string) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that it does not ask Redis
		nodes, err := a.Nodes(ctx)
		return errors.Is(err, context.Canceled) && len(nodes) == 2 && nodes[1].ID == id && nodes[1].LastSeen.After(since) && nodes[1].IsAlive
	}
	known, err := a.Nodes(t.Context())
	must(t, err)
	beat := time.Now()
	redistest.Eventually(t, "b is known to live", func() bool { return isKnown(beat, known[1].ID) })
	must(t, a.AwaitBans(t.Context())) // until then each heartbeat lists the nodes
	stop()
	b, _ = startPeer(t, testConfig(server), "b", nil)
	redistest.Eventually(t, "b lives again", func() bool { return b.Live() == 2 })
	known, err = b.Nodes(t.Context())
	must(t, err)
	known[0].IsSelf, known[1].IsSelf = true, false // as a sees them
	beat = time.Now()
	redistest.Eventually(t, "the new b is known to live", func() bool { return isKnown(beat, known[1].ID) })
	server.Signal(syscall.SIGKILL)
	nodes, err := a.Nodes(t.Context())
	if !errors.Is(err, backends.ErrStoreUnavailable) || len(nodes) != 2 {
		t.Fatalf("nodes %+v, %v", nodes, err)
	}
	for i, name := range []string{"a", "b"} {
		got := nodes[i]
		if got.ID != known[i].ID || got.Name != name || got.IsSelf != known[i].IsSelf || got.Sessions != known[i].Sessions || got.Version != "v1" || got.Address != ":8080" {
			t.Errorf("got %+v, want as %+v", got, known[i])
		}
	}
	if !nodes[0].IsAlive {
		t.Error("the node itself does not live")
	}
}

func TestNode_Nodes_SilentNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, _ := startPeer(t, testConfig(server), "a", nil)
	redistest.Eventually(t, "it lives", func() bool { return server.Client.ZCard(t.Context(), "usher:{all}:heartbeats").Val() == 1 })
	past := float64(time.Now().Add(-10 * time.Second).UnixMilli())
	must(t, server.Client.HSet(t.Context(), "usher:{all}:nodes", "dead", `{"name":"dead","up":5000,"sessions":3}`).Err())
	must(t, server.Client.Do(t.Context(), "ZADD", "usher:{all}:heartbeats", past, "dead").Err())
	all, err := a.Nodes(t.Context())
	must(t, err)
	if len(all) != 2 || all[1].Name != "dead" || all[1].IsAlive || time.Since(all[1].LastSeen) < 5*time.Second || all[1].Sessions != 3 {
		t.Errorf("nodes: %+v", all)
	}
	if a.Live() != 1 {
		t.Errorf("%d live, want one", a.Live())
	}
}

func TestNode_Ask(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 3)
	answers, silent := peers[1].Ask(t.Context(), []byte("hello"))
	got := map[string]string{}
	for name, body := range answers {
		got[name] = string(body)
	}
	want := map[string]string{"n1": "n1 says hello", "n2": "n2 says hello", "n3": "n3 says hello"}
	if diff := cmp.Diff(want, got); diff != "" || len(silent) > 0 {
		t.Errorf("silent %q, answers (-want +got):\n%s", silent, diff)
	}
	// A node that is alive and does not reply: it is named when the time is over.
	now := float64(time.Now().Add(time.Hour).UnixMilli())
	must(t, server.Client.HSet(t.Context(), "usher:{all}:nodes", "mute", `{"name":"mute"}`).Err())
	must(t, server.Client.Do(t.Context(), "ZADD", "usher:{all}:heartbeats", now, "mute").Err())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	answers, silent = peers[0].Ask(ctx, []byte("hello"))
	if len(answers) != 3 || !slices.Equal(silent, []string{"mute"}) {
		t.Errorf("%d answers, silent %q", len(answers), silent)
	}
	huge := make([]byte, 16<<20+1) // one byte more than a request may have
	answers, silent = peers[0].Ask(t.Context(), huge)
	if len(answers) != 1 || len(silent) == 0 {
		t.Errorf("a request that is too large has %d replies, silent %q", len(answers), silent)
	}
}

func TestNode_SingleNode(t *testing.T) {
	t.Parallel()
	p, _ := startPeer(t, DefaultConfig(), "alone", nil)
	ctx := t.Context()
	kick, err := p.Kick(ctx, idOf(1), time.Time{}, session.Ban{Session: idOf(1), Until: time.Now().Add(time.Hour)}, nil)
	must(t, err)
	ban, err := p.Ban(ctx, session.Ban{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Until: time.Now().Add(time.Hour)})
	must(t, err)
	unban(t, p.Node, ban.ID)
	want := []string{"banned " + kick.ID, "kicked " + idOf(1).String(), "banned " + ban.ID, "unbanned " + ban.ID}
	if diff := cmp.Diff(want, p.received()); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	nodes, err := p.Nodes(ctx)
	if err != nil || len(nodes) != 1 || !nodes[0].IsSelf || !nodes[0].IsAlive || p.Live() != 1 || p.RedisDown() || p.Shared() {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if answers, silent := p.Ask(ctx, []byte("x")); len(answers) != 1 || string(answers["alone"]) != "alone says x" || silent != nil {
		t.Errorf("answers %+v, silent %q", answers, silent)
	}
	for i := range 2 { // one more than may play
		p.ReportStreams(ctx, session.StreamEntry{User: "u", Session: idOf(i), LastSeen: time.Now(), IsPlaying: true, MaxStreams: 1})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.exceeded, []string{"u"}) {
		t.Errorf("over: %q", p.exceeded)
	}
}

func TestOpen_RedisUnavailable(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	c.Redis.Addresses, c.EncryptionKeys = []string{"127.0.0.1:1"}, []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
	p, _ := startPeer(t, c, "early", nil)
	_, err := p.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
	if !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("acquire a lease: %v", err)
	}
	if _, err := p.SaveDecision(t.Context(), session.DecisionUpdate{Record: allowedRecord(1, openedAgo(1))}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("save: %v", err)
	}
	if got, _ := p.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); got.Record.Decision.User != "Ann" {
		t.Errorf("its own decision: %+v", got)
	}
}

// BenchmarkNode_Kick measures the time from a kick until three nodes have applied it.
func BenchmarkNode_Kick(b *testing.B) {
	_, peers := startPeers(b, 3)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		_, err := peers[0].Kick(b.Context(), idOf(i), time.Time{}, session.Ban{Session: idOf(i), Until: time.Now().Add(time.Minute)}, nil)
		must(b, err)
		for _, p := range peers {
			for len(p.received()) < 2*(i+1) { // the kick and its ban
				<-p.arrived
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// TestNode_Flush_DeniesAgain has Redis lose everything, and the node that began the epoch begin another one and write to it
// before the other node's heartbeat.
func TestNode_Flush_DeniesAgain(t *testing.T) {
	t.Parallel()
	at := openedAgo(5)
	server := redistest.Start(t)
	first, _ := startPeer(t, testConfig(server), "first", nil)
	redistest.Eventually(t, "it is there", func() bool {
		return first.Live() == 1 && server.Client.HExists(t.Context(), "usher:{all}:state", "epoch").Val()
	})
	second, _ := startPeer(t, testConfig(server), "second", nil)
	endSession(t, second, 1)
	must(t, second.Revoke(t.Context(), session.Revocation{Kind: session.RevokedDenied, Session: idOf(2), Opened: at, Decision: denial("x")}))
	wantAllReceive(t, []*peer{first, second}, "kicked "+idOf(1).String(), "denied "+idOf(2).String())
	for round := range 3 {
		must(t, server.Client.FlushAll(t.Context()).Err())
		_, err := first.Ban(t.Context(), session.Ban{User: fmt.Sprint("Ann", round), Until: time.Now().Add(time.Hour)})
		must(t, err)
		wantDeniedAgain(t, server, first, second, at, round+1)
	}
}

// TestNode_Failover_DeniesAgain has Redis lose only the last revocations, as a failover does, and a node issue another one
// before any heartbeat.
func TestNode_Failover_DeniesAgain(t *testing.T) {
	t.Parallel()
	at := openedAgo(5)
	server, peers := startPeers(t, 2)
	ctx := t.Context()
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(9), Opened: openedAgo(1), Decision: denial("x")}))
	wantAllReceive(t, peers, "denied "+idOf(9).String())
	before := server.Client.HGet(ctx, "usher:{all}:state", "last").Val()
	endSession(t, peers[1], 1)
	must(t, peers[1].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(2), Opened: at, Decision: denial("x")}))
	wantAllReceive(t, peers, "kicked "+idOf(1).String(), "denied "+idOf(2).String())
	lost := server.Client.XRange(ctx, "usher:{all}:revocations", "("+before, "+").Val()
	if len(lost) != 2 {
		t.Fatalf("%d revocations are in the stream, want 2", len(lost))
	}
	_, err := server.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.XDel(ctx, "usher:{all}:revocations", lost[0].ID, lost[1].ID)
		p.HSet(ctx, "usher:{all}:state", "last", before)
		p.Del(ctx, "usher:session:{"+idOf(1).String()+"}", "usher:session:{"+idOf(2).String()+"}")
		return nil
	})
	must(t, err)
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(3), Opened: openedAgo(1), Decision: denial("x")}))
	wantDeniedAgain(t, server, peers[0], peers[1], at, 1)
}

// TestNode_ExpiredStream_NoLoss lets the stream expire, as it does when nothing was revoked for long.
func TestNode_ExpiredStream_NoLoss(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	ctx := t.Context()
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(1), Opened: openedAgo(1), Decision: denial("x")}))
	wantAllReceive(t, peers, "denied "+idOf(1).String())
	must(t, server.Client.Del(ctx, "usher:{all}:revocations").Err())
	look := func() {
		t.Helper()
		must(t, server.Client.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err()) // then the nodes read the stream again
		redistest.Eventually(t, "the nodes subscribe again", func() bool {
			return server.Client.PubSubNumSub(ctx, "usher:revocations").Val()["usher:revocations"] == 2
		})
		for _, p := range peers {
			for range 2 {
				waitForHeartbeat(t, server, p)
			}
			if n := p.log.Count("redis lost") + p.recheckCount(); n > 0 {
				t.Errorf("%s logged a loss %d times", p.Name(), n)
			}
		}
	}
	look()
	must(t, peers[0].Revoke(ctx, session.Revocation{Kind: session.RevokedDenied, Session: idOf(2), Opened: openedAgo(1), Decision: denial("x")}))
	wantAllReceive(t, peers, "denied "+idOf(2).String())
	look()
}

// waitForHeartbeat waits until the node sends another heartbeat.
func waitForHeartbeat(t *testing.T, server *redistest.Server, p *peer) {
	t.Helper()
	last := func() float64 { return server.Client.ZScore(t.Context(), "usher:{all}:heartbeats", p.id).Val() }
	before := last()
	redistest.Eventually(t, "a heartbeat of "+p.Name(), func() bool { return last() > before })
}

// endSession does what a kick does, except for its ban.
func endSession(t *testing.T, p *peer, i int) {
	t.Helper()
	must(t, p.RevokeSession(t.Context(), idOf(i), time.Time{}))
	must(t, p.Revoke(t.Context(), session.Revocation{
		Kind: session.RevokedKicked, Session: idOf(i), Decision: denial("x"), Until: time.Now().Add(time.Hour),
	}))
}

// wantDeniedAgain waits until Redis denies sessions 1 and 2 again and has their revocations in the stream, and checks that
// the loss was logged. Session 2 was opened at that time.
func wantDeniedAgain(t *testing.T, server *redistest.Server, looks, issued *peer, at time.Time, losses int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("%s:\n%s\n%s:\n%s", looks.Name(), looks.log.String(), issued.Name(), issued.log.String())
			for _, i := range []int{1, 2} {
				t.Log(server.Client.HGetAll(context.Background(), "usher:session:{"+idOf(i).String()+"}").Val())
			}
		}
	}()
	redistest.Eventually(t, "the kick and the revoked ticket are stored again", func() bool {
		kicked, err := looks.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)})
		must(t, err)
		revoked, err := looks.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(2)})
		must(t, err)
		return !kicked.Record.RevokedBefore.IsZero() && revoked.Record.RevokedBefore.Equal(at)
	})
	redistest.Eventually(t, "the revocations are in the stream again", func() bool {
		count := 0
		for _, entry := range server.Client.XRange(t.Context(), "usher:{all}:revocations", "-", "+").Val() {
			var message struct {
				ID        string `json:"u"`
				Encrypted []byte `json:"d"`
			}
			must(t, json.Unmarshal([]byte(entry.Values["p"].(string)), &message))
			if strings.HasPrefix(message.ID, "ban-") {
				continue
			}
			_, err := issued.cipher.Decrypt(message.Encrypted, "revocation "+message.ID)
			must(t, err)
			count++
		}
		return count >= 2
	})
	// A message from before the loss that arrives after it may have it logged twice.
	if n := issued.log.Count("redis lost shared state"); n < losses {
		t.Errorf("%s logged %d losses, want %d", issued.Name(), n, losses)
	}
}

// TestNode_Matches_LostWithRedis has every node know that what was shared of viewers at edges is gone, and one that starts later not.
func TestNode_Matches_LostWithRedis(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	for _, p := range peers {
		if at := p.Matches().LostAt(); !at.IsZero() {
			t.Errorf("%s: lost at %v before Redis lost anything", p.Name(), at)
		}
	}
	before := time.Now()
	must(t, server.Client.FlushAll(t.Context()).Err())
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+" knows", func() bool { return p.Matches().LostAt().After(before) })
	}
	if fresh, _ := startPeer(t, testConfig(server), "fresh", nil); !fresh.Matches().LostAt().IsZero() {
		t.Error("a node that started since has lost nothing")
	}
}
