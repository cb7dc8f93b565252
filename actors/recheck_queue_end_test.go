package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRecheckQueue_Run_EndsWhileSessionsWait ends with the node, whatever the queue waits for: runQueue ends it, and waits.
func TestRecheckQueue_Run_EndsWhileSessionsWait(t *testing.T) {
	t.Parallel()
	for _, breaker := range []backends.BreakerState{backends.BreakerClosed, backends.BreakerHalfOpen, backends.BreakerOpen} {
		var granted int
		runQueue(t, 1, func(p *recheckQueue, health *queueHealth, got *grants) {
			health.Store(uint32(breaker))
			for _, s := range bareSessions(100) {
				p.enqueue(s, session.PriorityOverdue)
			}
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			granted = len(got.sessions)
		})
		if want := map[backends.BreakerState]int{backends.BreakerClosed: 2, backends.BreakerHalfOpen: 2}[breaker]; granted != want {
			t.Errorf("breaker %v: %d granted, want %d", breaker, granted, want)
		}
	}
}

// TestRecheckQueue_AllClose_Dropped drops sessions that close while they wait, as soon as the queue is long.
func TestRecheckQueue_AllClose_Dropped(t *testing.T) {
	t.Parallel()
	p := newRecheckQueue(oneNode, func(*Session, time.Duration) {})
	p.follow(1, healthOf(backends.BreakerOpen))
	for range 3 {
		all := bareSessions(minDropLength - 1)
		for _, s := range all {
			p.enqueue(s, session.PriorityOverdue)
		}
		if got := p.length(); got != minDropLength-1 {
			t.Errorf("%d wait, want the %d that live", got, minDropLength-1)
		}
		for _, s := range all {
			s.flags.set(flagClosed, true)
		}
		p.enqueue(bareSession(idOf(minDropLength)), session.PriorityOverdue)
		if got := p.length(); got != 1 {
			t.Errorf("%d wait, want the one that lives", got)
		}
		p.pop(false)
	}
}

// TestRecheckQueue_HalfOpenBreaker_FailedRecheckLetsOthersGo has the backend fail for one unverified session alone: the others are asked
// about beside it, and the first answer closes the breaker.
func TestRecheckQueue_HalfOpenBreaker_FailedRecheckLetsOthersGo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.IdleTimeout, s.rules.Validity = time.Hour, time.Minute })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Session == idOf(2) {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal"}
			}
			b.health.Store(uint32(backends.BreakerClosed))
			return allowedDecision(), nil
		})
		b.health.Store(uint32(backends.BreakerOpen))
		if d := n.watch(t, openRequest(2)); d.Source != backends.FromFailOpen {
			t.Fatalf("got %v, want fail-open", d.Source)
		}
		time.Sleep(2 * time.Minute) // the answer about the first viewer expires
		b.health.Store(uint32(backends.BreakerHalfOpen))
		time.Sleep(10 * time.Second)
		if got := b.State(); got != backends.BreakerClosed {
			t.Errorf("after %d checks the breaker is %v, want it closed by the overdue session's answer", b.checks.Load(), got)
		}
	})
}
