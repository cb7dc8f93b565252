package timeline

import (
	"sync"
	"time"

	"usher/backends"
)

// MaxEntries is the highest number of entries in a log.
const MaxEntries = 16

// Entry is one check of a session, or another event that decided on it.
type Entry struct {
	// Time is when it ended, to the millisecond. Of merged entries it is that of the newest.
	Time time.Time
	// Since is the time of the oldest of merged entries; otherwise it equals Time. Count is how many there are, at least 1.
	Since time.Time
	Count int
	// Omitted is how many entries were left out between the entry before this one and this one.
	Omitted int
	Trigger Trigger
	// Backend is the backend that was asked, or that could not be; empty: none was needed. A log keeps only whether it is
	// empty.
	Backend string
	// Duration is how long the check or the look-up took, to a tenth of a millisecond; of merged entries the longest.
	Duration time.Duration
	Verdict  backends.Verdict
	Source   backends.Source
	// Reason is that of the decision. Error is why the backend or the store did not answer; empty: it did.
	Reason, Error string
}

// Log is what has decided on one session. The zero value is empty. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	data string // see encode
}

// Add adds one event, which ended at now. Time, Since, Count and Omitted are the log's own.
func (l *Log) Add(e Entry, now time.Time) {
	added := item{
		at: now.UnixMilli(), count: 1, trigger: e.Trigger, hasBackend: e.Backend != "",
		duration: max(0, int64(e.Duration/durationUnit)), verdict: e.Verdict, source: e.Source,
		reason: clip(e.Reason), error: clip(e.Error),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var room [MaxEntries + 1]item
	items := append(decode(room[:0], l.data), added)
	if len(items) > MaxEntries {
		items = shorten(items)
	}
	l.data = encode(items)
}

// Entries returns the entries, the oldest first. Those that asked a backend name the given one.
func (l *Log) Entries(backend string) []Entry {
	l.mu.Lock()
	data := l.data
	l.mu.Unlock()
	var room [MaxEntries]item
	var all []Entry
	for _, it := range decode(room[:0], data) {
		e := Entry{
			Time: time.UnixMilli(it.at).UTC(), Since: time.UnixMilli(it.at - it.span).UTC(), Count: int(it.count),
			Omitted: int(it.omitted), Trigger: it.trigger, Duration: time.Duration(it.duration) * durationUnit,
			Verdict: it.verdict, Source: it.source, Reason: it.reason, Error: it.error,
		}
		if it.hasBackend {
			e.Backend = backend
		}
		all = append(all, e)
	}
	return all
}

// durationUnit is the precision of durations.
const durationUnit = 100 * time.Microsecond

// item is an entry as a log keeps it: times in milliseconds of the Unix clock, the duration in its unit.
type item struct {
	at, span, duration int64 // span: at less the time of the oldest of merged entries
	count, omitted     int64
	trigger            Trigger
	hasBackend         bool
	verdict            backends.Verdict
	source             backends.Source
	reason, error      string
}

// changesNothing reports whether the item says what the one before it says.
func (it *item) changesNothing(before *item) bool {
	return it.verdict == before.verdict && it.source == before.source && it.reason == before.reason && it.error == before.error
}

// shorten makes one item less of those that are too many. The first one stays, and what the last one says.
func shorten(items []item) []item {
	for i := 1; i < len(items)-1; i++ {
		if older, newer := &items[i], &items[i+1]; newer.canMerge(older) {
			newer.span = newer.at - older.at + older.span
			newer.count += older.count
			newer.omitted = older.omitted
			newer.duration = max(newer.duration, older.duration)
			return append(items[:i], items[i+1:]...)
		}
	}
	out := 1
	for i := 1; i < len(items)-1; i++ {
		if items[i].changesNothing(&items[i-1]) {
			out = i
			break
		}
	}
	items[out+1].omitted += items[out].count + items[out].omitted
	return append(items[:out], items[out+1:]...)
}

// canMerge reports whether the item repeats the one before it, and none was left out between them.
func (it *item) canMerge(before *item) bool {
	return it.trigger.isRoutine() && it.trigger == before.trigger && it.hasBackend == before.hasBackend &&
		it.omitted == 0 && it.changesNothing(before)
}
