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
	return err == nil && isPublic(address.Unmap())
}

// AllowsAddress reports whether an address to which another server led may be called: one of the internet, or of a network
// that the operator allowed. An IPv6 address in which an IPv4 address is embedded is that one.
func AllowsAddress(allowed []netip.Prefix, address netip.Addr) bool {
	address = address.WithZone("").Unmap()
	inner := embeddedIPv4(address)
	for _, network := range allowed {
		if network.Contains(address) || inner.IsValid() && network.Contains(inner) {
			return true
		}
	}
	if inner.IsValid() {
		return isPublic(inner)
	}
	return isPublic(address)
}

// SharesPrivateNetwork reports whether two addresses are in the same private network, or are both of this machine. Of a
// link-local network they never are, because it also holds what a cloud tells its machines.
func SharesPrivateNetwork(a, b netip.Addr) bool {
	a, b = a.WithZone("").Unmap(), b.WithZone("").Unmap()
	if a.IsLoopback() && b.IsLoopback() {
		return true
	}
	for _, text := range [...]string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"} {
		if network := netip.MustParsePrefix(text); network.Contains(a) && network.Contains(b) {
			return true
		}
	}
	return false
}

// embeddedIPv4 returns the IPv4 address to which packets for an IPv6 address go by NAT64 or 6to4, or the zero Addr.
func embeddedIPv4(address netip.Addr) netip.Addr {
	if !address.Is6() {
		return netip.Addr{}
	}
	b := address.As16()
	switch {
	case netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96).Contains(address): // RFC 6052
		return netip.AddrFrom4([4]byte(b[12:]))
	case b[0] == 0x20 && b[1] == 0x02: // RFC 3056
		return netip.AddrFrom4([4]byte(b[2:6]))
	default:
		return netip.Addr{}
	}
}

// isPublic reports whether an address is one of the internet, by the registries of special-purpose addresses.
func isPublic(address netip.Addr) bool {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) // of carriers, behind their NAT
	if !address.IsGlobalUnicast() || address.IsPrivate() || shared.Contains(address) {
		return false
	}
	b := address.AsSlice()
	if address.Is4() {
		switch {
		case b[0] == 0, b[0] >= 240, // "this" network and reserved
			b[0] == 192 && b[1] == 0 && b[2] == 0, // protocol assignments
			b[0] == 198 && b[1]&^1 == 18:          // benchmarks
			return false
		}
		return true
	}
	// Only 2000::/3 is assigned, and 2001::/23 of it to protocols such as Teredo.
	return b[0]&0xe0 == 0x20 && !(b[0] == 0x20 && b[1] == 0x01 && b[2] < 2)
}
