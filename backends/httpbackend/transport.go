package httpbackend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// defaultConnections is how many calls the default bulkhead lets be in flight.
const defaultConnections = 288

// newTransport returns the transport of one backend. HTTP/2 is left out: one lost packet would delay all calls of its one
// connection, and its errors cannot be told apart. Proxies from the environment are left out: a middleware is near, and a
// proxy's answers would be taken for the middleware's.
func newTransport(cfg Config, connections int) (*http.Transport, error) {
	tlsConfig, err := cfg.TLS.Load()
	if err != nil {
		return nil, err
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
		ResponseHeaderTimeout:  cfg.ResponseHeaderTimeout,
		MaxResponseHeaderBytes: int64(cfg.MaxResponseHeaderSize),
		DisableCompression:     true, // bodies are small, and a decompression bomb costs memory
		ReadBufferSize:         4 << 10,
		WriteBufferSize:        4 << 10,
	}, nil
}

// handshakeError marks an error of the TLS handshake, which net/http does not.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// dialTLS connects and completes the handshake within timeout.
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
	tlsConn := tls.Client(conn, cfg)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, handshakeError{fmt.Errorf("TLS handshake: %w", err)}
	}
	return tlsConn, nil
}
