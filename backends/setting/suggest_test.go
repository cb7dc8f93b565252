package setting

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name    string
		allowed []string
		want    string
	}{
		"a letter too many":           {"originn", []string{"backend", "origin"}, "origin"},
		"a letter too few":            {"oigin", []string{"backend", "origin"}, "origin"},
		"two letters swapped":         {"orgiin", []string{"backend", "origin"}, "origin"},
		"swapped neighbours are one":  {"ulr", []string{"uri", "url"}, "url"},
		"another case":                {"URL", []string{"uri", "url"}, "url"},
		"the nearer of two":           {"max_byts", []string{"max_bits", "max_bytes"}, "max_bits"},
		"two slips in six letters":    {"portal", []string{"pirtol"}, "pirtol"},
		"three slips in six letters":  {"portal", []string{"pirtos"}, ""},
		"a word of its own":           {"zzz", []string{"backend", "origin"}, ""},
		"a short word is no misprint": {"id", []string{"url"}, ""},
		"nothing allowed":             {"id", nil, ""},
		"no letter is the same":       {"x", []string{"b"}, ""},
		"no name at all":              {"", []string{"b"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Nearest(test.name, test.allowed); got != test.want {
				t.Errorf("Nearest(%q, %q) = %q, want %q", test.name, test.allowed, got, test.want)
			}
		})
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name    string
		allowed []string
		want    string
	}{
		"a misprint":      {"portl", []string{"portal", "legacy"}, `; did you mean "portal"? allowed: legacy, portal`},
		"another word":    {"zzz", []string{"portal", "legacy"}, "; allowed: legacy, portal"},
		"nothing allowed": {"zzz", nil, "; there are none"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Hint(test.name, test.allowed); got != test.want {
				t.Errorf("Hint(%q, %q) = %q, want %q", test.name, test.allowed, got, test.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 9, 0},
		{"", "abc", 9, 3},
		{"abc", "abc", 9, 0},
		{"abc", "axc", 9, 1},
		{"abc", "ac", 9, 1},
		{"ab", "ba", 9, 1},
		{"abcd", "badc", 9, 2},
		{"xab", "xba", 9, 1},
		{"ca", "abc", 9, 3}, // a letter is not swapped and then torn apart
		{"kitten", "sitting", 9, 3},
		{"xy", "abcd", 3, 4},
		{"xy", "abcd", 2, 2}, // not compared
	} {
		if got, back := distance(tt.a, tt.b, tt.limit), distance(tt.b, tt.a, tt.limit); got != tt.want || back != tt.want {
			t.Errorf("distance(%q, %q, %d) = %d, and back %d, want %d", tt.a, tt.b, tt.limit, got, back, tt.want)
		}
	}
}

// FuzzDistance compares the bounded distance with the plain properties that it must have.
func FuzzDistance(f *testing.F) {
	f.Add("origin", "oigin")
	f.Add("", "a")
	f.Add("ab", "ba")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 64 || len(b) > 64 {
			return
		}
		const far = 1000
		d := distance(a, b, far)
		if d != distance(b, a, far) || d > max(len(a), len(b)) || (d == 0) != (a == b) {
			t.Errorf("distance(%q, %q) = %d, and back %d", a, b, d, distance(b, a, far))
		}
	})
}
