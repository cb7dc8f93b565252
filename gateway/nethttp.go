package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
	"usher/gateway/hls"
)

// slowestViewer is the rate, in bytes a second, below which a viewer counts as stalled: no stream plays at it.
const slowestViewer = 8 << 10

// Handler serves a Gateway by net/http: the adapter for TLS and HTTP/2, and for plain HTTP.
type Handler struct {
	gateway   *Gateway
	limits    LimitsConfig
	serving   atomic.Int64
	exchanges sync.Pool
}

// exchange is what one request takes. It is used again.
type exchange struct {
	view   View
	answer Answer
}

// NewHandler makes the adapter.
func NewHandler(g *Gateway) *Handler {
	h := &Handler{gateway: g, limits: g.o.Config.Limits}
	h.exchanges.New = func() any { return new(exchange) }
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, _ := h.exchanges.Get().(*exchange)
	defer func() {
		e.answer.Reset()
		e.view = View{}
		h.exchanges.Put(e)
	}()
	a := &e.answer
	if r.ContentLength != 0 {
		h.withoutBody(w, r)
	}
	n := h.serving.Add(1)
	defer h.serving.Add(-1)
	v := &e.view
	*v = viewOf(r)
	switch {
	case n > int64(h.limits.MaxConcurrentRequests):
		h.gateway.cors(hls.TicketInPath, v, a)
		over := backends.NewOverload("limits.max_concurrent_requests", h.limits.MaxConcurrentRequests)
		a.comeBack(time.Second, over.Error())
		h.gateway.reword(v, a)
	case len(r.RequestURI) > int(h.limits.MaxURLSize):
		h.gateway.cors(hls.TicketInPath, v, a)
		a.refuse(http.StatusRequestURITooLong,
			fmt.Sprintf("the URL is longer than limits.max_url_size=%v", h.limits.MaxURLSize))
		h.gateway.reword(v, a)
	default:
		if err := h.gateway.Serve(r.Context(), v, a); err != nil {
			h.unanswered(r, v, a)
		}
	}
	h.send(w, r, a)
}

// withoutBody answers before the body has come, which no player sends: one that trickles in must hold neither the answer
// nor the connection, whose next bytes would be the body's and no request. (A server-wide read timeout would end blocking
// playlist reloads as well.)
func (h *Handler) withoutBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.limits.ReadTimeout))
}

// unanswered is for a request that ended before its answer: because the viewer left, or because we do.
func (h *Handler) unanswered(r *http.Request, v *View, a *Answer) {
	if !errors.Is(context.Cause(r.Context()), errDraining) {
		panic(http.ErrAbortHandler) // to return would be to answer 200
	}
	a.Reset()
	h.gateway.cors(hls.TicketInPath, v, a)
	a.comeBack(time.Second, "draining")
	h.gateway.reword(v, a)
}

// viewOf shows a net/http request to the gateway.
func viewOf(r *http.Request) View {
	v := View{
		Method: r.Method, Scheme: "http", Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Header: r.Header,
	}
	if r.TLS != nil {
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

// send writes the answer. All field values share one array, since a slice each would be an allocation each.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, a *Answer) {
	header, fields := w.Header(), a.Fields()
	values := make([]string, len(fields))
	for i, f := range fields {
		values[i] = f.Value
		first := i
		for first > 0 && fields[first-1].Name == f.Name {
			first--
		}
		header[f.Name] = values[first : i+1 : i+1]
	}
	patience := http.NewResponseController(w)
	if a.Stream != nil {
		h.relay(w, patience, a)
		return
	}
	h.allow(patience, len(a.Body))
	w.WriteHeader(a.Status)
	if r.Method == http.MethodHead || len(a.Body) == 0 {
		return
	}
	n, _ := w.Write(a.Body) // a viewer who left is no error of ours
	a.Sent(int64(n))
}

// relay passes a body on as it arrives. What has come is flushed whenever there is nothing more to wait for, so that a
// part reaches the viewer while the origin still makes it.
func (h *Handler) relay(w http.ResponseWriter, patience *http.ResponseController, a *Answer) {
	defer func() { _ = a.Stream.Close() }()
	w.WriteHeader(a.Status)
	for {
		if !a.Stream.Ready() {
			if patience.Flush() != nil {
				return
			}
			// The wait for the origin is not the viewer's; HTTP/2 would end his stream in the midst of it.
			_ = patience.SetWriteDeadline(time.Time{})
		}
		data, err := a.Stream.Next()
		if err != nil {
			if brokenOff(err) {
				panic(http.ErrAbortHandler) // so that the viewer sees a broken transfer and not a short body
			}
			return
		}
		h.allow(patience, len(data))
		n, err := w.Write(data)
		a.Sent(int64(n))
		if err != nil {
			return
		}
	}
}

// allow gives the viewer the time to take n bytes.
func (h *Handler) allow(patience *http.ResponseController, n int) {
	// A writer that cannot set a deadline has none to set.
	_ = patience.SetWriteDeadline(time.Now().Add(h.limits.WriteTimeout + time.Duration(n/slowestViewer)*time.Second))
}

// brokenOff reports whether a body ended before its end.
func brokenOff(err error) bool { return !errors.Is(err, io.EOF) }

// errDraining is why requests in flight are cancelled at the end of a drain.
var errDraining = errors.New("draining")

// cancelLate gives requests a context that ends with the server's patience for them.
func cancelLate() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return ctx, func() { cancel(errDraining) }
}
