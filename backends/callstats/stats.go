package callstats

import (
	"slices"
	"sync"
	"time"

	"usher/backends"
)

const (
	// rateWindow is over how long rates are averaged.
	rateWindow = time.Minute
	// maxHistory is how many changes of the breaker are kept.
	maxHistory = 32
)

// Failure is the last failure of one kind.
type Failure struct {
	Time  time.Time
	Kind  backends.FailureKind
	Error string
}

// Change is a change of the breaker.
type Change struct {
	Time  time.Time
	State backends.BreakerState
}

// Snapshot is what is known at one time.
type Snapshot struct {
	// Checks and Failures are calls a second over the last minute, without those that a viewer gave up.
	Checks, Failures float64
	// DenialsShare is which part of the backend's answers in the last minute were denials, openings among them.
	DenialsShare float64
	// LastFailures are the last failures, one of each kind, the newest first.
	LastFailures []Failure
	// History are the last changes of the breaker, the newest last.
	History []Change
}

// Alarm receives the beginning and the end of a jump of denials. The functions must not call the [Stats].
type Alarm struct {
	Begin func(now time.Time, detail string)
	End   func()
}

// Stats are the statistics of one backend. It is safe for concurrent use.
type Stats struct {
	alarm Alarm

	mu       sync.Mutex
	rates    window
	failures map[backends.FailureKind]Failure
	history  []Change
	denials  denials
}

// New returns the statistics of no calls.
func New(a Alarm) *Stats {
	return &Stats{
		alarm: a, rates: window{length: rateWindow / buckets}, denials: newDenials(),
		failures: make(map[backends.FailureKind]Failure),
	}
}

// RecordCall records a call: its answer or its error.
func (s *Stats) RecordCall(now time.Time, r *backends.Request, d backends.Decision, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.recordFailure(now, backends.AsFailure(err))
		return
	}
	t := tally{calls: 1}
	if d.Source == backends.FromBackend {
		t.answers = 1
		if d.Verdict == backends.Denied {
			t.denials = 1
		}
	}
	s.rates.add(now, t)
	if !counts(r, &d) {
		return
	}
	switch detail, begins, ends := s.denials.record(now, d.Verdict == backends.Denied); {
	case begins:
		s.alarm.Begin(now, detail)
	case ends:
		s.alarm.End()
	}
}

// recordFailure records a failed call; nil: the viewer left, or one of the gateway's own bounds was reached.
func (s *Stats) recordFailure(now time.Time, f *backends.Failure) {
	if f == nil {
		return
	}
	s.rates.add(now, tally{calls: 1, failures: 1})
	s.failures[f.Kind] = Failure{Time: now, Kind: f.Kind, Error: f.Error()}
}

// RecordState records a new state of the breaker.
func (s *Stats) RecordState(now time.Time, state backends.BreakerState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.history) == maxHistory {
		s.history = slices.Delete(s.history, 0, 1)
	}
	s.history = append(s.history, Change{now, state})
}

// Snapshot returns what is known.
func (s *Stats) Snapshot(now time.Time) Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.rates.sum(now, 0)
	shown := Snapshot{
		Checks: float64(all.calls) / rateWindow.Seconds(), Failures: float64(all.failures) / rateWindow.Seconds(),
		DenialsShare: all.share(), History: slices.Clone(s.history),
	}
	for _, f := range s.failures {
		shown.LastFailures = append(shown.LastFailures, f)
	}
	slices.SortFunc(shown.LastFailures, func(a, b Failure) int { return b.Time.Compare(a.Time) })
	return shown
}
