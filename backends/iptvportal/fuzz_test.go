package iptvportal

import (
	"strings"
	"testing"
)

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{
		"", "http://host", "http://host/auth/arescrypt?a=1", "http://host/auth/flussonic/arescrypt/?a=1?b", "?", "//",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, address string, flussonic bool) {
		path := astraPath
		if flussonic {
			path = flussonicPath
		}
		got := endpoint(address, path)
		if again := endpoint(got, path); again != got {
			t.Errorf("%q: got %q, and %q once more", address, got, again)
		}
		_, query, _ := strings.Cut(address, "?")
		if _, kept, _ := strings.Cut(got, "?"); kept != query {
			t.Errorf("%q: got query %q, want %q", address, kept, query)
		}
	})
}
