package rules

import (
	"fmt"
	"net/netip"
	"strings"

	"usher/backends/setting"
)

// parsePrefix parses an address or a CIDR. It drops bits beyond the mask, as routers and firewalls do.
func parsePrefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, errEmpty
	}
	prefix, ok := setting.ParsePrefix(s)
	switch {
	case ok:
	case strings.Contains(s, "/"):
		return netip.Prefix{}, fmt.Errorf("%q: want a CIDR such as 192.0.2.0/24 or 2001:db8::/32", s)
	default:
		return netip.Prefix{}, fmt.Errorf("%q: want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24", s)
	}
	return prefix.Masked(), nil
}

// containsAddress reports whether one of the networks contains the address. An IPv4-mapped IPv6 address counts as IPv4.
// An unknown address is in no network.
func containsAddress(networks []netip.Prefix, address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(address) {
			return true
		}
	}
	return false
}
