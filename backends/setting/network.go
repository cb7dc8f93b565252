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

// IsEverybody reports whether a network is too wide to be of anyone in particular, such as 0.0.0.0/0, ::/0 and their halves.
func IsEverybody(network netip.Prefix) bool {
	if network.Addr().IsPrivate() || network.Addr().IsLinkLocalUnicast() {
		return false
	}
	if network.Addr().Is4() {
		return network.Bits() < 8
	}
	return network.Bits() < 16
}

// IsPublic reports whether the host is an address of the internet. A name may be one, and counts as none.
func IsPublic(host string) bool {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	address = address.Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) // of carriers, behind their NAT
	return address.IsGlobalUnicast() && !address.IsPrivate() && !shared.Contains(address)
}
