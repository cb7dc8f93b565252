package urlpath

import "strings"

// MergeSlashes returns the path with one slash in place of several in a row, as most origins read it. It does not allocate
// if there are none.
func MergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	merged := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			merged = append(merged, path[i])
		}
	}
	return string(merged)
}

// UnmergedSuffix returns the end of a path that [MergeSlashes] turns into the given end of the merged path, which stands
// behind a slash. It begins with the slashes in front of it, except one.
func UnmergedSuffix(path, merged string) string {
	at := len(path)
	for i := len(merged) - 1; i >= 0; i-- {
		if at--; merged[i] == '/' {
			at -= slashesBefore(path, at)
		}
	}
	if n := slashesBefore(path, at); n > 0 {
		at -= n - 1
	}
	return path[at:]
}

// slashesBefore returns how many slashes in a row end at the position.
func slashesBefore(path string, at int) int {
	return at - len(strings.TrimRight(path[:at], "/"))
}
