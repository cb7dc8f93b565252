package edge

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Header gives header fields. Names are in canonical form.
type Header interface {
	// Get returns a field's first value, or "".
	Get(name string) string
	// Values returns the values of all fields of that name, in order.
	Values(name string) []string
}

// HTTPRequest is an edge's HTTP request, as the listener saw it.
type HTTPRequest struct {
	Method string
	// Query is raw, without '?'.
	Query  string
	Host   string
	Header Header
	// Body is the body of a POST.
	Body []byte
	// IsForwarder reports whether an address is an edge's or a proxy's of ours, and so not a viewer's.
	IsForwarder func(netip.Addr) bool
}

// CheckRequest is what an edge reports of a viewer's request.
type CheckRequest struct {
	Method string
	// Scheme is "http", "https" or empty.
	Scheme string
	Host   string
	// Path is escaped as the viewer sent it to the edge.
	Path string
	// Query is raw, without '?'.
	Query string
	// Token is what Flussonic reports beside the query, or empty: the viewer's parameter of that name, or one that it made.
	Token string
	// Address is the viewer's, or the zero value if the edge does not report it.
	Address   netip.Addr
	UserAgent string
	Referer   string
	// Channel is the edge's own name of the channel, or empty.
	Channel string
	// EdgeSession is the edge's own id of the session, or empty.
	EdgeSession string
	// HasHost reports that the edge named the host by itself, and not as a part of Origin.
	HasHost bool
	// Origin is scheme and host as Alta reports them, or empty.
	Origin string
	// Protocol is the protocol as Flussonic names it, or empty.
	Protocol string
	// IsArchive reports that Flussonic plays its archive.
	IsArchive bool
	// IsPublish reports that the viewer wants to send a stream.
	IsPublish bool
	// Header is the viewer's own header if the edge passes it on, else nil.
	Header Header
}

// ViewerHeader is the viewer's header as an edge reports it.
type ViewerHeader struct{ Request *CheckRequest }

// Get returns the field's first value, or "".
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

// Values returns the field's values.
func (h *ViewerHeader) Values(name string) []string {
	if h.Request.Header != nil {
		return h.Request.Header.Values(name)
	}
	return nil
}

// MayPublish reports whether the viewer may want to send something, such as a stream, and not to play.
func (q *CheckRequest) MayPublish() bool {
	switch q.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return q.IsPublish
	default:
		return true
	}
}

// Decode decodes an edge's HTTP request. The error tells the operator what is wrong with the edge's settings. Also with an error
// it says whether the viewer [CheckRequest.MayPublish].
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
		return fmt.Errorf("dialect %s does not use HTTP", d)
	}
}

// decodeAstra decodes the headers of Astra and Alta, which differ in part. Clients of auth-proxy send fewer.
func decodeAstra(in *HTTPRequest, q *CheckRequest) {
	h := in.Header
	q.Method = "GET" // Astra does not report it, and asks only to open sessions
	q.Query = in.Query
	q.Path = h.Get("X-Real-Path")
	q.Host, q.Origin = h.Get("X-Real-Host"), h.Get("X-Real-Origin")
	q.HasHost = q.Host != ""
	if scheme, host, found := strings.Cut(q.Origin, "://"); found {
		q.Scheme = ParseScheme(scheme)
		if q.Host == "" {
			q.Host = host
		}
	}
	q.Address = parseAddress(h.Get("X-Real-Ip"))
	q.UserAgent = h.Get("X-Real-Ua")
	q.Channel = h.Get("X-Channel-Id")
	q.EdgeSession = h.Get("X-Session-Id")
}

// decodeNginx decodes what deploy/edges/nginx sends.
func decodeNginx(in *HTTPRequest, q *CheckRequest) error {
	h := in.Header
	q.Method = methodOrGet(h.Get("X-Original-Method"))
	uri := h.Get("X-Original-Uri")
	if !strings.HasPrefix(uri, "/") {
		return fmt.Errorf("X-Original-URI: %w", errMissing)
	}
	q.Path, q.Query, _ = strings.Cut(uri, "?")
	q.Address = parseAddress(h.Get("X-Real-Ip"))
	if !q.Address.IsValid() {
		return fmt.Errorf("X-Real-IP: %w", errMissing)
	}
	q.Scheme = ParseScheme(h.Get("X-Forwarded-Proto"))
	q.Host = in.Host
	q.setViewerHeader(h)
	return nil
}

// decodeForwardAuth decodes what Traefik's ForwardAuth and Caddy's forward_auth send.
func decodeForwardAuth(in *HTTPRequest, q *CheckRequest) error {
	h := in.Header
	q.Method = methodOrGet(h.Get("X-Forwarded-Method"))
	uri := h.Get("X-Forwarded-Uri")
	if !strings.HasPrefix(uri, "/") {
		return fmt.Errorf("X-Forwarded-Uri: %w", errMissing)
	}
	q.Path, q.Query, _ = strings.Cut(uri, "?")
	q.Address = LastForwarded(h.Values("X-Forwarded-For"), in.IsForwarder)
	if !q.Address.IsValid() {
		return fmt.Errorf("X-Forwarded-For: %w", errMissing)
	}
	q.Scheme = ParseScheme(h.Get("X-Forwarded-Proto"))
	q.Host = h.Get("X-Forwarded-Host")
	q.setViewerHeader(h)
	return nil
}

// setViewerHeader sets the viewer's own header, which the edge passes on together with its own fields.
func (q *CheckRequest) setViewerHeader(h Header) {
	q.UserAgent, q.Referer, q.Header = h.Get("User-Agent"), h.Get("Referer"), h
}

// ParseScheme returns the scheme that X-Forwarded-Proto tells, in lower case, or an empty text. Of several proxies the first tells what the
// viewer speaks. One who lies changes only their own responses.
func ParseScheme(text string) string {
	first, _, _ := strings.Cut(text, ",")
	if scheme := strings.ToLower(strings.TrimSpace(first)); scheme == "http" || scheme == "https" {
		return scheme
	}
	return ""
}

// methodOrGet returns the viewer's method, or GET if the edge does not report it.
func methodOrGet(text string) string {
	if text == "" {
		return "GET"
	}
	return text
}
