package gateway

import (
	"io"
	"net/netip"
	"slices"
	"strings"
)

// View is what the gateway needs to know of a request. It is made anew for each and not kept.
type View struct {
	Method string
	// Scheme is "http" or "https" and Host the Host field, as the listener saw them.
	Scheme string
	Host   string
	// Path is escaped as it came; Query is raw, without '?'.
	Path  string
	Query string
	// Peer is who holds the connection: the viewer or a proxy.
	Peer   netip.Addr
	Header Header
	// Body is what follows the header; nil if nothing does. Only edges' questions are read.
	Body io.Reader

	// edgeSession is an edge's own id of the viewer's session, told apart from those of other edges; publishes: the
	// viewer wants to send a stream. Both are set where an edge asks.
	edgeSession string
	publishes   bool
}

// Header gives the request's header fields. Names are in canonical form.
type Header interface {
	// Get is a field's first value, or "".
	Get(name string) string
	// Values are those of all fields of that name, in their order.
	Values(name string) []string
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
	c.address = forwardedFor(v, trusted)
	if p := v.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		c.scheme = p
	}
	if h := v.Header.Get("X-Forwarded-Host"); h != "" {
		c.host = h
	}
	return c
}

// forwardedFor is the last address in X-Forwarded-For that is not a trusted proxy's. A proxy may add a field of its own
// rather than to the one that came, so all of them count as one list.
func forwardedFor(v *View, trusted []netip.Prefix) netip.Addr {
	last := v.Peer
	for _, list := range slices.Backward(v.Header.Values("X-Forwarded-For")) {
		for list != "" {
			text := list
			if i := strings.LastIndexByte(list, ','); i >= 0 {
				list, text = list[:i], list[i+1:]
			} else {
				list = ""
			}
			a, ok := parseAddress(strings.TrimSpace(text))
			if !ok {
				return last
			}
			if last = a; !isTrusted(last, trusted) {
				return last
			}
		}
	}
	return last
}

// parseAddress reads an address, with which some proxies write a port.
func parseAddress(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), true
	}
	a, err := netip.ParseAddrPort(text)
	return a.Addr().Unmap(), err == nil
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
	return 1<<57 | n // never zero, which stands for no prefix
}
