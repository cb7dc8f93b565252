package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// TestOpen_BackendTimeIsNotStoreTime has a backend answer late: the user's limit is still asked, with what is left.
func TestOpen_BackendTimeIsNotStoreTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const timeout, lookup = 100 * time.Millisecond, 30 * time.Millisecond
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(5 * timeout)
			d := allowedDecision()
			d.UserID, d.MaxSessions = "7", 1
			return d, nil
		})
		var left time.Duration
		store := &fakeCluster{
			beforeLease: func(context.Context) error { time.Sleep(lookup); return nil },
			beforeJoin: func(ctx context.Context) error {
				deadline, _ := ctx.Deadline()
				left = time.Until(deadline)
				return ctx.Err()
			},
		}
		n := newNode(b, store, func(s *setup) { s.StoreTimeout = timeout })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		synctest.Wait()
		if want := timeout - lookup; left != want {
			t.Errorf("%v were left for the limit, want %v", left, want)
		}
	})
}

// TestOpen_FailedStoreIsNotAskedAgain has the store fail at once: the viewer does not wait for it a second time.
func TestOpen_FailedStoreIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.UserID, d.MaxSessions = "7", 1
			return d, nil
		})
		store := &fakeCluster{
			beforeLease: func(context.Context) error { return errBroken },
			beforeJoin:  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}
		n := newNode(b, store, nil)
		defer n.closeAndDrain()
		began := time.Now()
		d := n.watch(t, openRequest(1))
		if waited := time.Since(began); waited != 0 || d.Verdict != backends.Allowed {
			t.Errorf("%v after %v, want allowed at once", d.Verdict, waited)
		}
	})
}
