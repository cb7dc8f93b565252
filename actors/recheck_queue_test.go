package actors

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// grants records which session was granted a re-check, and when.
type grants struct {
	at       []time.Time
	sessions []*Session
	waited   []time.Duration
}

func (t *grants) record(s *Session, waited time.Duration) {
	t.waited = append(t.waited, waited)
	t.at = append(t.at, time.Now())
	t.sessions = append(t.sessions, s)
}

// maxPerSecond returns the number of grants in the busiest second.
func maxPerSecond(at []time.Time) (most int) {
	first := 0
	for i := range at {
		for at[i].Sub(at[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func bareSessions(n int) []*Session {
	all := make([]*Session, n)
	for i := range all {
		all[i] = bareSession(idOf(i))
	}
	return all
}

// queueHealth is a backend in the state that is stored in it.
type queueHealth struct {
	atomic.Uint32
	hasBacklog atomic.Bool
}

func (h *queueHealth) State() backends.BreakerState { return backends.BreakerState(h.Load()) }

func (h *queueHealth) IsBacklogged() bool { return h.hasBacklog.Load() }

// healthOf returns a backend in that state.
func healthOf(s backends.BreakerState) *queueHealth {
	h := new(queueHealth)
	h.Store(uint32(s))
	return h
}

// runQueue runs a queue in a bubble.
func runQueue(t *testing.T, perSecond int, test func(p *recheckQueue, health *queueHealth, got *grants)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var health queueHealth
		var got grants
		p := newRecheckQueue(oneNode, got.record)
		p.follow(perSecond, &health)
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

// TestGrantedAt has timers be late, as they are where a fake clock has none: what they lose is made good, and nothing else.
func TestGrantedAt(t *testing.T) {
	due := t0()
	for name, c := range map[string]struct{ late, want time.Duration }{
		"in time":                      {0, 0},
		"late by a millisecond":        {time.Millisecond, 0},
		"late by as much as counts":    {10 * time.Millisecond, 0},
		"later, since nobody waited":   {10*time.Millisecond + 1, 10*time.Millisecond + 1},
		"early, in a slot of another":  {-time.Second, -time.Second},
		"after an outage of an hour":   {time.Hour, time.Hour},
		"the first one, of a new node": {due.Sub(time.Time{}), due.Sub(time.Time{})},
	} {
		if got := grantedAt(due, due.Add(c.late)).Sub(due); got != c.want {
			t.Errorf("%s: counts as made %s after it was due, want %s", name, got, c.want)
		}
	}
}

// TestSpacing_LateTimers has timers be late so that a second gets as many grants as it can: those that were late fall into its
// beginning, those in time into its end.
func TestSpacing_LateTimers(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 2, 3, 7, 199, 200, 2000, 100_000} {
		var at []time.Time
		for due := t0(); due.Before(t0().Add(4 * time.Second)); {
			now := due
			if now.Before(t0().Add(2 * time.Second)) {
				now = now.Add(latestTimer)
			}
			at = append(at, now)
			due = grantedAt(due, now).Add(spacing(rate))
		}
		slices.SortFunc(at, time.Time.Compare)
		if most := maxPerSecond(at); most > rate {
			t.Errorf("%d grants in one second, want at most %d", most, rate)
		}
		if least := len(at); least < 4*rate*98/100 {
			t.Errorf("%d grants in four seconds at %d a second", least, rate)
		}
	}
}

func TestRecheckQueue_KeepsRate(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		rate, sessions int
		health         []backends.BreakerState // one after another, each for five seconds
		within         time.Duration
	}{
		"many at once":                     {200, 2000, []backends.BreakerState{backends.BreakerClosed}, 10 * time.Second},
		"one per second":                   {1, 20, []backends.BreakerState{backends.BreakerClosed}, 20 * time.Second},
		"a half-open breaker, slow rate":   {2, 20, []backends.BreakerState{backends.BreakerHalfOpen, backends.BreakerClosed}, 20 * time.Second},
		"a breaker that opens and closes":  {100, 2000, []backends.BreakerState{backends.BreakerClosed, backends.BreakerOpen, backends.BreakerHalfOpen, backends.BreakerOpen, backends.BreakerHalfOpen, backends.BreakerClosed}, time.Minute},
		"a rate of zero is one per second": {0, 5, []backends.BreakerState{backends.BreakerClosed}, 10 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runQueue(t, c.rate, func(p *recheckQueue, health *queueHealth, got *grants) {
				for i, s := range bareSessions(c.sessions) {
					p.enqueue(s, session.QueuePriority(1+i%2))
				}
				for _, h := range c.health {
					health.Store(uint32(h))
					time.Sleep(5 * time.Second)
				}
				time.Sleep(c.within)
				synctest.Wait()
				if len(got.sessions) != c.sessions {
					t.Errorf("%d of %d sessions granted", len(got.sessions), c.sessions)
				}
				if most := maxPerSecond(got.at); most > max(c.rate, 1) {
					t.Errorf("%d grants in one second, want at most %d", most, c.rate)
				}
			})
		})
	}
}

// TestRecheckQueue_Backlog_Waits grants nothing while the store or the backend does not keep up, and all of it then.
func TestRecheckQueue_Backlog_Waits(t *testing.T) {
	t.Parallel()
	const rate = 100
	for name, begin := range map[string]func(p *recheckQueue, health *queueHealth) (end func()){
		"of the backend": func(_ *recheckQueue, health *queueHealth) func() {
			health.hasBacklog.Store(true)
			return func() { health.hasBacklog.Store(false) }
		},
		"of the store": func(p *recheckQueue, _ *queueHealth) func() {
			p.lookups.Add(maxRecheckLookups)
			return func() { p.lookups.Add(-maxRecheckLookups) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runQueue(t, rate, func(p *recheckQueue, health *queueHealth, got *grants) {
				end := begin(p, health)
				for _, s := range bareSessions(rate) {
					p.enqueue(s, session.PriorityOverdue)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(got.sessions) != 0 {
					t.Errorf("%d grants, want none", len(got.sessions))
				}
				end()
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if most := maxPerSecond(got.at); len(got.sessions) != rate || most > rate {
					t.Errorf("%d grants then, %d in one second; want all of %d at their rate", len(got.sessions), most, rate)
				}
			})
		})
	}
}

func TestRecheckQueue_UnverifiedFirst(t *testing.T) {
	t.Parallel()
	runQueue(t, 10, func(p *recheckQueue, health *queueHealth, got *grants) {
		health.Store(uint32(backends.BreakerOpen))
		all := bareSessions(6)
		for i, s := range all {
			p.enqueue(s, []session.QueuePriority{session.PriorityOverdue, session.PriorityUnverified}[i%2])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(got.sessions) != 0 {
			t.Fatalf("%d grants while the breaker is open, want none", len(got.sessions))
		}
		health.Store(uint32(backends.BreakerClosed))
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []*Session{all[1], all[3], all[5], all[0], all[2], all[4]}; !slices.Equal(got.sessions, want) {
			t.Errorf("granted %v, want %v", ids(got.sessions), ids(want))
		}
	})
}

// TestRecheckQueue_ManyOfOneAddress_OthersInTurn has one address with many sessions before those of two others.
func TestRecheckQueue_ManyOfOneAddress_OthersInTurn(t *testing.T) {
	t.Parallel()
	p := newRecheckQueue(oneNode, func(*Session, time.Duration) {})
	p.follow(1, healthOf(backends.BreakerOpen))
	var got, want []*Session
	add := func(number, last int) *Session {
		s := bareSession(idOf(number))
		s.request.Store(&backends.Request{Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(last)})})
		p.enqueue(s, session.PriorityUnverified)
		return s
	}
	var crowd []*Session
	for i := range 1000 {
		crowd = append(crowd, add(i, 1))
	}
	second, third, thirdAgain := add(1000, 2), add(1001, 3), add(1002, 3)
	crowd[1].flags.set(flagClosed, true)
	want = append(want, crowd[0], second, third, crowd[2], thirdAgain)
	want = append(want, crowd[3:]...)
	if length := p.length(); length != 1003 {
		t.Errorf("%d wait, want 1003", length)
	}
	for s, _ := p.pop(false); s != nil; s, _ = p.pop(false) {
		got = append(got, s)
	}
	if !slices.Equal(got, want) {
		t.Errorf("granted %v…, want %v…", ids(got[:6]), ids(want[:6]))
	}
	if length := p.length(); length != 0 {
		t.Errorf("%d wait in the end", length)
	}
}

func ids(all []*Session) (names []string) {
	for _, s := range all {
		names = append(names, s.id.String())
	}
	return names
}

func TestRecheckQueue_HalfOpenBreaker_OneAtATime(t *testing.T) {
	t.Parallel()
	runQueue(t, 200, func(p *recheckQueue, health *queueHealth, got *grants) {
		health.Store(uint32(backends.BreakerHalfOpen))
		for _, s := range bareSessions(100) {
			p.enqueue(s, session.PriorityOverdue)
		}
		time.Sleep(2*time.Second - time.Millisecond)
		synctest.Wait()
		if n := len(got.sessions); n != 8 {
			t.Errorf("%d grants in two seconds half-open, want 8", n)
		}
		for i := 1; i < len(got.at); i++ {
			if gap := got.at[i].Sub(got.at[i-1]); gap < probePause {
				t.Errorf("grants %v apart, want at least %v", gap, probePause)
			}
		}
	})
}

func TestRecheckQueue_ClosedSessions_NotGranted(t *testing.T) {
	t.Parallel()
	runQueue(t, 1, func(p *recheckQueue, _ *queueHealth, got *grants) {
		all := bareSessions(1000)
		for i, s := range all {
			s.flags.set(flagClosed, i != 0 && i != 999)
			p.enqueue(s, session.PriorityOverdue)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := []*Session{all[0], all[999]}; !slices.Equal(got.sessions, want) {
			t.Errorf("granted %v, want %v", ids(got.sessions), ids(want))
		}
	})
}

func TestRecheckQueue_LongOutage_DropsClosedSessions(t *testing.T) {
	t.Parallel()
	p := newRecheckQueue(oneNode, func(*Session, time.Duration) {})
	p.follow(1, healthOf(backends.BreakerOpen))
	watching := bareSessions(500)
	for _, s := range watching {
		p.enqueue(s, session.PriorityOverdue)
	}
	for i := range 20_000 {
		s := bareSession(idOf(1000 + i))
		p.enqueue(s, session.QueuePriority(1+i%2))
		s.flags.set(flagClosed, true)
	}
	if got, most := p.length(), 4*(len(watching)+minDropLength); got > most {
		t.Errorf("%d wait after 20,000 closed, want at most %d", got, most)
	}
	left := make(map[*Session]bool)
	for s, _ := p.pop(false); s != nil; s, _ = p.pop(false) {
		left[s] = true
	}
	if len(left) != len(watching) {
		t.Errorf("%d left to grant, want %d", len(left), len(watching))
	}
}

// TestRecheckQueue_ReturnedSlot_GrantsAtOnce returns slots, which other sessions get at once in addition to those of the rate.
func TestRecheckQueue_ReturnedSlot_GrantsAtOnce(t *testing.T) {
	t.Parallel()
	runQueue(t, 1, func(p *recheckQueue, _ *queueHealth, got *grants) {
		start := time.Now()
		for _, s := range bareSessions(4) {
			p.enqueue(s, session.PriorityOverdue)
		}
		for range 2 {
			time.Sleep(100 * time.Millisecond)
			p.returnSlot()
		}
		p.enqueue(bareSession(idOf(5)), session.PriorityOverdue) // after 200 ms
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var at []time.Duration
		for _, granted := range got.at {
			at = append(at, granted.Sub(start))
		}
		const second = 200 * time.Millisecond
		want := []time.Duration{0, 100 * time.Millisecond, second, second + spacing(1), second + 2*spacing(1)}
		if !slices.Equal(at, want) {
			t.Errorf("granted at %v, want %v", at, want)
		}
		if want[4] -= second; !slices.Equal(got.waited, want) {
			t.Errorf("they had waited %v, want %v", got.waited, want)
		}
	})
}
