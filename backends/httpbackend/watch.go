package httpbackend

import (
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// Alarm is something that a backend does outside its contract while it still gets its answer across. A closed set.
type Alarm uint8

// The alarms.
const (
	// AlarmUnexpectedStatus: a status that its contract does not know, so probably a wrong address.
	AlarmUnexpectedStatus Alarm = iota
	// AlarmRedirectToItself: viewers would be sent to the middleware.
	AlarmRedirectToItself
	// AlarmBadHeader: a header that makes no sense, and was ignored.
	AlarmBadHeader
	// AlarmWrongAddress: it knows no such page (404), under a preset that takes this for a failure.
	AlarmWrongAddress
	// AlarmUnexpectedAnswer: an answer without what require_header, require_body or the kind's own format wants.
	AlarmUnexpectedAnswer
	numAlarms
)

// String is the alarm as logs and metrics show it.
func (a Alarm) String() string {
	return [...]string{
		"unexpected_status", "redirect_to_itself", "bad_header", "wrong_address", "unexpected_answer",
	}[a]
}

// Advice is what the operator can do about it.
func (a Alarm) Advice() string {
	return [...]string{
		"look at address; if the backend means it, add the status to statuses",
		"look at address: the backend sends us to a page of its own, such as a login",
		"look at what the backend sends; the header was ignored",
		"look at the path in address",
		"look at address: something else than the backend answers there",
	}[a]
}

// Alarms lists them all, for whoever registers a metric for each.
func Alarms() []Alarm {
	return []Alarm{
		AlarmUnexpectedStatus, AlarmRedirectToItself, AlarmBadHeader, AlarmWrongAddress, AlarmUnexpectedAnswer,
	}
}

// AlarmSet is a set of alarms; the zero value is empty.
type AlarmSet uint8

// With is the set with a in it.
func (s AlarmSet) With(a Alarm) AlarmSet { return s | 1<<a }

// Has reports whether a is in the set.
func (s AlarmSet) Has(a Alarm) bool { return s&(1<<a) != 0 }

// alarmQuiet is how long an alarm must not have been seen before a good answer clears it, so that a backend that does
// well every other time fills no log.
const alarmQuiet = time.Minute

// Watch notes what a backend does outside its contract, and logs the first time and the end of it. Safe for concurrent
// use; a good answer costs an atomic read.
type Watch struct {
	name   string
	log    *slog.Logger
	counts [numAlarms]atomic.Uint64
	raised atomic.Uint32 // an AlarmSet

	mu   sync.Mutex
	last [numAlarms]time.Time
}

// NewWatch watches the named backend.
func NewWatch(name string, log *slog.Logger) *Watch {
	return &Watch{name: name, log: backends.OrDiscard(log)}
}

// Note takes down what one answer raised. detail says which status or header it was, never its value: that could be a
// viewer's token.
func (w *Watch) Note(now time.Time, seen AlarmSet, detail string) {
	for rest := seen; rest != 0; rest &= rest - 1 {
		w.counts[bits.TrailingZeros8(uint8(rest))].Add(1)
	}
	if seen == 0 && w.raised.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range Alarms() {
		w.noteOne(now, a, seen.Has(a), detail)
	}
}

func (w *Watch) noteOne(now time.Time, a Alarm, seen bool, detail string) {
	raised := w.Raised().Has(a)
	switch {
	case seen && !raised:
		w.raised.Store(uint32(w.Raised().With(a)))
		w.log.Warn("backend answers outside its contract", "backend", w.name, "alarm", a.String(), "detail", detail,
			"advice", a.Advice())
	case !seen && raised && now.Sub(w.last[a]) >= alarmQuiet:
		w.raised.Store(uint32(w.Raised() &^ AlarmSet(0).With(a)))
		w.log.Warn("backend answers within its contract again", "backend", w.name, "alarm", a.String())
	}
	if seen {
		w.last[a] = now
	}
}

// Raised is the alarms that hold at present.
func (w *Watch) Raised() AlarmSet { return AlarmSet(w.raised.Load()) }

// Count is how often the alarm was seen since the start.
func (w *Watch) Count(a Alarm) uint64 { return w.counts[a].Load() }
