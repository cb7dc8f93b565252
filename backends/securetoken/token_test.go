package securetoken

import (
	"strings"
	"testing"
)

func TestParseToken(t *testing.T) {
	t.Parallel()
	hash := vector2[:40]
	tests := map[string]struct{ text, salt, start, end string }{
		"the vendors' example":    {vector2, "a5cd6c00", "1669810000", "1669890000"},
		"a salt of 32 characters": {vector6, "eb77c133b8068a19049566ce5dfe8d33", "1561453803", "1561464903"},
		"a salt that is no hex":   {hash + "-o4rH-1450722931-1450704931", "o4rH", "1450704931", "1450722931"},
		"a salt with hyphens":     {hash + "-a-b--1450722931-1450704931", "a-b-", "1450704931", "1450722931"},
		"a salt like times": {
			hash + "-1450722931-1450704931-1450722931-1450704931", "1450722931-1450704931", "1450704931", "1450722931",
		},
		"the longest salt": {
			hash + "-" + strings.Repeat("x", 256) + "-1450722931-1450704931",
			strings.Repeat("x", 256), "1450704931", "1450722931",
		},
		"an end before the start": {hash + "-s-1450704931-1450722931", "s", "1450722931", "1450704931"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseToken(tt.text)
			if !ok || got.salt != tt.salt || got.start != tt.start || got.end != tt.end {
				t.Errorf("got %+v, %v", got, ok)
			}
		})
	}
}

func TestParseToken_Malformed(t *testing.T) {
	t.Parallel()
	hash := vector2[:40]
	for name, text := range map[string]string{
		"nothing":                             "",
		"a word":                              "abc",
		"hyphens alone":                       "---",
		"two fields":                          hash + "-1669810000",
		"three fields":                        hash + "-1669890000-1669810000",
		"no salt":                             hash + "--1669890000-1669810000",
		"a hash too short":                    hash[1:] + "-a5cd6c00-1669890000-1669810000",
		"a hash too long":                     "0" + vector2,
		"a hash in capitals":                  strings.ToUpper(hash) + "-a5cd6c00-1669890000-1669810000",
		"a hash that is no hex":               "g" + vector2[1:],
		"a salt too long":                     hash + "-" + strings.Repeat("x", 257) + "-1669890000-1669810000",
		"a time of nine digits":               hash + "-a5cd6c00-1669890000-166981000",
		"a time of eleven digits":             hash + "-a5cd6c00-16698900000-1669810000",
		"a time in milliseconds":              hash + "-a5cd6c00-1669890000000-1669810000000",
		"a time beyond 64 bits":               hash + "-a5cd6c00-99999999999999999999-1669810000",
		"a time with a leading zero":          hash + "-a5cd6c00-0669890000-1669810000",
		"a time with a sign":                  hash + "-a5cd6c00-+669890000-1669810000",
		"a time with a space":                 hash + "-a5cd6c00-1669890000-166981000 ",
		"a time with a letter":                hash + "-a5cd6c00-16698900e0-1669810000",
		"a time with the character after 9":   hash + "-a5cd6c00-16698900:0-1669810000",
		"a time with the character before 0":  hash + "-a5cd6c00-1669890000-16698/0000",
		"a time in other digits":              hash + "-a5cd6c00-1669890000-١٦٦٩٨",
		"something after it":                  vector2 + "-",
		"a JSON web token, with hyphens even": "eyJhbGciOiJIUzI1NiJ9.e30-x.c-d-e",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, ok := parseToken(text); ok {
				t.Errorf("got %+v of %q", got, text)
			}
		})
	}
}

func TestCutLast(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		before, after string
		found         bool
	}{
		"a-b-c": {"a-b", "c", true},
		"a-":    {"a", "", true},
		"-c":    {"", "c", true},
		"c":     {"c", "", false},
	} {
		before, after, found := cutLast(text)
		if before != want.before || after != want.after || found != want.found {
			t.Errorf("%q: got %q, %q, %t, want %+v", text, before, after, found, want)
		}
	}
}
