package setting

import (
	"fmt"
	"slices"
	"strings"
)

// Hint returns the end of a message about an unknown name: the nearest allowed name, and all allowed names, sorted.
func Hint(name string, allowed []string) string {
	meant := ";"
	if near := Nearest(name, allowed); near != "" {
		meant = fmt.Sprintf("; did you mean %q?", near)
	}
	if len(allowed) == 0 {
		return meant + " there are none"
	}
	return meant + " allowed: " + strings.Join(slices.Sorted(slices.Values(allowed)), ", ")
}

// Nearest returns the most similar allowed name, with at most one slip in three letters, or "".
func Nearest(name string, allowed []string) string {
	best, within := "", max(len(name)/3, 1)+1
	for _, candidate := range slices.Sorted(slices.Values(allowed)) {
		d := distance(strings.ToLower(name), strings.ToLower(candidate), within)
		if d < within && d < max(len(name), len(candidate)) { // else no letter is the same
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
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			if i == 0 || j == 0 {
				rows[i][j] = i + j
				continue
			}
			rows[i][j] = min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1]) + 1
			if a[i-1] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
