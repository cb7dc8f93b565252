package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

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
// left denies them too, or is not enough to say.
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
				if got, most := b.checks.Load(), int64(during/DefaultConfig().DenialTTL)+1; got > most {
					t.Errorf("%d checks of one viewer on five nodes, want at most %d", got, most)
				}
				for _, n := range nodes {
					n.closeAndDrain()
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
				if s := n.Find(openRequest(i).Request.Session); s != nil {
					s.Seen(time.Now(), true)
				} else {
					_, _ = n.Open(t.Context(), openRequest(i))
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
