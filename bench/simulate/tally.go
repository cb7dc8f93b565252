package simulate

import (
	"sync"
	"time"

	"usher/backends"
	"usher/bench/record"
)

// tally counts what a simulation finds, for all viewers. It is safe for concurrent use.
type tally struct {
	recorder *record.Recorder
	config   *Config
	// opening are the viewers who wait for an answer.
	opening sync.WaitGroup

	mu sync.Mutex
	// freeRiders are viewers whom the middleware denies and who watched, lastFree is when the last of them did.
	freeRiders map[viewerNumber]bool
	lastFree   time.Time
	freeTime   time.Duration
	unverified time.Duration
}

func newTally(c *Config, r *record.Recorder) *tally {
	return &tally{recorder: r, config: c, freeRiders: map[viewerNumber]bool{}}
}

// count counts viewers of the sample.
func (t *tally) count(name string, n int) { t.recorder.Count(name, float64(n)*t.config.factor()) }

// started counts a viewer who comes.
func (t *tally) started() {
	t.count("openings.planned", 1)
	t.count("openings.started", 1)
}

// request records how long a viewer of the sample waited for their session.
func (t *tally) request(waited time.Duration, failure string) {
	now := time.Now()
	began := now.Add(-waited)
	t.recorder.Request(record.Request{Op: record.Opening, Intended: began, Sent: began, FirstByte: now, End: now, Failure: failure})
}

// opened counts a session that a viewer got.
func (t *tally) opened(d *backends.Decision, waited time.Duration, isNew bool) {
	t.request(waited, "")
	if isNew && d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		t.count("admissions.unverified", 1)
	}
}

// unanswered counts a viewer who is to retry, unless the simulation is over.
func (t *tally) unanswered(waited time.Duration, isOver bool) {
	if !isOver {
		t.request(waited, "status 503")
	}
}

// denied counts an answer to a viewer who may not watch.
func (t *tally) denied(v *viewer, d *backends.Decision) {
	switch {
	case d.Source == backends.FromLimit:
		t.count("denials.limit", 1)
	case v.isBad:
		t.count("denials.bad", 1)
	default:
		t.count("denials.good", 1)
	}
}

// rodeFree counts a segment that a viewer got whom the middleware denies.
func (t *tally) rodeFree(v *viewer, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := v.viewerNumber; !t.freeRiders[n] {
		t.freeRiders[n] = true
		t.count("free_rides", 1)
	}
	t.lastFree = now
	t.freeTime += t.config.Segment
}

// Decided counts a decision by what it stands on.
func (t *tally) Decided(_ *backends.Request, _, after *backends.Decision) {
	if after != nil {
		t.count("decisions."+after.Source.String(), 1)
	}
}

// Moved is told of reloads, which no simulation has.
func (t *tally) Moved(*backends.Request, string, *backends.Decision) {}

// Waited is told how long a viewer waited, which open knows better.
func (t *tally) Waited(*backends.Request, *backends.Decision, time.Duration) {}

// TokenExpired is told of tokens with a life, which no simulation has.
func (t *tally) TokenExpired(string, int) {}

// RecheckDue is told of re-checks, which the middleware counts.
func (t *tally) RecheckDue(string) {}

// RecheckGranted is told how long a re-check waited.
func (t *tally) RecheckGranted(string, time.Duration) {}

// Rechecked is told what a re-check brought.
func (t *tally) Rechecked(string, *backends.Decision) {}

// Verified adds for how long a viewer watched without an answer.
func (t *tally) Verified(_ *backends.Request, _ *backends.Decision, unverified time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unverified += unverified
}
