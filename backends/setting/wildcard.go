package setting

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MatchesWildcardFold reports whether the pattern matches the whole text. '*' matches any text, '/' included and also none, and every
// other byte itself, but for the case of ASCII letters. Unicode's case folding would equate a Kelvin sign with a k. It takes at most
// len(pattern)·len(text) steps.
func MatchesWildcardFold(pattern, text string) bool {
	return matchesWildcard(pattern, text, func(p byte, text string) int {
		if lower(p) == lower(text[0]) {
			return 1
		}
		return 0
	})
}

// matchesWildcard matches with '*', and by one the rest of a pattern: it returns how much of a text, which is not empty, a byte of the
// pattern matches, 0 for nothing.
func matchesWildcard(pattern, text string, one func(p byte, text string) int) bool {
	p, t := 0, 0
	star, resume := -1, 0 // the last '*', and the end in text of what it matches so far
	for t < len(text) {
		matched := 0
		if p < len(pattern) && pattern[p] != '*' {
			matched = one(pattern[p], text[t:])
		}
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case matched > 0:
			p++
			t += matched
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

// MatchesChannel reports whether one of the patterns matches the whole channel. '*' matches any text, '/' included and also none, and
// '?' any character.
func MatchesChannel(patterns []string, channel string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matchesWildcard(pattern, channel, matchesCharacter) })
}

func matchesCharacter(p byte, text string) int {
	switch p {
	case '?':
		_, size := utf8.DecodeRuneInString(text)
		return size
	case text[0]:
		return 1
	default:
		return 0
	}
}

// ValidateChannelPattern rejects a pattern of channels that is empty, or meant for a matcher with more than '*' and '?': it would match
// nothing without a word.
func ValidateChannelPattern(pattern string) error {
	switch {
	case pattern == "":
		return errors.New("must not be empty")
	case strings.ContainsAny(pattern, `[\`):
		return fmt.Errorf(`%q: has [ or \, but only * and ? are wildcards; want a channel, with * for any text, such as "sport-*"`, pattern)
	}
	return nil
}
