package setting

import (
	"fmt"
	"net/netip"
)

// ParsePrefix parses an address or a CIDR. An IPv4-mapped one becomes IPv4. Bits beyond the prefix length stay.
func ParsePrefix(text string) (prefix netip.Prefix, ok bool) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, true
}

// ParseNetwork parses an address or a CIDR. It returns the error invalid for other text, and rejects bits beyond the prefix
// length, because 192.0.2.7/24 is ambiguous.
func ParseNetwork(text string, invalid error) (netip.Prefix, error) {
	network, ok := ParsePrefix(text)
	switch {
	case !ok:
		return netip.Prefix{}, invalid
	case network != network.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits beyond its prefix length; want %s", network.Masked())
	}
	return network, nil
}
