package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"usher/bench/result"
)

// Ratio compares a figure of one target with that of the first target of a run.
type Ratio struct {
	// Figure is its name with its unit, such as "playlist p99 (ms)".
	Figure, Target string
	// Median, Least and Most are over the rounds.
	Median, Least, Most float64
	// Ratio is the median over the rounds of the ratio to the first target in the same round, RatioLeast and RatioMost its
	// range. They are zero where the first target has no such figure.
	Ratio, RatioLeast, RatioMost float64
}

// figure is something that measurements are compared by.
type figure struct {
	name string
	// operation is the kind of requests that it is of; empty: of no single kind.
	operation string
	// isBetterSmall: less of it is better.
	isBetterSmall bool
	of            func(m *result.Measurement) float64
}

// isKnown reports whether a measurement has the figure. Of a server that the harness does not run it may have no processes and no calls.
func (f *figure) isKnown(m *result.Measurement) bool {
	switch f.name {
	case cpuFigure:
		return slices.ContainsFunc(m.Processes, result.Process.IsServer)
	case callsFigure:
		_, isKnown := m.Counts["middleware.calls"]
		return isKnown
	}
	return m.Operations[f.operation] != nil
}

const (
	cpuFigure   = "server CPU a request (µs)"
	callsFigure = "middleware calls"
)

// figuresOf returns what measurements are compared by.
func figuresOf(all []result.Measurement) (figures []figure) {
	operations := map[string]bool{}
	for i := range all {
		for name := range all[i].Operations {
			operations[name] = true
		}
	}
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		add := func(what string, isBetterSmall bool, f func(o *result.Operation, m *result.Measurement) float64) {
			figures = append(figures, figure{op + what, op, isBetterSmall, func(m *result.Measurement) float64 {
				if o := m.Operations[op]; o != nil {
					return f(o, m)
				}
				return 0
			}})
		}
		add(" (1/s)", false, func(o *result.Operation, m *result.Measurement) float64 { return float64(o.Requests) / m.Seconds })
		add(" p50 (ms)", true, func(o *result.Operation, _ *result.Measurement) float64 { return milliseconds(o.Latency.Quantile(0.5)) })
		add(" p99 (ms)", true, func(o *result.Operation, _ *result.Measurement) float64 {
			return milliseconds(o.Latency.Quantile(0.99))
		})
		add(" errors", true, func(o *result.Operation, _ *result.Measurement) float64 { return float64(o.Failed()) })
	}
	return append(figures, figure{cpuFigure, "", true, serverCPU},
		figure{callsFigure, "", true, func(m *result.Measurement) float64 { return m.Counts["middleware.calls"] }})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func serverCPU(m *result.Measurement) float64 {
	requests, cpu := uint64(0), 0.0
	for _, o := range m.Operations {
		requests += o.Requests
	}
	for _, p := range m.Processes {
		if p.IsServer() {
			cpu += p.CPUSeconds
		}
	}
	return cpu * 1e6 / float64(max(1, requests))
}

// Ratios compares the targets of a run with the first one, by the figures that each has. A run of one target has none.
func Ratios(run *result.Run) (all []Ratio) {
	targets, rounds := byTarget(run)
	if len(targets) < 2 {
		return nil
	}
	for _, f := range figuresOf(run.Measurements) {
		for _, target := range targets {
			if !slices.ContainsFunc(rounds[target], f.isKnown) {
				continue
			}
			r := Ratio{Figure: f.name, Target: target}
			var values, ratios []float64
			for i, m := range rounds[target] {
				value := f.of(m)
				values = append(values, value)
				if base := rounds[targets[0]]; i < len(base) && f.of(base[i]) > 0 {
					ratios = append(ratios, value/f.of(base[i]))
				}
			}
			r.Median, r.Least, r.Most = spread(values)
			r.Ratio, r.RatioLeast, r.RatioMost = spread(ratios)
			all = append(all, r)
		}
	}
	return all
}

// byTarget returns the targets in the order of their first round, and the measurements of each.
func byTarget(run *result.Run) (targets []string, rounds map[string][]*result.Measurement) {
	rounds = map[string][]*result.Measurement{}
	for i := range run.Measurements {
		m := &run.Measurements[i]
		if rounds[m.Target] == nil {
			targets = append(targets, m.Target)
		}
		rounds[m.Target] = append(rounds[m.Target], m)
	}
	return targets, rounds
}

// spread returns the median, the least and the largest value; zeros of none.
func spread(values []float64) (median, least, most float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]
}

// PrintRatios prints the ratios of a run of several targets, and nothing of others.
func PrintRatios(w io.Writer, run *result.Run) error {
	all := Ratios(run)
	if len(all) == 0 {
		return nil
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\nMedians over the rounds (least to most), and as a ratio to %s.\n", all[0].Target)
	for _, r := range all {
		fmt.Fprintf(&out, "  %-28s %-16s %10.4g (%.4g to %.4g)", r.Figure, r.Target, r.Median, r.Least, r.Most)
		if r.Ratio > 0 {
			fmt.Fprintf(&out, "   %.2f (%.2f to %.2f)", r.Ratio, r.RatioLeast, r.RatioMost)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}
