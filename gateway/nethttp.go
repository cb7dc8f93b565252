package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// slowestViewer is the rate, in bytes a second, below which a viewer counts as stalled: no stream plays at it.
const slowestViewer = 8 << 10

// Handler serves an Edge by net/http: the adapter for TLS and HTTP/2, and for plain HTTP.
type Handler struct {
	edge    *Edge
	limits  LimitsConfig
	serving atomic.Int64
	answers sync.Pool
}

// NewHandler makes the adapter.
func NewHandler(e *Edge) *Handler {
	h := &Handler{edge: e, limits: e.o.Config.Limits}
	h.answers.New = func() any { return new(Answer) }
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, _ := h.answers.Get().(*Answer)
	defer func() {
		a.Reset()
		h.answers.Put(a)
	}()
	if r.ContentLength != 0 {
		// No player sends a body; one that trickles in must not hold the connection. A server-wide read timeout would
		// end blocking playlist reloads as well.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.limits.ReadTimeout))
	}
	n := h.serving.Add(1)
	defer h.serving.Add(-1)
	switch {
	case n > int64(h.limits.MaxRequests):
		over := backends.Overload{Setting: "limits.max_requests", Value: h.limits.MaxRequests}
		a.comeBack(time.Second, over.Error())
	case len(r.RequestURI) > h.limits.MaxURLBytes:
		a.refuse(http.StatusRequestURITooLong, "the URL is longer than limits.max_url_bytes")
	default:
		v := viewOf(r)
		if h.edge.Serve(r.Context(), &v, a) != nil {
			return // the viewer is gone
		}
	}
	h.send(w, r, a)
}

// viewOf shows a net/http request to the edge.
func viewOf(r *http.Request) View {
	v := View{
		Method: r.Method, Scheme: "http", Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Header: r.Header,
	}
	if r.TLS != nil {
		v.Scheme = "https"
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
		header[f.Name] = values[i : i+1 : i+1]
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
	defer a.Stream.Close()
	w.WriteHeader(a.Status)
	for {
		if !a.Stream.Ready() && patience.Flush() != nil {
			return
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
	_ = patience.SetWriteDeadline(time.Now().Add(h.limits.WriteStall + time.Duration(n/slowestViewer)*time.Second))
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
