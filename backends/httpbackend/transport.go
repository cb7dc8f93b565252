package httpbackend

import (
	"context"
	"net/http"
	"sync"
	"time"

	"usher/backends/httpbackend/plainhttp"
)

// defaultConnections is how many calls the default bulkhead lets be in flight.
const defaultConnections = 288

// transport makes calls to one backend and keeps connections for the next ones: without TLS to its own server, and to all others.
type transport struct {
	own   *plainhttp.Transport
	other *http.Transport
}

// exchange sends one request and returns when the answer's header has arrived.
func (t *transport) exchange(r *http.Request) (*exchange, error) {
	ctx := r.Context()
	if r.URL.Scheme == "http" && !isRedirected(ctx) {
		return t.exchangePlainly(r)
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	resp, err := t.other.RoundTrip(r.WithContext(own)) //nolint:bodyclose // close does
	if err != nil {
		detach()
		cancel(nil)
		return nil, err
	}
	return &exchange{resp, &contextLife{cancel, detach}}, nil
}

func (t *transport) exchangePlainly(r *http.Request) (*exchange, error) {
	resp, err := t.own.RoundTrip(r) //nolint:bodyclose // close does
	if err != nil {
		return nil, err
	}
	if body, ok := resp.Body.(*plainhttp.Body); ok {
		return &exchange{resp, body}, nil
	}
	return &exchange{resp, noLife{}}, nil
}

// CloseIdleConnections closes the connections that no call uses.
func (t *transport) CloseIdleConnections() {
	t.own.CloseIdleConnections()
	t.other.CloseIdleConnections()
}

// newTransport returns a transport to one backend. HTTP/2 is left out: one lost packet would delay all calls of its one
// connection, and its errors cannot be told apart. Proxies from the environment are left out: a middleware is near, and a
// proxy's answers would be taken for the middleware's.
func newTransport(cfg Config, d *dialer, connections int) *transport {
	own := plainhttp.New(plainOptions(cfg, d.dial, connections))
	other := &http.Transport{
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS,
		MaxIdleConns:           connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        cfg.IdleTimeout,
		ResponseHeaderTimeout:  cfg.ResponseHeaderTimeout,
		MaxResponseHeaderBytes: int64(cfg.MaxResponseHeaderSize),
		DisableCompression:     true, // bodies are small, and a decompression bomb costs memory
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}
	return &transport{own: own, other: other}
}

func plainOptions(cfg Config, dial plainhttp.DialFunc, connections int) plainhttp.Options {
	return plainhttp.Options{
		Dial: dial, MaxIdle: connections, IdleTimeout: cfg.IdleTimeout,
		HeaderTimeout: cfg.ResponseHeaderTimeout, MaxHeaderSize: int64(cfg.MaxResponseHeaderSize),
	}
}

// minPoolAge is how old the kept connections are before a failure lets them go, so that a slow backend is not busy with new
// connections on top.
const minPoolAge = 5 * time.Second

// connectionPool holds the kept connections to one backend, and lets all of them go from time to time, so that its name is
// resolved again. Safe for concurrent use.
type connectionPool struct {
	open   func() *transport
	maxAge time.Duration

	mu      sync.Mutex
	current *transport
	since   time.Time
	// previous may have got a call that had not begun when it was replaced. It is closed once more with the next one.
	previous *transport
}

func newConnectionPool(open func() *transport, maxAge time.Duration, now time.Time) *connectionPool {
	return &connectionPool{open: open, maxAge: maxAge, current: open(), since: now}
}

// transport returns the transport for a call. No connection that it keeps is older than maxAge.
func (p *connectionPool) transport(now time.Time) *transport { return p.atMost(p.maxAge, now) }

// onFailure lets the kept connections go, because one of them has failed: they may lead to a server that is gone.
func (p *connectionPool) onFailure(now time.Time) { p.atMost(minPoolAge, now) }

// atMost returns the transport after it has replaced one of that age. Calls in flight keep their connections, which are
// closed afterwards.
func (p *connectionPool) atMost(age time.Duration, now time.Time) *transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) >= age {
		p.closeIdle()
		p.previous, p.current, p.since = p.current, p.open(), now
	}
	return p.current
}

// close closes the connections that no call uses.
func (p *connectionPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeIdle()
}

// closeIdle closes kept connections, and makes those of calls in flight be closed after them. The caller holds mu.
func (p *connectionPool) closeIdle() {
	p.current.CloseIdleConnections()
	if p.previous != nil {
		p.previous.CloseIdleConnections()
	}
}

// redirectedKey is the key of a context whose request goes where another server led.
type redirectedKey struct{}

func withRedirected(ctx context.Context) context.Context {
	return context.WithValue(ctx, redirectedKey{}, true)
}

func isRedirected(ctx context.Context) bool { return ctx.Value(redirectedKey{}) != nil }
