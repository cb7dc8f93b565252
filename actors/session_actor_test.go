package actors

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestCheckProgress_IsUnanswered(t *testing.T) {
	t.Parallel()
	const deadline = 2 * time.Second // of which a twentieth may be spent in a queue of Usher's own
	for name, test := range map[string]struct {
		due, sent, answers time.Duration
		want               bool
	}{
		"the backend was not asked":               {time.Second, 0, 0, false},
		"it was not asked, and is slow":           {time.Second, 0, time.Hour, false},
		"it was asked at once":                    {time.Second, time.Second, 0, true},
		"it was asked after a moment":             {time.Second, time.Second + 100*time.Millisecond, 0, true},
		"it was asked after more than that":       {time.Second, time.Second + 100*time.Millisecond + 1, 0, false},
		"it was asked at the node's start":        {0, 1, 0, true},
		"it was asked long after the request":     {0, time.Second, 0, false},
		"it was asked late, and answers in time":  {0, time.Second, deadline, false},
		"it was asked late, and never is in time": {0, time.Second, deadline + 1, true},
	} {
		var p sessionCheck
		p.dueAt = test.due
		p.sentAt.Store(int64(test.sent))
		if got := p.isUnanswered(deadline, test.answers); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
}

// TestSessionActor_PanicDuringCheck_AnswerDropped has the actor lose its state while a check is in flight: its answer says
// nothing of the check that the new state made.
func TestSessionActor_PanicDuringCheck_AnswerDropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		b.beforeFallback = panicOnce() // when the viewer has waited for the answer deadline
		b.check = func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			if b.checks.Load() == 1 {
				time.Sleep(1500 * time.Millisecond)
				return deniedDecision(), nil
			}
			time.Sleep(800 * time.Millisecond)
			return allowedDecision(), nil
		}
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed || d.Source != backends.FromBackend {
			t.Errorf("%v by %v, want what the second check answers", d.Verdict, d.Source)
		}
		if got := b.checks.Load(); got != 2 {
			t.Errorf("%d checks, want one more after the panic", got)
		}
	})
}

// TestSessionActor_Revoked_EvictedAlone keeps the yes of a session that its user's limit evicted, so that it may return, and of
// no other one.
func TestSessionActor_Revoked_EvictedAlone(t *testing.T) {
	t.Parallel()
	for kind, want := range map[session.RevocationKind]bool{
		session.RevokedEvicted: true, session.RevokedKicked: false, session.RevokedDenied: false, session.RevokedSuperseded: false,
	} {
		inBubble(t, func(t *testing.T) {
			n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
			defer n.closeAndDrain()
			n.watch(t, openRequest(1))
			s := n.table.find(idOf(1))
			revocation := session.Revocation{Kind: kind, Session: idOf(1), Opened: s.Ticket().Opened, Decision: policyDenial()}
			for range 2 { // the second time it is denied already
				n.OnRevocation(revocation)
				synctest.Wait()
			}
			record := s.evicted.Load()
			if (record != nil) != want || want && record.Decision.Verdict != backends.Allowed {
				t.Errorf("%v: remembers %+v, want a yes: %t", kind, record, want)
			}
			if s.Decision().Verdict != backends.Denied {
				t.Errorf("%v: the session is %v", kind, s.Decision().Verdict)
			}
		})
	}
}

// TestSessionActor_CountsUnverified adds up how long a session plays without an answer of its backend.
func TestSessionActor_CountsUnverified(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Session == idOf(3) {
				return deniedDecision(), nil
			}
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.DenialTTL = time.Hour })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		n.watch(t, openRequest(3))
		b.setCheck(breakerOpen)
		b.health.Store(uint32(backends.BreakerOpen))
		n.watch(t, openRequest(2))
		began := time.Now()
		time.Sleep(20 * time.Second)
		b.setCheck(nil)
		b.health.Store(uint32(backends.BreakerClosed))
		for n.Find(idOf(2)).Decision().Source != backends.FromBackend {
			time.Sleep(time.Millisecond)
		}
		took := time.Since(began)
		n.Find(idOf(2)).Seen(time.Now(), true)
		time.Sleep(20 * time.Second)
		for i, want := range map[int]time.Duration{1: 0, 2: took, 3: 0} {
			got := n.table.find(idOf(i)).counters().Unverified
			if (want - got).Abs() > time.Millisecond {
				t.Errorf("viewer %d was unverified for %v, want %v", i, got, want)
			}
		}
	})
}

func TestSessionActor_CountsUnverified_NoOutage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) { s.rules.Validity = 10 * time.Second })
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		if got := n.table.find(idOf(1)).counters().Unverified; got != 0 || n.backend.checks.Load() < 5 {
			t.Errorf("unverified for %v after %d checks, want never", got, n.backend.checks.Load())
		}
	})
}

// TestSessionActor_LogsDenial logs who is denied while they watch, once, and nobody who is denied from the start.
func TestSessionActor_LogsDenial(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, byAddress(1, 2))
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.DenialTTL = time.Hour })
		defer n.closeAndDrain()
		for i := 1; i <= 3; i++ {
			n.watch(t, openRequest(i))
		}
		logged := func() int { return strings.Count(n.log.String(), "running session denied") }
		if got := logged(); got != 0 {
			t.Errorf("%d denials logged, want none of a viewer who never watched", got)
		}
		for range 2 {
			for _, i := range []int{1, 3} {
				n.OnRevocation(session.Revocation{
					Kind: session.RevokedKicked, Session: idOf(i), Opened: time.Now(), Decision: session.Kicked("shared"),
				})
			}
			synctest.Wait()
		}
		if log := n.log.String(); logged() != 1 || !strings.Contains(log, "session="+idOf(1).String()) || !strings.Contains(log, "shared") {
			t.Errorf("want one denial, of viewer 1 with its reason; logged:\n%s", log)
		}
	})
}

// TestSessionActor_ViewersWaited_OneFallback has the outage policy decide once, however many requests have waited.
func TestSessionActor_ViewersWaited_OneFallback(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var fallbacks atomic.Int64
		b := newFakeBackend(backends.PolicyAllow, hang)
		b.beforeFallback = func() { fallbacks.Add(1) }
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		var viewers sync.WaitGroup
		for range 3 {
			viewers.Go(func() {
				if _, err := n.Open(t.Context(), openRequest(1)); err != nil {
					t.Error(err)
				}
			})
		}
		viewers.Wait()
		synctest.Wait()
		if got, d := fallbacks.Load(), n.Find(idOf(1)).Decision(); got != 1 || d.Source != backends.FromFailOpen {
			t.Errorf("decided %d times, now by %v; want once by fail-open", got, d.Source)
		}
	})
}

// TestSessionActor_WaitExpired_BansUnknown holds a viewer with a ticket alone, also if the answer deadline is over before it is
// known whether they are banned.
func TestSessionActor_WaitExpired_BansUnknown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		awaitBans func(ctx context.Context) error
		want      backends.Verdict
	}{
		"nobody knows the bans yet": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, backends.Pending},
		"all bans are known":        {nil, backends.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &fakeCluster{
					awaitBans:   test.awaitBans,
					beforeLease: func(context.Context) error { time.Sleep(500 * time.Millisecond); return nil },
				}
				n := newNode(newFakeBackend(backends.PolicyAllow, breakerOpen), store, func(s *setup) { s.StoreTimeout = 600 * time.Millisecond })
				defer n.closeAndDrain()
				s, err := n.Open(t.Context(), ticketRequest(1, time.Now()))
				if err != nil {
					t.Fatal(err)
				}
				if d := s.Decision(); d.Verdict != test.want {
					t.Errorf("%v by %v, want %v", d.Verdict, d.Source, test.want)
				}
			})
		})
	}
}
