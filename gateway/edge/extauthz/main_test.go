package extauthz

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"usher/gateway"
	"usher/gateway/edge"
	"usher/gateway/gatewaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkerFunc implements Checker by a function.
type checkerFunc func(ctx context.Context, q *edge.CheckRequest, a *gateway.Response) error

func (f checkerFunc) Check(ctx context.Context, _ edge.Dialect, _ netip.Addr, q *edge.CheckRequest, a *gateway.Response) error {
	return f(ctx, q, a)
}

// respondWith answers every check with that response.
func respondWith(a gateway.Response) checkerFunc {
	return func(_ context.Context, _ *edge.CheckRequest, to *gateway.Response) error {
		*to = a
		return nil
	}
}

// newResponse returns a response with fields, each a name and a value.
func newResponse(status int, body string, fields ...string) gateway.Response {
	a := gateway.Response{Status: status, Body: []byte(body)}
	for i := 0; i < len(fields); i += 2 {
		a.Set(fields[i], fields[i+1])
	}
	return a
}

// recorder allows every check and records it.
type recorder struct {
	mu     sync.Mutex
	checks []recordedCheck
}

type recordedCheck struct {
	dialect edge.Dialect
	edge    netip.Addr
	request edge.CheckRequest
}

func (r *recorder) Check(
	_ context.Context, d edge.Dialect, edge netip.Addr, q *edge.CheckRequest, a *gateway.Response,
) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, recordedCheck{d, edge, *q})
	a.Status = 200
	return nil
}

// only returns the only check. It fails the test if there is not exactly one.
func (r *recorder) only(t *testing.T) recordedCheck {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checks) != 1 {
		t.Fatalf("%d checks were made, want one: %+v", len(r.checks), r.checks)
	}
	return r.checks[0]
}

// running is a running server with a client that acts as Envoy.
type running struct {
	auth.AuthorizationClient

	conn  *grpc.ClientConn
	drain context.CancelFunc
	// ended receives what Run returns.
	ended chan error
}

// options configure a test's server. The zero value is without TLS, on 127.0.0.1, and logs nothing.
type options struct {
	config      Config
	drain       gateway.DrainConfig
	log         io.Writer
	listener    net.Listener
	credentials credentials.TransportCredentials
	onOverload  func(string)
	dial        grpc.DialOption
}

// run runs a server until the test ends and requires Run to return no error.
func run(t testing.TB, checker Checker, o options) *running {
	t.Helper()
	r := serve(t, checker, o)
	t.Cleanup(func() {
		_ = r.conn.Close()
		r.drain()
		if err := <-r.ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	return r
}

// serve runs a server that the caller stops.
func serve(t testing.TB, checker Checker, o options) *running {
	t.Helper()
	if o.drain.Timeout == 0 {
		o.drain.Timeout = 10 * time.Second
	}
	log := slog.New(slog.DiscardHandler)
	if o.log != nil {
		log = slog.New(slog.NewTextHandler(o.log, nil))
	}
	if o.listener == nil {
		o.listener = listen(t)
	}
	if o.credentials == nil {
		o.credentials = insecure.NewCredentials()
	}
	with := []grpc.DialOption{grpc.WithTransportCredentials(o.credentials)}
	if o.dial != nil {
		with = append(with, o.dial)
	}
	if network, isInMemory := o.listener.(*gatewaytest.Listener); isInMemory {
		with = append(with, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return network.Dial(ctx, "", address)
		}))
	}
	conn, err := grpc.NewClient("passthrough:///"+o.listener.Addr().String(), with...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, drain := context.WithCancel(context.Background())
	r := &running{
		AuthorizationClient: auth.NewAuthorizationClient(conn), conn: conn, drain: drain, ended: make(chan error, 1),
	}
	server := New(o.config, o.drain, checker, o.onOverload, log)
	go func() { r.ended <- server.Run(ctx, o.listener) }()
	return r
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// check sends a check and requires a response that passes Envoy's own validation.
func (r *running) check(t *testing.T, q *auth.CheckRequest) *auth.CheckResponse {
	t.Helper()
	answer, err := r.Check(t.Context(), q)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if err := answer.ValidateAll(); err != nil {
		t.Fatalf("the answer is none to Envoy: %v", err)
	}
	return answer
}

// request returns a check of a request by a viewer at that address. An empty address is left out.
func request(address string, request *auth.AttributeContext_HttpRequest) *auth.CheckRequest {
	attributes := &auth.AttributeContext{Request: &auth.AttributeContext_Request{Http: request}}
	if address != "" {
		attributes.Source = &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{
			SocketAddress: &core.SocketAddress{
				Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: 40404},
			},
		}}}
	}
	return &auth.CheckRequest{Attributes: attributes}
}

// playlist returns a check of a viewer's request for a playlist.
func playlist() *auth.CheckRequest {
	return request("192.0.2.7", &auth.AttributeContext_HttpRequest{
		Method: "GET", Scheme: "http", Host: "tv.example.com", Path: "/play/a001/index.m3u8?token=good",
		Headers: map[string]string{"user-agent": "VLC/3.0.20 LibVLC/3.0.20", ":path": "/play/a001/index.m3u8?token=good"},
	})
}
