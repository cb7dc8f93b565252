package setting

import (
	"fmt"
	"strings"
)

const (
	// minStrongChars and minDistinct are less than any random secret has that is worth the name.
	minStrongChars = 8
	minDistinct    = 6
)

// placeholders are words that samples and manuals have in the place of a secret, longer ones before their parts. Fillers
// stand between them.
func placeholders() []string {
	return []string{"changeme", "change", "replace", "password", "passwd", "secret", "example", "sample", "default"}
}

func fillers() []string {
	return []string{"identity", "cluster", "ticket", "usher", "admin", "token", "please", "this", "with", "your", "here", "key"}
}

// Weakness returns why the secret can be guessed, without a character of it, or "" for one that looks random. An empty
// secret is none.
func (s Secret) Weakness() string {
	text := string(s)
	switch n := distinct(text); {
	case text == "":
		return ""
	case len(text) < minStrongChars:
		return fmt.Sprintf("has %d characters", len(text))
	case n < minDistinct:
		return fmt.Sprintf("has %d different characters", n)
	case isRepetition(text):
		return "repeats one part"
	case isSequence(text):
		return "counts through the alphabet"
	case isPlaceholder(text):
		return "consists of words that samples have in the place of a secret"
	default:
		return ""
	}
}

func distinct(text string) int {
	seen := map[byte]bool{}
	for i := range len(text) {
		seen[text[i]] = true
	}
	return len(seen)
}

// isRepetition reports whether the text is one part several times, the last time perhaps cut off.
func isRepetition(text string) bool {
	for size := 1; size <= len(text)/2; size++ {
		if text[size:] == text[:len(text)-size] {
			return true
		}
	}
	return false
}

// isSequence reports whether three of four characters follow on the one before them, up or down, as in "0123456789abcdef".
func isSequence(text string) bool {
	steps := 0
	for i := 1; i < len(text); i++ {
		if d := int(text[i]) - int(text[i-1]); d == 1 || d == -1 {
			steps++
		}
	}
	return 4*steps >= 3*(len(text)-1)
}

// isPlaceholder reports whether the text has a placeholder, and little besides placeholders and fillers.
func isPlaceholder(text string) bool {
	text = strings.ToLower(text)
	rest := text
	for _, word := range placeholders() {
		rest = strings.ReplaceAll(rest, word, "")
	}
	if rest == text {
		return false
	}
	for _, word := range fillers() {
		rest = strings.ReplaceAll(rest, word, "")
	}
	return distinct(rest) < minStrongChars
}
