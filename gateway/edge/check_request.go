package edge

import (
	"fmt"
	"net/netip"
	"strings"
)

// Header gives header fields. Names are in canonical form.
type Header interface {
	// Get is a field's first value, or "".
	Get(name string) string
	// Values are those of all fields of that name, in their order.
	Values(name string) []string
}

// HTTPRequest is an edge's request by HTTP, as the listener saw it.
type HTTPRequest struct {
	Method string
	// Query is raw, without '?'.
	Query  string
	Host   string
	Header Header
	// Body is the body of a POST.
	Body []byte
	// IsEdge reports whether an address is one of an edge or a proxy of ours, so that it is no viewer's.
	IsEdge func(netip.Addr) bool
}

// CheckRequest is what an edge says of a viewer who asks it for something.
type CheckRequest struct {
	Method string
	// Scheme is "http", "https" or empty.
	Scheme string
	Host   string
	// Path is escaped as the viewer sent it to the edge, Query raw and without '?'.
	Path  string
	Query string
	// Address is the viewer's; the zero value if the edge did not say.
	Address   netip.Addr
	UserAgent string
	Referer   string
	// Channel is the edge's own name of it, or empty.
	Channel string
	// EdgeSession is the edge's own id of the session, or empty.
	EdgeSession string
	// IsPublish: it is about a stream that somebody wants to send.
	IsPublish bool
	// Header holds the viewer's own header fields where the edge passes them on; else nil.
	Header Header
}

// NamespacedSession is the edge's own session id, told apart from those of other edges; empty if it gave none.
func (q *CheckRequest) NamespacedSession(edge netip.Addr) string {
	if q.EdgeSession == "" {
		return ""
	}
	return edge.String() + "/" + q.EdgeSession
}

// ViewerHeader is the viewer's header as the edge tells it.
type ViewerHeader struct{ Request *CheckRequest }

// Get is the field's first value.
func (h *ViewerHeader) Get(name string) string {
	switch {
	case name == "User-Agent":
		return h.Request.UserAgent
	case name == "Referer":
		return h.Request.Referer
	case h.Request.Header != nil:
		return h.Request.Header.Get(name)
	}
	return ""
}

// Values are the field's values.
func (h *ViewerHeader) Values(name string) []string {
	if h.Request.Header != nil {
		return h.Request.Header.Values(name)
	}
	return nil
}

// Decode reads an edge's request. The error says what is wrong with the edge's settings, for the operator.
func (d Dialect) Decode(in *HTTPRequest, q *CheckRequest) error {
	*q = CheckRequest{}
	switch d {
	case Astra, Alta:
		decodeAstra(in, q)
		return nil
	case Flussonic:
		return decodeFlussonic(in, q)
	case Nginx:
		return decodeNginx(in, q)
	case ForwardAuth:
		return decodeForwardAuth(in, q)
	default:
		return fmt.Errorf("dialect %s is not spoken over HTTP", d)
	}
}

// decodeAstra reads the headers of Astra and Alta; those of the two differ in part, and auth-proxy's clients send fewer.
func decodeAstra(in *HTTPRequest, q *CheckRequest) {
	h := in.Header
	q.Method = "GET" // Astra does not say; whatever it was, it is to open a session
	q.Query = in.Query
	q.Path = h.Get("X-Real-Path")
	q.Host = h.Get("X-Real-Host")
	if scheme, host, found := strings.Cut(h.Get("X-Real-Origin"), "://"); found {
		q.Scheme = parseScheme(scheme)
		if q.Host == "" {
			q.Host = host
		}
	}
	q.Address = parseAddress(h.Get("X-Real-Ip"))
	q.UserAgent = h.Get("X-Real-Ua")
	q.Channel = h.Get("X-Channel-Id")
	q.EdgeSession = h.Get("X-Session-Id")
}

// decodeNginx reads what deploy/edges/nginx sends.
func decodeNginx(in *HTTPRequest, q *CheckRequest) error {
	h := in.Header
	uri := h.Get("X-Original-Uri")
	if !strings.HasPrefix(uri, "/") {
		return fmt.Errorf("X-Original-URI: %w", errMissing)
	}
	q.Path, q.Query, _ = strings.Cut(uri, "?")
	q.Address = parseAddress(h.Get("X-Real-Ip"))
	if !q.Address.IsValid() {
		return fmt.Errorf("X-Real-IP: %w", errMissing)
	}
	q.Method = methodOrGet(h.Get("X-Original-Method"))
	q.Scheme = parseScheme(h.Get("X-Forwarded-Proto"))
	q.Host = in.Host
	q.setViewerHeader(h)
	return nil
}

// decodeForwardAuth reads what Traefik's ForwardAuth and Caddy's forward_auth send.
func decodeForwardAuth(in *HTTPRequest, q *CheckRequest) error {
	h := in.Header
	uri := h.Get("X-Forwarded-Uri")
	if !strings.HasPrefix(uri, "/") {
		return fmt.Errorf("X-Forwarded-Uri: %w", errMissing)
	}
	q.Path, q.Query, _ = strings.Cut(uri, "?")
	q.Address = LastForwarded(h.Values("X-Forwarded-For"), in.IsEdge)
	if !q.Address.IsValid() {
		return fmt.Errorf("X-Forwarded-For: %w", errMissing)
	}
	q.Method = methodOrGet(h.Get("X-Forwarded-Method"))
	q.Scheme = parseScheme(h.Get("X-Forwarded-Proto"))
	q.Host = h.Get("X-Forwarded-Host")
	q.setViewerHeader(h)
	return nil
}

// setViewerHeader takes over the viewer's own header, which the edge has passed on with its own fields among it.
func (q *CheckRequest) setViewerHeader(h Header) {
	q.UserAgent, q.Referer, q.Header = h.Get("User-Agent"), h.Get("Referer"), h
}

func parseScheme(text string) string {
	if text == "http" || text == "https" {
		return text
	}
	return ""
}

// methodOrGet is the viewer's method; an edge that does not say asks for a GET.
func methodOrGet(text string) string {
	if text == "" {
		return "GET"
	}
	return text
}
