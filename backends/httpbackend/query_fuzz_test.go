package httpbackend

import (
	"net/url"
	"slices"
	"testing"
)

func FuzzQueryValue(f *testing.F) {
	for _, seed := range []string{
		"token=123", "a=1&token=1%2F2+3&token=4", "%74oken=1", "token", "token=%", "&&=&token=;", "token=&token=2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := QueryValue(query, "token")
		values, err := url.ParseQuery(query)
		if err != nil { // net/url parses a valid query only
			return
		}
		want := ""
		if i := slices.IndexFunc(values["token"], func(v string) bool { return v != "" }); i >= 0 {
			want = values["token"][i]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	})
}
