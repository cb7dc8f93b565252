package setting_test

import (
	"strings"
	"testing"

	"usher/backends/setting"
)

func TestSecret_Weakness(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ secret, want string }{
		"none":                            {"", ""},
		"32 random bytes in hex":          {"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", ""},
		"16 random bytes in base64":       {"kq3Yx0m1vZr8wP5tQe2LbA==", ""},
		"twelve random letters":           {"vqkzmrtwbnxj", ""},
		"a random part behind a word":     {"usher-secret-9f86d081884c7d65", ""},
		"eight random characters":         {"x7Gq2.pK", ""},
		"six different characters":        {"vqkzmrrmzkqvkqmv", ""},
		"eight of its own behind a word":  {"secretx7gq2.pk", ""},
		"seven of its own behind a word":  {"secretx7gq2.p", "consists of words that samples have in the place of a secret"},
		"three of four steps count":       {"abcdefgxq", "counts through the alphabet"},
		"fewer do not":                    {"abcdefxqs", ""},
		"seven characters":                {"x7Gq2.p", "has 7 characters"},
		"one character":                   {strings.Repeat("x", 32), "has 1 different characters"},
		"five characters":                 {"abcdeabcdeabccba", "has 5 different characters"},
		"one part twice":                  {"vqkzmrtwvqkzmrtw", "repeats one part"},
		"one part, the last cut off":      {"vqkzmrtwvqkzmrtwvqk", "repeats one part"},
		"the digits of hex":               {"0123456789abcdef", "counts through the alphabet"},
		"the alphabet backwards":          {"zyxwvutsrqponmlk", "counts through the alphabet"},
		"the sample's word":               {"changeme-changeme!", "consists of words that samples have in the place of a secret"},
		"the sample's word in capitals":   {"CHANGEME-CHANGEME!", "consists of words that samples have in the place of a secret"},
		"several words":                   {"Replace-this-with-your-secret-key", "consists of words that samples have in the place of a secret"},
		"a word and the usual six digits": {"password123456", "consists of words that samples have in the place of a secret"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := setting.Secret(test.secret).Weakness()
			if got != test.want {
				t.Errorf("Weakness(%q) = %q, want %q", test.secret, got, test.want)
			}
		})
	}
}
