package edge

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzLastForwarded checks that what a viewer sends before the proxies' own entries never counts.
func FuzzLastForwarded(f *testing.F) {
	f.Add("192.0.2.7, 10.0.0.1", "6.6.6.6", "x")
	f.Add("192.0.2.7:80,[2001:db8::1]:443", "unknown", "")
	f.Add("::ffff:10.0.0.2%eth0", "_hidden", ",,")
	f.Fuzz(func(t *testing.T, list, viewers, field string) {
		isOurs := netip.MustParsePrefix("10.0.0.0/8").Contains
		got := LastForwarded([]string{list}, isOurs)
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q: %v has other spellings", list, got)
		}
		if !got.IsValid() || isOurs(got) {
			return
		}
		if last := LastForwarded([]string{list}, nil); !isOurs(last) && last != got {
			t.Errorf("%q: got %v, want the last entry %v, which is no proxy's", list, got, last)
		}
		for _, lists := range [][]string{{viewers, list}, {field, viewers + "," + list}} {
			if with := LastForwarded(lists, isOurs); with != got {
				t.Errorf("%q: got %v, without what the viewer sent %v", lists, with, got)
			}
		}
		if at := strings.LastIndexByte(list, ','); at >= 0 && !isOurs(parseAddress(list[at+1:])) && got != parseAddress(list[at+1:]) {
			t.Errorf("%q: got %v from before the last entry", list, got)
		}
	})
}
