package rules

import "strings"

// matchesWildcard reports whether a text is what the pattern says. '*' stands for any text, also for none, and every other byte
// for itself; ASCII letters are the same in upper and lower case. It takes len(pattern)·len(text) steps at most.
func matchesWildcard(pattern, text string) bool {
	p, t := 0, 0
	star, resume := -1, 0 // the last '*', and the place in text up to which it reaches
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && lower(pattern[p]) == lower(text[t]):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func matchesAnyWildcard(patterns []string, text string) bool {
	for _, p := range patterns {
		if matchesWildcard(p, text) {
			return true
		}
	}
	return false
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFoldASCII reports whether two texts differ in the case of ASCII letters at most. Unicode's idea of case would take a
// Kelvin sign for a k.
func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
