package config

import (
	"fmt"
	"slices"
	"strings"
)

// hint returns the end of a message about an unknown name: the nearest allowed name, and all allowed names, sorted.
func hint(name string, allowed []string) string {
	allowed = slices.Sorted(slices.Values(allowed))
	if len(allowed) == 0 {
		return "; nothing is allowed here"
	}
	meant := ""
	if near := nearest(name, allowed); near != "" {
		meant = fmt.Sprintf("; did you mean %q?", near)
	} else {
		meant = ";"
	}
	return meant + " allowed: " + strings.Join(allowed, ", ")
}

// nearest returns the most similar allowed name, with at most one slip in three letters, or "".
func nearest(name string, allowed []string) string {
	best, within := "", max(len(name)/3, 1)+1
	for _, candidate := range allowed {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate), within); d < within {
			best, within = candidate, d
		}
	}
	return best
}

// distance returns the number of letters to insert, drop, replace or swap with their neighbour to make a into b (optimal string
// alignment). Names that differ in length by limit or more are not compared: limit is the answer.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
