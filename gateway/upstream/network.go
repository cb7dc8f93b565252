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
	return setting.AllowsAddress(h.config.AllowedNetworks, address)
}
