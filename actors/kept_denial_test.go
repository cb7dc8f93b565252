package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRegistry_KeptDenial_PaidSince has viewers who were denied while a part of their backend is down pay, and ask on. The part that is
// left allows them.
func TestRegistry_KeptDenial_PaidSince(t *testing.T) {
	t.Parallel()
	for name, hasWatched := range map[string]bool{"they watched before": true, "they did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var isUnpaid atomic.Bool
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					if isUnpaid.Load() {
						return deniedDecision(), nil
					}
					return allowedDecision(), nil
				})
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				b.isImpaired.Store(true)
				isUnpaid.Store(!hasWatched)
				n.watch(t, openRequest(1))
				isUnpaid.Store(true)
				n.keepWatching(t, openRequest(1), 4*time.Minute, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("got %+v, want denied", d)
				}
				n.keepWatching(t, openRequest(1), time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied {
						t.Fatalf("got %+v while they have not paid", d)
					}
				})
				isUnpaid.Store(false)
				n.keepWatching(t, openRequest(1), 2*DefaultConfig().DenialTTL, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
					t.Errorf("got %+v, want allowed", d)
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_CheckedByOneNode has a denied viewer ask on five nodes while a part of their backend is down. The part that is
// left denies them too, or is not enough to say: then each node finds that out for itself, as it may be the only one with an outage.
func TestRegistry_KeptDenial_CheckedByOneNode(t *testing.T) {
	t.Parallel()
	for name, isUnanswered := range map[string]bool{"denied again": false, "without an answer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
					time.Sleep(100 * time.Millisecond)
					if isUnanswered && !r.IsUnknown() {
						return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
					}
					return deniedDecision(), nil
				})
				b.isImpaired.Store(true)
				store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
				var nodes []*node
				for range 5 {
					nodes = append(nodes, newNode(b, store, nil))
				}
				const during = 10 * time.Minute
				for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Second) {
					for _, n := range nodes {
						if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
							t.Fatalf("got %+v, want denied", d)
						}
					}
				}
				most := int64(during/DefaultConfig().DenialTTL) + 1
				if isUnanswered {
					most *= int64(len(nodes))
				}
				if got := b.checks.Load(); got > most {
					t.Errorf("%d checks of one viewer on five nodes, want at most %d", got, most)
				}
				for _, n := range nodes {
					n.closeAndDrain()
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_OutageOfOneNode has a denied viewer pay and ask on two nodes, of which one alone cannot reach a part of the
// backend, so that it gets no answer on who was denied. What it keeps is its own.
func TestRegistry_KeptDenial_OutageOfOneNode(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isPaid atomic.Bool
		answer := func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if isPaid.Load() {
				return allowedDecision(), nil
			}
			return deniedDecision(), nil
		}
		inOutage := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if !r.IsUnknown() {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
			}
			return deniedDecision(), nil
		})
		inOutage.isImpaired.Store(true)
		store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
		nodes := []*node{newNode(inOutage, store, nil), newNode(newFakeBackend(backends.PolicyAllow, answer), store, nil)}
		watch := func(during time.Duration) (last []backends.Decision) {
			for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Second) {
				last = last[:0]
				for _, n := range nodes {
					last = append(last, n.watch(t, openRequest(1)))
				}
			}
			return last
		}
		for i, d := range watch(time.Minute) {
			if d.Verdict != backends.Denied {
				t.Errorf("node %d: %+v before they have paid", i, d)
			}
		}
		isPaid.Store(true)
		for i, d := range watch(3 * DefaultConfig().DenialTTL) {
			if d.Verdict != backends.Allowed {
				t.Errorf("node %d: %+v, want allowed by the node that can ask", i, d)
			}
		}
		for _, n := range nodes {
			n.closeAndDrain()
		}
	})
}

// TestRegistry_KeptDenial_CutOnce has a viewer who was cut ask on while a part of their backend is down, and the part that is left denies
// them each time. Their ticket is revoked once: other nodes would look all their sessions up if they were told too often.
func TestRegistry_KeptDenial_CutOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isCut atomic.Bool
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			if isCut.Load() {
				return deniedDecision(), nil
			}
			return allowedDecision(), nil
		})
		b.isImpaired.Store(true)
		store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
		n := newNode(b, store, nil)
		n.watch(t, openRequest(1))
		isCut.Store(true)
		n.keepWatching(t, openRequest(1), 10*time.Minute, nil)
		n.closeAndDrain()
		if got := b.checks.Load(); got < 20 {
			t.Errorf("%d checks, want one after each denial_ttl", got)
		}
		if got := len(store.announced); got != 1 {
			t.Errorf("%d revocations are announced, want 1", got)
		}
	})
}

// TestRegistry_KeptDenial_WithoutCredentials has a viewer ask on who shows nothing that a backend could be asked about, or whom a bound
// keeps from opening the session anew. They stay denied.
func TestRegistry_KeptDenial_WithoutCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hasCredentials bool
		max            int
	}{"a ticket alone": {false, 10}, "a full node": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return deniedDecision(), nil
				})
				b.isImpaired.Store(true)
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.Max = test.max })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				again := openRequest(1)
				again.HasCredentials = test.hasCredentials
				again.Ticket = session.Ticket{Opened: time.Now().Add(-time.Minute), KeyID: "a"}
				n.keepWatching(t, again, 5*time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied || d.Source != backends.FromBackend {
						t.Fatalf("got %+v, want the denial", d)
					}
				})
				if got := b.checks.Load(); got != 1 {
					t.Errorf("%d checks, want 1", got)
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_DeniedRate has many denied viewers ask while a part of their backend is down. Each check costs a look-up in the
// store, where there is one.
func TestRegistry_KeptDenial_DeniedRate(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]*fakeCluster{
		"one node": {}, "one of many": {isShared: true, leases: map[backends.SessionID]time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testKeptDenialDeniedRate(t, store)
		})
	}
}

func testKeptDenialDeniedRate(t *testing.T, store *fakeCluster) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		b.isImpaired.Store(true)
		const rate, seconds = 20, 120
		n := newNode(b, store, func(s *setup) { s.Config.DeniedRate = rate })
		defer n.closeAndDrain()
		for range seconds {
			for i := range 500 {
				if s, err := n.Open(t.Context(), openRequest(i)); err == nil {
					s.Seen(time.Now(), true)
				}
			}
			time.Sleep(time.Second)
		}
		const saved = 10 * rate // seconds of it are saved up
		if got := b.checks.Load(); got > rate*seconds+saved {
			t.Errorf("%d checks in %d s, want at most %d a second after %d", got, seconds, rate, saved)
		}
		store.mu.Lock()
		lookups := store.loads
		store.mu.Unlock()
		if lookups > rate*seconds+saved {
			t.Errorf("%d look-ups in %d s, want at most %d a second after %d", lookups, seconds, rate, saved)
		}
		for _, r := range b.requests() {
			if r.request.IsRecheck || r.request.Current.Verdict == backends.Denied && !r.request.IsStranger {
				t.Fatalf("a viewer who is denied waits as %+v, want as a stranger", r.request)
			}
		}
	})
}
