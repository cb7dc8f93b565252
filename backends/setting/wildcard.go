package setting

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MatchesWildcard reports whether the pattern matches the whole text. '*' matches any text, '/' included and also none, and every
// other byte itself. It takes at most len(pattern)·len(text) steps.
func MatchesWildcard(pattern, text string) bool {
	return matchesWildcard(pattern, text, func(a, b byte) bool { return a == b })
}

// MatchesWildcardFold is [MatchesWildcard] that ignores the case of ASCII letters. Unicode's case folding would equate a Kelvin
// sign with a k.
func MatchesWildcardFold(pattern, text string) bool {
	return matchesWildcard(pattern, text, func(a, b byte) bool { return lower(a) == lower(b) })
}

func matchesWildcard(pattern, text string, isSame func(a, b byte) bool) bool {
	p, t := 0, 0
	star, resume := -1, 0 // the last '*', and the end in text of what it matches so far
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && isSame(pattern[p], text[t]):
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

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// MatchesChannel reports whether one of the patterns, which are wildcards, matches the channel.
func MatchesChannel(patterns []string, channel string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return MatchesWildcard(pattern, channel) })
}

// ValidateChannelPattern rejects a pattern of channels that is empty, or meant for a matcher with more than '*': it would match
// nothing without a word.
func ValidateChannelPattern(pattern string) error {
	switch {
	case pattern == "":
		return errors.New("must not be empty")
	case strings.ContainsAny(pattern, `?[\`):
		return fmt.Errorf(`%q: has ?, [ or \, but only * is a wildcard; want a channel, with * for any text, such as "sport-*"`, pattern)
	}
	return nil
}
