package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"usher/bench/result"
)

// seconds writes a latency.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}

// printSummary prints each measurement, and which expectations hold.
func printSummary(out io.Writer, run *result.Run) {
	for i := range run.Measurements {
		m := &run.Measurements[i]
		_, _ = fmt.Fprintf(out, "\n%s, round %d, %.0f s: %d viewers planned, %d started\n", m.Target, m.Round, m.Seconds, m.Arrivals.Planned, m.Arrivals.Started)
		printOperations(out, m)
		for _, name := range slices.Sorted(maps.Keys(m.Counts)) {
			_, _ = fmt.Fprintf(out, "  %-24s %12.0f\n", name, m.Counts[name])
		}
		for _, p := range m.Processes {
			_, _ = fmt.Fprintf(out, "  %-24s %12.1f s of CPU %10.1f MB\n", p.Name, p.CPUSeconds, float64(p.Resident)/1e6)
		}
		for _, note := range m.Notes {
			_, _ = fmt.Fprintf(out, "  note: %s\n", note)
		}
		for _, a := range m.Assertions {
			_, _ = fmt.Fprintf(out, "  %s  %s (got %s)\n", map[bool]string{true: "holds", false: "FAILS"}[a.Kept], a.Text, a.Got)
		}
	}
}

func printOperations(out io.Writer, m *result.Measurement) {
	for _, name := range slices.Sorted(maps.Keys(m.Operations)) {
		o := m.Operations[name]
		_, _ = fmt.Fprintf(out, "  %-12s %9d requests  %7.1f/s  p50 %9s  p99 %9s  max %9s  failed %d", name, o.Requests,
			float64(o.Requests)/m.Seconds, seconds(o.Latency.Quantile(0.5).Seconds()), seconds(o.Latency.Quantile(0.99).Seconds()),
			seconds(o.Latency.Max().Seconds()), o.Failed())
		for _, what := range slices.Sorted(maps.Keys(o.Errors)) {
			_, _ = fmt.Fprintf(out, "; %s: %d", what, o.Errors[what])
		}
		_, _ = fmt.Fprintln(out)
	}
}
