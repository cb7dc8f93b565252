package setting

import (
	"testing"
	"unicode"
)

func TestMatchesWildcardFold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern, text string
		want          bool
	}{
		"itself":                        {"vlc", "vlc", true},
		"case is the same":              {"VLC/3", "vlc/3", true},
		"nothing matches nothing":       {"", "", true},
		"nothing matches nothing else":  {"", "x", false},
		"a star is any text":            {"*", "anything/at all", true},
		"a star is no text":             {"vlc*", "vlc", true},
		"stars":                         {"**a**b**", "xxaxxbxx", true},
		"in order":                      {"*a*b*", "ba", false},
		"the end counts":                {"*vlc", "vlc 3", false},
		"the beginning counts":          {"vlc*", "a vlc", false},
		"it goes back for a later one":  {"*ab*abc", "ababababc", true},
		"it does not overlap":           {"aba*aba", "ababa", false},
		"a question mark is one":        {"v?c", "vlc", false},
		"brackets are themselves":       {"[a-z]*", "b", false},
		"a slash is like any":           {"a*c", "a/b/c", true},
		"umlauts by their bytes":        {"*ü*", "für", true},
		"umlauts have no upper case":    {"Ü", "ü", false},
		"longer than the text":          {"abc", "ab", false},
		"as long as the text and stars": {"abc***", "abc", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MatchesWildcardFold(tt.pattern, tt.text); got != tt.want {
				t.Errorf("%q against %q: got %t, want %t", tt.pattern, tt.text, got, tt.want)
			}
		})
	}
}

// TestMatchesChannel: one wildcard holds for the channels of every backend. It crosses '/', and tells capitals.
func TestMatchesChannel(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		patterns []string
		channel  string
		want     bool
	}{
		"itself":                   {[]string{"b", "tv"}, "tv", true},
		"another":                  {[]string{"b", "tv"}, "tv2", false},
		"capitals are others":      {[]string{"TV", "T*"}, "tv", false},
		"a folder":                 {[]string{"tv*"}, "tv/travel", true},
		"every folder":             {[]string{"*"}, "tv/travel/hd", true},
		"a folder in between":      {[]string{"tv/*/hd"}, "tv/travel/2/hd", true},
		"nothing after the folder": {[]string{"tv/*"}, "tv", false},
		"no pattern":               {nil, "tv", false},
		"a question mark":          {[]string{"tv?"}, "tv2", true},
		"it is not nothing":        {[]string{"tv?"}, "tv", false},
		"it is one character":      {[]string{"?/*/?"}, "ü/travel/ж", true},
		"and not two":              {[]string{"?"}, "tv", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := MatchesChannel(tt.patterns, tt.channel); got != tt.want {
				t.Errorf("%q against %q: got %t, want %t", tt.patterns, tt.channel, got, tt.want)
			}
		})
	}
}

func TestValidateChannelPattern(t *testing.T) {
	t.Parallel()
	for pattern, isValid := range map[string]bool{
		"a001": true, "sport-*": true, "*": true, "tv/*": true, "Россия 1": true, "": false, "a00?": true, "[ab]": false, `a\*`: false,
	} {
		if err := ValidateChannelPattern(pattern); (err == nil) != isValid {
			t.Errorf("%q: got %v, want valid %t", pattern, err, isValid)
		}
	}
}

func TestLower_LettersAlone(t *testing.T) {
	t.Parallel()
	for c, want := range map[byte]byte{'A': 'a', 'Z': 'z', 'M': 'm', '@': '@', '[': '[', 'a': 'a', '0': '0', 0xc1: 0xc1} {
		if got := lower(c); got != want {
			t.Errorf("%q: got %q, want %q", c, got, want)
		}
	}
}

// matchesByTable computes MatchesWildcardFold by a table over all prefixes of both.
func matchesByTable(pattern, text string) bool {
	reached := make([]bool, len(text)+1)
	reached[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(text)+1)
		for t := range reached {
			switch {
			case pattern[i] == '*':
				next[t] = reached[t] || t > 0 && next[t-1]
			case t > 0:
				next[t] = reached[t-1] && (pattern[i] == text[t-1] || pattern[i] < 0x80 && text[t-1] < 0x80 &&
					unicode.ToLower(rune(pattern[i])) == unicode.ToLower(rune(text[t-1])))
			}
		}
		reached = next
	}
	return reached[len(text)]
}

func FuzzMatchesWildcardFold(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"*", ""}, {"a*b", "AxB"}, {"*ab*abc", "ababababc"}, {"**", "x"}, {"ü*", "Ü"}, {"a*a*a*a*b", "aaaaaaaa"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern)*len(text) > 1<<16 {
			return // the table takes too long
		}
		if got, want := MatchesWildcardFold(pattern, text), matchesByTable(pattern, text); got != want {
			t.Errorf("%q against %q: got %t, want %t", pattern, text, got, want)
		}
	})
}
