package rules

import "strings"

// matchesWildcard reports whether the pattern matches the whole text. '*' matches any text, also none, and every other
// byte itself; the case of ASCII letters is ignored. It takes at most len(pattern)·len(text) steps.
func matchesWildcard(pattern, text string) bool {
	p, t := 0, 0
	star, resume := -1, 0 // the last '*', and the end in text of what it matches so far
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

// equalFoldASCII reports whether two texts are equal but for the case of ASCII letters. Unicode's case folding would
// equate a Kelvin sign with a k.
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
