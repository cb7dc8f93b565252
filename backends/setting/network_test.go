package setting_test

import (
	"errors"
	"net/netip"
	"testing"

	"usher/backends/setting"
)

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	const none = "want an address"
	for text, want := range map[string]struct{ network, wrong string }{
		"192.0.2.7":               {"192.0.2.7/32", ""},
		"192.0.2.0/24":            {"192.0.2.0/24", ""},
		"0.0.0.0/0":               {"0.0.0.0/0", ""},
		"2001:db8::7":             {"2001:db8::7/128", ""},
		"2001:db8::/32":           {"2001:db8::/32", ""},
		"::ffff:192.0.2.7":        {"192.0.2.7/32", ""},
		"::ffff:192.0.2.0/120":    {"192.0.2.0/24", ""},
		"::ffff:0:0/96":           {"0.0.0.0/0", ""},
		"::ffff:0:0/95":           {"", none}, // wider than IPv4
		"192.0.2.7/24":            {"", "has bits beyond its prefix length; want 192.0.2.0/24"},
		"::ffff:192.0.2.7/120":    {"", "has bits beyond its prefix length; want 192.0.2.0/24"},
		"2001:db8::7/64":          {"", "has bits beyond its prefix length; want 2001:db8::/64"},
		"fe80::1%eth0":            {"", none},
		"::ffff:192.0.2.7%eth0":   {"", none},
		"192.0.2.0/33":            {"", none},
		"192.0.2.0/24/24":         {"", none},
		"192.0.2.0/255.255.255.0": {"", none},
		"192.0.2":                 {"", none},
		"tv.example.com":          {"", none},
		"":                        {"", none},
	} {
		got, err := setting.ParseNetwork(text, errors.New(none))
		var wrong string
		if err != nil {
			wrong = err.Error()
		}
		var network netip.Prefix
		if want.network != "" {
			network = netip.MustParsePrefix(want.network)
		}
		if got != network || wrong != want.wrong {
			t.Errorf("%q: got %s and error %q, want %s and %q", text, got, wrong, network, want.wrong)
		}
	}
}

func TestParsePrefix_KeepsBitsBeyondItsLength(t *testing.T) {
	t.Parallel()
	if got, ok := setting.ParsePrefix("192.0.2.7/24"); !ok || got != netip.MustParsePrefix("192.0.2.7/24") {
		t.Errorf("got %s, %t, want it as written", got, ok)
	}
}

func TestIsEverybody(t *testing.T) {
	t.Parallel()
	for network, want := range map[string]bool{
		"0.0.0.0/0": true, "0.0.0.0/1": true, "128.0.0.0/1": true, "192.0.0.0/7": true, "192.0.0.0/8": false,
		"::/0": true, "::/1": true, "2000::/3": true, "2001::/15": true, "2001::/16": false,
		"10.0.0.0/7": false, "192.168.0.0/16": false, "fd00::/7": false, // private: an operator's own
		"169.254.0.0/7": false, "fe80::/10": false, // of one link
	} {
		if got := setting.IsEverybody(netip.MustParsePrefix(network)); got != want {
			t.Errorf("%s: got %t, want %t", network, got, want)
		}
	}
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"198.51.100.7": true, "8.8.8.8": true, "2001:db8::7": true, "::ffff:198.51.100.7": true,
		"10.0.0.9": false, "172.16.0.1": false, "192.168.0.1": false, "fd00::1": false, "::ffff:10.0.0.9": false, // private
		"127.0.0.1": false, "::1": false, "169.254.0.1": false, "fe80::1": false, "0.0.0.0": false, "224.0.0.1": false,
		"100.63.255.255": true, "100.64.0.0": false, "100.127.255.255": false, "100.128.0.0": true, "::ffff:100.64.0.1": false, // of carriers
		"": false, "redis": false, "redis.example.com": false, "8.8.8.8:6379": false,
	} {
		if got := setting.IsPublic(host); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}

// The internet and the listed networks are allowed. gateway/upstream tests the special-purpose networks one by one.
func TestAllowsAddress(t *testing.T) {
	t.Parallel()
	allowed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true, "10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::a01:203": true, "fd00::1": true,
		"192.168.0.1": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "fe80::1%eth0": false, "0.0.0.0": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "fc00::1": false,
	} {
		if got := setting.AllowsAddress(allowed, netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %t, want %t", address, got, want)
		}
	}
}

func TestSharesPrivateNetwork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"10.0.0.1", "10.255.0.1", true},
		{"::ffff:10.0.0.1", "10.255.0.1", true},
		{"172.16.0.1", "172.31.0.1", true},
		{"192.168.0.1", "192.168.1.1", true},
		{"100.64.0.1", "100.127.0.1", true},
		{"fd00::1", "fd01::1", true},
		{"127.0.0.1", "127.0.0.2", true},
		{"127.0.0.1", "::1", true},
		{"10.0.0.1", "192.168.0.1", false},
		{"10.0.0.1", "127.0.0.1", false},
		{"8.8.8.8", "8.8.8.8", false},
		{"169.254.0.1", "169.254.169.254", false},
		{"fe80::1%a", "fe80::1%a", false},
		{"172.15.0.1", "172.16.0.1", false},
	} {
		if got := setting.SharesPrivateNetwork(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)); got != tt.want {
			t.Errorf("%s and %s: got %t, want %t", tt.a, tt.b, got, tt.want)
		}
	}
}
