package actors

import (
	"context"
	"testing"
	"time"

	"usher/backends"
)

// answersFor allows for that time.
func answersFor(validFor time.Duration) func(context.Context, *backends.Request) (backends.Decision, error) {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		d := allowedDecision()
		d.ValidFor = validFor
		return d, nil
	}
}

// timesOut fails as a check does that nobody answers.
func timesOut(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{}, &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"}
}

// wantDeniedBetween has sessions asked for each second, and wants each denied in that time after the start and not before.
func wantDeniedBetween(t *testing.T, n *node, start time.Time, sessions int, from, to time.Duration) {
	t.Helper()
	denied := make(map[int]bool)
	for len(denied) < sessions && time.Since(start) < to {
		for i := range sessions {
			s := n.table.find(idOf(1 + i))
			isDenied := s == nil || s.Decision().Verdict == backends.Denied
			if isDenied && !denied[i] {
				denied[i] = true
				if after := time.Since(start); after < from {
					t.Errorf("viewer %d is denied after %v, want after %v at the earliest", i, after, from)
				}
			}
			if s != nil {
				s.Seen(time.Now(), true)
			}
		}
		time.Sleep(time.Second)
	}
	if len(denied) != sessions {
		t.Errorf("%d of %d viewers are denied after %v, want all", len(denied), sessions, to)
	}
}

// TestRegistry_PolicyDeny_ValidDecisionHolds has viewers play on while their decision is valid, though its renewal, which comes a little
// before, fails.
func TestRegistry_PolicyDeny_ValidDecisionHolds(t *testing.T) {
	t.Parallel()
	const validity = 10 * time.Hour
	for name, isOpen := range map[string]bool{"the breaker is open": true, "re-checks fail": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyDeny, answersFor(validity))
				n := newNode(b, new(fakeCluster), func(s *setup) { s.rules.ReviveDenied = true })
				defer n.closeAndDrain()
				start := time.Now()
				for i := range 20 {
					n.watch(t, openRequest(1+i))
				}
				b.setCheck(timesOut)
				if isOpen {
					b.health.Store(uint32(backends.BreakerOpen))
				}
				wantDeniedBetween(t, n, start, 20, validity, validity+time.Minute)
			})
		})
	}
}

// TestRegistry_PolicyDeny_Queued has an outage begin when sessions already wait for their re-check. Those whose validity is over are
// denied soon.
func TestRegistry_PolicyDeny_Queued(t *testing.T) {
	t.Parallel()
	const validity = time.Hour
	for name, extra := range map[string]time.Duration{"viewers": 0, "viewers of an edge": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyDeny, answersFor(validity))
				n := newNode(b, new(fakeCluster), func(s *setup) {
					s.Config.Recheck.Jitter, s.rules.RecheckRate, s.rules.ReviveDenied = 0, 1, true
				})
				defer n.closeAndDrain()
				start := time.Now()
				for i := range 20 {
					o := openRequest(1 + i)
					o.ExtraLifetime = extra
					n.watch(t, o)
				}
				for time.Since(start) < validity-time.Second {
					for i := range 20 {
						n.watch(t, openRequest(1+i))
					}
					time.Sleep(time.Second)
				}
				b.setCheck(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					b.health.Store(uint32(backends.BreakerOpen))
					return timesOut(ctx, r)
				})
				wantDeniedBetween(t, n, start, 20, validity, validity+DefaultConfig().Recheck.Min+5*time.Second)
			})
		})
	}
}

// TestRegistry_PolicyDeny_HalfOpen_Probes has a breaker wait for a probe while no new viewer comes: a viewer whose renewal is due sends it,
// before the outage policy denies them.
func TestRegistry_PolicyDeny_HalfOpen_Probes(t *testing.T) {
	t.Parallel()
	const validity = time.Hour
	for name, open := range map[string]time.Duration{
		"before the renewal is due": 30 * time.Minute, "while the renewal waits": validity - 10*time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyDeny, answersFor(validity))
				n := newNode(b, new(fakeCluster), func(s *setup) { s.rules.ReviveDenied = true })
				defer n.closeAndDrain()
				start := time.Now()
				watch := func(d time.Duration) {
					n.keepWatching(t, openRequest(1), d, func(d backends.Decision) {
						if d.Verdict == backends.Denied {
							t.Fatalf("denied after %v and %d checks: %s", time.Since(start), b.checks.Load(), d.Reason)
						}
					})
				}
				n.watch(t, openRequest(1))
				b.health.Store(uint32(backends.BreakerOpen))
				watch(open)
				b.health.Store(uint32(backends.BreakerHalfOpen))
				watch(2 * validity)
				if got := b.checks.Load(); got < 3 {
					t.Errorf("%d checks, want re-checks too", got)
				}
			})
		})
	}
}

// TestRegistry_FailedProbe_KeepsDenial has a half-open breaker's probe ask about a denied viewer, and fail. The denial holds through the
// outage: an opening would be admitted.
func TestRegistry_FailedProbe_KeepsDenial(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, byAddress()) // it denies all
		n := newNode(b, new(fakeCluster), nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(breakerOpen)
		for _, state := range []backends.BreakerState{backends.BreakerOpen, backends.BreakerHalfOpen, backends.BreakerOpen} {
			b.health.Store(uint32(state))
			n.keepWatching(t, openRequest(1), time.Minute, func(d backends.Decision) {
				if d.Verdict != backends.Denied {
					t.Fatalf("breaker %v: %v by %v, want the denial", state, d.Verdict, d.Source)
				}
			})
		}
		if got := b.checks.Load(); got < 2 {
			t.Errorf("%d checks, want probes too", got)
		}
	})
}
