package gateway

import (
	"strings"
	"testing"
)

// FuzzTicketInPath checks that ticket and rest are parts of the path, whatever it is.
func FuzzTicketInPath(f *testing.F) {
	for _, path := range []string{"/~a.b/play/a001/x.ts", "//%7Ea.b", "/~", "/%7e/~/", "/play/~a.b/x", "~a/x", ""} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		ticket, rest, found := ticketInPath(path)
		if !found {
			if ticket != "" || rest != path {
				t.Errorf("%q: got %q and %q without a ticket", path, ticket, rest)
			}
			return
		}
		if strings.Contains(ticket, "/") || !strings.HasPrefix(rest, "/") || !strings.HasSuffix(path+"/", ticket+rest) && !strings.HasSuffix(path, ticket+rest) {
			t.Errorf("%q: got %q and %q", path, ticket, rest)
		}
	})
}

// FuzzCookieValues checks that a value is the text behind the name, and that no other cookie's value is taken for it.
func FuzzCookieValues(f *testing.F) {
	for _, field := range []string{"t=1", "a=1; t=2;t=3", "t", "t=;t==", " t = 1", "xt=1; t=2; tx=3", ";;=;"} {
		f.Add(field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		for value := range cookieValues(field, "t") {
			if value == "" || strings.Contains(value, ";") || !strings.Contains(field, "t="+value) {
				t.Errorf("%q: got %q", field, value)
			}
		}
	})
}
