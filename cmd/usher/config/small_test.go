package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want time.Duration
		ok   bool
	}{
		"seconds":                   {"10s", 10 * time.Second, true},
		"days":                      {"2d", 48 * time.Hour, true},
		"days and hours":            {"1d12h", 36 * time.Hour, true},
		"negative days":             {"-1d1h", -25 * time.Hour, true},
		"nothing at all":            {"0", 0, true},
		"a number without a unit":   {"10", 0, false},
		"no number":                 {"d", 0, false},
		"a fraction of a day":       {"1.5d", 0, false},
		"days after hours":          {"1h1d", 0, false},
		"days twice":                {"1d1d", 0, false},
		"a sign inside":             {"1d-1h", 0, false},
		"two signs":                 {"--1d", 0, false},
		"more days than fit":        {"106752d", 0, false},
		"more than fits, with more": {"106751d24h", 0, false},
		"empty":                     {"", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseDuration(test.text)
			if got != test.want && test.ok || (err == nil) != test.ok {
				t.Errorf("parseDuration(%q) = %v, %v, want %v, ok %v", test.text, got, err, test.want, test.ok)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	source, err := Parse("f", []byte("listen: x\ncache:\n  ratio: 0.1\n"), defaults(), Environment{Variables: []string{"USHER_CACHE_MAX_BYTES=1"}})
	if err != nil {
		t.Fatal(err)
	}
	joined := errors.Join(errors.New("ratio: a"), errors.New("max_bytes: b"), errors.New("keep_for: c: d"))
	tests := map[string]struct {
		err  error
		want string
	}{
		"one message":                    {errors.New("cache.ratio: too small"), "f:3:3: cache.ratio: too small"},
		"several, in the file's order":   {errors.Join(errors.New("cache.ratio: a"), errors.New("listen: b")), "f:1:1: listen: b\nf:3:3: cache.ratio: a"},
		"several with one prefix":        {fmt.Errorf("cache.%w", joined), "f:2:1: cache.keep_for: c: d\nf:3:3: cache.ratio: a\nenvironment: USHER_CACHE_MAX_BYTES: b"},
		"the same twice":                 {errors.Join(errors.New("listen: b"), errors.New("listen: b")), "f:1:1: listen: b"},
		"a message without a path":       {errors.New("Listen on nothing: no"), "f:1:1: Listen on nothing: no"},
		"an error with another inside":   {fmt.Errorf("listen: bind: %w", errors.New("in use")), "f:1:1: listen: bind: in use"},
		"two errors told in one message": {fmt.Errorf("listen: %w and %w", errors.New("a"), errors.New("b")), "f:1:1: listen: a and b"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := source.Explain(test.err)
			if got == nil || got.Error() != test.want {
				t.Errorf("Explain = %v\nwant %s", got, test.want)
			}
			if _, ok := errors.AsType[Problems](got); !ok {
				t.Errorf("Explain = %T, want Problems", got)
			}
		})
	}
	if got := source.Explain(nil); got != nil {
		t.Errorf("Explain(nil) = %v, want nil", got)
	}
}

// What the YAML library quotes in its messages may be a secret.
func TestParse_SyntaxError_QuotesNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"secret: |hunter2hunter2\n", "secret: \"hunter2\n", "secret: hunter2: hunter2\n", "secret: &hunter2 *hunter2x\n"} {
		var s struct {
			Secret string `yaml:"secret"`
		}
		_, err := Parse("usher.yaml", []byte(text), &s, Environment{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v, want an error without the secret", text, err)
		}
	}
}

// TestParse_BytesThatAreNoText_Positioned checks that what stands in no text is found where it stands.
func TestParse_BytesThatAreNoText_Positioned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"NUL":                    {"listen: a\nlabels:\n  é: a\x00b\n", "f:3:7: not valid YAML: control characters"},
		"a control character":    {"listen: a\x07", "f:1:10: not valid YAML: control characters"},
		"Latin-1":                {"listen: a\nlabels: { a: \xe9 }\n", "f:2:14: not valid YAML: "},
		"half a character":       {"listen: \xc3", "f:1:9: not valid YAML: "},
		"an odd number of bytes": {"\xff\xfea", "f:1:"},
		"a file of NUL":          {strings.Repeat("\x00", 1<<10), "f:1:1: not valid YAML: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f", []byte(test.text), defaults(), Environment{})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestParse_TooManySettings_OneProblem checks that a file beyond the bound is refused in a sentence, whatever else is wrong
// with it.
func TestParse_TooManySettings_OneProblem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"on one line":      {"matrix: [" + strings.Repeat("[],", maxSettings) + "]", "f:1:750001: matrix[249997]: the file has more than 250000 settings"},
		"of a wrong shape": {"routes: [" + strings.Repeat("a,", maxSettings) + "]", "f:1:500004: routes[249997]: the file has more than 250000 settings"},
		"by aliases":       {"x-a: &a [1, 1, 1, 1]\nx-b: &b [" + strings.Repeat("*a,", 1_000) + "]\nmatrix: [" + strings.Repeat("*b,", 100) + "]", "f:3:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f", []byte(test.text), defaults(), Environment{})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %.300s, want one problem, %s", err, test.want)
			}
		})
	}
}
