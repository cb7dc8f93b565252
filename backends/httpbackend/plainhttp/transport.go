package plainhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// DialFunc opens a connection to "host:port" of a network such as tcp.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Options are how a transport connects and what bounds it.
type Options struct {
	Dial DialFunc
	// MaxIdle is how many connections are kept that no call uses.
	MaxIdle int
	// IdleTimeout is how long one of them is kept. Zero: without end.
	IdleTimeout time.Duration
	// HeaderTimeout bounds the time from the request to the end of the answer's header. Zero: only the context does.
	HeaderTimeout time.Duration
	// MaxHeaderSize bounds the answer's header in bytes.
	MaxHeaderSize int64
}

// Transport makes calls to one server. It is an [http.RoundTripper] for requests of scheme http that have no body. The hooks
// GetConn, GotConn and GotFirstResponseByte of a context's [httptrace.ClientTrace] are called, and those of [net.Dialer]. Safe
// for concurrent use.
type Transport struct {
	options Options
	idle    idleConns
}

// New returns a transport. It has no connection yet.
func New(o Options) *Transport {
	return &Transport{options: o, idle: idleConns{most: o.MaxIdle, timeout: o.IdleTimeout}}
}

// CloseIdleConnections closes the connections that no call uses. Those of calls in flight are closed after them, unless another
// call begins meanwhile.
func (t *Transport) CloseIdleConnections() { t.idle.closeAll() }

// maxInformational is how many answers of 1xx precede the answer, as many as net/http takes.
const maxInformational = 5

var (
	errInformational = errors.New("too many 1xx answers")
	errHeaderSize    = errors.New("the header is too large")
	errStale         = errors.New("the server closed the connection, or sent what nobody asked for")
)

// RoundTrip makes a call and returns when the answer's header has arrived. The connection is reused once the body was read to
// its end, and closed if the body is closed before. An error is the cause of the context's end, or one of the connection or of
// parsing.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" || r.Body != nil && r.Body != http.NoBody {
		return nil, fmt.Errorf("%s %s://: want http without a body", r.Method, r.URL.Scheme)
	}
	trace := httptrace.ContextClientTrace(r.Context())
	for {
		c, err := t.connect(r, trace)
		if err != nil {
			return nil, err
		}
		resp, err := c.call(r, trace)
		if err == nil {
			return resp, nil
		}
		c.close()
		if !c.isRepeatable(err) {
			return nil, err
		}
	}
}

// connect returns a kept connection, or a new one.
func (t *Transport) connect(r *http.Request, trace *httptrace.ClientTrace) (*conn, error) {
	address := r.URL.Host
	if r.URL.Port() == "" {
		address = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(address)
	}
	c := t.idle.take(time.Now())
	if c == nil {
		dialed, err := t.options.Dial(r.Context(), "tcp", address)
		if err != nil {
			return nil, causeOf(r.Context(), err)
		}
		c = newConn(t, dialed)
	}
	return c, nil
}

// causeOf returns why a context ended, or err if it did not.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
