package backends

import "net/netip"

// SubscriberPrefix returns the part of an address that one subscriber cannot vary: an IPv4 address's /32, an IPv6
// address's /64. An invalid address has the zero prefix.
func SubscriberPrefix(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 64
	if address.Is4() {
		bits = 32
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address
	}
	return prefix
}
