package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// edgeRequest returns the opening of a viewer whose edge asks when a decision expires.
func edgeRequest(i int) session.OpenRequest {
	a := openRequest(i)
	a.ExtraLifetime = time.Minute
	return a
}

func TestRegistry_EdgeSession_LastsValidityAndExtraLifetime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		validFor, lasts time.Duration
	}{
		"the backend says for how long":      {time.Hour, time.Hour + time.Minute},
		"it does not say":                    {0, 4 * time.Minute},
		"never below the idle timeout":       {10 * time.Second, 70 * time.Second},
		"no longer than recheck.max allows":  {100 * time.Hour, 2*time.Hour + time.Minute},
		"no shorter than recheck.min allows": {time.Second, 70 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					d := allowedDecision()
					d.ValidFor = test.validFor
					return d, nil
				})
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.Recheck.Max = 2 * time.Hour })
				defer n.closeAndDrain()
				n.watch(t, edgeRequest(1))
				time.Sleep(test.lasts - 2*time.Second)
				synctest.Wait()
				if n.Find(idOf(1)) == nil {
					t.Fatalf("no session within %v", test.lasts-2*time.Second)
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if n.Find(idOf(1)) != nil {
					t.Errorf("a session still after %v", test.lasts+3*time.Second)
				}
			})
		})
	}
}

// An edge that asks once per validity finds a decision that was renewed meanwhile.
func TestRegistry_EdgeSession_RenewedBeforeEdgeAsks(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		for range 20 {
			n.watch(t, edgeRequest(1))
			s := n.Find(idOf(1))
			left := time.Until(s.Expires())
			if left <= 0 || left > 3*time.Minute {
				t.Fatalf("the decision has %v left, want some of 3m", left)
			}
			time.Sleep(left + 2*time.Second)
			synctest.Wait()
		}
		if got, most := b.checks.Load(), int64(22); got > most { // the first, twenty renewals, and one in flight
			t.Errorf("%d checks in twenty rounds, want %d at most", got, most)
		}
	})
}

func TestRegistry_Viewers_CountsAllowed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var deny atomic.Bool
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Channel == "secret" || deny.Load() {
				return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
			}
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		want := func(when, channel string, ofChannel, all int) {
			t.Helper()
			synctest.Wait()
			if c, a := n.Viewers(channel); c != ofChannel || a != all {
				t.Errorf("%s: %d on %s and %d in all, want %d and %d", when, c, channel, a, ofChannel, all)
			}
		}
		want("at first", "a001", 0, 0)
		for i, channel := range []string{"a001", "a001", "a002", "secret"} {
			a := openRequest(i + 1)
			a.Request.Channel = channel
			n.watch(t, a)
		}
		want("three watch", "a001", 2, 3)
		want("one was refused", "secret", 0, 3)
		n.keepWatching(t, openRequest(1), 2*time.Minute, nil)
		want("two are gone", "a001", 1, 1)
		deny.Store(true)
		n.keepWatching(t, openRequest(1), 2*time.Minute, nil)
		want("the last was cut", "a001", 0, 0)
	})
}
