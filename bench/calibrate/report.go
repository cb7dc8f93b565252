package calibrate

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"usher/bench/plan"
)

// Report is what a run found.
type Report struct {
	Costs plan.Costs
	// Notes are what a reader has to know to trust the costs.
	Notes []string

	values values
}

// Print writes the costs with their spread for people.
func (r *Report) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "cost\tmedian\tleast\tmost\thow") // Flush tells
	for _, name := range plan.Names() {
		least, most := "–", "–"
		if all := r.values[name]; len(all) > 0 {
			least, most = number(slices.Min(all)), number(slices.Max(all))
		}
		how, _, _ := strings.Cut(r.Costs.Sources[name], ";") // the spread has columns of its own
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", name, number(r.Costs.Value(name)), least, most, how)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	text := &strings.Builder{}
	fmt.Fprintf(text, "\nMeasured on %s.\n", r.Costs.Machine)
	for _, note := range r.Notes {
		fmt.Fprintf(text, "Note: %s\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// values are what costs were in each round, by their names.
type values map[string][]float64

// median returns the middle value, and NaN if there is none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread says how many values there are, and between what.
func spread(all []float64) string {
	return fmt.Sprintf("%d rounds, %s to %s", len(all), number(slices.Min(all)), number(slices.Max(all)))
}

// rounded has three digits, since no cost is known better.
func rounded(v float64) float64 {
	const digits = 3
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64) // it was formatted as a number
	return short
}

// number writes three digits.
func number(v float64) string { return strconv.FormatFloat(rounded(v), 'f', -1, 64) }

// twoSizes returns what a segment costs whatever its size, and what a megabyte costs, from the costs of two sizes in bytes.
func twoSizes(smallSize, small, largeSize, large float64) (each, megabyte float64) {
	megabyte = (large - small) / (largeSize - smallSize) * 1e6
	return small - megabyte*smallSize/1e6, megabyte
}
