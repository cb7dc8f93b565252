package chain

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// leastInFlight and leastRechecks are the limits that hold always, unless a setting is lower.
	leastInFlight = 256
	leastRechecks = 32
	// limitSamples is how many answers a limit is judged by.
	limitSamples = 32
	// limitPause is how long no higher limit is tried after one that did not pay, and how long one is kept that nobody needs.
	limitPause = time.Minute
	// limitPatience is for how long checks must wait without a break before a limit that has grown is judged: a middleware that
	// hesitates for a moment says nothing about it.
	limitPatience = time.Second
)

// slotLimit is how many slots a queue has. It follows the middleware: while checks wait for a slot, it grows by half, up to its
// setting, as long as calls take less than a quarter longer than before. A middleware with room for more calls answers each as
// soon as before; one without lets them wait, and each takes half as long again. Then, and when calls fail, the limit goes back.
// Guarded by its queue's lock.
type slotLimit struct {
	setting     string
	least, most int
	current     int
	step        int           // how often it has changed: calls of an earlier step say nothing about this one
	base        time.Duration // what a call took before it grew; 0: it has not
	calm        time.Time     // when it changed, or a call began for which no check waited, last
	resumes     time.Time     // when it may grow again
	needed      time.Time     // when checks waited, or two thirds of the slots were taken, last

	// The answers of this step.
	took              time.Duration
	answers, failures int
}

// slot is one that was taken.
type slot struct {
	slotClaim
	began time.Time
	step  int
	// isSample: its answer says what the limit does to the middleware.
	isSample bool
}

func newSlotLimit(setting string, least, most int) slotLimit {
	least = min(least, most)
	return slotLimit{setting: setting, least: least, most: most, current: least}
}

// String returns the limit as messages show it: what holds now, and the setting if that is higher.
func (l *slotLimit) String() string {
	if l.current < l.most {
		return fmt.Sprintf("%d of %d", l.current, l.most)
	}
	return fmt.Sprint(l.most)
}

// take begins a call beside so many others. Of a limit that has grown only calls count that begin while checks wait, for a while
// and without a break: not those with which it was filled at once.
func (l *slotLimit) take(c slotClaim, others int, someWait bool, now time.Time) slot {
	if someWait || others >= l.current*2/3 {
		l.needed = now
	}
	if !someWait {
		l.calm, l.took, l.answers, l.failures = now, 0, 0, 0
	}
	isSample := l.base == 0 || now.Sub(l.calm) >= max(l.base, limitPatience)
	return slot{slotClaim: c, began: now, step: l.step, isSample: isSample}
}

// onAnswer counts a call's end.
func (l *slotLimit) onAnswer(s slot, err error, someWait bool, now time.Time) {
	if l.current > l.least && now.Sub(l.needed) > limitPause {
		l.change(l.current*2/3, now)
	}
	if s.step != l.step || !s.isSample || errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		l.failures++
	} else {
		l.answers++
		l.took += now.Sub(s.began)
	}
	if l.answers+l.failures >= limitSamples {
		l.judge(someWait, now)
	}
}

// judge lowers or raises the limit by the answers of its step.
func (l *slotLimit) judge(someWait bool, now time.Time) {
	mean := l.took / time.Duration(max(1, l.answers))
	pays := l.failures <= limitSamples/8 && (l.base == 0 || mean < l.base*5/4)
	l.took, l.answers, l.failures = 0, 0, 0
	switch {
	case !pays && l.current > l.least:
		l.resumes = now.Add(limitPause)
		l.change(l.current*2/3, now)
	case pays && someWait && !now.Before(l.resumes) && l.current < l.most:
		l.change(l.current*3/2, now)
		l.base = max(1, mean)
	}
}

// change sets the limit.
func (l *slotLimit) change(to int, now time.Time) {
	to = min(max(to, l.least), l.most)
	if to == l.current {
		return
	}
	l.current, l.calm, l.took, l.answers, l.failures = to, now, 0, 0, 0
	l.step++
	if to == l.least {
		l.base = 0
	}
}
