package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/hls"
)

// ErrDraining is the cause with which the contexts of requests in flight end when a node drains.
var ErrDraining = errors.New("draining")

// Request is what the gateway needs of an HTTP request. It is not kept after Serve returns.
type Request struct {
	Method string
	// Scheme is "http" or "https", as the listener saw it.
	Scheme string
	// Host is the Host field.
	Host string
	// Path is escaped as it came.
	Path string
	// Query is raw, without '?'.
	Query string
	// Peer is the address at the other end of the connection: the viewer or a proxy.
	Peer   netip.Addr
	Header Header
	// Body is the request's body, or nil. Only bodies of edges are read.
	Body io.Reader

	// edgeCheck is what the edge at edgeAddr reports; nil if no edge asks.
	edgeCheck *edge.CheckRequest
	edgeAddr  netip.Addr
	// isPublish reports that the viewer wants to send a stream, which only edges ask about.
	isPublish bool
}

// Header gives the request's header fields. Names are in canonical form.
type Header interface {
	// Get returns a field's first value, or "".
	Get(name string) string
	// Values returns the values of all fields of that name, in order.
	Values(name string) []string
}

// Serve answers one request. It returns an error only if the viewer disconnected, so that there is nothing to answer. The
// request counts as served until the response is Reset.
func (g *Gateway) Serve(ctx context.Context, req *Request, resp *Response) error {
	limits := &g.options.Config.Limits
	resp.serving = g.serving
	switch n := g.serving.Add(1); {
	case n > int64(limits.MaxConcurrentRequests):
		g.setCORS(hls.TicketInPath, req, resp)
		g.shed(backends.NewOverload("limits.max_concurrent_requests", limits.MaxConcurrentRequests), resp, time.Second)
		g.encodeRefusal(req, resp)
	case req.urlSize() > int(limits.MaxURLSize):
		g.setCORS(hls.TicketInPath, req, resp)
		resp.refuse(http.StatusRequestURITooLong, fmt.Sprintf("the URL is longer than limits.max_url_size=%v", limits.MaxURLSize))
		g.encodeRefusal(req, resp)
	default:
		err := g.serve(ctx, req, resp)
		if err == nil || !errors.Is(context.Cause(ctx), ErrDraining) {
			return err
		}
		resp.clear()
		g.setCORS(hls.TicketInPath, req, resp)
		resp.retryLater(time.Second, "the node is draining; try again")
		g.encodeRefusal(req, resp)
	}
	return nil
}

// urlSize returns the size of the path and the query.
func (req *Request) urlSize() int {
	if req.Query == "" {
		return len(req.Path)
	}
	return len(req.Path) + len("?") + len(req.Query)
}

// client is the viewer as trusted proxies report them, else as the connection shows them.
type client struct {
	address netip.Addr
	scheme  string
	host    string
}

// clientOf returns the viewer's address, scheme and host. X-Forwarded-* fields count only if a trusted proxy holds the
// connection; see [edge.LastForwarded].
func clientOf(req *Request, trusted networks) client {
	c := client{address: req.Peer, scheme: req.Scheme, host: req.Host}
	if len(trusted) == 0 || !trusted.contain(req.Peer) {
		return c
	}
	if a := edge.LastForwarded(req.Header.Values("X-Forwarded-For"), trusted.contain); a.IsValid() {
		c.address = a
	}
	c.scheme = cmp.Or(edge.ParseScheme(req.Header.Get("X-Forwarded-Proto")), c.scheme)
	if h := req.Header.Get("X-Forwarded-Host"); h != "" {
		c.host = h
	}
	return c
}

// maxHostSize is the length in bytes of the longest name with a port. A Host field may be as long as limits.max_header_size.
const maxHostSize = 253 + len(":65535")

// appendServer appends the scheme and host by which the viewer reaches the gateway, or nothing if the host could not be written into a URI.
func (c *client) appendServer(dst []byte) []byte {
	isOdd := func(b rune) bool {
		return (b|0x20 < 'a' || b|0x20 > 'z') && (b < '0' || b > '9') && !strings.ContainsRune("-._:[]", b)
	}
	if c.host == "" || len(c.host) > maxHostSize || strings.ContainsFunc(c.host, isOdd) {
		return dst
	}
	return append(append(append(dst, c.scheme...), "://"...), c.host...)
}

// networks are address prefixes.
type networks []netip.Prefix

// contain reports whether one of the networks contains the address.
func (n networks) contain(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}
