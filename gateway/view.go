package gateway

import (
	"net/netip"
	"strings"
)

// View is what the edge needs to know of a request. It is made anew for each and not kept.
type View struct {
	Method string
	// Scheme is "http" or "https" and Host the Host field, as the listener saw them.
	Scheme string
	Host   string
	// Path is escaped as it came; Query is raw, without '?'.
	Path  string
	Query string
	// Peer is who holds the connection: the viewer or a proxy.
	Peer netip.Addr
	// Header gives a field's first value, or "". Names are in canonical form.
	Header interface{ Get(name string) string }
}

// client is who the viewer is, after trusted proxies had their say.
type client struct {
	address netip.Addr
	scheme  string
	host    string
}

// clientOf believes what a trusted proxy forwards, and nobody else: the viewer is the last address in X-Forwarded-For
// that is not a trusted proxy's, since everything before it may be his own invention.
func clientOf(v *View, trusted []netip.Prefix) client {
	c := client{address: v.Peer, scheme: v.Scheme, host: v.Host}
	if len(trusted) == 0 || !isTrusted(v.Peer, trusted) {
		return c
	}
	for list := v.Header.Get("X-Forwarded-For"); list != ""; {
		var last string
		if i := strings.LastIndexByte(list, ','); i >= 0 {
			list, last = list[:i], list[i+1:]
		} else {
			list, last = "", list
		}
		a, err := netip.ParseAddr(strings.TrimSpace(last))
		if err != nil {
			break
		}
		c.address = a.Unmap()
		if !isTrusted(c.address, trusted) {
			break
		}
	}
	if p := v.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		c.scheme = p
	}
	if h := v.Header.Get("X-Forwarded-Host"); h != "" {
		c.host = h
	}
	return c
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// prefixOf is the address prefix by which a crowd is counted: /24 or /48, as one number.
func prefixOf(a netip.Addr) uint64 {
	a = a.Unmap()
	var n uint64
	if a.Is4() {
		b := a.As4()
		return 1<<56 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	}
	b := a.As16()
	for _, x := range b[:6] {
		n = n<<8 | uint64(x)
	}
	return n
}
