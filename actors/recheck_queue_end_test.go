package actors

import (
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
		p.pop()
	}
}
