package reference

import (
	"slices"
	"strings"
	"testing"
)

// FuzzOpen opens any text. What opens is the one text of its target.
func FuzzOpen(f *testing.F) {
	s, scope := newTestSealer("a", "b"), someScope()
	text := seal(s, "a", someTarget(), scope)
	f.Add(text, "a", scope.Name)
	f.Add(seal(s, "b", someTarget(), scope), "", scope.Name)
	f.Add(text[:len(text)-1]+"\n", "a", scope.Name)
	f.Add("", "", "")
	f.Add(strings.Repeat("A", MaxChars), "z", "")
	var buf Buffer
	f.Fuzz(func(t *testing.T, text, keyID, name string) {
		scope := scope
		scope.Name = name
		got, ok := s.Open(&buf, keyID, text, &scope)
		if !ok {
			if got != (Target{}) {
				t.Errorf("refused with %+v", got)
			}
			return
		}
		if !IsReference(text) || text != seal(s, "a", got, scope) && text != seal(s, "b", got, scope) {
			t.Errorf("open(%q): got %+v, whose reference is another", text, got)
		}
	})
}

// FuzzParseTarget parses any plaintext, as if the keys were known. What parses is the one encoding of its target.
func FuzzParseTarget(f *testing.F) {
	target := someTarget()
	f.Add(appendTarget(nil, &target, "media_17.ts"), "media_17.ts")
	f.Add(appendTarget(nil, &target, ""), "")
	f.Add([]byte("\xff\x01o\x01b\x01q\x01v\x01/x/"), "n")
	f.Add([]byte("\x04\x81\x00a/"), "")
	f.Fuzz(func(t *testing.T, plain []byte, name string) {
		given := slices.Clone(plain)
		got, _, ok := parseTarget(given, name)
		if !ok {
			if got != (Target{}) {
				t.Errorf("refused with %+v", got)
			}
			return
		}
		encoded := appendTarget(nil, &got, name)
		if !slices.Equal(encoded, plain) {
			t.Errorf("parse(%q): got %+v, whose encoding is %q", plain, got, encoded)
		}
		if again, _, ok := parseTarget(encoded, name); !ok || again != got {
			t.Errorf("parse again: got %+v %v, want %+v", again, ok, got)
		}
	})
}
