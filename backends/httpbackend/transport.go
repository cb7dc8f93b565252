package httpbackend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"usher/backends"
)

// defaultConnections is how many calls the default bulkhead lets out at once.
const defaultConnections = 288

// newTransport makes the connections of one backend. HTTP/2 is left out on purpose: its one connection would put all
// calls behind each other's losses, and its errors cannot be told apart. Proxies from the environment are left out
// too: a middleware is near by, and a proxy's answers would be taken for its own.
func newTransport(cfg Config, connections int) (*http.Transport, error) {
	tlsConfig, err := cfg.TLS.Load()
	if err != nil {
		return nil, err
	}
	if connections <= 0 {
		connections = defaultConnections
	}
	dialer := &net.Dialer{Timeout: cfg.DialTimeout}
	return &http.Transport{
		DialContext: dialer.DialContext,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialTLS(ctx, dialer, tlsConfig, cfg.TLSTimeout, network, address)
		},
		MaxIdleConns:           connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        cfg.IdleTimeout,
		MaxResponseHeaderBytes: int64(cfg.MaxResponseHeaderSize),
		DisableCompression:     true, // bodies are tiny, and a bomb among them would be our loss
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}, nil
}

// handshakeError marks what went wrong between reaching a host and trusting it, which net/http does not.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

func dialTLS(
	ctx context.Context, dialer *net.Dialer, cfg *tls.Config, timeout time.Duration, network, address string,
) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, handshakeError{fmt.Errorf("TLS handshake: %w", err)}
	}
	return secured, nil
}

// failure sorts an error of a call. A viewer who left is not a failure; a deadline is, whoever set it.
func (c *Client) failure(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("ask backend %q: %w", c.name, context.Canceled)
	}
	switch {
	case isTimeout(err) || ctx.Err() != nil:
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: c.name, Err: err}
	case isTransport(err):
		return &backends.Failure{Kind: backends.FailureTransport, Backend: c.name, Err: err}
	case errors.Is(err, errTooManyRedirects):
		return c.malformed(err)
	default: // net/http's own words may repeat what the backend sent, and that a token
		return c.malformed(fmt.Errorf("the answer is not HTTP, or larger than max_response_header_size=%d", c.maxHeader))
	}
}

func (c *Client) malformed(err error) error {
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: c.name, Err: err}
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// isTransport reports whether the connection, rather than what came over it, is to blame. A header cut off before its
// colon is the one break that net/http reports as malformed; it is left there, the more cautious of the two.
func isTransport(err error) bool {
	return is[*net.OpError](err) || is[*net.DNSError](err) || is[syscall.Errno](err) ||
		is[handshakeError](err) || is[tls.RecordHeaderError](err) || is[tls.AlertError](err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// is reports whether an E is among the causes of err.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
