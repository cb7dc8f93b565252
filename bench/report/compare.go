package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"usher/bench/result"
)

// Change is how a figure differs between two runs.
type Change struct {
	Target, Figure string
	Before, After  float64
	// Percent is by how much it grew; infinite from zero.
	Percent float64
	// Verdict is "better", "worse", or "same" if it differs by less than the noise of a shared machine, a tenth.
	Verdict string
}

// noise is the share by which figures of the same program differ from run to run on a shared machine.
const noise = 0.1

// Compare returns what changed between two runs, for the targets and figures that both have, by the medians over their rounds. Warnings
// say what makes them hard to compare.
func Compare(before, after *result.Run) (changes []Change, warnings []string) {
	warnings = differences(before, after)
	targets, old := byTarget(before)
	others, recent := byTarget(after)
	for _, target := range others {
		if len(old[target]) == 0 {
			targets = append(targets, target)
		}
	}
	for _, target := range targets {
		if alone := inOneAlone(len(old[target]) > 0, len(recent[target]) > 0); alone != "" {
			warnings = append(warnings, target+alone)
			continue
		}
		for _, f := range figuresOf(slices.Concat(before.Measurements, after.Measurements)) {
			was, isBefore := medianOf(f, old[target])
			is, isAfter := medianOf(f, recent[target])
			if alone := inOneAlone(isBefore, isAfter); alone != "" {
				warnings = append(warnings, fmt.Sprintf("%s of %s%s", f.name, target, alone))
			} else if was != 0 || is != 0 {
				changes = append(changes, newChange(target, f, was, is))
			}
		}
	}
	return changes, warnings
}

// inOneAlone says which of two runs alone has something; empty: both or neither.
func inOneAlone(isBefore, isAfter bool) string {
	switch {
	case isBefore && !isAfter:
		return " was measured in the first run alone"
	case isAfter && !isBefore:
		return " was measured in the second run alone"
	}
	return ""
}

func newChange(target string, f figure, was, is float64) Change {
	share := (is - was) / was
	c := Change{Target: target, Figure: f.name, Before: was, After: is, Percent: 100 * share, Verdict: "same"}
	switch {
	case math.Abs(share) < noise:
	case (share < 0) == f.isBetterSmall:
		c.Verdict = "better"
	default:
		c.Verdict = "worse"
	}
	return c
}

// medianOf returns the median of the rounds that have the figure.
func medianOf(f figure, rounds []*result.Measurement) (median float64, isKnown bool) {
	var values []float64
	for _, m := range rounds {
		if f.isKnown(m) {
			values = append(values, f.of(m))
		}
	}
	median, _, _ = spread(values)
	return median, len(values) > 0
}

// differences says what differs between two runs beside what they found.
func differences(before, after *result.Run) (all []string) {
	add := func(what, a, b string) {
		if a != b {
			all = append(all, fmt.Sprintf("%s: %s before, %s after", what, orNone(a), orNone(b)))
		}
	}
	add("scenario", before.Scenario, after.Scenario)
	add("machine", hostOf(&before.Host), hostOf(&after.Host))
	names := maps.Clone(before.Settings)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, after.Settings)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add(name, before.Settings[name], after.Settings[name])
	}
	return all
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func hostOf(h *result.Host) string {
	return strings.TrimSpace(fmt.Sprintf("%d × %s, %.0f GB, %s, %s", h.CPUs, h.CPU, float64(h.Memory)/1e9, h.System, h.Go))
}

// PrintCompare prints what changed between two runs.
func PrintCompare(w io.Writer, before, after *result.Run) error {
	changes, warnings := Compare(before, after)
	var out strings.Builder
	for _, warning := range warnings {
		fmt.Fprintf(&out, "mind: %s\n", warning)
	}
	fmt.Fprintf(&out, "%-16s %-28s %12s %12s %9s\n", "target", "figure", "before", "after", "change")
	for _, c := range changes {
		fmt.Fprintf(&out, "%-16s %-28s %12.4g %12.4g %+8.1f%%  %s\n", c.Target, c.Figure, c.Before, c.After, c.Percent, c.Verdict)
	}
	_, err := io.WriteString(w, out.String())
	return err
}
