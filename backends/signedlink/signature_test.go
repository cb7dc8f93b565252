package signedlink

import (
	"strings"
	"testing"
)

// TestParseSignature_LineBreaks_Malformed shows that a hash has no byte that the decoder skips.
func TestParseSignature_LineBreaks_Malformed(t *testing.T) {
	t.Parallel()
	for hash, want := range map[string]bool{
		strings.Repeat("A", hashLength):            true,
		strings.Repeat("A", hashLength) + "==":     true,
		strings.Repeat("A", hashLength-2) + "\n\n": false,
		strings.Repeat("A", hashLength-1) + "B":    false,
		strings.Repeat("A", hashLength-1) + "!":    false,
		strings.Repeat("A", hashLength+1):          false,
	} {
		if _, got := parseSignature(hash, "1700000000"); got != want {
			t.Errorf("%q is a hash: %t, want %t", hash, got, want)
		}
	}
}

func TestCutName_EndsAtTheFirstOtherCharacter(t *testing.T) {
	t.Parallel()
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	for c := range rune(128) {
		wantName, wantRest := "x", string(c)+"y"
		if strings.ContainsRune(letters, c) {
			wantName, wantRest = "x"+string(c)+"y", ""
		}
		if name, rest, ok := cutName("x" + string(c) + "y"); !ok || name != wantName || rest != wantRest {
			t.Errorf("%q: got %q and %q, want %q and %q", c, name, rest, wantName, wantRest)
		}
	}
	if name, rest, ok := cutName("-x"); !ok || name != "" || rest != "-x" {
		t.Errorf("no name at all: got %q and %q, want the rest alone", name, rest)
	}
}

func TestConfig_Validate_LongestClockSkew(t *testing.T) {
	t.Parallel()
	if err := (Config{ClockSkew: maxTolerance}).validateTolerance(); err != nil {
		t.Errorf("got %v for the longest clock_skew, want none", err)
	}
}
