package actors

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// turns notes when whose turn came.
type turns struct {
	at  []time.Time
	who []*Session
}

func (t *turns) take(s *Session) {
	t.at = append(t.at, time.Now())
	t.who = append(t.who, s)
}

// mostInASecond is how many turns the busiest second held.
func mostInASecond(at []time.Time) (most int) {
	first := 0
	for i := range at {
		for at[i].Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func lightOnes(n int) []*Session {
	all := make([]*Session, n)
	for i := range all {
		all[i] = bareSession(idOf(i))
	}
	return all
}

// paced runs a pacer in a bubble.
func paced(t *testing.T, perSecond int, test func(p *recheckQueue, health *atomic.Uint32, got *turns)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var health atomic.Uint32
		var got turns
		p := newRecheckQueue(perSecond, oneNode, func() backends.BreakerState { return backends.BreakerState(health.Load()) }, got.take)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.run(ctx)
		}()
		test(p, &health, &got)
		cancel()
		<-done
	})
}

func TestRecheckQueue_KeepsRate(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		rate, sessions int
		health         []backends.BreakerState // one after another, each for five seconds
		within         time.Duration
	}{
		"a crowd at once":                          {200, 2000, []backends.BreakerState{backends.BreakerClosed}, 10 * time.Second},
		"one a second":                             {1, 20, []backends.BreakerState{backends.BreakerClosed}, 20 * time.Second},
		"a backend under trial, slowly":            {2, 20, []backends.BreakerState{backends.BreakerHalfOpen, backends.BreakerClosed}, 20 * time.Second},
		"a backend that comes and goes":            {100, 2000, []backends.BreakerState{backends.BreakerClosed, backends.BreakerOpen, backends.BreakerHalfOpen, backends.BreakerOpen, backends.BreakerHalfOpen, backends.BreakerClosed}, time.Minute},
		"a rate of nothing, which is one a second": {0, 5, []backends.BreakerState{backends.BreakerClosed}, 10 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paced(t, c.rate, func(p *recheckQueue, health *atomic.Uint32, got *turns) {
				for i, s := range lightOnes(c.sessions) {
					p.enqueue(s, session.QueuePriority(1+i%2))
				}
				for _, h := range c.health {
					health.Store(uint32(h))
					time.Sleep(5 * time.Second)
				}
				time.Sleep(c.within)
				synctest.Wait()
				if len(got.who) != c.sessions {
					t.Errorf("%d of %d sessions had their turn", len(got.who), c.sessions)
				}
				if most := mostInASecond(got.at); most > max(c.rate, 1) {
					t.Errorf("%d turns in one second, want at most %d", most, c.rate)
				}
			})
		})
	}
}

func TestRecheckQueue_UnverifiedFirst(t *testing.T) {
	t.Parallel()
	paced(t, 10, func(p *recheckQueue, health *atomic.Uint32, got *turns) {
		health.Store(uint32(backends.BreakerOpen))
		all := lightOnes(6)
		for i, s := range all {
			p.enqueue(s, []session.QueuePriority{session.PriorityOverdue, session.PriorityUnverified}[i%2])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(got.who) != 0 {
			t.Fatalf("%d turns while the backend is down, want none", len(got.who))
		}
		health.Store(uint32(backends.BreakerClosed))
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []*Session{all[1], all[3], all[5], all[0], all[2], all[4]}; !slices.Equal(got.who, want) {
			t.Errorf("turns went to %v, want %v", ids(got.who), ids(want))
		}
	})
}

func ids(all []*Session) (names []string) {
	for _, s := range all {
		names = append(names, s.id.String())
	}
	return names
}

func TestRecheckQueue_HalfOpenBreaker_OneAtATime(t *testing.T) {
	t.Parallel()
	paced(t, 200, func(p *recheckQueue, health *atomic.Uint32, got *turns) {
		health.Store(uint32(backends.BreakerHalfOpen))
		for _, s := range lightOnes(100) {
			p.enqueue(s, session.PriorityOverdue)
		}
		time.Sleep(2*time.Second - time.Millisecond)
		synctest.Wait()
		if n := len(got.who); n != 8 {
			t.Errorf("%d turns in two seconds of trial, want 8", n)
		}
		for i := 1; i < len(got.at); i++ {
			if gap := got.at[i].Sub(got.at[i-1]); gap < probePause {
				t.Errorf("turns %v apart, want at least %v", gap, probePause)
			}
		}
	})
}

func TestRecheckQueue_ClosedSessions_NotGranted(t *testing.T) {
	t.Parallel()
	paced(t, 1, func(p *recheckQueue, _ *atomic.Uint32, got *turns) {
		all := lightOnes(1000)
		for i, s := range all {
			s.isClosed.Store(i != 0 && i != 999)
			p.enqueue(s, session.PriorityOverdue)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := []*Session{all[0], all[999]}; !slices.Equal(got.who, want) {
			t.Errorf("turns went to %v, want %v", ids(got.who), ids(want))
		}
	})
}

func TestRecheckQueue_LongOutage_DropsClosedSessions(t *testing.T) {
	t.Parallel()
	p := newRecheckQueue(1, oneNode, func() backends.BreakerState { return backends.BreakerOpen }, func(*Session) {})
	watching := lightOnes(500)
	for _, s := range watching {
		p.enqueue(s, session.PriorityOverdue)
	}
	for i := range 20_000 {
		s := bareSession(idOf(1000 + i))
		p.enqueue(s, session.QueuePriority(1+i%2))
		s.isClosed.Store(true)
	}
	if got, most := p.length(), 4*(len(watching)+minDropLength); got > most {
		t.Errorf("%d wait after 20,000 came and went, want at most %d", got, most)
	}
	left := make(map[*Session]bool)
	for s := p.pop(); s != nil; s = p.pop() {
		left[s] = true
	}
	if len(left) != len(watching) {
		t.Errorf("%d still have a turn to come, want %d", len(left), len(watching))
	}
}
