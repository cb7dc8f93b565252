package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"usher/backends"
)

// TestAddressWatch_Warns plays the addresses of sessions as they are opened.
func TestAddressWatch_Warns(t *testing.T) {
	t.Parallel()
	same := func(text string) func(int) string { return func(int) string { return text } }
	tests := map[string]struct {
		address  func(i int) string
		sessions int
		trusted  string
		want     string // in the log and the list; empty: no warning
	}{
		"an unlisted proxy":              {same("10.0.0.2"), 50, "192.168.0.0/16", "list it in trusted_proxies"},
		"with no list at all":            {same("192.168.1.1"), 50, "", "list it in trusted_proxies"},
		"on this host":                   {same("127.0.0.1"), 50, "", "list it in trusted_proxies"},
		"in a carrier's network":         {same("100.64.3.4"), 50, "", "list it in trusted_proxies"},
		"a unique local address":         {same("fd00::5"), 50, "", "list it in trusted_proxies"},
		"an IPv4 address mapped to IPv6": {same("::ffff:10.0.0.2"), 50, "", "list it in trusted_proxies"},
		"a listed proxy without field":   {same("10.0.0.2"), 50, "10.0.0.0/8", "have this proxy send X-Forwarded-For"},
		"too few sessions yet":           {same("10.0.0.2"), 49, "", ""},
		"a public address":               {same("203.0.113.7"), 500, "", ""},
		"one viewer comes from elsewhere": {func(i int) string {
			if i == 7 {
				return "203.0.113.7"
			}
			return "10.0.0.2"
		}, 50, "", ""},
		"and later everybody again": {func(i int) string {
			if i < 100 {
				return "203.0.113.7"
			}
			return "10.0.0.2"
		}, 300, "", "list it in trusted_proxies"},
		"viewers in a private network": {func(i int) string {
			return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()
		}, 200, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var (
				out     bytes.Buffer
				trusted []netip.Prefix
			)
			if tt.trusted != "" {
				trusted = append(trusted, netip.MustParsePrefix(tt.trusted))
			}
			w := newAddressWatch(nil, trusted, slog.New(slog.NewTextHandler(&out, nil)))
			for i := range tt.sessions {
				r := &backends.Request{Address: netip.MustParseAddr(tt.address(i))}
				r.Session[0], r.Session[1] = byte(i), byte(i>>8)
				for range 3 { // a session may be opened several times
					w.record(r)
				}
			}
			if tt.want == "" {
				if out.Len() != 0 || w.warnings() != nil {
					t.Errorf("got %q and %q, want no warning", &out, w.warnings())
				}
				return
			}
			if log := out.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, tt.want) {
				t.Errorf("want one warning with %q, got:\n%s", tt.want, log)
			}
			if list := w.warnings(); len(list) != 1 || !strings.Contains(list[0], tt.want) {
				t.Errorf("got %q, want one warning with %q", list, tt.want)
			}
		})
	}
}
