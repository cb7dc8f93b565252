package main

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
	"usher/backends/chain"
	"usher/cluster"
)

// fakePortal is a middleware that several nodes call.
type fakePortal struct {
	mu     sync.Mutex
	times  map[backends.SessionID][]time.Time // of the calls
	calls  atomic.Int64
	denies atomic.Bool
	takes  time.Duration
	user   backends.Decision
}

func (p *fakePortal) check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	p.calls.Add(1)
	p.mu.Lock()
	p.times[r.Session] = append(p.times[r.Session], time.Now())
	p.mu.Unlock()
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return backends.Decision{}, ctx.Err()
	}
	d := p.user
	d.Verdict, d.Source = backends.Allowed, backends.FromBackend
	if p.denies.Load() {
		d.Verdict = backends.Denied
	}
	return d, nil
}

// nodeBackend is a node's connection to the portal. It may be down while another node's is not.
type nodeBackend struct {
	*chain.FailOpen
	down atomic.Bool
}

func (w *nodeBackend) State() backends.BreakerState {
	if w.down.Load() {
		return backends.BreakerOpen
	}
	return backends.BreakerClosed
}

func (w *nodeBackend) IsImpaired() bool { return w.down.Load() }

func (w *nodeBackend) IsBacklogged() bool { return false }

func newNodeBackend(p *fakePortal) *nodeBackend {
	w := new(nodeBackend)
	w.FailOpen = chain.NewFailOpen("portal", backends.PolicyAllow, backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if w.down.Load() {
			return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
		}
		return p.check(ctx, r)
	}), nil, nil)
	return w
}

// nodeGroup is nodes in one process that share a store, in fake time.
type nodeGroup struct {
	t        *testing.T
	portal   *fakePortal
	nodes    []*actors.Registry
	backends []*nodeBackend
	bans     sync.Map // user -> backends.Ban
	// credentialsBanned counts the calls of BanCredentials.
	credentialsBanned atomic.Int64
	// extraLifetime is that of an edge that asks about each request; 0: the viewers ask Usher.
	extraLifetime time.Duration
}

// withNodes runs a test with that many nodes in a bubble of fake time.
func withNodes(t *testing.T, count int, edit func(*actors.Options, *fakePortal), test func(c *nodeGroup)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &nodeGroup{t: t, portal: &fakePortal{times: map[backends.SessionID][]time.Time{}, takes: 100 * time.Millisecond}}
		o := actors.Options{
			Config: actors.DefaultConfig(), ReviveFor: 6 * time.Hour, StoreTimeout: 100 * time.Millisecond,
			HeartbeatInterval: 20 * time.Second, SigningKey: func() string { return "a" },
		}
		backendRules := actors.BackendRules{Validity: time.Minute, RecheckRate: 200, AnswerDeadline: time.Second, Timeout: 2 * time.Second}
		if edit != nil {
			edit(&o, c.portal)
		}
		rules := o.Config.LimitRules()
		rules.HeartbeatInterval = o.HeartbeatInterval
		store, err := cluster.NewMemory(cluster.DefaultMemoryConfig(), o.ReviveFor, rules)
		if err != nil {
			t.Fatal(err)
		}
		o.Cluster = &groupCluster{Memory: store, group: c, count: count}
		store.OnExceeded = func(user string) {
			for _, n := range c.nodes {
				n.OnLimitExceeded(user)
			}
		}
		for range count {
			w := newNodeBackend(c.portal)
			o := o
			o.Backends = map[string]actors.BackendOptions{"portal": {Backend: w, Rules: backendRules}}
			c.backends, c.nodes = append(c.backends, w), append(c.nodes, actors.NewRegistry(o))
		}
		defer func() {
			for _, n := range c.nodes {
				n.Close()
			}
			store.Close()
			time.Sleep(2 * time.Second) // until protoactor's dead letter throttle ends
		}()
		test(c)
	})
}

// groupCluster is the store that the nodes share. It passes revocations to all of them.
type groupCluster struct {
	*cluster.Memory
	group *nodeGroup
	count int
}

// AwaitBans returns at once: the group's nodes share their bans.
func (cc *groupCluster) AwaitBans(context.Context) error { return nil }

func (cc *groupCluster) Shared() bool { return true }

func (cc *groupCluster) InMemory() bool { return false }

func (cc *groupCluster) Live() int { return cc.count }

func (cc *groupCluster) UserHash(user string) string { return user }

func (cc *groupCluster) ViewerKey([]byte) uint64 { return 1 }

func (cc *groupCluster) ShareKnown(uint64) {}

func (cc *groupCluster) Banned(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
	return cc.group.banned(r, d)
}

func (cc *groupCluster) BanCredentials(context.Context, iter.Seq2[session.Ban, *backends.Request]) error {
	cc.group.credentialsBanned.Add(1)
	return nil
}

func (cc *groupCluster) Revoke(_ context.Context, v session.Revocation) error {
	for _, n := range cc.group.nodes {
		n.OnRevocation(v)
	}
	return nil
}

func (c *nodeGroup) banned(_ *backends.Request, d *backends.Decision) (session.Ban, bool) {
	if d == nil {
		return session.Ban{}, false
	}
	b, found := c.bans.Load(d.User)
	if !found {
		return session.Ban{}, false
	}
	return b.(session.Ban), true //nolint:forcetypeassert // as stored
}

// watch sends a viewer's request to a node, with credentials if the ticket is zero, otherwise with the ticket.
func (c *nodeGroup) watch(node, viewer int, ticket session.Ticket) (backends.Decision, session.Ticket) {
	c.t.Helper()
	id := backends.SessionID{15: byte(viewer + 1)}
	n := c.nodes[node]
	s := n.Find(id)
	if s == nil || s.Decision() == nil {
		a := session.OpenRequest{Ticket: ticket, HasCredentials: ticket.IsZero(), ExtraLifetime: c.extraLifetime, Request: &backends.Request{
			Session: id, Route: "play", Channel: "a001", Backend: "portal", Path: "/play/a001/index.m3u8",
		}}
		if a.HasCredentials {
			a.Request.Query = "token=s3cret"
		}
		var err error
		if s, err = n.Open(c.t.Context(), a); err != nil {
			c.t.Fatalf("node %d, viewer %d: %v", node, viewer, err)
		}
	}
	s.Seen(time.Now(), false)
	return *s.Decision(), s.Ticket()
}

// watchAcrossNodes sends a viewer's request to the next node each second for that time.
func (c *nodeGroup) watchAcrossNodes(viewer int, d time.Duration, each func(backends.Decision)) {
	c.t.Helper()
	var ticket session.Ticket
	for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
		got, next := c.watch(i%len(c.nodes), viewer, ticket)
		each(got)
		ticket = next
		time.Sleep(time.Second)
	}
}

func (c *nodeGroup) wantAllowed(d backends.Decision) {
	c.t.Helper()
	if d.Verdict != backends.Allowed || d.Source != backends.FromBackend {
		c.t.Fatalf("at %v the viewer is %v by %v: %s", time.Now(), d.Verdict, d.Source, d.Reason)
	}
}

func TestCluster_ChecksSessionOnce(t *testing.T) {
	t.Parallel()
	calls := map[int]int64{}
	for _, nodes := range []int{1, 2, 5} {
		withNodes(t, nodes, nil, func(c *nodeGroup) {
			c.watchAcrossNodes(0, 30*time.Minute, c.wantAllowed)
			calls[nodes] = c.portal.calls.Load()
		})
	}
	t.Logf("calls in half an hour by 1, 2 and 5 nodes: %v", calls)
	for _, nodes := range []int{2, 5} {
		if calls[nodes] > calls[1]+2 || calls[nodes] < calls[1]-4 { // the other nodes look up the decision a second after it expires
			t.Errorf("%d nodes made %d calls, one alone %d", nodes, calls[nodes], calls[1])
		}
	}
}

func TestCluster_NodeStopped_OtherContinues(t *testing.T) {
	t.Parallel()
	withNodes(t, 2, nil, func(c *nodeGroup) {
		_, ticket := c.watch(0, 0, session.Ticket{})
		d, _ := c.watch(1, 0, ticket)
		c.wantAllowed(d)
		c.nodes[0].Close()
		for range 200 {
			time.Sleep(time.Second)
			d, _ = c.watch(1, 0, ticket)
			c.wantAllowed(d)
		}
		if calls := c.portal.calls.Load(); calls < 3 || calls > 5 {
			t.Errorf("%d calls in 200 s with answers valid for one minute, want 3 to 5", calls)
		}
	})
}

func TestCluster_Denial_EndsSessionOnAllNodes(t *testing.T) {
	t.Parallel()
	withNodes(t, 3, nil, func(c *nodeGroup) {
		_, ticket := c.watch(0, 0, session.Ticket{})
		c.watchAll(ticket)
		c.portal.denies.Store(true)
		for range 70 { // until the re-check
			time.Sleep(time.Second)
			c.watchAll(ticket)
		}
		c.wantDenied(ticket)
	})
}

// TestCluster_Denial_SilentViewer has a viewer come back whom no node has any more, and whose session has not closed: they are
// asked about at once.
func TestCluster_Denial_SilentViewer(t *testing.T) {
	t.Parallel()
	closesBeforeRecheck := func(o *actors.Options, _ *fakePortal) { o.Config.IdleTimeout = 55 * time.Second }
	withNodes(t, 3, closesBeforeRecheck, func(c *nodeGroup) {
		_, ticket := c.watch(0, 0, session.Ticket{})
		c.watchAll(ticket)
		c.portal.denies.Store(true)
		time.Sleep(70 * time.Second)
		c.watch(0, 0, ticket)
		time.Sleep(time.Second)
		c.wantDenied(ticket)
	})
}

// watchAll sends a viewer's request to every node.
func (c *nodeGroup) watchAll(ticket session.Ticket) {
	c.t.Helper()
	for i := range c.nodes {
		c.watch(i, 0, ticket)
	}
}

// wantDenied requires every node to deny the viewer, who was asked about twice.
func (c *nodeGroup) wantDenied(ticket session.Ticket) {
	c.t.Helper()
	synctest.Wait()
	for i, n := range c.nodes {
		if d, _ := c.watch(i, 0, ticket); d.Verdict != backends.Denied {
			c.t.Errorf("node %d: still %v, %d sessions", i, d.Verdict, n.Len())
		}
	}
	if calls := c.portal.calls.Load(); calls != 2 {
		c.t.Errorf("%d calls, want two", calls)
	}
}

func TestCluster_OutageOfOneNode_OthersUnaffected(t *testing.T) {
	t.Parallel()
	withNodes(t, 2, nil, func(c *nodeGroup) {
		c.backends[0].down.Store(true)
		d, ticket := c.watch(0, 0, session.Ticket{})
		if d.Source != backends.FromFailOpen {
			t.Fatalf("the node without its backend: %v by %v", d.Verdict, d.Source)
		}
		synctest.Wait()
		d, _ = c.watch(1, 0, ticket)
		if d.Verdict != backends.Allowed {
			t.Fatalf("the other node: %v", d.Verdict)
		}
		time.Sleep(30 * time.Second)
		d, _ = c.watch(1, 0, ticket)
		c.wantAllowed(d) // a fallback is no answer, so this node checked
		for range 70 {   // the first node looks the decision up
			d, _ = c.watch(0, 0, ticket)
			time.Sleep(time.Second)
		}
		c.wantAllowed(d)
		if calls := c.portal.calls.Load(); calls > 2 {
			t.Errorf("%d calls, want two at most", calls)
		}
	})
}

func TestCluster_Ban_HoldsOnAllNodes(t *testing.T) {
	t.Parallel()
	withNodes(t, 2, func(_ *actors.Options, p *fakePortal) {
		p.user.User = "Ann"
	}, func(c *nodeGroup) {
		_, ticket := c.watch(0, 0, session.Ticket{})
		c.watch(1, 0, ticket)
		ban := session.Ban{ID: "b1", User: "Ann"}
		c.bans.Store("Ann", ban)
		for _, n := range c.nodes {
			n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: ban})
		}
		synctest.Wait()
		for range 100 {
			for i := range c.nodes {
				if d, _ := c.watch(i, 0, ticket); d.Verdict != backends.Denied || d.Source != backends.FromBan {
					t.Fatalf("node %d: %v by %v", i, d.Verdict, d.Source)
				}
				if d, _ := c.watch(i, 1, session.Ticket{}); d.Verdict != backends.Denied {
					t.Fatalf("node %d opens another session of the banned user: %v", i, d.Verdict)
				}
			}
			time.Sleep(time.Second)
		}
		if c.credentialsBanned.Load() == 0 {
			t.Error("the banned user's credentials were not banned")
		}
		c.bans.Delete("Ann")
		for _, n := range c.nodes {
			n.OnRevocation(session.Revocation{Kind: session.RevokedUnbanned, Ban: ban})
		}
		synctest.Wait()
		for viewer := range 2 { // the second one's session was never allowed
			for i := range c.nodes {
				if d, _ := c.watch(i, viewer, session.Ticket{}); d.Verdict != backends.Allowed {
					t.Errorf("after the ban viewer %d is %v by %v on node %d", viewer, d.Verdict, d.Source, i)
				}
			}
		}
	})
}

func TestCluster_StreamLimit_HoldsOverAllNodes(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			withNodes(t, 3, func(o *actors.Options, p *fakePortal) {
				p.user.UserID, p.user.MaxSessions = "17", 2
				o.Config.PerUser.Policy = policy
			}, func(c *nodeGroup) {
				const viewers = 6
				tickets := make([]session.Ticket, viewers)
				playing := 0
				for second := range 90 {
					playing = 0
					for v := range viewers {
						if second < v { // one viewer joins each second
							continue
						}
						d, ticket := c.watch((second+v)%3, v, tickets[v])
						if d.Verdict == backends.Allowed {
							playing++
							tickets[v] = ticket
						}
						if second < 10 && d.Verdict != backends.Allowed {
							t.Fatalf("within the grace period viewer %d is %v by %v", v, d.Verdict, d.Source)
						}
					}
					if second > 40 && playing != 2 {
						t.Fatalf("%d play after %d s, want 2", playing, second)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestCluster_HundredStreams_ExactAfterGrace has a hundred sessions of one user begin at once, all at one address.
func TestCluster_HundredStreams_ExactAfterGrace(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			withNodes(t, 3, func(o *actors.Options, p *fakePortal) {
				p.user.UserID, p.user.MaxSessions, p.takes = "17", 3, 0
				o.Config.PerUser.Policy, o.Config.PerUser.ZapTimeout = policy, 6*time.Second
			}, func(c *nodeGroup) {
				const viewers, grace = 100, 14
				tickets := make([]session.Ticket, viewers)
				var settled []int
				for second := range 90 {
					var playing []int
					for v := range viewers {
						d, ticket := c.watch((second+v)%3, v, tickets[v])
						if d.Verdict == backends.Allowed {
							playing, tickets[v] = append(playing, v), ticket
						} else if second < grace {
							t.Fatalf("after %d s viewer %d is %v by %v", second, v, d.Verdict, d.Source)
						}
					}
					switch {
					case second == grace+3:
						settled = playing
						if len(playing) != 3 {
							t.Fatalf("%v play after %d s, want three", playing, second)
						}
					case second > grace+3 && !slices.Equal(playing, settled):
						t.Fatalf("%v play after %d s, want %v still", playing, second, settled)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// withEdgeThatAsksAlways runs a test with a node whose edge asks about each request, and a user who may play one stream.
func withEdgeThatAsksAlways(t *testing.T, test func(c *nodeGroup)) {
	t.Helper()
	withNodes(t, 1, func(o *actors.Options, p *fakePortal) {
		p.user.UserID, p.user.MaxSessions, p.user.ValidFor = "17", 1, 10*time.Second
		o.Config.PerUser.ZapTimeout = 3 * time.Second
	}, func(c *nodeGroup) {
		c.extraLifetime = 10 * time.Second
		test(c)
	})
}

func TestCluster_EdgeThatAsksAlways_LimitHolds(t *testing.T) {
	t.Parallel()
	withEdgeThatAsksAlways(t, func(c *nodeGroup) {
		for second := range 90 {
			playing := 0
			for v := range 2 {
				if d, _ := c.watch(0, v, session.Ticket{}); d.Verdict == backends.Allowed {
					playing++
				}
			}
			if second < 10 && playing != 2 || second > 15 && playing != 1 {
				t.Fatalf("%d play after %d s, want two in the grace period of 10 s and one after it", playing, second)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestCluster_EdgeThatAsksAlways_LoneViewerZaps_NoneDenied(t *testing.T) {
	t.Parallel()
	withEdgeThatAsksAlways(t, func(c *nodeGroup) {
		for second := range 120 {
			d, _ := c.watch(0, second/10%2, session.Ticket{}) // two channels, ten seconds each
			if d.Verdict != backends.Allowed {
				t.Fatalf("after %d s the viewer is %v by %v: %s", second, d.Verdict, d.Source, d.Reason)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestCluster_Kick_HoldsOnAllNodes(t *testing.T) {
	t.Parallel()
	withNodes(t, 2, nil, func(c *nodeGroup) {
		_, ticket := c.watch(0, 0, session.Ticket{})
		c.watch(1, 0, ticket)
		for _, n := range c.nodes {
			n.OnRevocation(session.Revocation{Kind: session.RevokedKicked, Session: backends.SessionID{15: 1}, Decision: session.Kicked("")})
		}
		synctest.Wait()
		for i := range c.nodes {
			if d, _ := c.watch(i, 0, ticket); d.Source != backends.FromOperator {
				t.Errorf("node %d: %v by %v", i, d.Verdict, d.Source)
			}
		}
	})
}
