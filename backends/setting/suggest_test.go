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
