package viewer

import (
	"sync"
	"time"
)

// tick is the resolution of the wheel, and ticks its size: one round is 6.5 s, and what is due later stays for more rounds.
const (
	tick  = 100 * time.Microsecond
	ticks = 1 << 16
)

// none ends a chain of slots.
const none = ^uint32(0)

// wheel is a timing wheel of viewers' slots, chained through the viewers themselves, so that a million cost nothing more. It is safe
// for concurrent use.
type wheel struct {
	mu      sync.Mutex
	viewers []viewer
	heads   []uint32
	// reached is the first tick that has not begun.
	reached int64
}

func newWheel(viewers []viewer) *wheel {
	w := &wheel{viewers: viewers, heads: make([]uint32, ticks)}
	for i := range w.heads {
		w.heads[i] = none
	}
	return w
}

// add schedules a viewer for when they are due, which it makes the start of a tick: the plan is one of whole ticks, so that the wheel
// delays nobody.
func (w *wheel) add(slot uint32) {
	v := &w.viewers[slot]
	v.due = wholeTicks(v.due)
	w.mu.Lock()
	defer w.mu.Unlock()
	head := &w.heads[max(int64(v.due/tick), w.reached)%ticks]
	v.next, *head = *head, slot
}

// wholeTicks returns the start of the first tick that is not before a time.
func wholeTicks(d time.Duration) time.Duration { return (d + tick - 1) / tick * tick }

// advance removes the viewers who are due by now, and appends them to due in the order of their ticks.
func (w *wheel) advance(now time.Duration, due []uint32) []uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for end := int64(now/tick) + 1; w.reached < end; w.reached++ {
		head := &w.heads[w.reached%ticks]
		chain := *head
		*head = none
		for chain != none {
			slot, v := chain, &w.viewers[chain]
			chain = v.next
			if int64(v.due/tick) > w.reached { // in a later round
				v.next, *head = *head, slot
				continue
			}
			due = append(due, slot)
		}
	}
	return due
}

// idle returns how long nobody is due after now, at most a millisecond: a viewer may be added meanwhile.
func (w *wheel) idle(now time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range int64(time.Millisecond / tick) {
		if w.heads[(w.reached+n)%ticks] != none {
			return max(0, time.Duration(w.reached+n)*tick-now)
		}
	}
	return time.Millisecond
}
