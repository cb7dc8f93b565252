package ministra

import (
	"strings"
	"testing"
)

func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{
		"", "?", "//", "http://host", "http://host/stalker_portal/?a=1",
		"http://host/server/api/chk_flussonic_tmp_link.php?a=1?b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		got := endpoint(address)
		if again := endpoint(got); again != got {
			t.Errorf("%q: got %q, and %q once more", address, got, again)
		}
		_, query, _ := strings.Cut(address, "?")
		if _, kept, _ := strings.Cut(got, "?"); kept != query {
			t.Errorf("%q: got query %q, want %q", address, kept, query)
		}
	})
}
