package rules

import (
	"fmt"
	"net/netip"
	"strings"
)

// parsePrefix parses an address or a CIDR. It drops bits beyond the mask, as routers and firewalls do.
func parsePrefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, errEmpty
	}
	if !strings.Contains(s, "/") {
		address, err := netip.ParseAddr(s)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q: want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24", s)
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Addr().Is4In6() && prefix.Bits() < 96 {
		return netip.Prefix{}, fmt.Errorf("%q: want a CIDR such as 192.0.2.0/24 or 2001:db8::/32", s)
	}
	if prefix.Addr().Is4In6() {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
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
