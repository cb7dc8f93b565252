package edge

import (
	"net/netip"
	"slices"
	"strings"
)

// LastForwarded returns the last address in X-Forwarded-For that is not a forwarder's, an edge's or a proxy's of ours. The
// viewer may have invented all addresses before it. Several fields count as one list. Without an address it returns the
// zero value. isForwarder may be nil.
func LastForwarded(lists []string, isForwarder func(netip.Addr) bool) netip.Addr {
	var last netip.Addr
	for _, list := range slices.Backward(lists) {
		for list != "" {
			text := list
			if comma := strings.LastIndexByte(list, ','); comma >= 0 {
				list, text = list[:comma], list[comma+1:]
			} else {
				list = ""
			}
			a := parseAddress(text)
			if !a.IsValid() {
				return last
			}
			if last = a; isForwarder == nil || !isForwarder(a) {
				return last
			}
		}
	}
	return last
}

// parseAddress parses an address with or without a port. It returns the zero value for any other text.
func parseAddress(text string) netip.Addr {
	text = strings.TrimSpace(text)
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone("")
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}
