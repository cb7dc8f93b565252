package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"usher/backends/setting"
)

// TestConfig_Validate_AllowedCharacters tries every byte in a host, in the name of a header field, and in its value.
func TestConfig_Validate_AllowedCharacters(t *testing.T) {
	t.Parallel()
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for i := range 0x100 {
		c := string([]byte{byte(i)})
		if got, want := Canonical("http", "a"+c+"b") != "", strings.Contains(alphanumeric+"-_.", c); got != want && c != ":" {
			t.Errorf("a host with %q: allowed %v, want %v", c, got, want)
		}
		name := Config{Headers: map[string]setting.Secret{"X" + c: "x"}}
		if got, want := name.Validate() == nil, strings.Contains(alphanumeric+"!#$%&'*+-.^_`|~", c); got != want {
			t.Errorf("a header field with %q: allowed %v, want %v", c, got, want)
		}
		value := Config{Headers: map[string]setting.Secret{"X": setting.Secret("x" + c)}}
		if got, want := value.Validate() == nil, i >= 0x20 && i != 0x7f || i == '\t'; got != want {
			t.Errorf("a value with %q: allowed %v, want %v", c, got, want)
		}
	}
}

func TestCanonical_Bounds(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a.", 126) + "a"
	for host, want := range map[string]string{
		longest: longest, longest + "a": "", longest + ".": longest,
		"a:1": "a:1", "a:65535": "a:65535", "a:65536": "", "a:0": "", "a:+1": "", "a:-1": "", "a:http": "", "a:1:2": "", ":80": "", "a..b": "", ".a": "", "a..": "",
		"1.2.3.0": "1.2.3.0", "1.2.3.9": "1.2.3.9", "1.2.3.256": "1.2.3.256", "a.1": "a.1",
		"[::1": "", "[]": "", "[1.2.3.4]": "", "[::1]x": "", "[::1]:": "[::1]", "[::1]:81": "[::1]:81", "::1]": "",
		"[fe80::1%eth0]": "[fe80::1%25eth0]", "[fe80::1%25eth-0.1]:81": "[fe80::1%25eth-0.1]:81", "[fe80::1%é]": "", "[fe80::1%a/b]": "", "[fe80::1%\x7f]": "",
	} {
		if want != "" {
			want = "http://" + want
		}
		if got := Canonical("http", host); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func TestHosts_Wildcard_MatchesNoNumber(t *testing.T) {
	t.Parallel()
	h := mustHosts(t, nil, nil, Config{RedirectHosts: []RedirectHost{{Host: "*.a.0"}, {Host: "*.a.9x"}, {Host: "*.a.x"}}})
	for host, want := range map[string]Kind{"b.a.0": Foreign, "b.a.9x": Foreign, "b.a.x": Listed} {
		if got := h.Match("http", host).Kind; got != want {
			t.Errorf("%s: kind %d, want %d", host, got, want)
		}
	}
}

func TestConfig_Validate_Ports(t *testing.T) {
	t.Parallel()
	for port, want := range map[string]bool{"1": true, "65535": true, "0": false, "65536": false, "**": false, "80x": false} {
		c := Config{RedirectHosts: []RedirectHost{{Host: "a:" + port}}}
		if got := c.Validate() == nil; got != want {
			t.Errorf("port %s: allowed %v, want %v", port, got, want)
		}
	}
}

func TestHosts_AllowsAddress_EdgesOfNetworks(t *testing.T) {
	t.Parallel()
	h := mustHosts(t, nil, nil, Config{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("2001:1::/32")}})
	for text, want := range map[string]bool{
		"2000::1": true, "1fff::1": false, "3fff:ffff::1": true, "4000::1": false, "2001:1ff::1": false, "2001:200::1": true, "2001:1::1": true, "2002:7f00:1::": false,
		"2003::1": true, "64:ff9b:0:1::101:101": false, "239.255.255.255": false, "198.17.255.255": true,
	} {
		if got := h.AllowsAddress(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: allowed %v, want %v", text, got, want)
		}
	}
}

// ExampleCanonical shows two spellings of one host.
func ExampleCanonical() {
	fmt.Println(Canonical("HTTP", "Edge.Example.com.:80"), Canonical("http", "edge.example.com"))
	// Output: http://edge.example.com http://edge.example.com
}
