package process

import "testing"

// FuzzParseStat requires any text to be read or refused, and a line with any name in it to be read.
func FuzzParseStat(f *testing.F) {
	f.Add("nginx")
	f.Add(") R 1 2 (")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseStat([]byte(text))
		line := "42 (" + text + ") S 7 1 1 0 -1 4194560 10 0 0 0 100 20 3 4 20 0 1 0 5"
		s, err := parseStat([]byte(line))
		if want := (stat{pid: 42, parent: 7, cpu: 127 * tick}); err != nil || s != want {
			t.Errorf("%q: %+v, %v; want %+v", line, s, err, want)
		}
	})
}
