package httpbackend

import (
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// alarmClearAfter is how long an alarm must not recur before a good answer clears it, so that a backend that fails every
// other time does not fill the log.
const alarmClearAfter = time.Minute

// numAlarms is the number of alarms.
const numAlarms = int(backends.AlarmDenialsJumped) + 1

// AlarmSet is a set of alarms. The zero value is empty.
type AlarmSet uint16

// With returns the set with a added.
func (s AlarmSet) With(a backends.Alarm) AlarmSet { return s | 1<<a }

// Has reports whether a is in the set.
func (s AlarmSet) Has(a backends.Alarm) bool { return s&(1<<a) != 0 }

// Alarms records how a backend violates its contract, and logs the beginning and the end of each alarm. Safe for
// concurrent use. Recording a good answer costs one atomic read.
type Alarms struct {
	name   string
	log    *slog.Logger
	counts [numAlarms]atomic.Uint64
	active atomic.Uint32 // an AlarmSet

	mu       sync.Mutex
	lastSeen [numAlarms]time.Time
	details  [numAlarms]string // the newest of each
}

// NewAlarms returns the record of the named backend. log may be nil.
func NewAlarms(name string, log *slog.Logger) *Alarms {
	return &Alarms{name: name, log: backends.LoggerOrDiscard(log)}
}

// Record records the alarms that one answer raised; none: a good answer. detail names the status or header, never its
// value, which may be a viewer's token.
func (r *Alarms) Record(now time.Time, raised AlarmSet, detail string) {
	for rest := raised; rest != 0; rest &= rest - 1 {
		r.counts[bits.TrailingZeros16(uint16(rest))].Add(1)
	}
	if raised == 0 && r.active.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range backends.AllAlarms() {
		if a == backends.AlarmDenialsJumped {
			continue // no single answer tells; see End
		}
		r.update(now, a, raised.Has(a), detail)
	}
}

// Raise records an alarm that no single answer raises. It clears no other. AlarmDenialsJumped holds until [Alarms.End].
func (r *Alarms) Raise(now time.Time, a backends.Alarm, detail string) {
	r.counts[a].Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.update(now, a, true, detail)
}

// End ends an alarm that good answers do not end.
func (r *Alarms) End(a backends.Alarm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Active().Has(a) {
		r.end(a)
	}
}

// end ends an alarm. The caller holds mu.
func (r *Alarms) end(a backends.Alarm) {
	r.active.Store(uint32(r.Active() &^ AlarmSet(0).With(a)))
	r.log.Warn("backend keeps its contract again", slog.String("backend", r.name), slog.String("alarm", a.String()))
}

// update begins or ends one alarm. The caller holds mu.
func (r *Alarms) update(now time.Time, a backends.Alarm, isRaised bool, detail string) {
	isActive := r.Active().Has(a)
	backend, alarm := slog.String("backend", r.name), slog.String("alarm", a.String())
	switch {
	case isRaised && !isActive:
		r.active.Store(uint32(r.Active().With(a)))
		r.log.Warn("backend violates its contract", backend, alarm, slog.String("detail", detail), slog.String("advice", a.Advice()))
	case !isRaised && isActive && now.Sub(r.lastSeen[a]) >= alarmClearAfter:
		r.end(a)
	}
	if isRaised {
		r.lastSeen[a], r.details[a] = now, detail
	}
}

// Active returns the alarms that hold at present.
func (r *Alarms) Active() AlarmSet { return AlarmSet(r.active.Load()) }

// Detail returns what the alarm was last raised by, as it was recorded; empty: it was not yet.
func (r *Alarms) Detail(a backends.Alarm) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.details[a]
}

// Count returns how often the alarm was raised since the start.
func (r *Alarms) Count(a backends.Alarm) uint64 { return r.counts[a].Load() }
