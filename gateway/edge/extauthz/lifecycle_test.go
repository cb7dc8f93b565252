package extauthz

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"usher/gateway"
	"usher/gateway/edge"
	"usher/gateway/gatewaytest"
)

// testTimeout bounds how long a test waits.
const testTimeout = 10 * time.Second

// await waits for an event.
func await[T any](t *testing.T, what string, event <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-event:
	case <-time.After(testTimeout):
		t.Fatalf("never happened: %s", what)
	}
	return got
}

func TestServer_Check_Panic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // written before Check returns, and read after
	checker := checkerFunc(func(_ context.Context, q *edge.CheckRequest, a *gateway.Response) error {
		if q.Query == "token=bad" {
			panic("the viewer said " + q.Query)
		}
		a.Status = http.StatusOK
		return nil
	})
	r := run(t, checker, options{log: &log})
	bad := playlist()
	bad.Attributes.Request.Http.Path = "/play/a001/index.m3u8?token=bad"
	got := r.check(t, bad).GetDeniedResponse() // an error would let the viewer in if Envoy's failure_mode_allow is true
	if got.GetStatus().GetCode() != http.StatusServiceUnavailable || !hasHeader(got, "Retry-After") {
		t.Errorf("the check that panicked: %v, want 503 with Retry-After", got)
	}
	text := log.String()
	for _, want := range []string{"BUG: ext_authz check panicked", "type=string", "lifecycle_test.go"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text+got.String(), "token=bad") {
		t.Errorf("the panic's value is shown: %s\n%v", text, got)
	}
	if r.check(t, playlist()).GetOkResponse() == nil {
		t.Error("the next check is not answered")
	}
}

func TestServer_Check_EnvoyDisconnects(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan struct{}), make(chan error, 1)
	r := run(t, checkerFunc(func(ctx context.Context, _ *edge.CheckRequest, _ *gateway.Response) error {
		close(asked)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}), options{})
	ctx, leave := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := r.Check(ctx, playlist())
		answered <- err
	}()
	await(t, "the check is made", asked)
	leave()
	if err := await(t, "the check ends", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the check ended with %v, want context.Canceled", err)
	}
	if err := await(t, "Envoy has its error", answered); status.Code(err) != codes.Canceled {
		t.Errorf("Envoy got %v, want Canceled", err)
	}
}

func TestServer_Check_CheckerErrors(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]codes.Code{
		context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded,
	} {
		r := run(t, checkerFunc(func(context.Context, *edge.CheckRequest, *gateway.Response) error { return cause }), options{})
		if _, err := r.Check(t.Context(), playlist()); status.Code(err) != want {
			t.Errorf("%v: Envoy got %v, want %v", cause, err, want)
		}
	}
}

// TestServer_Run_DrainFinishesChecks drains over real sockets. TestServer_Run_DrainTimeouts tests how long it takes.
func TestServer_Run_DrainFinishesChecks(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	listener := listen(t)
	r := serve(t, checkerFunc(func(_ context.Context, _ *edge.CheckRequest, a *gateway.Response) error {
		close(asked)
		<-release
		a.Status = http.StatusOK
		return nil
	}), options{listener: listener})
	defer func() { _ = r.conn.Close() }()
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health before the drain: %v, %v", got, err)
	}
	answered := make(chan error, 1)
	go func() {
		answer, err := r.Check(t.Context(), playlist())
		if err == nil && answer.GetOkResponse() == nil {
			err = errors.New(answer.String())
		}
		answered <- err
	}()
	await(t, "the check is made", asked)
	r.drain()
	for err == nil { // NOT_SERVING may or may not arrive, because the watch ends at the same time
		_, err = watch.Recv()
	}
	select {
	case err := <-r.ended:
		t.Fatalf("the server ended with a check in flight: %v", err)
	default:
	}
	close(release)
	if err := await(t, "the check is answered", answered); err != nil {
		t.Errorf("the check in flight: %v, want allowed", err)
	}
	if err := await(t, "the server ends", r.ended); err != nil {
		t.Errorf("the server ended with: %v", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener after the end: %v, want closed", err)
	}
}

// TestServer_Run_DrainTimeouts requires the server to serve with health off for drain.readiness_delay, so that Envoy notices.
// Then checks in flight have drain.timeout.
func TestServer_Run_DrainTimeouts(t *testing.T) {
	t.Parallel()
	const delay, timeout = 5 * time.Second, 30 * time.Second
	tests := map[string]struct {
		takes time.Duration // of the check in flight
		ends  time.Duration // since the drain began
		want  codes.Code
	}{
		"a check that ends within the delay":   {takes: 2 * time.Second, ends: delay, want: codes.OK},
		"a check that ends within the timeout": {takes: 20 * time.Second, ends: 20 * time.Second, want: codes.OK},
		"a check that does not end is cut off": {takes: time.Hour, ends: delay + timeout, want: codes.Unavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { drainInTime(t, delay, timeout, test.takes, test.ends, test.want) })
		})
	}
}

func drainInTime(t *testing.T, delay, timeout, takes, ends time.Duration, want codes.Code) {
	network := gatewaytest.NewListener()
	r := serve(t, checkerFunc(func(ctx context.Context, q *edge.CheckRequest, a *gateway.Response) error {
		if q.Path == "/slow" {
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		a.Status = http.StatusOK
		return nil
	}), options{
		drain: gateway.DrainConfig{ReadinessDelay: delay, Timeout: timeout}, listener: network,
	})
	defer func() { _ = r.conn.Close() }()
	alive := healthpb.NewHealthClient(r.conn)
	watch, err := alive.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := r.Check(t.Context(), request("192.0.2.7", &auth.AttributeContext_HttpRequest{Path: "/slow"}))
		answered <- err
	}()
	synctest.Wait()
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health before the drain: %v, %v", got, err)
	}

	began := time.Now()
	r.drain()
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health in the drain, as it is watched: %v, %v; want NOT_SERVING at once", got, err)
	}
	<-time.After(delay - time.Millisecond)
	if got, err := alive.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil ||
		got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health in the drain, as Envoy checks it: %v, %v; want NOT_SERVING", got, err)
	}
	r.check(t, playlist()) // until Envoy has noticed
	if err := <-r.ended; err != nil {
		t.Errorf("the server ended with: %v", err)
	}
	if took := time.Since(began); took != ends {
		t.Errorf("the drain took %v, want %v", took, ends)
	}
	if err := <-answered; status.Code(err) != want {
		t.Errorf("the check in flight: %v, want %v", err, want)
	}
}

// TestServer_Run_SilentConnectionsDoNotDelayDrain drains with silent connections, for which gRPC alone waits two minutes.
func TestServer_Run_SilentConnectionsDoNotDelayDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		r := serve(t, &recorder{}, options{listener: network})
		defer func() { _ = r.conn.Close() }()
		silent, err := network.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		synctest.Wait()
		began := time.Now()
		r.drain()
		if err := <-r.ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		if took := time.Since(began); took > handshakeTimeout {
			t.Errorf("the drain took %v, want at most %v", took, handshakeTimeout)
		}
	})
}

func TestServer_Run_ListenerFails(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	checker := &recorder{}
	r := serve(t, checker, options{config: Config{Listen: "127.0.0.1:9002"}, listener: listener})
	defer func() { _ = r.conn.Close() }()
	r.check(t, playlist())
	_ = listener.Close()
	err := await(t, "the server ends", r.ended)
	if err == nil || !strings.HasPrefix(err.Error(), "serve ext_authz.listen=127.0.0.1:9002: ") {
		t.Errorf("the server ended with %v, want an error that names ext_authz.listen", err)
	}
	if _, err := r.Check(t.Context(), playlist()); status.Code(err) != codes.Unavailable {
		t.Errorf("a check after the end: %v, want Unavailable", err)
	}
}

func TestServer_Run_ListenerFailsInDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		r := serve(t, &recorder{}, options{
			config: Config{Listen: "127.0.0.1:9002"}, drain: gateway.DrainConfig{ReadinessDelay: time.Second},
			listener: network,
		})
		defer func() { _ = r.conn.Close() }()
		r.check(t, playlist())
		r.drain()
		synctest.Wait()
		_ = network.Close()
		if err := <-r.ended; err == nil || !strings.HasPrefix(err.Error(), "stop serving ext_authz.listen=127.0.0.1:9002: ") {
			t.Errorf("the server ended with %v, want an error that names ext_authz.listen", err)
		}
	})
}

// TestServer_Run_Connections has Envoys that are gone leave their connections open, and others that ping as often as they may.
func TestServer_Run_Connections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		var refused atomic.Int32
		r := run(t, &recorder{}, options{listener: network, onOverload: func(bound string) {
			if bound != "connections of ext_authz.listen" {
				t.Errorf("got the bound %q", bound)
			}
			refused.Add(1)
		}})
		r.check(t, playlist())
		var silent []net.Conn
		for range 4500 {
			c, err := network.Dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, c)
		}
		synctest.Wait()
		if got := refused.Load(); got != 501 {
			t.Errorf("%d connections are refused, want all but 4000", got)
		}
		r.check(t, playlist())
		for _, c := range silent {
			_ = c.Close()
		}
		<-time.After(idleTimeout + time.Second)
		synctest.Wait()
		if got := r.conn.GetState(); got != connectivity.Idle {
			t.Errorf("a connection without checks is %v, want it closed", got)
		}
		r.check(t, playlist()) // by a new one
	})
}

// TestServer_Run_Connections_OfStrangers has strangers hold all connections, by no more than it takes for gRPC to keep them. Envoy gets one,
// and keeps it for as long as its check takes.
func TestServer_Run_Connections_OfStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, release := gatewaytest.NewListener(), make(chan struct{})
		r := run(t, checkerFunc(func(_ context.Context, q *edge.CheckRequest, a *gateway.Response) error {
			if q.Path == "/slow" {
				<-release
			}
			a.Status = http.StatusOK
			return nil
		}), options{listener: network})
		strangers := func(n int) {
			for range n {
				c, err := network.Dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				go func() { _, _ = io.Copy(io.Discard, c) }()
				const emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
				_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+emptySettings)
			}
			synctest.Wait()
		}
		strangers(4000)
		r.check(t, playlist())
		answered := make(chan error, 1)
		go func() {
			_, err := r.Check(t.Context(), request("192.0.2.7", &auth.AttributeContext_HttpRequest{Path: "/slow"}))
			answered <- err
		}()
		synctest.Wait()
		strangers(500)
		close(release)
		if err := <-answered; err != nil {
			t.Errorf("a check in flight: %v", err)
		}
	})
}

// TestServer_Run_Connections_Watch has a client watch the health for ever. Its watch is no check.
func TestServer_Run_Connections_Watch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := run(t, &recorder{}, options{listener: gatewaytest.NewListener()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		watch, err := healthpb.NewHealthClient(r.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		for err == nil {
			_, err = watch.Recv()
		}
		if took := time.Since(began); took != idleTimeout {
			t.Errorf("the watch ended after %v with %v, want after %v", took, err, idleTimeout)
		}
		<-time.After(idleTimeout + time.Second)
		synctest.Wait()
		if got := r.conn.GetState(); got != connectivity.Idle {
			t.Errorf("the connection is %v, want it closed", got)
		}
	})
}

// TestServer_Run_Pings has Envoy ping on a connection without checks, as connection_keepalive sets it.
func TestServer_Run_Pings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		r := run(t, &recorder{}, options{listener: network, dial: grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, PermitWithoutStream: true,
		})})
		r.check(t, playlist())
		<-time.After(5 * time.Minute)
		if got := r.conn.GetState(); got != connectivity.Ready {
			t.Errorf("the connection is %v, want it open", got)
		}
	})
}
