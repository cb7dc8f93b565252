package soak

import (
	"fmt"
	"slices"
	"time"

	"usher/bench/result"
)

// span is a part of a run.
type span struct{ from, to time.Time }

// usage is the medians of a node's samples.
type usage struct{ goroutines, resident, heap float64 }

// medians returns the medians of the samples in a span; false: there are none.
func medians(samples []sample, in span) (usage, bool) {
	var goroutines, resident, heap []float64
	for _, s := range samples {
		if s.at.After(in.from) && s.at.Before(in.to) {
			goroutines, resident, heap = append(goroutines, s.goroutines), append(resident, s.resident), append(heap, s.heap)
		}
	}
	return usage{median(goroutines), median(resident), median(heap)}, len(goroutines) > 0
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Noise is what may come and go: a share, and beside it what connections of a few viewers and a page of the heap are.
const (
	noiseShare      = 0.15
	noiseGoroutines = 40
	noiseMemory     = 12 << 20
)

// judgeGrowth compares the quiet time at the end with that in the middle, for each node and for all goroutines together: players
// move from a node that was killed to another one.
func judgeGrowth(names []string, before, after []usage) []result.Assertion {
	var all []result.Assertion
	add := func(what string, from, to, noise float64, unit string, scale float64) {
		limit := from*(1+noiseShare) + noise
		all = append(all, result.Assertion{
			Text: fmt.Sprintf("%s do not grow in the last half", what), Kept: to <= limit,
			Got: fmt.Sprintf("%.4g%s, then %.4g%s; noise ends at %.4g%s", from/scale, unit, to/scale, unit, limit/scale, unit),
		})
	}
	const mega = 1e6
	var from, to float64
	for i, name := range names {
		from, to = from+before[i].goroutines, to+after[i].goroutines
		add("the resident bytes of "+name, before[i].resident, after[i].resident, noiseMemory, " MB", mega)
		add("the live bytes of the heap of "+name, before[i].heap, after[i].heap, noiseMemory, " MB", mega)
	}
	add("the goroutines of all nodes", from, to, noiseGoroutines, "", 1)
	return all
}
