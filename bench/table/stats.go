package table

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// sample is one measurement of one server.
type sample struct {
	perSecond float64
	p50, p99  time.Duration
	// cpu is the server's time for one request. generator and others are the cores that the generator, with origin and
	// middleware, and processes beyond this run took.
	cpu               time.Duration
	generator, others float64
	failed            uint64
	failures          map[string]uint64 // by what was wrong
}

func perSecond(s sample) float64    { return s.perSecond }
func p99(s sample) float64          { return s.p99.Seconds() }
func cpu(s sample) float64          { return s.cpu.Seconds() }
func generatorCPU(s sample) float64 { return s.generator }

// failed returns how many requests failed. A goal is met only if none did, Usher's and those that it is compared with: what fails at
// once makes a server look fast, and what fails late makes another one look slow.
func failed(samples []sample) (n uint64) {
	for _, s := range samples {
		n += s.failed
	}
	return n
}

// failures says how many requests failed, if any did.
func failures(samples []sample) string {
	if n := failed(samples); n > 0 {
		return fmt.Sprintf(", **%d failed**", n)
	}
	return ""
}

// median returns the middle of a value over samples, NaN if there are none.
func median(samples []sample, value func(sample) float64) float64 {
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = value(s)
	}
	return medianOf(all)
}

func medianOf(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	all = slices.Sorted(slices.Values(all))
	middle := len(all) / 2
	if len(all)%2 == 1 {
		return all[middle]
	}
	return (all[middle-1] + all[middle]) / 2
}

// ratio is one value over another: of medians, and the least and most of the rounds.
type ratio struct{ median, least, most float64 }

// compare divides a value of a's samples by that of b's. Samples of the same index are of the same round.
func compare(a, b []sample, value func(sample) float64) ratio {
	r := ratio{median(a, value) / median(b, value), math.Inf(1), math.Inf(-1)}
	for i := range min(len(a), len(b)) {
		q := value(a[i]) / value(b[i])
		r.least, r.most = min(r.least, q), max(r.most, q)
	}
	return r
}

// String returns the ratio with its range, if there is one.
func (r ratio) String() string {
	if r.least == r.most || r.least > r.most {
		return fmt.Sprintf("%.2f", r.median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.least, r.most)
}

// runs are the samples of a row by server, in the order of names.
type runs struct {
	names   []string
	samples map[string][]sample
}

// describe returns a server's rate, p99 and CPU.
func (r *runs) describe(name string) string {
	s := r.samples[name]
	text := fmt.Sprintf("%s/s, p99 %s, %.1f µs", thousands(median(s, perSecond)), milliseconds(median(s, p99)), median(s, cpu)*1e6)
	return text + failures(s)
}

// others describes the yardstick in full and other peers by their ratio to it.
func (r *runs) others(yardstick string) string {
	parts := []string{yardstick + " " + r.describe(yardstick)}
	for _, name := range r.names {
		if name != yardstick && name != usherName {
			parts = append(parts, fmt.Sprintf("%s %.2f", name, compare(r.samples[name], r.samples[yardstick], perSecond).median))
		}
	}
	return strings.Join(parts, "; ")
}

// ratios returns Usher's rate, p99 and CPU over the yardstick's.
func (r *runs) ratios(yardstick string) string {
	a, b := r.samples[usherName], r.samples[yardstick]
	return fmt.Sprintf("**%s**; p99 × %.1f; CPU × %.2f", compare(a, b, perSecond), compare(a, b, p99).median, compare(a, b, cpu).median)
}

// thousands writes a count with separators: 48,155.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// milliseconds writes seconds with two digits that count.
func milliseconds(seconds float64) string {
	ms := seconds * 1e3
	switch {
	case math.IsNaN(ms):
		return "–"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}
