package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"usher/backends/setting"
	"usher/gateway/listener"
)

// cancelMargin is how long before the end of drain.timeout the requests in flight are cancelled, so that they clean up
// in time.
const cancelMargin = 500 * time.Millisecond

// Server runs the public listener.
type Server struct {
	config  Config
	handler http.Handler
	// onOverload may be nil.
	onOverload func(setting string)
	trusted    atomic.Pointer[networks]
	logger     *slog.Logger
	draining   atomic.Bool
	ready      atomic.Bool
}

// NewServer makes a server that does not serve yet. onOverload is called with the setting of each bound that closed a connection;
// nil: nobody counts them.
func NewServer(c Config, handler http.Handler, onOverload func(setting string), logger *slog.Logger) *Server {
	s := &Server{config: c, handler: handler, onOverload: onOverload, logger: logger}
	s.SetTrustedProxies(c.TrustedProxies)
	return s
}

// SetTrustedProxies sets the networks that are exempt from limits.max_connections_per_address, also while the server runs.
func (s *Server) SetTrustedProxies(all []netip.Prefix) { s.trusted.Store(new(networks(all))) }

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, listener.Of(c))
}

// Ready reports whether balancers may send viewers here: the listener serves and the node does not drain.
func (s *Server) Ready() bool { return s.ready.Load() && !s.draining.Load() }

// Run serves on the listener until ctx ends, then drains: it turns readiness off, waits drain.readiness_delay, accepts no
// new requests, and waits for those in flight until drain.timeout. It returns nil after a drain and closes the listener.
func (s *Server) Run(ctx context.Context, inner net.Listener) error { //nolint:contextcheck // requests outlive ctx, which begins the drain
	requests, cancelRequests := newRequestsContext()
	defer cancelRequests()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.config.Limits.ReadTimeout,
		IdleTimeout:       s.config.Limits.IdleTimeout,
		MaxHeaderBytes:    int(s.config.Limits.MaxHeaderSize),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	bounded := listener.New(inner, listener.Options{
		ProxyProtocol: s.config.ProxyProtocol, Limits: s.config.Limits.Connections, HeaderTimeout: s.config.Limits.ReadTimeout,
		IsExempt: func(a netip.Addr) bool { return s.trusted.Load().contain(a) }, OnOverload: s.onOverload, Logger: s.logger,
	})
	server.ConnState = bounded.ConnState
	if len(s.config.ProxyProtocol.From) > 0 {
		server.ConnContext = withConnection
	}
	defer s.ready.Store(false)
	secured, err := s.config.TLS.Server(s.logger)
	if err != nil {
		closeNow(inner)
		return err
	}
	server.TLSConfig = secured
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(bounded, "", "")
			return
		}
		ended <- server.Serve(bounded)
	}()
	s.ready.Store(true)
	select {
	case err := <-ended:
		return fmt.Errorf("serve listen=%s: %w", s.config.Listen, err)
	case <-ctx.Done():
	}
	return s.drain(server, cancelRequests) //nolint:contextcheck // as above
}

func (s *Server) drain(server *http.Server, cancelRequests func()) error {
	s.draining.Store(true)
	s.logger.Info("draining", slog.Duration("readiness_delay", s.config.Drain.ReadinessDelay),
		slog.Duration("timeout", s.config.Drain.Timeout))
	time.Sleep(s.config.Drain.ReadinessDelay)
	early := time.AfterFunc(max(0, s.config.Drain.Timeout-cancelMargin), cancelRequests)
	defer early.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain.Timeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		closeNow(server)
		if errors.Is(err, context.DeadlineExceeded) {
			s.logger.Warn("drain.timeout exceeded, requests cancelled", slog.Duration("timeout", s.config.Drain.Timeout))
			return nil
		}
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

func closeNow(c io.Closer) { _ = c.Close() }

// Check returns why the certificate cannot be used, or nil. Without a certificate it returns nil.
func (c TLSConfig) Check() error {
	_, err := c.Server(nil)
	return err
}

// Server returns the TLS config of a listener, whose certificate is reloaded when its files change. Without a certificate
// it returns nil. The error begins with the setting. The logger may be nil.
func (c TLSConfig) Server(logger *slog.Logger) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil //nolint:nilnil // plain HTTP is no error
	}
	files, err := c.files().Open(logger)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &files.Config().Certificates[0], nil
	}}, nil
}

// Warnings says whether the certificate has expired or will soon.
func (c TLSConfig) Warnings() error { return c.files().Warnings() }

func (c TLSConfig) files() setting.TLSConfig {
	return setting.TLSConfig{CertFile: c.CertFile, KeyFile: c.KeyFile}
}
