package edge

import (
	"net/netip"
	"slices"
	"strings"
)

// LastForwarded is the last address of X-Forwarded-For's lists that is not an edge's or a proxy's of ours: everything before
// it may be the viewer's own invention. Several fields count as one list. The zero value: there is none.
func LastForwarded(lists []string, isEdge func(netip.Addr) bool) netip.Addr {
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
			if last = a; isEdge == nil || !isEdge(a) {
				return last
			}
		}
	}
	return last
}

// parseAddress reads an address, with which some write a port. The zero value is no address.
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
