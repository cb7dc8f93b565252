package rig

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMetrics(t *testing.T) {
	text := "# HELP usher_a Text.\nusher_a 3\ngo_b 4\nusher_c{x=\"y\\\"},z\",w=\"\"} 1.5e3 1700000000\nusher_d{} NaN_\n"
	if _, err := parseMetrics([]byte(text), "usher_"); err == nil {
		t.Error("a value that is no number: no error")
	}
	got, err := parseMetrics([]byte(text[:len(text)-len("usher_d{} NaN_\n")]), "usher_")
	want := []sample{{"usher_a", map[string]string{}, 3}, {"usher_c", map[string]string{"x": `y"},z`, "w": ""}, 1500}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); err != nil || diff != "" {
		t.Errorf("%v, differs (-want +got):\n%s", err, diff)
	}
}

func FuzzParseMetrics(f *testing.F) {
	f.Add([]byte("usher_a{b=\"c\",d=\"\\n\"} 1 2\nusher_e 5"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseMetrics(text, "usher_")
		for _, s := range all {
			if err == nil && s.name == "" {
				t.Errorf("%q: a sample without a name", text)
			}
		}
	})
}
