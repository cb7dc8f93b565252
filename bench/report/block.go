package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/bench/record"
)

// plainLine returns the last second as one line.
func plainLine(s *record.Snapshot) string {
	sum := func(prefix string) (all float64) {
		for _, v := range below(s.Values, prefix) {
			all += v
		}
		return all
	}
	p99 := time.Duration(s.Values["latency.p99.playlist"] * float64(time.Second)).Round(10 * time.Microsecond)
	text := fmt.Sprintf("%5.0fs  viewers %6.0f  requests %7.0f/s  errors %5.0f/s  playlist p99 %8s  middleware %5.0f/s", s.Elapsed.Seconds(),
		s.Values["viewers.alive"], sum("requests."), sum("errors."), p99, s.Values["middleware.calls"])
	if len(s.Faults) > 0 {
		text += "  fault: " + strings.Join(s.Faults, ", ")
	}
	return text + "\n"
}

// blockLine is a line of a block, with the parameter of its colour's control sequence.
type blockLine struct{ text, colour string }

// The colours are those that a terminal's light and dark schemes have.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	yellow = "33"
)

// block returns the last second as lines for that many columns.
func block(s *record.Snapshot, length time.Duration, columns int) []blockLine {
	lines := append([]blockLine{{headline(s, length), bold}}, operationLines(s, columns)...)
	add := func(label, text, colour string) {
		if text != "" {
			lines = append(lines, blockLine{fmt.Sprintf("%-11s %s", label, text), colour})
		}
	}
	if len(s.Failures) > 0 {
		add("errors/s", rates(s.Failures), red)
	} else {
		add("errors/s", "none", "")
	}
	if decisions := below(s.Values, "decisions."); len(decisions) > 0 {
		add("decisions/s", cmp.Or(rates(decisions), "none"), "")
	}
	if calls, isKnown := s.Values["middleware.calls"]; isKnown {
		add("middleware", tenths(calls)+" calls/s", "")
	}
	add("faults", strings.Join(slices.Compact(slices.Sorted(slices.Values(s.Faults))), ", "), yellow)
	sessions := below(s.Values, "sessions.")
	maps.DeleteFunc(sessions, func(name string, _ float64) bool { return !strings.HasPrefix(name, "node") })
	add("sessions", list(sessions, tenths), "")
	add("CPU cores", list(below(s.Values, "cpu."), func(v float64) string { return fmt.Sprintf("%.2f", v) }), "")
	add("memory MB", list(below(s.Values, "memory."), func(v float64) string { return fmt.Sprintf("%.0f", v/1e6) }), "")
	return lines
}

func headline(s *record.Snapshot, length time.Duration) string {
	text := fmt.Sprintf("%s of %s", s.Elapsed.Round(time.Second), length)
	if alive, isKnown := s.Values["viewers.alive"]; isKnown {
		text += fmt.Sprintf(", %.0f viewers", alive)
	}
	if planned, isKnown := s.Values["openings.planned"]; isKnown {
		text += fmt.Sprintf(", %s of %s openings/s", tenths(s.Values["openings.started"]), tenths(planned))
	}
	return text
}

// operationLines returns a line for each kind of request. Names give way to the figures.
func operationLines(s *record.Snapshot, columns int) []blockLine {
	const row = "%-*.*s %6s %7s %7s %7s"
	requests := below(s.Values, "requests.")
	width := len("requests")
	for name := range requests {
		width = max(width, len(name))
	}
	width = max(min(width, columns-len(fmt.Sprintf(row, 0, 0, "", "", "", "", ""))), 1)
	lines := []blockLine{{fmt.Sprintf(row, width, width, "requests", "1/s", "p50", "p99", "max"), faint}}
	for op := range record.AuthQuestion + 1 {
		rate, isKnown := requests[op.String()]
		if !isKnown {
			continue
		}
		latency := func(quantile string) string {
			if v, isKnown := s.Values["latency."+quantile+"."+op.String()]; isKnown {
				return short(time.Duration(v * float64(time.Second)))
			}
			return "-"
		}
		lines = append(lines, blockLine{text: fmt.Sprintf(row, width, width, op, tenths(rate), latency("p50"), latency("p99"), latency("max"))})
	}
	return lines
}

// below returns the values whose names begin with the prefix, by the rest of their names.
func below(values map[string]float64, prefix string) map[string]float64 {
	found := map[string]float64{}
	for name, v := range values {
		if rest, isBelow := strings.CutPrefix(name, prefix); isBelow {
			found[rest] = v
		}
	}
	return found
}

// list writes values with their names, in the order of the names.
func list(values map[string]float64, format func(float64) string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, name+" "+format(values[name]))
	}
	return strings.Join(all, ", ")
}

// rates writes those that are not zero.
func rates(values map[string]float64) string {
	some := maps.Clone(values)
	maps.DeleteFunc(some, func(_ string, v float64) bool { return v == 0 })
	return list(some, tenths)
}

// tenths writes a rate or a number: a digit behind the point only of small ones.
func tenths(v float64) string {
	if v < 10 {
		v = math.Round(v*10) / 10
	} else {
		v = math.Round(v)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
