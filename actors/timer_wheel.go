package actors

import (
	"context"
	"sync"
	"time"
)

const (
	// wheelTick is how late a timer may be: far below every time that a session sets.
	wheelTick = 100 * time.Millisecond
	// wheelSlots make a turn of nearly seven minutes. Later timers go round more than once.
	wheelSlots = 4096
)

// wheel delivers the timers of all sessions: one goroutine in all, 16 bytes a timer. A runtime timer each would cost
// ten times the memory and three times the CPU. To move or stop a timer only the session's wake changes: entries that
// no longer agree with it are dropped when their slot comes.
type wheel struct {
	start   time.Time // all times are counted from it by the monotonic clock, so that a stepped one moves no timer
	deliver func(*Session)

	mu    sync.Mutex
	slots [wheelSlots][]wheelEntry
	done  int64 // the last tick whose slot was handled
}

type wheelEntry struct {
	session *Session
	due     int64 // nanoseconds since the start
}

func newWheel(start time.Time, deliver func(*Session)) *wheel {
	return &wheel{start: start, deliver: deliver}
}

func tickOf(nanos int64) int64 { return nanos / int64(wheelTick) }

// arm sets the session's timer, in place of the one before.
func (w *wheel) arm(s *Session, at time.Time) {
	due := max(1, int64(at.Sub(w.start))) // 0 is no timer
	if s.wake.Swap(due) == due {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// A slot is handled when its tick is over, so that no timer comes early.
	tick := max(tickOf(due)+1, w.done+1)
	i := tick % wheelSlots
	w.slots[i] = append(w.slots[i], wheelEntry{session: s, due: due})
}

// disarm stops the session's timer.
func (w *wheel) disarm(s *Session) { s.wake.Store(0) }

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.turn(time.Now())
		}
	}
}

// turn delivers what is due at now. If ticks were lost it catches up.
func (w *wheel) turn(now time.Time) {
	elapsed := int64(now.Sub(w.start))
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

// nextSlot takes the due sessions out of the next slot up to the tick named.
func (w *wheel) nextSlot(last, now int64) (due []*Session, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done >= last {
		return nil, false
	}
	if last-w.done > wheelSlots {
		w.done = last - wheelSlots // a whole turn visits every slot
	}
	w.done++
	slot := &w.slots[w.done%wheelSlots]
	kept := (*slot)[:0]
	for _, e := range *slot {
		switch {
		case e.session.wake.Load() != e.due:
		case e.due <= now:
			if e.session.wake.CompareAndSwap(e.due, 0) { // once, even if it was armed for that time twice
				due = append(due, e.session)
			}
		default:
			kept = append(kept, e)
		}
	}
	clear((*slot)[len(kept):])
	if len(kept) == 0 && cap(kept) > 64 {
		kept = nil // a crowd that came at once must not hold memory for good
	}
	*slot = kept
	return due, true
}
