package nethttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"usher/gateway"
	"usher/gateway/listener"
)

// Handler serves a gateway by net/http: HTTP/1.1 and HTTP/2, with and without TLS.
type Handler struct {
	gateway   *gateway.Gateway
	limits    gateway.LimitsConfig
	exchanges sync.Pool
}

// exchange is a request and its response. It is pooled.
type exchange struct {
	request  gateway.Request
	response gateway.Response
}

// NewHandler makes the handler of a gateway.
func NewHandler(g *gateway.Gateway) *Handler {
	h := &Handler{gateway: g, limits: g.Limits()}
	h.exchanges.New = func() any { return new(exchange) }
	return h
}

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

// WithConnection is the hook ConnContext of an [http.Server] on a [listener.Listener]. It is for connections of which the PROXY
// protocol may tell that the viewer came by TLS.
func WithConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, listener.Of(c))
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, _ := h.exchanges.Get().(*exchange)
	defer func() {
		e.response.Reset()
		e.request = gateway.Request{}
		h.exchanges.Put(e)
	}()
	if r.ContentLength != 0 {
		h.boundBody(w, r)
	}
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		w.Header().Set("Connection", "close") // net/http ignores chunks in HTTP/1.0, and a proxy before it may not
	}
	e.request = newRequest(r)
	if err := h.gateway.Serve(r.Context(), &e.request, &e.response); err != nil {
		panic(http.ErrAbortHandler) // to return would be to answer 200
	}
	h.send(w, r, &e.response)
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

// newRequest converts a net/http request.
func newRequest(r *http.Request) gateway.Request {
	v := gateway.Request{
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
func (h *Handler) send(w http.ResponseWriter, r *http.Request, resp *gateway.Response) {
	header, fields := w.Header(), resp.Fields()
	values := make([]string, len(fields), len(fields)+1)
	for i, f := range fields {
		values[i] = f.Value
		first := i
		for first > 0 && fields[first-1].Name == f.Name {
			first--
		}
		header[f.Name] = values[first : i+1 : i+1]
	}
	if _, isStated := header["Content-Length"]; !isStated && resp.StatesLength(r.Method) {
		values = append(values, strconv.Itoa(len(resp.Body)))
		header["Content-Length"] = values[len(fields):]
	}
	controller := http.NewResponseController(w)
	if resp.Stream != nil {
		h.relay(w, r, controller, resp)
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
func (h *Handler) relay(w http.ResponseWriter, r *http.Request, controller *http.ResponseController, resp *gateway.Response) {
	isWhole := false
	defer func() {
		_ = resp.Stream.Close()
		if !isWhole && r.ProtoMajor == 1 && r.ProtoMinor == 0 {
			reset(controller) // the end of the connection can be that of the body
		}
	}()
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
				h.gateway.StreamBroken(err, resp)
				panic(http.ErrAbortHandler) // so that the viewer sees a broken transfer instead of a short body
			}
			isWhole = true
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

// reset ends a connection of HTTP/1 so that the viewer gets an error. net/http would end it as after a whole response, over TLS with an
// alert that says so.
func reset(controller *http.ResponseController) {
	c, _, err := controller.Hijack()
	if err != nil {
		return // of a writer without a connection
	}
	if own := listener.Of(c); own != nil {
		own.Reset()
	}
	_ = c.Close()
}

// extendWriteDeadline sets the write deadline for the next n bytes.
func (h *Handler) extendWriteDeadline(controller *http.ResponseController, n int) {
	// A writer without deadlines returns an error, which changes nothing.
	_ = controller.SetWriteDeadline(time.Now().Add(h.gateway.TimeToWrite(n)))
}

// isTruncated reports whether the error is other than the end of a body.
func isTruncated(err error) bool { return !errors.Is(err, io.EOF) }
