package record

import (
	"maps"
	"slices"
	"strings"
	"time"

	"usher/bench/result"
)

// partOfSecond is the shortest rest of a second that becomes a value of its own.
const partOfSecond = 500 * time.Millisecond

// Finish ends the measurement. A short rest is part of the last second.
func (r *Recorder) Finish(now time.Time) result.Measurement {
	if r.rest(now) >= partOfSecond {
		r.Tick(now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectLocked()
	r.extendLocked(now)
	m := result.Measurement{
		Started: r.start, Seconds: now.Sub(r.start).Seconds(), Arrivals: r.arrivals, Operations: map[string]*result.Operation{},
		Counts: map[string]float64{}, Faults: slices.Clone(r.faults), Notes: slices.Clone(r.notes),
		Series: result.Series{Seconds: slices.Clone(r.seconds)},
	}
	m.Arrivals.Planned = uint64(r.totals["openings.planned"])
	m.Arrivals.Started = uint64(r.totals["openings.started"])
	m.Arrivals.Dropped = uint64(r.totals["openings.dropped"])
	for op, o := range r.ops {
		if o != nil {
			m.Operations[Op(op).String()] = o
		}
	}
	for name, total := range r.totals {
		switch kind, _, _ := strings.Cut(name, "."); kind {
		case "requests", "errors", "bytes", "openings": // the measurement holds them elsewhere
		default:
			m.Counts[name] = total
		}
	}
	for i := range m.Faults {
		if r.open[i] {
			m.Faults[i].To = m.Seconds
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.lines)) {
		m.Series.Lines = append(m.Series.Lines, result.Line{Name: name, Unit: r.lines[name].unit, Values: r.lines[name].values})
	}
	for _, name := range slices.Sorted(maps.Keys(r.process)) {
		m.Processes = append(m.Processes, r.process[name])
	}
	return m
}

// extendLocked moves the end of the last second, so that what was counted since is in its rates, and what took longer since its maximum. A
// run's end is when requests fail that had no answer.
func (r *Recorder) extendLocked(now time.Time) {
	last := len(r.seconds) - 1
	if last < 0 || !now.After(r.last) {
		return
	}
	from, to := 0.0, now.Sub(r.start).Seconds()
	if last > 0 {
		from = r.seconds[last-1]
	}
	before := r.seconds[last] - from
	for name, l := range r.lines {
		v := l.values[last]
		switch {
		case l.current == nil:
		case l.isCount:
			rate := *l.current
			if v != nil {
				rate += *v * before
			}
			rate /= to - from
			l.values[last] = &rate
		case v == nil || strings.HasPrefix(name, "latency.max.") && *l.current > *v:
			l.values[last] = l.current
		}
	}
	r.seconds[last] = to
}

func (r *Recorder) rest(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Sub(r.last)
}
