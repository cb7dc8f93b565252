package actors

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestTimerWheel_DeliversOnceNeverEarly(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		arm   []time.Duration // in turn, for the same session
		turns []time.Duration
		want  []time.Duration // the calls of advance that delivered
	}{
		"a timer fires within a tick": {
			arm: []time.Duration{time.Second}, turns: []time.Duration{900 * time.Millisecond, time.Second, 1100 * time.Millisecond, time.Minute},
			want: []time.Duration{1100 * time.Millisecond},
		},
		"a past timer fires at the next tick": {
			arm: []time.Duration{-time.Hour}, turns: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, time.Minute},
			want: []time.Duration{100 * time.Millisecond},
		},
		"the last arming counts": {
			arm: []time.Duration{time.Second, 3 * time.Second}, turns: []time.Duration{2 * time.Second, 4 * time.Second, time.Minute},
			want: []time.Duration{4 * time.Second},
		},
		"an earlier arming counts too": {
			arm: []time.Duration{3 * time.Second, time.Second}, turns: []time.Duration{2 * time.Second, 4 * time.Second},
			want: []time.Duration{2 * time.Second},
		},
		"arming twice for the same time fires once": {
			arm: []time.Duration{time.Second, time.Second}, turns: []time.Duration{2 * time.Second, 3 * time.Second},
			want: []time.Duration{2 * time.Second},
		},
		"moved away and back fires once": {
			arm: []time.Duration{time.Second, 2 * time.Second, time.Second}, turns: []time.Duration{3 * time.Second, 4 * time.Second},
			want: []time.Duration{3 * time.Second},
		},
		"a timer beyond one turn": {
			arm: []time.Duration{time.Hour}, turns: []time.Duration{7 * time.Minute, 59 * time.Minute, time.Hour + time.Second, 2 * time.Hour},
			want: []time.Duration{time.Hour + time.Second},
		},
		"a wheel that stopped for a day catches up": {
			arm: []time.Duration{time.Second}, turns: []time.Duration{24 * time.Hour, 25 * time.Hour},
			want: []time.Duration{24 * time.Hour},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []time.Duration
			var turn time.Duration
			w := newTestWheel(t0(), func(*Session) { got = append(got, turn) })
			s := bareSession(idOf(1))
			for _, at := range c.arm {
				w.arm(s, in(at))
			}
			for _, turn = range c.turns {
				w.advance(in(turn))
			}
			if len(got) > 1 && got[0] == got[1] {
				t.Errorf("delivered twice at %v", got[0])
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTimerWheel_AgreesWithModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		due := make(map[*Session]time.Duration)
		var now time.Duration
		w := newTestWheel(t0(), func(s *Session) {
			if at, armed := due[s]; !armed || now < at {
				t.Fatalf("delivered at %v a timer due at %v (armed: %v)", now, at, armed)
			}
			delete(due, s)
		})
		sessions := []*Session{bareSession(idOf(1)), bareSession(idOf(2)), bareSession(idOf(3))}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			s := sessions[rapid.IntRange(0, len(sessions)-1).Draw(t, "session")]
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				w.disarm(s)
				delete(due, s)
			case 1:
				now += time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "passes"))
				w.advance(in(now))
				for s, at := range due {
					if at+2*wheelTick < now {
						t.Fatalf("at %v the timer of %v for %v has not fired", now, s.id, at)
					}
				}
			default:
				at := now + time.Duration(rapid.Int64Range(-int64(time.Second), int64(30*time.Minute)).Draw(t, "after"))
				w.arm(s, in(at))
				due[s] = max(at, now)
			}
		}
	})
}

// TestTimerWheel_Arm_Past delivers with the next tick what was due before the last one.
func TestTimerWheel_Arm_Past(t *testing.T) {
	t.Parallel()
	for _, due := range []time.Duration{-time.Hour, 0, time.Second, 10 * time.Second} {
		delivered := 0
		w := newTestWheel(t0(), func(*Session) { delivered++ })
		w.advance(in(10 * time.Second))
		w.arm(bareSession(idOf(1)), in(due))
		w.advance(in(10*time.Second + wheelTick))
		if delivered != 1 {
			t.Errorf("due after %v: delivered %d times with the tick after 10s, want once", due, delivered)
		}
	}
}

func TestTimerWheel_Disarm_DoesNotFire(t *testing.T) {
	t.Parallel()
	w := newTestWheel(t0(), func(s *Session) { t.Errorf("%v was delivered", s.id) })
	s := bareSession(idOf(1))
	w.arm(s, in(time.Second))
	w.disarm(s)
	w.advance(in(time.Minute))
}

func TestTimerWheel_FreesMemoryOfBurst(t *testing.T) {
	t.Parallel()
	delivered := 0
	w := newTestWheel(t0(), func(*Session) { delivered++ })
	for i := range 10_000 {
		w.arm(bareSession(idOf(i)), in(time.Second))
	}
	w.advance(in(2 * time.Second))
	if delivered != 10_000 {
		t.Errorf("%d timers delivered, want 10000", delivered)
	}
	for i, slot := range w.slots {
		if cap(slot) > 64 {
			t.Errorf("slot %d keeps room for %d timers", i, cap(slot))
		}
	}
}

// TestTimerWheel_BurstBesideLaterTimer keeps a timer of a later turn in a slot that many others have left.
func TestTimerWheel_BurstBesideLaterTimer(t *testing.T) {
	t.Parallel()
	delivered := 0
	w := newTestWheel(t0(), func(*Session) { delivered++ })
	for i := range 1000 {
		w.arm(bareSession(idOf(i)), in(time.Second))
	}
	w.arm(bareSession(idOf(1000)), in(time.Second+wheelSlots*wheelTick))
	if w.advance(in(2 * time.Second)); delivered != 1000 {
		t.Errorf("%d timers delivered, want the 1000 that are due", delivered)
	}
	if w.advance(in(2*time.Second + wheelSlots*wheelTick)); delivered != 1001 {
		t.Errorf("%d timers delivered a turn later, want all", delivered)
	}
}

func TestTimerWheel_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fired := make(chan time.Duration, 1)
		w := newTestWheel(start, func(*Session) { fired <- time.Since(start) })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx)
		w.arm(bareSession(idOf(1)), start.Add(time.Minute))
		if got, most := <-fired, time.Minute+2*wheelTick; got < time.Minute || got > most {
			t.Errorf("fired after %v, want 1m0s to %v", got, most)
		}
	})
}

// testWheel is a wheel that finds the sessions that were armed.
type testWheel struct {
	*timerWheel
	sessions sessionTable
}

func newTestWheel(start time.Time, deliver func(*Session)) *testWheel {
	w := new(testWheel)
	w.timerWheel = newTimerWheel(start, w.sessions.find, deliver)
	return w
}

func (w *testWheel) arm(s *Session, at time.Time) {
	w.sessions.findOrAdd(s.id, func() *Session { return s })
	w.timerWheel.arm(s, at)
}

// TestTimerWheel_OtherSession has the id of a session that has ended: its timer is not another one's.
func TestTimerWheel_OtherSession(t *testing.T) {
	t.Parallel()
	var delivered []*Session
	w := newTestWheel(t0(), func(s *Session) { delivered = append(delivered, s) })
	ended, next := bareSession(idOf(1)), bareSession(idOf(1))
	w.arm(ended, in(time.Second))
	w.sessions.remove(ended)
	if w.advance(in(time.Second / 2)); len(delivered) > 0 {
		t.Error("delivered before it was due")
	}
	w.arm(next, in(time.Minute))
	if w.advance(in(30 * time.Second)); len(delivered) > 0 {
		t.Error("the timer of the ended session was delivered")
	}
	if w.advance(in(2 * time.Minute)); !slices.Equal(delivered, []*Session{next}) {
		t.Errorf("%d timers delivered, want the next session's", len(delivered))
	}
}
