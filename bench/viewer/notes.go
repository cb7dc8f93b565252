package viewer

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/wire"
)

// slowestCount is how many of the slowest requests of each kind are told.
const slowestCount = 3

// slowest remembers the slowest traced requests of each kind. It is safe for concurrent use.
type slowest struct {
	mu  sync.Mutex
	ops map[record.Op][]traced
}

type traced struct {
	latency time.Duration
	trace   string
}

func (s *slowest) add(op record.Op, latency time.Duration, trace []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.ops[op]
	if len(all) == slowestCount && all[slowestCount-1].latency >= latency {
		return
	}
	if s.ops == nil {
		s.ops = map[record.Op][]traced{}
	}
	all = append(all, traced{latency, string(trace)})
	slices.SortFunc(all, func(a, b traced) int { return int(b.latency - a.latency) })
	s.ops[op] = all[:min(len(all), slowestCount)]
}

// notes returns a note for each kind of request.
func (s *slowest) notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var notes []string
	for op := record.Opening; op <= record.AuthQuestion; op++ {
		var parts []string
		for _, t := range s.ops[op] {
			parts = append(parts, fmt.Sprintf("%v (trace %s)", t.latency.Round(10*time.Microsecond), t.trace))
		}
		if len(parts) > 0 {
			notes = append(notes, fmt.Sprintf("slowest traced requests, %s: %s", op, strings.Join(parts, ", ")))
		}
	}
	return notes
}

// delays say how well the generator itself kept the plan.
type delays struct {
	turns, late, full, noPort, noFiles atomic.Int64
	// bounded are turns that waited because too many requests were in flight.
	bounded atomic.Int64
	// unfinished are requests whose answer was not complete when the run ended, oldest how long the oldest of them had been due.
	unfinished, oldest atomic.Int64
	longest            atomic.Int64
	// answers are the longest times until the first byte of an answer, by the kind of request.
	answers [record.AuthQuestion + 1]atomic.Int64
}

// Above tooLate the generator's own delay of a turn is told if more than one in tooMany turns has it.
const (
	tooLate = 10 * time.Millisecond
	tooMany = 100
)

// unfinishedAfter is how long a request takes before the run's end has cut off something worth telling.
const unfinishedAfter = time.Second

// leastUnanswered is how long a request waits for the first byte of its answer before the run's end finds it failed, of a server that
// answers in less. A node that waits for its middleware answers after a second, its answer deadline.
const leastUnanswered = 1500 * time.Millisecond

// unansweredAfter returns the same of this server: as long as any request of that kind has waited, for its settings may say so.
func (d *delays) unansweredAfter(op record.Op) time.Duration {
	return max(leastUnanswered, time.Duration(d.answers[op].Load()))
}

// add counts a turn that the generator began that much after it could have.
func (d *delays) add(delay time.Duration) {
	d.turns.Add(1)
	if delay > tooLate {
		d.late.Add(1)
	}
	raise(&d.longest, delay)
}

// raise raises a maximum to a duration.
func raise(most *atomic.Int64, d time.Duration) {
	for {
		last := most.Load()
		if int64(d) <= last || most.CompareAndSwap(last, int64(d)) {
			return
		}
	}
}

// addFailure counts failures that are the generator's own.
func (d *delays) addFailure(failed string) {
	switch failed {
	case wire.NoPort:
		d.noPort.Add(1)
	case wire.NoFiles:
		d.noFiles.Add(1)
	}
}

// note tells what a reader of the result has to know.
func (e *engine) note() {
	d := &e.delays
	if late, turns := d.late.Load(), d.turns.Load(); late*tooMany > turns {
		why := "Use a faster or quieter machine, or a lower rate"
		if bounded := d.bounded.Load(); bounded > 0 {
			why = fmt.Sprintf("%d turns waited because max_in_flight=%d requests were in flight: raise it", bounded, e.config.MaxInFlight)
		}
		e.recorder.Note(fmt.Sprintf("the generator did not keep the plan: it began %d of %d turns more than %v late, the latest after %v; "+
			"latencies count from the plan. %s", late, turns, tooLate, time.Duration(d.longest.Load()).Round(time.Millisecond), why))
	}
	if n := d.full.Load(); n > 0 {
		e.recorder.Note(fmt.Sprintf("%d viewers did not start because %d were there at once; raise max_alive", n, len(e.viewers)))
	}
	if n := d.noPort.Load(); n > 0 {
		e.recorder.Note(fmt.Sprintf("%d requests found no local port; set source addresses such as 127.1.0.0/16", n))
	}
	if n := d.noFiles.Load(); n > 0 {
		e.recorder.Note(fmt.Sprintf("%d requests found no file descriptor; raise the limit of open files", n))
	}
	if oldest := time.Duration(d.oldest.Load()).Round(time.Millisecond); oldest > unfinishedAfter {
		e.recorder.Note(fmt.Sprintf("%d requests had no complete answer when the run ended, the oldest after %v; they are in no figure",
			d.unfinished.Load(), oldest))
	}
	for _, text := range e.slowest.notes() {
		e.recorder.Note(text)
	}
}
