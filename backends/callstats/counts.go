package callstats

import "time"

// buckets is how many buckets a window has.
const buckets = 60

// tally is what is counted in one bucket.
type tally struct{ calls, failures, answers, denials int }

func (t *tally) add(o tally) {
	t.calls, t.failures = t.calls+o.calls, t.failures+o.failures
	t.answers, t.denials = t.answers+o.answers, t.denials+o.denials
}

// share returns which part of the answers were denials; 0 without answers.
func (t tally) share() float64 {
	if t.answers == 0 {
		return 0
	}
	return float64(t.denials) / float64(t.answers)
}

// window counts over the last 60 buckets of a length. It holds no lock.
type window struct {
	length time.Duration // of a bucket
	counts [buckets]tally
	// numbers are which bucket since the epoch each of counts is.
	numbers [buckets]int64
}

func (w *window) number(at time.Time) int64 { return at.UnixNano() / int64(w.length) }

func (w *window) add(now time.Time, t tally) {
	n := w.number(now)
	i := n % buckets
	if w.numbers[i] != n {
		w.numbers[i], w.counts[i] = n, tally{}
	}
	w.counts[i].add(t)
}

// sum returns what was counted in the window, without the newest buckets of that many.
func (w *window) sum(now time.Time, without int64) (all tally) {
	n := w.number(now)
	for i, number := range w.numbers {
		if number > n-buckets && number <= n-without {
			all.add(w.counts[i])
		}
	}
	return all
}

// reset forgets what was counted.
func (w *window) reset() { *w = window{length: w.length} }
