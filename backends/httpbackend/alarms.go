package httpbackend

import (
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// alarmQuiet is how long an alarm must not have been seen before a good answer clears it, so that a backend that does
// well every other time fills no log.
const alarmQuiet = time.Minute

// numAlarms is how many alarms there are.
const numAlarms = int(backends.AlarmUnexpectedAnswer) + 1

// Alarms notes what a backend does outside its contract, and logs the first time and the end of it. Safe for concurrent
// use; a good answer costs an atomic read.
type Alarms struct {
	name   string
	log    *slog.Logger
	counts [numAlarms]atomic.Uint64
	raised atomic.Uint32 // an AlarmSet

	mu   sync.Mutex
	last [numAlarms]time.Time
}

// NewAlarms watches the named backend.
func NewAlarms(name string, log *slog.Logger) *Alarms {
	return &Alarms{name: name, log: backends.LoggerOrDiscard(log)}
}

// Record takes down what one answer raised. detail says which status or header it was, never its value: that could be a
// viewer's token.
func (w *Alarms) Record(now time.Time, seen AlarmSet, detail string) {
	for rest := seen; rest != 0; rest &= rest - 1 {
		w.counts[bits.TrailingZeros8(uint8(rest))].Add(1)
	}
	if seen == 0 && w.raised.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range backends.AllAlarms() {
		w.noteOne(now, a, seen.Has(a), detail)
	}
}

func (w *Alarms) noteOne(now time.Time, a backends.Alarm, seen bool, detail string) {
	raised := w.Active().Has(a)
	switch {
	case seen && !raised:
		w.raised.Store(uint32(w.Active().With(a)))
		w.log.Warn("backend answers outside its contract", "backend", w.name, "alarm", a.String(), "detail", detail,
			"advice", a.Advice())
	case !seen && raised && now.Sub(w.last[a]) >= alarmQuiet:
		w.raised.Store(uint32(w.Active() &^ AlarmSet(0).With(a)))
		w.log.Warn("backend answers within its contract again", "backend", w.name, "alarm", a.String())
	}
	if seen {
		w.last[a] = now
	}
}

// Active is the alarms that hold at present.
func (w *Alarms) Active() AlarmSet { return AlarmSet(w.raised.Load()) }

// Count is how often the alarm was seen since the start.
func (w *Alarms) Count(a backends.Alarm) uint64 { return w.counts[a].Load() }
