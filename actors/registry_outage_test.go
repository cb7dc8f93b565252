package actors

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestRegistry_OutageEnds_PacedRechecksUnverifiedFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const known, unknown = 1000, 1000
		var down atomic.Bool
		b := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if down.Load() {
				return breakerOpen(ctx, r)
			}
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.IdleTimeout = time.Hour })
		defer n.closeAndDrain()
		for i := range known {
			n.watch(t, openRequest(i))
		}
		down.Store(true)
		b.health.Store(uint32(backends.BreakerOpen))
		for i := range unknown {
			if d := n.watch(t, openRequest(known+i)); d.Source != backends.FromFailOpen {
				t.Fatalf("unknown viewer: source %v, want fail-open", d.Source)
			}
		}
		time.Sleep(10 * time.Minute) // every decision expires
		synctest.Wait()
		if got := b.checks.Load(); got != known+unknown {
			t.Errorf("%d checks until the recovery, want %d: one each", got, known+unknown)
		}
		down.Store(false)
		b.health.Store(uint32(backends.BreakerClosed))
		recovery := time.Now()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		var at []time.Time
		unverifiedDone := false
		for _, a := range b.requests()[known+unknown:] {
			if a.at.Sub(recovery) > 11*time.Second || a.request.Number > 1 {
				continue
			}
			at = append(at, a.at)
			isUnverified := a.request.Current.Source == backends.FromFailOpen
			if isUnverified && unverifiedDone {
				t.Fatal("an unverified session checked after a verified one")
			}
			unverifiedDone = !isUnverified
		}
		if len(at) != known+unknown {
			t.Errorf("%d re-checks after the recovery, want %d", len(at), known+unknown)
		}
		if most := maxPerSecond(at); most > 200 {
			t.Errorf("%d re-checks in one second, want at most recheck_rate=200", most)
		}
		for i := range known + unknown {
			if d := n.watch(t, openRequest(i)); d.Source != backends.FromBackend {
				t.Fatalf("viewer %d: source %v after the recovery, want backend", i, d.Source)
			}
		}
	})
}

// recheckCounts is an Observer of re-checks.
type recheckCounts struct {
	noObserver

	mu       sync.Mutex
	due      int
	delays   []time.Duration
	outcomes map[string]int
}

func (c *recheckCounts) RecheckDue(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due++
}

func (c *recheckCounts) RecheckGranted(_ string, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delays = append(c.delays, delay)
}

func (c *recheckCounts) Rechecked(_ string, d *backends.Decision) {
	outcome := "unneeded"
	if d != nil {
		outcome = d.Verdict.String() + " by " + d.Source.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcome]++
}

// expiredCounts is an Observer of unverified sessions whose token has expired.
type expiredCounts struct {
	noObserver

	mu     sync.Mutex
	counts map[string]int
}

func (c *expiredCounts) TokenExpired(backend string, sessions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[backend] += sessions; c.counts[backend] == 0 {
		delete(c.counts, backend)
	}
}

// TestRegistry_TokenExpired_Observed counts the sessions that an outage has let in and that nobody can be asked about any more, by
// their backend, until they end. Those that the backend has answered are not among them.
func TestRegistry_TokenExpired_Observed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isDown    bool
		tokenLife time.Duration
		want      map[string]int
	}{
		"an outage":                       {true, 5 * time.Second, map[string]int{"portal": 2}},
		"an outage, tokens that live":     {true, 3 * time.Hour, map[string]int{}},
		"an outage, tokens without limit": {true, 0, map[string]int{}},
		"the backend answers":             {false, 5 * time.Second, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				c, b := &expiredCounts{counts: map[string]int{}}, newFakeBackend(backends.PolicyAllow, nil)
				n := newNode(b, &fakeCluster{}, func(s *setup) {
					s.Observer, s.Config.IdleTimeout, s.rules.TokenLife = c, time.Hour, test.tokenLife
				})
				defer n.closeAndDrain()
				want := func(when string, want map[string]int) {
					t.Helper()
					synctest.Wait()
					if c.mu.Lock(); !maps.Equal(c.counts, want) {
						t.Errorf("%s: counted %v, want %v", when, c.counts, want)
					}
					c.mu.Unlock()
				}
				if test.isDown {
					b.setCheck(breakerOpen)
					b.health.Store(uint32(backends.BreakerOpen))
				}
				for i := range 2 {
					n.watch(t, openRequest(i))
				}
				want("at the openings", map[string]int{})
				time.Sleep(10 * time.Minute)
				want("in the outage", test.want)
				b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return allowedDecision(), nil })
				b.health.Store(uint32(backends.BreakerClosed))
				time.Sleep(10 * time.Minute)
				want("after the outage", test.want)
				other := n.options(b, time.Minute)
				other.Rules.TokenLife = test.tokenLife
				config := DefaultConfig()
				config.IdleTimeout = time.Hour
				n.Reload(config, map[string]BackendOptions{"other": other}, insteadOf("portal", "other"))()
				moved := map[string]int{}
				if test.want["portal"] > 0 {
					moved["other"] = test.want["portal"]
				}
				want("of another backend", moved)
				time.Sleep(2 * time.Hour)
				want("once they have ended", map[string]int{})
			})
		})
	}
}

// TestRegistry_Rechecks_Observed tells of re-checks that are due, how late they are made, and what they bring: in an outage they
// are late, and one that another node has made is not needed. An opening is no re-check.
func TestRegistry_Rechecks_Observed(t *testing.T) {
	t.Parallel()
	const validity, outage = 3 * time.Minute, 10 * time.Minute
	for name, test := range map[string]struct {
		then   func(b *fakeBackend, store *fakeCluster)
		late   bool
		shared bool
		want   map[string]int
	}{
		"allowed again": {func(*fakeBackend, *fakeCluster) {}, false, false, map[string]int{"allowed by backend": 2}},
		"denied": {func(b *fakeBackend, _ *fakeCluster) {
			b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil })
		}, false, false, map[string]int{"denied by backend": 2}},
		"no answer": {func(b *fakeBackend, _ *fakeCluster) {
			b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal"}
			})
		}, false, false, map[string]int{"allowed by cached": 2}},
		"an outage": {func(b *fakeBackend, _ *fakeCluster) {
			b.health.Store(uint32(backends.BreakerOpen))
			time.AfterFunc(outage, func() { b.health.Store(uint32(backends.BreakerClosed)) })
		}, true, false, map[string]int{"allowed by backend": 2}},
		"another node was asked": {func(_ *fakeBackend, store *fakeCluster) {
			for i := range 2 {
				r := store.get(idOf(i))
				r.Revision, r.Expires = r.Revision+1, time.Now().Add(time.Hour)
				store.set(r)
			}
		}, false, true, map[string]int{"unneeded": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				c := &recheckCounts{outcomes: map[string]int{}}
				b, store := newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: test.shared}
				n := newNode(b, store, func(s *setup) {
					s.Observer, s.Config.IdleTimeout, s.rules.Validity = c, time.Hour, validity
					s.Config.Recheck.Min = time.Minute
				})
				defer n.closeAndDrain()
				for i := range 2 {
					n.watch(t, openRequest(i))
				}
				synctest.Wait()
				c.mu.Lock()
				if c.due+len(c.delays)+len(c.outcomes) != 0 {
					t.Errorf("after the openings: %d due, %v and %v, want nothing", c.due, c.delays, c.outcomes)
				}
				c.mu.Unlock()
				test.then(b, store)
				time.Sleep(validity)
				if test.late {
					time.Sleep(outage - validity + time.Minute)
				}
				synctest.Wait()
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.due != 2 || len(c.delays) != 2 || !maps.Equal(c.outcomes, test.want) {
					t.Errorf("got %d due, granted after %v, ended %v; want 2, which end %v", c.due, c.delays, c.outcomes, test.want)
				}
				for _, delay := range c.delays {
					if isLate := delay > outage-validity; isLate != test.late {
						t.Errorf("a re-check came %v after it was due, want it late: %t", delay, test.late)
					}
				}
			})
		})
	}
}

func TestRegistry_AllDenied_ProbesHalfOpenBackend(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		policy backends.Policy
		denial backends.Decision // before the outage
	}{
		"denied by the policy":  {backends.PolicyDeny, backends.Decision{}},
		"denied by the backend": {backends.PolicyAllow, deniedDecision()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var b *fakeBackend
				answer := func(context.Context, *backends.Request) (backends.Decision, error) { return c.denial, nil }
				var back atomic.Bool
				b = newFakeBackend(c.policy, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					switch {
					case back.Load(): // a half-open breaker closes by the first answer
						b.health.Store(uint32(backends.BreakerClosed))
						return allowedDecision(), nil
					case b.State() != backends.BreakerClosed:
						return breakerOpen(ctx, r)
					default:
						return answer(ctx, r)
					}
				})
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				if c.policy == backends.PolicyDeny {
					b.health.Store(uint32(backends.BreakerOpen))
				}
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("verdict %v, want denied", d.Verdict)
				}
				b.health.Store(uint32(backends.BreakerOpen))
				n.keepWatching(t, openRequest(1), 5*time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied {
						t.Fatalf("verdict %v during the outage, want denied", d.Verdict)
					}
				})
				back.Store(true)
				b.health.Store(uint32(backends.BreakerHalfOpen))
				n.keepWatching(t, openRequest(1), time.Minute, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
					t.Errorf("verdict %v a minute after the recovery, want allowed", d.Verdict)
				}
			})
		})
	}
}

// TestRegistry_Open_StoreFrozen_WaitsStoreTimeout freezes the store at every step of an opening.
func TestRegistry_Open_StoreFrozen_WaitsStoreTimeout(t *testing.T) {
	t.Parallel()
	const deadline = 100 * time.Millisecond
	frozen := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	late := func(context.Context) error { // a lease may wait for another node's answer, so the store itself keeps the timeout
		time.Sleep(deadline)
		return errors.New("away")
	}
	after := func(d time.Duration) func(context.Context) error {
		return func(context.Context) error {
			time.Sleep(d)
			return nil
		}
	}
	evictedRecord := session.Record{
		ID: idOf(1), Opened: t0(), KeyID: "a", Decision: allowedDecision(), Revision: 1, Request: openRequest(1).Request, IsEvicted: true,
	}
	tests := map[string]struct {
		store *fakeCluster
		known bool
	}{
		"at the lease":          {store: &fakeCluster{beforeLease: late, beforeJoin: frozen, beforeSave: frozen}},
		"at the stream":         {store: &fakeCluster{beforeLease: after(deadline / 2), beforeJoin: frozen, beforeSave: frozen}},
		"at the decision":       {store: &fakeCluster{beforeLease: after(deadline / 4), beforeJoin: after(deadline / 4), beforeSave: frozen}},
		"of an evicted session": {store: &fakeCluster{beforeLease: after(deadline / 2), beforeJoin: frozen, beforeSave: frozen}, known: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					d := allowedDecision()
					d.UserID, d.MaxSessions = "7", 1
					return d, nil
				})
				test.store.isShared = true
				n := newNode(b, test.store, func(s *setup) { s.StoreTimeout = deadline })
				defer n.closeAndDrain()
				if test.known {
					r := evictedRecord
					r.Expires = time.Now().Add(time.Hour)
					r.Decision.UserID, r.Decision.MaxSessions = "7", 1
					test.store.set(r)
				}
				began := time.Now()
				d := n.watch(t, openRequest(1))
				if took := time.Since(began); took > deadline || d.Verdict != backends.Allowed {
					t.Errorf("%v after %v, want allowed within %v", d.Verdict, took, deadline)
				}
			})
		})
	}
}

// TestRegistry_BansUnknown_TicketHeld has a viewer of whom only the ticket is known come while the bans are being restored.
func TestRegistry_BansUnknown_TicketHeld(t *testing.T) {
	t.Parallel()
	ban := session.Ban{ID: "b", User: "Ann"}
	for name, test := range map[string]struct {
		knownAfter time.Duration
		err        error // of AwaitBans
		isBanned   bool
		request    session.OpenRequest
		want       backends.Verdict
		source     backends.Source
	}{
		"they are soon known": {knownAfter: 500 * time.Millisecond, want: backends.Allowed, source: backends.FromTicket},
		"they are soon known, and one is the viewer's": {
			knownAfter: 500 * time.Millisecond, isBanned: true, want: backends.Denied, source: backends.FromBan,
		},
		"they are known too late":              {knownAfter: time.Hour, want: backends.Pending},
		"they are known too late for a banned": {knownAfter: time.Hour, isBanned: true, want: backends.Pending},
		"in an outage nothing is known":        {err: backends.ErrStoreUnavailable, want: backends.Allowed, source: backends.FromTicket},
		"credentials are checked":              {knownAfter: time.Hour, request: openRequest(1), want: backends.Allowed, source: backends.FromBackend},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var isKnown atomic.Bool
				store := &fakeCluster{isShared: true}
				store.awaitBans = func(ctx context.Context) error {
					select {
					case <-time.After(test.knownAfter):
						isKnown.Store(true)
						return test.err
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				store.banned = func(*backends.Request, *backends.Decision) (session.Ban, bool) {
					return ban, test.isBanned && isKnown.Load()
				}
				n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return allowedDecision(), nil
				}), store, nil)
				defer n.closeAndDrain()
				r := test.request
				if r.Request == nil {
					r = ticketRequest(1, time.Now().Add(-time.Minute))
				}
				start := time.Now()
				if d := n.watch(t, r); d.Verdict != test.want || d.Source != test.source {
					t.Errorf("decided %+v, want %v by %v", d, test.want, test.source)
				}
				if took := time.Since(start); took >= time.Second {
					t.Errorf("the viewer waited for %v", took)
				}
			})
		})
	}
}

// TestRegistry_CredentialsBanned_DeniedAtOnce has a viewer who was admitted by ticket show banned credentials.
func TestRegistry_CredentialsBanned_DeniedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{isShared: true}
		store.banned = func(r *backends.Request, _ *backends.Decision) (session.Ban, bool) {
			return session.Ban{ID: "b"}, r.Query != ""
		}
		b := newFakeBackend(backends.PolicyAllow, breakerOpen)
		b.health.Store(uint32(backends.BreakerOpen))
		n := newNode(b, store, nil)
		defer n.closeAndDrain()
		if d := n.watch(t, ticketRequest(1, time.Now())); d.Source != backends.FromTicket {
			t.Fatalf("decided %+v", d)
		}
		s, err := n.Open(t.Context(), openRequest(1))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d := s.Decision(); d.Source != backends.FromBan {
			t.Errorf("with banned credentials: %+v", d)
		}
	})
}

// TestRegistry_StateLost_EvictedStoredAgain: the store learns again that a session is evicted, and whose it is.
func TestRegistry_StateLost_EvictedStoredAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{isShared: true}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return allowedDecision(), nil
		}), store, nil)
		defer n.closeAndDrain()
		for i := range 2 {
			n.watch(t, openRequest(i))
		}
		opened := n.Find(idOf(0)).Ticket().Opened
		n.OnRevocation(session.Revocation{Kind: session.RevokedEvicted, Session: idOf(0), Opened: opened, Decision: evictedDecision(&backends.Decision{})})
		synctest.Wait()
		store.mu.Lock()
		store.records = nil
		store.mu.Unlock()
		n.OnStateLost()
		time.Sleep(time.Second)
		synctest.Wait()
		got := store.get(idOf(0))
		if got.Decision.Verdict != backends.Allowed || !got.IsEvicted || got.Request == nil || !got.Opened.Equal(opened) {
			t.Errorf("the store has %+v, want the evicted session with the backend's yes", got)
		}
		if other := store.get(idOf(1)); other.IsEvicted {
			t.Errorf("another session is evicted: %+v", other)
		}
	})
}

// TestRegistry_StateLost_StoresNewAgain: the store loses a session before its first heartbeat, which then tells of no loss.
func TestRegistry_StateLost_StoresNewAgain(t *testing.T) {
	t.Parallel()
	for name, heartbeats := range map[string]time.Duration{"before a heartbeat": 0, "after its first": 1} {
		inBubble(t, func(t *testing.T) {
			r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}, unknown: []backends.SessionID{idOf(1)}}
			n := newHeartbeatNode(r)
			defer n.closeAndDrain()
			n.watch(t, openRequest(1))
			synctest.Wait()
			r.fakeCluster.mu.Lock()
			r.records = nil
			r.fakeCluster.mu.Unlock()
			time.Sleep(heartbeats * 16 * time.Second)
			n.OnStateLost()
			synctest.Wait()
			if got := r.get(idOf(1)); got.Decision.Verdict != backends.Allowed || got.Request == nil {
				t.Errorf("%s: the store has %+v, want the session", name, got)
			}
		})
	}
}

// TestRegistry_SaveFailed_LookedUpAgain: a session that could not be stored is looked up with the next heartbeat, and stored.
func TestRegistry_SaveFailed_LookedUpAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isFailing atomic.Bool
		isFailing.Store(true)
		store := &fakeCluster{isShared: true}
		store.beforeSave = func(context.Context) error {
			if isFailing.Load() {
				return backends.ErrStoreUnavailable
			}
			return nil
		}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return allowedDecision(), nil
		}), store, func(s *setup) { s.HeartbeatInterval = 20 * time.Second })
		defer n.closeAndDrain()
		n.watch(t, openRequest(0))
		synctest.Wait()
		if got := store.get(idOf(0)); got.Decision.Verdict != backends.Pending {
			t.Fatalf("stored: %+v", got)
		}
		isFailing.Store(false)
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if got := store.get(idOf(0)); !got.Opened.Equal(n.Find(idOf(0)).Ticket().Opened) {
			t.Errorf("stored: %+v", got)
		}
	})
}

// TestRegistry_TicketReplaced_Adopted: a session that another node stored with its own ticket takes that ticket.
func TestRegistry_TicketReplaced_Adopted(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{isShared: true}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return allowedDecision(), nil
		}), store, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(0))
		synctest.Wait()
		theirs := store.get(idOf(0))
		theirs.Opened, theirs.KeyID = theirs.Opened.Add(time.Second), "b"
		store.set(theirs)
		n.OnTicketReplaced(idOf(0))
		n.OnTicketReplaced(idOf(1)) // of no session here
		synctest.Wait()
		want := session.Ticket{Opened: theirs.Opened, KeyID: "b"}
		if got := n.Find(idOf(0)).Ticket(); got != want {
			t.Errorf("the ticket is %+v, want %+v", got, want)
		}
	})
}

// TestRegistry_TicketReplaced_LookFails has the store fail when this node looks for the other ticket. The next heartbeat looks
// again.
func TestRegistry_TicketReplaced_LookFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isFailing atomic.Bool
		store := &fakeCluster{isShared: true, beforeLease: func(context.Context) error { return failing(&isFailing) }}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return allowedDecision(), nil
		}), store, func(s *setup) { s.HeartbeatInterval = 20 * time.Second })
		defer n.closeAndDrain()
		n.watch(t, openRequest(0))
		synctest.Wait()
		theirs := store.get(idOf(0))
		theirs.Opened, theirs.KeyID = theirs.Opened.Add(time.Second), "b"
		store.set(theirs)
		isFailing.Store(true)
		n.OnTicketReplaced(idOf(0))
		synctest.Wait()
		isFailing.Store(false)
		time.Sleep(21 * time.Second)
		synctest.Wait()
		want := session.Ticket{Opened: theirs.Opened, KeyID: "b"}
		if got := n.Find(idOf(0)).Ticket(); got != want {
			t.Errorf("the ticket is %+v, want %+v", got, want)
		}
	})
}

// TestRegistry_TicketsMissed_Adopted has another node store its ticket of a session while no message reaches this one. The
// session is looked up when messages come again, if the store has failed since it was opened; others are not.
func TestRegistry_TicketsMissed_Adopted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail       func(store *fakeCluster, isFailing *atomic.Bool)
		isLookedUp bool
	}{
		"it was not stored at once": {func(store *fakeCluster, isFailing *atomic.Bool) {
			store.beforeSave = func(context.Context) error { return failing(isFailing) }
		}, true},
		"it was not looked up": {func(store *fakeCluster, isFailing *atomic.Bool) {
			store.beforeLease = func(context.Context) error { return failing(isFailing) }
		}, true},
		"it was stored at once": {func(*fakeCluster, *atomic.Bool) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var isFailing atomic.Bool
				isFailing.Store(true)
				store := &fakeCluster{isShared: true}
				tc.fail(store, &isFailing)
				n := newNode(newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return allowedDecision(), nil
				}), store, func(s *setup) { s.HeartbeatInterval = 20 * time.Second })
				defer n.closeAndDrain()
				n.watch(t, openRequest(0))
				synctest.Wait() // the decision was to be stored
				isFailing.Store(false)
				time.Sleep(21 * time.Second)
				synctest.Wait()
				mine, theirs := n.Find(idOf(0)).Ticket(), store.get(idOf(0))
				if !theirs.Opened.Equal(mine.Opened) {
					t.Fatalf("stored: %+v, opened at %v", theirs, mine.Opened)
				}
				theirs.Opened, theirs.KeyID = theirs.Opened.Add(time.Second), "b"
				store.set(theirs)
				want := mine
				if tc.isLookedUp {
					want = session.Ticket{Opened: theirs.Opened, KeyID: "b"}
				}
				n.OnTicketsMissed()
				time.Sleep(time.Second)
				synctest.Wait()
				if got := n.Find(idOf(0)).Ticket(); got != want {
					t.Errorf("the ticket is %+v, want %+v", got, want)
				}
			})
		})
	}
}

func failing(isFailing *atomic.Bool) error {
	if isFailing.Load() {
		return backends.ErrStoreUnavailable
	}
	return nil
}
