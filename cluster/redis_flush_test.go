package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// TestRedis_FlushFails_WrittenLater has Redis return and fail again while the deferred writes are written. They are written
// later, each once, and this node goes on to know what it decided.
func TestRedis_FlushFails_WrittenLater(t *testing.T) {
	t.Parallel()
	server, n, log := newSingleStore(t, func(c *Config) { c.RedisTimeout = time.Second })
	s, ctx, o := n.a.(*Redis), t.Context(), openedAgo(5) //nolint:forcetypeassert // as made above
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, n.a, s.IsDown)
	n.save(n.a, deniedRecord(1, o), true, session.OutcomeDeferred)
	if err := n.a.RevokeSession(ctx, idOf(2), o); err == nil {
		t.Error("a revocation in the outage returns no error")
	}
	must(t, n.a.AddCounters(ctx, idOf(3), session.Counters{Requests: 3}))
	_, _ = n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(3), LastSeen: time.Now().Add(-time.Hour)}})

	// The keys are of another type, so that each write of these sessions fails.
	foreign := []string{s.sessionKey(idOf(1)), s.sessionKey(idOf(2)), s.client.Keys().LastSeen(bucketOf(idOf(3)))}
	server.Signal(syscall.SIGCONT)
	for _, key := range foreign {
		redistest.Eventually(t, "a foreign key is written", func() bool { return server.Client.Set(ctx, key, "x", time.Hour).Err() == nil })
	}
	s.requestFlush()
	redistest.Eventually(t, "a flush fails", func() bool { return log.Count("deferred writes failed") > 0 })
	for _, i := range []int{1, 2} {
		if got, _ := s.local.AcquireLease(ctx, session.LeaseRequest{ID: idOf(i)}); !got.Record.RevokedBefore.Equal(o) {
			t.Errorf("the node has forgotten that session %d is denied: %+v", i, got)
		}
	}
	if log.Count("deferred writes stored") > 0 {
		t.Errorf("they count as stored:\n%s", log)
	}
	must(t, server.Client.Del(ctx, foreign...).Err())
	redistest.Eventually(t, "they are stored", func() bool { return log.Count("deferred writes stored") > 0 })
	for _, i := range []int{1, 2} {
		if got := n.read(n.a, i); !got.Record.RevokedBefore.Equal(o) {
			t.Errorf("session %d is not denied: %+v", i, got)
		}
	}
	fresh := newStore(t, testConfig(server), log.Logger()) // which has had no outage, and need not wait
	redistest.Eventually(t, "the session is closed with its counters", func() bool {
		over, _ := fresh.ExpireIdle(ctx, time.Minute, 10)
		return len(over) == 1 && over[0].Record.ID == idOf(3) && over[0].Counters.Requests == 3
	})
	if got, _ := s.local.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)}); got.Found {
		t.Errorf("the node still has what redis has: %+v", got)
	}
	if !s.deferred.isEmpty() {
		t.Error("something is still deferred")
	}
}

// TestRedis_OneWriteFails_WrittenSoon has one write fail while Redis serves all others, so that no outage ends.
func TestRedis_OneWriteFails_WrittenSoon(t *testing.T) {
	t.Parallel()
	server, n, log := newSingleStore(t, nil)
	s, ctx, o := n.a.(*Redis), t.Context(), openedAgo(5) //nolint:forcetypeassert // as made above
	key := s.sessionKey(idOf(1))
	must(t, server.Client.Set(ctx, key, "x", time.Hour).Err())
	if err := n.a.RevokeSession(ctx, idOf(1), o); err == nil {
		t.Error("the revocation returns no error")
	}
	must(t, server.Client.Del(ctx, key).Err())
	redistest.Eventually(t, "it is stored", func() bool { return n.read(n.a, 1).Record.RevokedBefore.Equal(o) })
	if log.Count("redis unavailable") > 0 {
		t.Errorf("an outage:\n%s", log)
	}
}

// TestDeferredWrites_PutBack: what could not be written is merged with what was deferred meanwhile.
func TestDeferredWrites_PutBack(t *testing.T) {
	t.Parallel()
	d, o := newDeferredWrites(), openedAgo(5)
	d.deferRevokedTicket(session.DecisionUpdate{Record: deniedRecord(1, o)})
	d.deferTombstone(idOf(1), o)
	d.deferCounters(idOf(1), session.Counters{Requests: 3})
	d.deferHeartbeats([]session.Heartbeat{{ID: idOf(1), LastSeen: o}, {ID: idOf(2), LastSeen: o}})
	writes, _ := d.takeAll()
	if len(writes) != 1 || !d.isEmpty() {
		t.Fatalf("took %d, left empty: %t", len(writes), d.isEmpty())
	}
	d.deferTombstone(idOf(1), o.Add(-time.Minute))
	d.deferCounters(idOf(1), session.Counters{Requests: 4})
	d.putBack(idOf(1), writes[idOf(1)])
	w := d.writes[idOf(1)]
	if w.revokedTicket == nil || !w.revokedBefore.Equal(o) || w.counters.Requests != 7 || !w.lastSeen.Equal(o) {
		t.Errorf("merged: %+v", w)
	}
}

// TestDeferredWrites_Bound: beyond 200,000 sessions they are dropped, and counted.
func TestDeferredWrites_Bound(t *testing.T) {
	t.Parallel()
	d := newDeferredWrites()
	for i := range 200_001 {
		d.deferTombstone(backends.SessionID{byte(i), byte(i >> 8), byte(i >> 16)}, openedAgo(1))
	}
	d.deferTombstone(backends.SessionID{}, openedAgo(2)) // it is known
	if writes, dropped := d.takeAll(); len(writes) != 200_000 || dropped != 1 {
		t.Errorf("%d are deferred, %d dropped", len(writes), dropped)
	}
	if _, dropped := d.takeAll(); dropped != 0 {
		t.Errorf("%d are dropped again", dropped)
	}
}

// TestNode_Idle_ReplaysWithoutMessage appends a revocation to the stream that is not published. A node to which nothing else
// happens learns of it by its heartbeat.
func TestNode_Idle_ReplaysWithoutMessage(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	ctx := t.Context()
	for _, p := range peers {
		must(t, p.AwaitBans(ctx)) // until then it replays with each heartbeat
	}
	for i := range 3 {
		for _, p := range peers {
			waitForHeartbeat(t, server, p)
		}
		name, last := fmt.Sprint("lost-", i), server.Client.HGet(ctx, "usher:{all}:state", "last").Val()
		if last == "" {
			last = "0-0"
		}
		decision := peers[0].cipher.Encrypt([]byte(`{"v":"denied","s":"operator"}`), "revocation "+name)
		payload, err := json.Marshal(map[string]any{
			"v": 1, "k": 1, "u": name, "s": idOf(i).String(), "d": base64.StdEncoding.EncodeToString(decision),
		})
		must(t, err)
		id, err := server.Client.XAdd(ctx, revocationEntry(string(payload), last)).Result()
		must(t, err)
		must(t, server.Client.HSet(ctx, "usher:{all}:state", "last", id).Err())
		wantAllReceive(t, peers, "denied "+idOf(i).String())
	}
	for _, p := range peers {
		if n := p.recheckCount() + p.log.Count("redis lost"); n > 0 {
			t.Errorf("%s rechecked its sessions, or noticed a loss:\n%s", p.Name(), p.log)
		}
	}
}

// TestNode_SharedState_TTL: what nodes must agree on outlives the last of them by a day, or as long as tickets admit.
func TestNode_SharedState_TTL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ revive, want time.Duration }{{time.Minute, 24 * time.Hour}, {48 * time.Hour, 48 * time.Hour}} {
		server := redistest.Start(t)
		p, _ := startPeer(t, testConfig(server), "a", func(o *Options) { o.ReviveFor = test.revive })
		waitForHeartbeat(t, server, p)
		must(t, p.Revoke(t.Context(), session.Revocation{Kind: session.RevokedDenied, Session: idOf(1), Decision: denial("x")}))
		if got := server.Client.PTTL(t.Context(), "usher:{all}:revocations").Val(); (got - test.want).Abs() > redistest.Timeout {
			t.Errorf("after a denial the stream expires in %v, want %v", got, test.want)
		}
		must(t, server.Client.Persist(t.Context(), "usher:{all}:revocations").Err())
		ban := banAnn(t, p, idOf(1))
		redistest.Eventually(t, "the tombstone is stored", func() bool { return server.Client.HLen(t.Context(), "usher:{all}:bans").Val() == 2 })
		for key, want := range map[string]time.Duration{
			"revocations": test.want, "state": test.want, "nodes": time.Minute, "heartbeats": time.Minute,
			"bans": time.Until(ban.Until), "ban-expiries": time.Until(ban.Until),
		} {
			got := server.Client.PTTL(t.Context(), "usher:{all}:"+key).Val()
			if (got - want).Abs() > redistest.Timeout {
				t.Errorf("%s expires in %v, want %v", key, got, want)
			}
		}
		length, err := server.Client.XLen(t.Context(), "usher:{all}:revocations").Result()
		if must(t, err); length != 3 {
			t.Errorf("%d revocations are in the stream, want a denial, a ban and its tombstone", length)
		}
	}
}

// TestNode_Flush_RestoresDeniedStreams has Redis lose its data after a stream was superseded. The node that knows of it stores
// the streams again, before another one can take that stream for a new one.
func TestNode_Flush_RestoresDeniedStreams(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	waitForHeartbeat(t, server, peers[0])
	old, now := streamEntryOf(1, "Ann"), streamEntryOf(2, "Ann")
	old.Device, now.Device, now.Opened = "box", "box", old.Opened.Add(time.Second)
	for _, e := range []session.StreamEntry{old, now} {
		e.IsNew = true
		peers[0].ReportStreams(t.Context(), e)
	}
	must(t, server.Client.FlushAll(t.Context()).Err())
	redistest.Eventually(t, "the streams are stored again", func() bool {
		return server.Client.Exists(t.Context(), peers[0].redis.client.Keys().User("Ann")).Val() == 1
	})
	old.IsNew = true
	if got := peers[1].ReportStreams(t.Context(), old).States[0]; got != session.StreamSuperseded {
		t.Errorf("on the other node the superseded stream is %v", got)
	}
}

// TestNode_Resubscribed_TicketsMissed: a node is told each time that messages of replaced tickets may have been missed.
func TestNode_Resubscribed_TicketsMissed(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	var missed atomic.Int64
	h := peers[0].handlers()
	h.OnTicketsMissed = func() { missed.Add(1) }
	peers[0].Node.handlers.Store(&h)
	for i := range int64(3) {
		redistest.Eventually(t, "a subscription is killed", func() bool {
			return server.Client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Val() != int64(0)
		})
		redistest.Eventually(t, "the node is told", func() bool { return missed.Load() > i })
	}
}
