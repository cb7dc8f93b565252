package actors

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRevoker_BurstOfKicks has many kicks arrive at once, one of them of a user on one channel.
func TestRevoker_BurstOfKicks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var matches atomic.Int64
		var isPlaced, isLifted atomic.Bool
		kick := session.Ban{ID: "k7", User: "17", Channel: "a001", Reason: "shared", IsKick: true}
		store := &fakeCluster{banned: func(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
			matches.Add(1)
			isKicked := isPlaced.Load() && !isLifted.Load() && d != nil && d.UserID == kick.User && r.Channel == kick.Channel
			return kick, isKicked
		}}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
		defer n.closeAndDrain()
		const count, kicks = 100, 200
		request := func(i int) session.OpenRequest {
			r := openRequest(i)
			r.Request.Channel = []string{"a001", "a002"}[i%2]
			return r
		}
		open := func(i int) session.Handle {
			s, err := n.Open(t.Context(), request(i))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		sessions := make([]session.Handle, count)
		for i := range sessions {
			sessions[i] = open(i)
		}
		synctest.Wait()
		isPlaced.Store(true)
		matches.Store(0)
		for i := range kicks {
			n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: fmt.Sprint("k", i), User: fmt.Sprint("someone", i)}})
		}
		n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: kick})
		synctest.Wait()
		if got := matches.Load(); got > kicks*count/10 {
			t.Errorf("%d kicks matched sessions %d times, want a few passes over %d", kicks, got, count)
		}
		for i, s := range sessions {
			d := s.Decision()
			switch {
			case i%2 == 1 && d.Verdict != backends.Allowed:
				t.Fatalf("on another channel the user is %v by %v", d.Verdict, d.Source)
			case i%2 == 0 && (d.Verdict != backends.Denied || d.Source != backends.FromOperator || d.Reason != "ended by an operator: shared" || d.UserID != "17"):
				t.Fatalf("the kicked user is %v by %v: %s", d.Verdict, d.Source, d.Reason)
			}
		}
		if d := open(count * 2).Decision(); d.Source != backends.FromOperator {
			t.Errorf("the kicked user comes anew and is %v by %v", d.Verdict, d.Source)
		}
		before := sessions[0].Expires()
		time.Sleep(time.Second)
		n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: session.Ban{ID: "another", User: "other"}})
		synctest.Wait()
		if !sessions[0].Expires().Equal(before) {
			t.Error("another ban denied the kicked session once more")
		}
		isLifted.Store(true)
		n.OnRevocation(session.Revocation{Kind: session.RevokedUnbanned, Ban: kick})
		synctest.Wait()
		if d := open(0).Decision(); d.Verdict != backends.Allowed {
			t.Errorf("after the kick was lifted the user is %v by %v", d.Verdict, d.Source)
		}
	})
}

// banRecorder is a store that keeps account of the credentials that are banned, and of what is looked up.
type banRecorder struct {
	*fakeCluster

	mu     sync.Mutex
	banned []backends.SessionID
	looked []backends.SessionID
}

func (b *banRecorder) BanCredentials(_ context.Context, presented iter.Seq2[session.Ban, *backends.Request]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, request := range presented {
		b.banned = append(b.banned, request.Session)
	}
	return nil
}

func (b *banRecorder) AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error) {
	b.mu.Lock()
	b.looked = append(b.looked, r.ID)
	b.mu.Unlock()
	return b.fakeCluster.AcquireLease(ctx, r)
}

// TestRevoker_UserBan_BansCredentials: a ban of a user also bans what their viewers presented, and a ban of addresses does not.
func TestRevoker_UserBan_BansCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ban  session.Ban
		want int
	}{
		"of a user":    {session.Ban{ID: "b", User: "17"}, 1},
		"of addresses": {session.Ban{ID: "b", Prefix: prefixOf(1)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var isBanned atomic.Bool
				store := &banRecorder{fakeCluster: &fakeCluster{banned: func(*backends.Request, *backends.Decision) (session.Ban, bool) {
					return test.ban, isBanned.Load()
				}}}
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) { s.Cluster = store })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				n.watch(t, ticketRequest(2, time.Now())) // with nothing to ban
				isBanned.Store(true)
				n.OnRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: test.ban})
				synctest.Wait()
				store.mu.Lock()
				defer store.mu.Unlock()
				if len(store.banned) != test.want || test.want == 1 && store.banned[0] != idOf(1) {
					t.Errorf("banned the credentials of %v, want %d", store.banned, test.want)
				}
				for i := 1; i <= 2; i++ {
					if d := n.Find(idOf(i)).Decision(); d.Source != backends.FromBan {
						t.Errorf("viewer %d: %+v", i, d)
					}
				}
			})
		})
	}
}

// TestRevoker_RedisRecovered_LooksUp: the unverified and the unsaved sessions are looked up, and no others.
func TestRevoker_RedisRecovered_LooksUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &banRecorder{fakeCluster: &fakeCluster{isShared: true}}
		answer := byAddress(1, 2)
		b := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Session == idOf(5) {
				return hang(ctx, r)
			}
			return answer(ctx, r)
		})
		n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster = store })
		defer n.closeAndDrain()
		for i := 1; i <= 3; i++ { // the third is denied
			n.watch(t, openRequest(i))
		}
		n.watch(t, ticketRequest(4, time.Now()))
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		go func() { _, _ = n.Open(ctx, openRequest(5)) }() // which is undecided
		synctest.Wait()
		n.table.find(idOf(2)).flags.set(flagUnsaved, true)
		store.mu.Lock()
		store.looked = nil
		store.mu.Unlock()
		n.OnRedisRecovered()
		time.Sleep(time.Second)
		synctest.Wait()
		store.mu.Lock()
		defer store.mu.Unlock()
		got := map[backends.SessionID]bool{}
		for _, id := range store.looked {
			got[id] = true
		}
		if len(got) != 2 || !got[idOf(2)] || !got[idOf(4)] {
			t.Errorf("looked up %v, want the unsaved and the unverified session", store.looked)
		}
	})
}

// TestRegistry_SlowStore has all sessions looked up or stored in a store that is slow, few of them at once.
func TestRegistry_SlowStore(t *testing.T) {
	t.Parallel()
	const sessions = 4 * maxReloads
	for name, test := range map[string]struct {
		call    string // of [Registry.StoreCalls]
		begin   func(n *node)
		isSaved bool // and not looked up
		takes   time.Duration
		most    int
	}{
		"looked up after an outage": {"reload", func(n *node) { n.RecheckAll() }, false, 3 * time.Second, maxReloads},
		"stored after a loss":       {"save", func(n *node) { n.OnStateLost() }, true, 3 * time.Second, maxReloads},
		"looked up for their checks": {"recheck", func(n *node) {
			for range 12 {
				for i := range sessions {
					n.Find(idOf(i)).Seen(time.Now(), false)
				}
				time.Sleep(20 * time.Second)
			}
		}, false, 20 * time.Second, maxRecheckLookups},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				slow := &slowCalls{takes: test.takes}
				store := &fakeCluster{isShared: true}
				if test.isSaved {
					store.beforeSave = slow.call
				} else {
					store.beforeLease = slow.call
				}
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, func(s *setup) { s.StoreTimeout = 5 * time.Second })
				defer n.closeAndDrain()
				for i := range sessions {
					n.watch(t, openRequest(i))
				}
				synctest.Wait() // until the last opening is stored
				slow.isOn.Store(true)
				test.begin(n)
				time.Sleep(time.Second)
				if shown := n.StoreCalls()[test.call]; int64(shown) != slow.now.Load() || shown == 0 {
					t.Errorf("%d calls for %q are shown, want the %d that wait", shown, test.call, slow.now.Load())
				}
				time.Sleep(20 * time.Second)
				few := int64(test.most + test.most/16) // a call counts once the session's actor has got the message
				all, comesAgain := slow.all.Load(), test.call == "recheck"
				if most := slow.most.Load(); all < sessions || !comesAgain && all > sessions || most > few {
					t.Errorf("%d calls, up to %d at once; want %d, and %d", all, most, sessions, few)
				}
			})
		})
	}
}

// slowCalls are calls to a store that takes so long for each once it is on. It counts these.
type slowCalls struct {
	takes          time.Duration
	isOn           atomic.Bool
	now, most, all atomic.Int64
}

func (c *slowCalls) call(context.Context) error {
	if !c.isOn.Load() {
		return nil
	}
	c.all.Add(1)
	now := c.now.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	time.Sleep(c.takes)
	c.now.Add(-1)
	return nil
}
