package backends

import (
	"net/netip"
	"testing"
)

func TestSubscriberPrefix(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7":               "192.0.2.7/32",
		"::ffff:192.0.2.7":        "192.0.2.7/32",
		"2001:db8:1:2:3::4":       "2001:db8:1:2::/64",
		"fe80::1:2%eth0":          "fe80::/64",
		"2001:db8:1:2:ffff::ffff": "2001:db8:1:2::/64",
	} {
		if got := SubscriberPrefix(netip.MustParseAddr(address)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
	if got := SubscriberPrefix(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: got %s, want no prefix", got)
	}
}
