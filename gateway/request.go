package gateway

import (
	"io"
	"net/netip"
	"slices"

	"usher/gateway/edge"
)

// Request is what the gateway needs to know of a request. It is made anew for each and not kept.
type Request struct {
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
	isPublish   bool
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

// clientOf believes what a trusted proxy forwards, and nobody else: see [edge.LastForwarded].
func clientOf(req *Request, trusted networks) client {
	c := client{address: req.Peer, scheme: req.Scheme, host: req.Host}
	if len(trusted) == 0 || !trusted.contain(req.Peer) {
		return c
	}
	if a := edge.LastForwarded(req.Header.Values("X-Forwarded-For"), trusted.contain); a.IsValid() {
		c.address = a
	}
	if p := req.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
		c.scheme = p
	}
	if h := req.Header.Get("X-Forwarded-Host"); h != "" {
		c.host = h
	}
	return c
}

// networks are address prefixes.
type networks []netip.Prefix

// contain reports whether the address is in one of the networks.
func (n networks) contain(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}

// networkPrefix is the address prefix by which a crowd is counted: /24 or /48, as one number.
func networkPrefix(a netip.Addr) uint64 {
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
