package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"usher/gateway"
	"usher/gateway/edge"
	"usher/gateway/listener"
)

// maxRequestSize bounds a check in bytes: the viewer's header, which Envoy bounds at 60 kB, and the rest.
const maxRequestSize = 256 << 10

// maxCallHeader bounds the header of a call in bytes, which holds some of Envoy's own fields. The viewer's is in the message, but an Envoy
// that traces passes their tracestate on, of up to 60 kB unless max_request_headers_kb says more. A field above the bound ends the connection,
// with all checks on it. Compressed, a field may cost a stranger one byte, and the node some hundred.
const maxCallHeader = 64 << 10

// handshakeTimeout bounds a connection's HTTP/2 handshake. A connection without one would delay the drain.
const handshakeTimeout = 5 * time.Second

// What ends a connection, so that those of Envoys that are gone do not add up. One without checks is closed, and Envoy opens another with the
// next check. A health watch counts as none: it ends after the same time. One whose network is gone does not answer a ping. Envoy may ping
// as well (connection_keepalive), which gRPC would otherwise take for an attack.
const (
	idleTimeout   = 10 * time.Minute
	pingInterval  = time.Minute
	pingTimeout   = 20 * time.Second
	minPeersPause = 5 * time.Second
)

// Checker decides on the viewers of an edge: see [gateway.Gateway.Check].
type Checker interface {
	Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.CheckRequest, a *gateway.Response) error
}

// Server answers Envoy. It is safe for concurrent use.
type Server struct {
	auth.UnimplementedAuthorizationServer

	config     Config
	drain      gateway.DrainConfig
	checker    Checker
	onOverload func(string)
	log        *slog.Logger
}

// New makes a server that does not serve yet. onOverload is told of each connection and stream beyond a bound; nil: nobody is.
func New(c Config, drain gateway.DrainConfig, checker Checker, onOverload func(string), log *slog.Logger) *Server {
	return &Server{config: c, drain: drain, checker: checker, onOverload: onOverload, log: log}
}

// Run serves on the listener until ctx ends, then drains: it turns health off, waits drain.readiness_delay, and waits for
// the checks in flight until drain.timeout. It closes the listener.
func (s *Server) Run(ctx context.Context, inner net.Listener) error {
	watching, endWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer endWatching()
	options := s.options(watching)
	secured, err := s.config.TLS.Server(s.log)
	if err != nil {
		_ = inner.Close()
		return fmt.Errorf("ext_authz.%w", err)
	}
	if secured != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secured)))
	}
	server, alive := grpc.NewServer(options...), health.NewServer()
	server.RegisterService(awaited(auth.Authorization_ServiceDesc), s)  //nolint:contextcheck // a stream has its own
	server.RegisterService(awaited(healthpb.Health_ServiceDesc), alive) //nolint:contextcheck // a stream has its own
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(checkedListener{listener.NewPrivate(inner, "connections of ext_authz.listen", s.onOverload, s.log)})
	}()
	select {
	case err := <-ended:
		server.Stop()
		return fmt.Errorf("serve ext_authz.listen=%s: %w", s.config.Listen, err)
	case <-ctx.Done():
	}
	alive.Shutdown()
	time.Sleep(s.drain.ReadinessDelay)
	endWatching()
	defer time.AfterFunc(s.drain.Timeout, server.Stop).Stop()
	server.GracefulStop()
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("stop serving ext_authz.listen=%s: %w", s.config.Listen, err)
	}
	return nil
}

// options returns the bounds of connections and streams. Health watches end with life.
func (s *Server) options(life context.Context) []grpc.ServerOption {
	streams := awaitedStreams{onOverload: func() {
		if s.onOverload != nil {
			s.onOverload("streams of ext_authz.listen")
		}
	}}
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestSize), grpc.MaxHeaderListSize(maxCallHeader), grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams), grpc.InitialConnWindowSize(connWindow),
		grpc.InTapHandle(streams.begin), grpc.StreamInterceptor(endStreamsWith(life)),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPeersPause, PermitWithoutStream: true}),
	}
}

// checkedListener is a listener of which the connection that had no check for longest makes room for another one. gRPC does not tell which
// are idle, and strangers can keep any number of them busy without a check.
type checkedListener struct{ *listener.Listener }

// Accept returns the next connection.
func (l checkedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if own := listener.Of(c); own != nil {
		return checkedConn{own, &checkedAddr{Addr: own.RemoteAddr(), conn: own}}, nil
	}
	return c, err
}

// checkedConn is a connection whose checks are counted.
type checkedConn struct {
	net.Conn

	remote *checkedAddr
}

// RemoteAddr returns the peer's address, by which a check finds its connection.
func (c checkedConn) RemoteAddr() net.Addr { return c.remote }

// checkedAddr is the address of a connection's peer: all that gRPC tells a check of its connection.
type checkedAddr struct {
	net.Addr

	conn *listener.Conn

	mu     sync.Mutex // held while a check counts and the connection is marked, so that none in flight is idle
	checks int        // in flight
}

// beginCheck has the connection of a check count as busy until end is called.
func beginCheck(ctx context.Context) (end func()) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return func() {}
	}
	a, ok := p.Addr.(*checkedAddr)
	if !ok {
		return func() {}
	}
	a.count(1)
	return func() { a.count(-1) }
}

// count counts checks that have begun, or ended.
func (a *checkedAddr) count(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.checks += n; a.checks > 0 {
		a.conn.SetActive()
	} else {
		a.conn.SetIdle(time.Now())
	}
}

// Check answers one check. It returns an error if Envoy disconnected, or if the check is not of an HTTP request.
func (s *Server) Check(ctx context.Context, r *auth.CheckRequest) (answer *auth.CheckResponse, err error) {
	h := r.GetAttributes().GetRequest().GetHttp()
	if h == nil {
		return nil, status.Error(codes.InvalidArgument, "no attributes.request.http; is this an HTTP filter?")
	}
	defer beginCheck(ctx)()
	defer s.recoverPanic(&answer)
	if !strings.HasPrefix(h.GetPath(), "/") {
		return newRefusal(http.StatusForbidden, "the path does not begin with a slash"), nil
	}
	var a gateway.Response
	if err := s.checker.Check(ctx, edge.Envoy, edgeAddress(ctx), newCheckRequest(r), &a); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return newCheckResponse(&a), nil
}

// recoverPanic turns a panic into a response; gRPC would let it end the process. It logs the panic's type and not its
// value, which may hold a viewer's credentials.
func (s *Server) recoverPanic(answer **auth.CheckResponse) {
	reason := recover()
	if reason == nil {
		return
	}
	s.log.Error("BUG: ext_authz check panicked", slog.String("type", fmt.Sprintf("%T", reason)),
		slog.String("stack", string(debug.Stack())))
	*answer = newRefusal(http.StatusServiceUnavailable, "BUG: panic")
}

// edgeAddress returns the peer address of the connection, or the zero value.
func edgeAddress(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	address, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap()
}

// newCheckRequest decodes what Envoy reports of a viewer's request.
func newCheckRequest(r *auth.CheckRequest) *edge.CheckRequest {
	h := r.GetAttributes().GetRequest().GetHttp()
	q := &edge.CheckRequest{Method: h.GetMethod(), Host: h.GetHost(), Header: newJoinedHeader(h)}
	if scheme := h.GetScheme(); scheme == "http" || scheme == "https" {
		q.Scheme = scheme
	}
	q.Path, q.Query, _ = strings.Cut(h.GetPath(), "?")
	if q.Query == "" {
		q.Query = h.GetQuery()
	}
	q.UserAgent, q.Referer = q.Header.Get("User-Agent"), q.Header.Get("Referer")
	source := r.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress()
	if address, err := netip.ParseAddr(source); err == nil {
		q.Address = address.Unmap().WithZone("")
	}
	return q
}

// joinedHeader is a viewer's header as Envoy reports it: names in lower case, fields of one name joined.
type joinedHeader map[string]string

// newJoinedHeader reads the header, also if Envoy is set to send it raw (encode_raw_headers).
func newJoinedHeader(h *auth.AttributeContext_HttpRequest) joinedHeader {
	raw := h.GetHeaderMap().GetHeaders()
	if len(raw) == 0 {
		return h.GetHeaders()
	}
	f := make(joinedHeader, len(raw))
	for _, field := range raw {
		name, value := strings.ToLower(field.GetKey()), field.GetValue()
		if value == "" {
			value = string(field.GetRawValue())
		}
		if before, several := f[name]; several {
			value = before + "," + value
		}
		f[name] = value
	}
	return f
}

// Get returns the field's value, or "".
func (f joinedHeader) Get(name string) string { return f[strings.ToLower(name)] }

// Values returns the field's value in a slice, or nil.
func (f joinedHeader) Values(name string) []string {
	if value, ok := f[strings.ToLower(name)]; ok {
		return []string{value}
	}
	return nil
}
