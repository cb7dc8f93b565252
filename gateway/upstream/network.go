package upstream

import (
	"net/netip"

	"usher/backends/setting"
)

// IsConfigured reports whether host and port of a connection are an address of the origin or of another one, as the
// operator wrote it. Such a connection may lead anywhere.
func (h *Hosts) IsConfigured(hostPort string) bool {
	for _, scheme := range [...]string{"http", "https"} {
		a, ok := parseAuthority(scheme, hostPort)
		if !ok {
			return false
		}
		if _, isOwn := h.own[a]; isOwn {
			return true
		}
		if _, isOther := h.others[a]; isOther {
			return true
		}
	}
	return false
}

// AllowsAddress reports whether a redirect host may have an IP address: one of the internet, or one that
// allowed_networks lists.
func (h *Hosts) AllowsAddress(address netip.Addr) bool {
	address = address.WithZone("").Unmap()
	inner := embeddedIPv4(address)
	for _, network := range h.config.AllowedNetworks {
		if network.Contains(address) || inner.IsValid() && network.Contains(inner) {
			return true
		}
	}
	if inner.IsValid() {
		return isPublic(inner)
	}
	return isPublic(address)
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
	if !setting.IsPublic(address.String()) {
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
