package callstats

import (
	"fmt"
	"math/bits"
	"time"

	"usher/backends"
)

const (
	// minAnswers is how many answers are judged at least, and endAnswers how many of the last ones tell that it is over.
	minAnswers, endAnswers = 20, 60
	// jump is how much the share of denials must rise to be one, and back how close to the average it must come again.
	jump, back = 0.4, 0.2
	// unknownAverage is the average without earlier answers.
	unknownAverage = 0.4
)

// denials watches the share of denials among the answers to re-checks of viewers whom the backend has allowed. It holds no
// lock.
type denials struct {
	short, long comparison
	// isActive reports that denials have jumped. It ends once their share is endShare.
	isActive bool
	endShare float64
	// last are the last answers while it is active, the newest in the lowest bit, 1 for a denial; counted is how many.
	last    uint64
	counted int
}

// comparison compares a window with the one before, which is 60 times as long.
type comparison struct {
	name, before    string
	recent, earlier window
}

func newDenials() denials {
	return denials{
		short: comparison{"minute", "hour", window{length: time.Second}, window{length: time.Minute}},
		long:  comparison{"hour", "days", window{length: time.Minute}, window{length: time.Hour}},
	}
}

// counts reports whether the answer to a request tells of a viewer whom the backend has allowed before.
func counts(r *backends.Request, d *backends.Decision) bool {
	wasAllowed := r.Current.Source == backends.FromBackend || r.Current.Source == backends.FromCached
	return r.IsRecheck && r.Current.Verdict == backends.Allowed && wasAllowed && d.Source == backends.FromBackend
}

// record records an answer that counts. It reports whether the alarm begins, with what happened, or ends.
func (d *denials) record(now time.Time, isDenied bool) (detail string, begins, ends bool) {
	t := tally{answers: 1}
	if isDenied {
		t.denials = 1
	}
	if d.isActive {
		return "", false, d.hasEnded(isDenied)
	}
	for _, c := range []*comparison{&d.short, &d.long} {
		c.recent.add(now, t)
		c.earlier.add(now, t)
	}
	for _, c := range []*comparison{&d.short, &d.long} {
		if endShare, detail, isJump := c.judge(now); isJump {
			d.isActive, d.endShare, d.last, d.counted = true, endShare, 0, 0
			return detail, true, false
		}
	}
	return "", false, false
}

// judge reports whether denials have jumped, and at what share that ends.
func (c *comparison) judge(now time.Time) (endShare float64, detail string, isJump bool) {
	recent := c.recent.sum(now, 0)
	if recent.answers < minAnswers {
		return 0, "", false
	}
	earlier := c.earlier.sum(now, 2) // the newest two hold what recent holds
	average, endShare := unknownAverage, unknownAverage
	isKnown := earlier.answers >= minAnswers
	if isKnown {
		average = earlier.share()
		endShare = average + back
	}
	if recent.share() < average+jump {
		return 0, "", false
	}
	known := "too few to tell in the " + c.before + " before"
	if isKnown {
		known = fmt.Sprintf("%.0f %% on average in the %s before", 100*average, c.before)
	}
	detail = fmt.Sprintf("in the last %s it denied %.0f %% of %d re-checks of viewers whom it had allowed, %s",
		c.name, 100*recent.share(), recent.answers, known)
	return endShare, detail, true
}

// hasEnded records an answer while the alarm is active, and reports whether it ends.
func (d *denials) hasEnded(isDenied bool) bool {
	d.last = d.last << 1 & (1<<endAnswers - 1)
	if isDenied {
		d.last |= 1
	}
	d.counted = min(d.counted+1, endAnswers)
	if d.counted < endAnswers || float64(bits.OnesCount64(d.last)) > d.endShare*endAnswers {
		return false
	}
	d.isActive = false
	d.short.recent.reset()
	d.long.recent.reset()
	return true
}
