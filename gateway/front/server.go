package front

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
	"slices"
	"sync/atomic"
	"time"

	"usher/gateway"
	"usher/gateway/front/nethttp"
	"usher/gateway/front/plain"
	"usher/gateway/listener"
)

// cancelMargin is how long before the end of drain.timeout the requests in flight are cancelled, so that they clean up
// in time.
const cancelMargin = 500 * time.Millisecond

// Server runs the public listener.
type Server struct {
	config   gateway.Config
	handlers Handlers
	// onOverload may be nil.
	onOverload func(setting string)
	trusted    atomic.Pointer[[]netip.Prefix]
	logger     *slog.Logger
	draining   atomic.Bool
	ready      atomic.Bool
	serving    chan struct{}
}

// Handlers answer the requests of a listener.
type Handlers struct {
	// HTTP answers what net/http serves: everything on a listener with TLS.
	HTTP http.Handler
	// Plain answers on a listener without TLS. Nil: HTTP does.
	Plain plain.Handler
}

// engine serves HTTP on the connections of a listener.
type engine interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// NewServer makes a server that does not serve yet. onOverload is called with the setting of each bound that closed a connection;
// nil: nobody counts them.
func NewServer(c gateway.Config, h Handlers, onOverload func(setting string), logger *slog.Logger) *Server {
	s := &Server{config: c, handlers: h, onOverload: onOverload, logger: logger, serving: make(chan struct{})}
	s.SetTrustedProxies(c.TrustedProxies)
	return s
}

// SetTrustedProxies sets the networks that are exempt from limits.max_connections_per_address, also while the server runs.
func (s *Server) SetTrustedProxies(all []netip.Prefix) { s.trusted.Store(&all) }

func (s *Server) isTrusted(a netip.Addr) bool {
	return slices.ContainsFunc(*s.trusted.Load(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// Ready reports whether balancers may send viewers here: the listener serves and the node does not drain.
func (s *Server) Ready() bool { return s.ready.Load() && !s.draining.Load() }

// Serving returns a channel that is closed once the server serves.
func (s *Server) Serving() <-chan struct{} { return s.serving }

// serveHTTP answers a request. While the node drains, the connection ends with its next response: HTTP/2 sends GOAWAY.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	if r.ProtoMajor == 2 {
		s.serveHTTP2(w, r)
		return
	}
	s.handlers.HTTP.ServeHTTP(w, r)
}

// Run serves on the listener until ctx ends, then drains: it turns readiness off, serves for drain.readiness_delay more, closes
// the listener, and answers what comes on open connections until drain.timeout. It runs once, and returns nil after a drain.
func (s *Server) Run(ctx context.Context, inner net.Listener) error {
	requests, cancelRequests := context.WithCancelCause(context.Background())
	defer cancelRequests(gateway.ErrDraining)
	secured, err := s.config.TLS.Server(s.logger)
	if err != nil {
		closeNow(inner)
		return err
	}
	bounded := listener.New(inner, listener.Options{
		ProxyProtocol: s.config.ProxyProtocol, Limits: s.config.Limits.Connections, HeaderTimeout: s.config.Limits.ReadTimeout,
		IsExempt: s.isTrusted, OnOverload: s.onOverload, Logger: s.logger,
	})
	server := s.newEngine(requests, bounded, secured) //nolint:contextcheck // requests outlive ctx, which begins the drain
	defer s.ready.Store(false)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(bounded) }()
	s.ready.Store(true)
	close(s.serving)
	select {
	case err := <-ended:
		return fmt.Errorf("serve listen=%s: %w", s.config.Listen, err)
	case <-ctx.Done():
	}
	s.announceDrain()
	closeNow(bounded)                               // new connections wait for the next node, if systemd holds the socket
	<-ended                                         //nolint:errcheck // that it is closed; what was accepted is among the open connections
	return s.drain(server, bounded, cancelRequests) //nolint:contextcheck // as above
}

// newEngine returns what serves HTTP on the listener.
func (s *Server) newEngine(requests context.Context, l *listener.Listener, secured *tls.Config) engine {
	limits := s.config.Limits
	if secured == nil && s.handlers.Plain != nil {
		return plain.New(requests, plain.Options{
			Handler: s.handlers.Plain, MaxHeadSize: int(limits.MaxHeaderSize), ReadTimeout: limits.ReadTimeout, IdleTimeout: limits.IdleTimeout,
			IsDraining: s.draining.Load, Logger: s.logger,
		})
	}
	server := &http.Server{
		Handler: http.HandlerFunc(s.serveHTTP), TLSConfig: secured, ConnState: l.ConnState,
		ReadHeaderTimeout: limits.ReadTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: int(limits.MaxHeaderSize),
		// The write deadline of a request only resets its stream, and the reset waits behind what the viewer does not read.
		HTTP2:       &http.HTTP2Config{WriteByteTimeout: limits.WriteTimeout},
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if secured != nil {
			ctx = withResetCounter(ctx, c)
		}
		if len(s.config.ProxyProtocol.From) > 0 {
			ctx = nethttp.WithConnection(ctx, c)
		}
		return ctx
	}
	if secured != nil {
		return overTLS{server}
	}
	return server
}

// overTLS serves with the certificate of its config.
type overTLS struct{ *http.Server }

// Serve serves the connections of a listener.
func (o overTLS) Serve(l net.Listener) error { return o.ServeTLS(l, "", "") }

// announceDrain turns readiness off, and returns once balancers have noticed.
func (s *Server) announceDrain() {
	s.draining.Store(true)
	s.logger.Info("draining", slog.Duration("readiness_delay", s.config.Drain.ReadinessDelay),
		slog.Duration("timeout", s.config.Drain.Timeout))
	time.Sleep(s.config.Drain.ReadinessDelay)
}

// drain answers what comes on open connections. It calls Shutdown last, which drops requests that it reads.
func (s *Server) drain(server engine, bounded *listener.Listener, cancelRequests context.CancelCauseFunc) error {
	early := time.AfterFunc(max(0, s.config.Drain.Timeout-cancelMargin), func() { cancelRequests(gateway.ErrDraining) })
	defer early.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain.Timeout)
	defer cancel()
	bounded.Drain(ctx, s.config.Drain.ReadinessDelay)
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
