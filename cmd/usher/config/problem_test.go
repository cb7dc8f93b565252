package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestExplainCharacter(t *testing.T) {
	t.Parallel()
	const (
		space     = "a no-break space or one of another width, where a plain space is meant"
		invisible = "an invisible character, where none is meant"
		quote     = `a typographic quotation mark, where " or ' is meant`
		dash      = "a dash, where a plain - is meant"
	)
	tests := map[string]struct{ line, want string }{
		"nothing":                         {"", ""},
		"plain text":                      {"listen: ':8080' # ünïcode", ""},
		"a tab that indents":              {"\tlisten: a", "; column 1 is a tab, and YAML is indented by spaces (U+0009)"},
		"a tab behind spaces":             {"  \tlisten: a", "; column 3 is a tab, and YAML is indented by spaces (U+0009)"},
		"a tab behind a dash":             {"-\tpath: /a", "; column 2 is a tab, and YAML is indented by spaces (U+0009)"},
		"a tab before a value":            {"listen:\ta", ""},
		"a no-break space before a key":   {"  \u00a0listen: a", "; column 3 is " + space + " (U+00A0)"},
		"a no-break space before a value": {"é:\u00a0a", "; column 3 is " + space + " (U+00A0)"},
		"a narrow no-break space":         {"a:\u202fb", "; column 3 is " + space + " (U+202F)"},
		"an em space":                     {"a:\u2003b", "; column 3 is " + space + " (U+2003)"},
		"a line separator":                {"a: b\u2028", "; column 5 is " + space + " (U+2028)"},
		"a zero-width space":              {"a: \u200bb", "; column 4 is " + invisible + " (U+200B)"},
		"a byte order mark at the start":  {"\ufeffa: b", ""},
		"a byte order mark later":         {"a: \ufeffb", "; column 4 is " + invisible + " (U+FEFF)"},
		"typographic double quotes":       {"a: “b”", "; column 4 is " + quote + " (U+201C)"},
		"typographic single quotes":       {"a: ’b’", "; column 4 is " + quote + " (U+2019)"},
		"a dash of a list":                {"– path: /a", "; column 1 is " + dash + " (U+2013)"},
		"a full-width colon":              {"listen：a", "; column 7 is a full-width colon, where a plain : is meant (U+FF1A)"},
		"in a comment":                    {"a: b # – “c”\u00a0\t", ""},
		"behind a # of a text":            {"a: b#c\u00a0d", "; column 7 is " + space + " (U+00A0)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := explainCharacter(test.line); got != test.want {
				t.Errorf("explainCharacter(%q) = %q, want %q", test.line, got, test.want)
			}
		})
	}
}

// TestParse_Lookalike_Explained checks that problems and warnings say which character is not what it looks like.
func TestParse_Lookalike_Explained(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a tab that indents":             {"admin:\n\ttoken: a\n", "f:2:1: not valid YAML: while scanning for the next token: found character that cannot start any token; column 1 is a tab"},
		"a key behind a no-break space":  {"admin:\n  \u00a0token: a\n", `f:2:3: admin["\u00a0token"]: unknown key; did you mean "token"?`},
		"no space before a value at all": {"listen:\u00a0a\n", "f:1:1: found text, want a section, such as key: value; column 8 is a no-break space"},
		"a typographic quotation mark":   {"admin: {listen: “127.0.0.1:1”}\n", `f:1:17: admin.listen: invalid port "1”" parsing "“127.0.0.1:1”"; column 17 is a typographic`},
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

// riskySettings is a section that warns.
type riskySettings struct {
	Networks []string `yaml:"networks"`
	Inner    struct {
		Door innerDoor `yaml:",inline"`
	} `yaml:"inner"`
}

// Warnings warns of every network.
func (r riskySettings) Warnings() error {
	var errs []error
	for i, n := range r.Networks {
		errs = append(errs, fmt.Errorf("networks[%d]: %q is open", i, n))
	}
	return errors.Join(errs...)
}

type innerDoor struct {
	Open bool `yaml:"open"`
}

// Warnings warns of an open door.
func (d innerDoor) Warnings() error {
	if d.Open {
		return errors.New("open: true costs")
	}
	return nil
}

func TestParse_Warner_Positioned(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"nothing risky": {"networks: []\n", ""},
		"in file order": {"inner: {open: true}\nnetworks:\n- a\n- b\n", "f:1:9: inner.open: true costs\nf:3:3: networks[0]: \"a\" is open\nf:4:3: networks[1]: \"b\" is open"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := Parse("f", []byte(test.text), &riskySettings{}, Environment{})
			if got := source.Warnings().Error(); err != nil || got != test.want {
				t.Errorf("warnings are %q, error %v, want %q", got, err, test.want)
			}
		})
	}
}
