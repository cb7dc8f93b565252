package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/backends/chain"
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

// TestOpen_LateCheck_AdmitsNobody has a check begin when most of the viewer's time is over. That the backend has not answered in the rest
// says nothing of it.
func TestOpen_LateCheck_AdmitsNobody(t *testing.T) {
	t.Parallel()
	const wait, took = 750 * time.Millisecond, 300 * time.Millisecond // of a deadline of 1s
	for name, test := range map[string]struct {
		store, usual time.Duration
		want         backends.Verdict
	}{
		"another node held the lease":                    {wait, 0, backends.Pending},
		"and the backend usually is fast":                {wait, 20 * time.Millisecond, backends.Pending},
		"and the backend never is in time":               {wait, time.Minute, backends.Allowed},
		"the store took its timeout":                     {100 * time.Millisecond, 0, backends.Allowed},
		"the store took longer than the timeout, a bit":  {150 * time.Millisecond, 0, backends.Allowed},
		"the store took longer than the timeout by more": {151 * time.Millisecond, 0, backends.Pending},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
					r.OnSent()
					time.Sleep(time.Second - test.store + took - (time.Second - wait))
					return deniedDecision(), nil
				})
				store := &fakeCluster{isShared: true, beforeLease: func(context.Context) error {
					time.Sleep(test.store)
					return nil
				}}
				n := newNode(b, store, nil)
				defer n.closeAndDrain()
				n.backends.Load().byName["portal"].answers.mean.Store(int64(test.usual))
				if d := n.watch(t, openRequest(1)); d.Verdict != test.want {
					t.Errorf("%v by %v, want %v", d.Verdict, d.Source, test.want)
				}
				time.Sleep(took)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Errorf("%v by %v, want what the backend answered at last", d.Verdict, d.Source)
				}
			})
		})
	}
}

// TestOpen_BreakerOpen_NotItsAnswerTime opens sessions while the breaker is open: how soon it rejects them says nothing of the backend.
func TestOpen_BreakerOpen_NotItsAnswerTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const took = 300 * time.Millisecond
		c := chain.New("portal", chain.DefaultConfig(), backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(took)
			return allowedDecision(), nil
		}), chain.Deps{Kind: "test"})
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), new(fakeCluster), nil)
		defer n.closeAndDrain()
		rules := BackendRules{Validity: time.Minute, RecheckRate: 200, AnswerDeadline: time.Second}
		n.Reload(DefaultConfig(), map[string]BackendOptions{"portal": {Backend: c, Rules: rules}}, func(_, b string) string { return b })()
		for i := range 101 {
			if d := n.watch(t, openRequest(1+i)); d.Verdict != backends.Allowed {
				t.Fatalf("viewer %d: %v by %v, want allowed", i, d.Verdict, d.Source)
			}
			synctest.Wait()
			order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
			if err := c.Force(order); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Duration(n.backends.Load().byName["portal"].answers.mean.Load()).Round(time.Millisecond); got != took {
			t.Errorf("the backend usually takes %v, want %v", got, took)
		}
	})
}
