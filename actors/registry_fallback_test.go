package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func TestRegistry_Outage_PublishesFallbackSource(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		policy backends.Policy
		want   backends.Decision
	}{
		"allow": {backends.PolicyAllow, cachedDecision()},
		"keep":  {backends.PolicyKeep, cachedDecision()},
		"deny":  {backends.PolicyDeny, policyDenial()},
	}
	for name, c := range cases {
		c.want.User = allowedDecision().User
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var b *fakeBackend
				b = newFakeBackend(c.policy, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					if b.State() == backends.BreakerOpen {
						return breakerOpen(ctx, r)
					}
					return allowedDecision(), nil
				})
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.ReviveDenied = c.policy == backends.PolicyDeny })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				b.health.Store(uint32(backends.BreakerOpen))
				n.keepWatching(t, openRequest(1), 150*time.Second, func(d backends.Decision) {
					if d.Source != backends.FromBackend {
						t.Fatalf("source %v while the backend's decision holds", d.Source)
					}
				})
				n.keepWatching(t, openRequest(1), 35*time.Second, nil)
				got := n.watch(t, openRequest(1))
				if got.Verdict != c.want.Verdict || got.Source != c.want.Source || got.User != c.want.User {
					t.Errorf("after it expired: %+v, want %+v", got, c.want)
				}
				if asked := b.checks.Load(); asked != 1 && c.policy != backends.PolicyDeny {
					t.Errorf("%d checks, want none after the opening", asked)
				}
				b.health.Store(uint32(backends.BreakerClosed))
				n.keepWatching(t, openRequest(1), time.Minute, nil)
				if got := n.watch(t, openRequest(1)); got.Verdict != backends.Allowed || got.Source != backends.FromBackend {
					t.Errorf("a minute after the recovery: %+v, want the backend's decision", got)
				}
			})
		})
	}
}

func TestRegistry_AnswerDeadline_FallbackOnlyIfBackendHadQuestion(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		queued time.Duration // before the check is sent
		want   backends.Verdict
	}{
		"sent at once":            {0, backends.Allowed},
		"sent after a short wait": {40 * time.Millisecond, backends.Allowed},
		"sent after a queue":      {100 * time.Millisecond, backends.Pending},
		"sent at the last moment": {900 * time.Millisecond, backends.Pending},
		"never sent":              {time.Hour, backends.Pending},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					select {
					case <-time.After(c.queued):
						r.OnSent()
					case <-ctx.Done():
					}
					return hang(ctx, r)
				})
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				start := time.Now()
				got := n.watch(t, openRequest(1))
				if got.Verdict != c.want {
					t.Errorf("got %+v, want verdict %v", got, c.want)
				}
				if waited := time.Since(start); waited > time.Second {
					t.Errorf("waited %v, want at most answer_deadline=1s", waited)
				}
				synctest.Wait()
			})
		})
	}
}

// TestRegistry_AnswerDeadline_SlowBackend_QueuedViewerGetsFallback has a backend answer everybody, but too late: who waits for it
// in a queue of the node before is no worse off.
func TestRegistry_AnswerDeadline_SlowBackend_QueuedViewerGetsFallback(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		queued := time.Duration(0)
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			time.Sleep(queued)
			r.OnSent()
			time.Sleep(1500 * time.Millisecond)
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		time.Sleep(2 * time.Second)
		queued = 500 * time.Millisecond
		if got := n.watch(t, openRequest(2)); got.Verdict != backends.Allowed || got.Source != backends.FromFailOpen {
			t.Errorf("got %+v, want the outage policy to allow", got)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestRegistry_Close_Twice(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		n.watch(t, openRequest(1))
		n.Close()
		n.closeAndDrain()
	})
}
