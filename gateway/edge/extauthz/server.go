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
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"usher/gateway"
	"usher/gateway/edge"
)

// maxRequestSize bounds a question, in bytes: a viewer's header, which Envoy bounds at 60 kB, and what is around it.
const maxRequestSize = 256 << 10

// handshakeTimeout is how long a connection may take to show that it speaks HTTP/2. One that never does holds up the drain.
const handshakeTimeout = 5 * time.Second

// Checker decides on an edge's viewers: see [gateway.Gateway.Check].
type Checker interface {
	Check(ctx context.Context, d edge.Dialect, edgeAddr netip.Addr, q *edge.CheckRequest, a *gateway.Response) error
}

// Server answers Envoy. Safe for concurrent use.
type Server struct {
	auth.UnimplementedAuthorizationServer

	config  Config
	drain   gateway.DrainConfig
	checker Checker
	log     *slog.Logger
}

// New makes a server that does not serve yet.
func New(c Config, drain gateway.DrainConfig, checker Checker, log *slog.Logger) *Server {
	return &Server{config: c, drain: drain, checker: checker, log: log}
}

// Run serves on the listener until ctx ends, then drains: health off, the drain delay, the questions in flight. It
// closes the listener.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	watching, endWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer endWatching()
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestSize), grpc.ConnectionTimeout(handshakeTimeout), grpc.StreamInterceptor(endStreamsWith(watching)),
	}
	secured, err := s.config.TLS.Server(s.log)
	if err != nil {
		_ = listener.Close()
		return fmt.Errorf("ext_authz.%w", err)
	}
	if secured != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secured)))
	}
	server, alive := grpc.NewServer(options...), health.NewServer()
	auth.RegisterAuthorizationServer(server, s)
	healthpb.RegisterHealthServer(server, alive)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
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

// endStreamsWith ends streams with a context. Only those who watch our health have one, and never end it themselves: the drain
// would wait for them.
func endStreamsWith(life context.Context) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, end := context.WithCancel(stream.Context())
		defer end()
		defer context.AfterFunc(life, end)()
		return handle(service, boundStream{stream, ctx})
	}
}

// boundStream is a stream with a context of its own.
type boundStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // that is how gRPC gives a stream its context
}

// Context ends with the stream, or before.
func (s boundStream) Context() context.Context { return s.ctx }

// Check answers one question. Its error is that of an Envoy who went away, or asks about no HTTP at all.
func (s *Server) Check(ctx context.Context, r *auth.CheckRequest) (answer *auth.CheckResponse, err error) {
	h := r.GetAttributes().GetRequest().GetHttp()
	if h == nil {
		return nil, status.Error(codes.InvalidArgument, "no attributes.request.http; is this an HTTP filter?")
	}
	defer s.recoverPanic(&answer)
	if !strings.HasPrefix(h.GetPath(), "/") {
		return newRefusal(http.StatusForbidden, "the path begins with no slash"), nil
	}
	var a gateway.Response
	if err := s.checker.Check(ctx, edge.Envoy, edgeAddress(ctx), newCheckRequest(r), &a); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return newCheckResponse(&a), nil
}

// recoverPanic makes an answer of a panic, which gRPC would let end the process. Its value is not shown: it may hold a
// viewer's words.
func (s *Server) recoverPanic(answer **auth.CheckResponse) {
	reason := recover()
	if reason == nil {
		return
	}
	s.log.Error("BUG: a question of Envoy's panicked", slog.String("type", fmt.Sprintf("%T", reason)),
		slog.String("stack", string(debug.Stack())))
	*answer = newRefusal(http.StatusServiceUnavailable, "BUG: panic")
}

// edgeAddress is the address of the connection.
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

// newCheckRequest reads what Envoy says of a viewer.
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

// joinedHeader are a viewer's header fields as Envoy has them: names in lower case, several of one name joined.
type joinedHeader map[string]string

// newJoinedHeader reads them also where Envoy was told to send them raw (encode_raw_headers).
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

// Get is the field's value.
func (f joinedHeader) Get(name string) string { return f[strings.ToLower(name)] }

// Values are the field's values.
func (f joinedHeader) Values(name string) []string {
	if value, ok := f[strings.ToLower(name)]; ok {
		return []string{value}
	}
	return nil
}
