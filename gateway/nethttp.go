package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/listener"
)

// minViewerRate is the rate in bytes per second below which a viewer counts as stalled. No stream plays at it.
const minViewerRate = 8 << 10

// Handler serves a Gateway by net/http: HTTP/1.1 and HTTP/2, with and without TLS.
type Handler struct {
	gateway   *Gateway
	limits    LimitsConfig
	exchanges sync.Pool
}

// exchange is a request and its response. It is pooled.
type exchange struct {
	request  Request
	response Response
}

// NewHandler makes the handler of a gateway.
func NewHandler(g *Gateway) *Handler {
	h := &Handler{gateway: g, limits: g.options.Config.Limits}
	h.exchanges.New = func() any { return new(exchange) }
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, _ := h.exchanges.Get().(*exchange)
	defer func() {
		e.response.Reset()
		e.request = Request{}
		h.exchanges.Put(e)
	}()
	resp := &e.response
	if r.ContentLength != 0 {
		h.boundBody(w, r)
	}
	n := h.gateway.serving.Add(1)
	defer h.gateway.serving.Add(-1)
	req := &e.request
	*req = newRequest(r)
	switch {
	case n > int64(h.limits.MaxConcurrentRequests):
		h.gateway.setCORS(hls.TicketInPath, req, resp)
		over := backends.NewOverload("limits.max_concurrent_requests", h.limits.MaxConcurrentRequests)
		h.gateway.shed(over, resp, time.Second)
		h.gateway.encodeRefusal(req, resp)
	case len(r.RequestURI) > int(h.limits.MaxURLSize):
		h.gateway.setCORS(hls.TicketInPath, req, resp)
		resp.refuse(http.StatusRequestURITooLong,
			fmt.Sprintf("the URL is longer than limits.max_url_size=%v", h.limits.MaxURLSize))
		h.gateway.encodeRefusal(req, resp)
	default:
		if err := h.gateway.Serve(r.Context(), req, resp); err != nil {
			h.handleUnanswered(r, req, resp)
		}
	}
	h.send(w, r, resp)
}

// boundBody keeps a request's body from holding the connection. The response goes out before the body has arrived, so the
// next bytes would not be a request: HTTP/1 closes the connection. (A server-wide read timeout would end blocking playlist
// reloads as well.)
func (h *Handler) boundBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.limits.ReadTimeout))
}

// handleUnanswered ends a request whose context ended before its response: the viewer disconnected, or the node drains.
func (h *Handler) handleUnanswered(r *http.Request, req *Request, resp *Response) {
	if !errors.Is(context.Cause(r.Context()), errDraining) {
		panic(http.ErrAbortHandler) // to return would be to answer 200
	}
	resp.Reset()
	h.gateway.setCORS(hls.TicketInPath, req, resp)
	resp.retryLater(time.Second, "the node is draining; try again")
	h.gateway.encodeRefusal(req, resp)
}

// newRequest converts a net/http request.
func newRequest(r *http.Request) Request {
	v := Request{
		Method: r.Method, Scheme: "http", Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Header: r.Header,
	}
	if proxied, _ := r.Context().Value(connectionKey{}).(*listener.Conn); r.TLS != nil || proxied != nil && proxied.IsTLS() {
		v.Scheme = "https"
	}
	if r.ContentLength != 0 {
		v.Body = r.Body
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		v.Peer = peer.Addr().Unmap()
	}
	return v
}

// send writes the response. All field values share one array, because a slice for each would be an allocation for each.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, resp *Response) {
	header, fields := w.Header(), resp.Fields()
	values := make([]string, len(fields))
	for i, f := range fields {
		values[i] = f.Value
		first := i
		for first > 0 && fields[first-1].Name == f.Name {
			first--
		}
		header[f.Name] = values[first : i+1 : i+1]
	}
	controller := http.NewResponseController(w)
	if resp.Stream != nil {
		h.relay(w, controller, resp)
		return
	}
	h.extendWriteDeadline(controller, len(resp.Body))
	w.WriteHeader(resp.Status)
	if r.Method == http.MethodHead || len(resp.Body) == 0 {
		return
	}
	n, _ := w.Write(resp.Body) // a viewer who disconnected is not an error
	resp.Sent(int64(n))
}

// relay copies a body as it arrives. It flushes before it waits for the origin, so that the viewer gets a part while the
// origin still produces it.
func (h *Handler) relay(w http.ResponseWriter, controller *http.ResponseController, resp *Response) {
	defer func() { _ = resp.Stream.Close() }()
	w.WriteHeader(resp.Status)
	for {
		if !resp.Stream.IsReady() {
			if controller.Flush() != nil {
				return
			}
			// The wait for the origin does not count against the viewer: HTTP/2 would reset the stream.
			_ = controller.SetWriteDeadline(time.Time{})
		}
		data, err := resp.Stream.Next()
		if err != nil {
			if isTruncated(err) {
				h.gateway.streamBroken(err, resp)
				panic(http.ErrAbortHandler) // so that the viewer sees a broken transfer instead of a short body
			}
			return
		}
		h.extendWriteDeadline(controller, len(data))
		n, err := w.Write(data)
		resp.Sent(int64(n))
		if err != nil {
			return
		}
	}
}

// extendWriteDeadline sets the write deadline for the next n bytes.
func (h *Handler) extendWriteDeadline(controller *http.ResponseController, n int) {
	// A writer without deadlines returns an error, which changes nothing.
	_ = controller.SetWriteDeadline(time.Now().Add(h.limits.WriteTimeout + time.Duration(n/minViewerRate)*time.Second))
}

// isTruncated reports whether the error is other than the end of a body.
func isTruncated(err error) bool { return !errors.Is(err, io.EOF) }

// errDraining is the cause with which requests in flight are cancelled at the end of a drain.
var errDraining = errors.New("draining")

// newRequestsContext returns the parent context of all requests. Its cancel function cancels with errDraining.
func newRequestsContext() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return ctx, func() { cancel(errDraining) }
}
