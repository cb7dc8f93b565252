package actors

import (
	"context"
	"sync"
	"time"

	"usher/backends"
)

const (
	// wheelTick is how late a timer may be. It is far below every time that a session sets.
	wheelTick = 100 * time.Millisecond
	// wheelSlots is the number of slots. A turn takes nearly seven minutes; later timers pass more than one.
	wheelSlots = 4096
)

// timerWheel delivers the timers of all sessions with one goroutine and 24 bytes per timer, without a pointer, so that the collector
// does not follow a million of them. Runtime timers would cost ten times the memory and three times the CPU. To move or stop a
// timer, only the session's timerDue changes: an entry that disagrees with it, or whose session is found no more, is dropped when
// its slot comes. It is safe for concurrent use.
type timerWheel struct {
	epoch   time.Time // times count from it by the monotonic clock, so that a stepped clock moves no timer
	find    func(backends.SessionID) *Session
	deliver func(*Session)

	mu    sync.Mutex
	slots [wheelSlots][]timerEntry
	done  int64 // the last tick whose slot was handled
}

type timerEntry struct {
	session backends.SessionID
	due     int64 // nanoseconds since the start
}

func newTimerWheel(start time.Time, find func(backends.SessionID) *Session, deliver func(*Session)) *timerWheel {
	return &timerWheel{epoch: start, find: find, deliver: deliver}
}

func tickOf(nanos int64) int64 { return nanos / int64(wheelTick) }

// arm sets the session's timer, and replaces the one before.
func (w *timerWheel) arm(s *Session, at time.Time) {
	due := max(1, int64(at.Sub(w.epoch))) // 0 means no timer
	if s.timerDue.Swap(due) == due {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// A slot is handled when its tick is over, so that no timer fires early.
	tick := max(tickOf(due)+1, w.done+1)
	i := tick % wheelSlots
	w.slots[i] = append(w.slots[i], timerEntry{session: s.id, due: due})
}

// disarm stops the session's timer.
func (w *timerWheel) disarm(s *Session) { s.timerDue.Store(0) }

// run advances the wheel until ctx ends.
func (w *timerWheel) run(ctx context.Context) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.advance(time.Now())
		}
	}
}

// advance delivers what is due at now, also after lost ticks.
func (w *timerWheel) advance(now time.Time) {
	elapsed := int64(now.Sub(w.epoch))
	for {
		due, more := w.nextSlot(tickOf(elapsed), elapsed)
		if !more {
			return
		}
		for _, s := range due {
			w.deliver(s)
		}
	}
}

// nextSlot handles the next tick up to lastTick, and returns the sessions that are due.
func (w *timerWheel) nextSlot(lastTick, now int64) (due []*Session, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done >= lastTick {
		return nil, false
	}
	if lastTick-w.done > wheelSlots {
		w.done = lastTick - wheelSlots // a whole turn visits every slot
	}
	w.done++
	slot := &w.slots[w.done%wheelSlots]
	kept := (*slot)[:0]
	for _, e := range *slot {
		s := w.find(e.session)
		switch {
		case s == nil || s.timerDue.Load() != e.due:
		case e.due <= now:
			if s.timerDue.CompareAndSwap(e.due, 0) { // once, even if it was armed twice for that time
				due = append(due, s)
			}
		default:
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 && cap(kept) > 64 {
		kept = nil // many sessions that came at once must not hold memory for good
	}
	*slot = kept
	return due, true
}
