package extauthz

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"usher/gateway"
	"usher/gateway/edge"
	"usher/gateway/gatewaytest"
)

// rawClient writes frames of HTTP/2, and counts what comes back.
type rawClient struct {
	framer  *http2.Framer
	opened  uint32
	writing sync.Mutex

	mu         sync.Mutex
	maxStreams uint32
	window     uint32 // of the connection: bytes of messages that the server takes without a word in between
	refused    int
	ended      map[uint32]bool
}

// dialRaw connects, without a request.
func dialRaw(t *testing.T, network *gatewaytest.Listener) *rawClient {
	t.Helper()
	conn, err := network.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	const window = 65_535 // RFC 9113, section 6.9.2
	c := &rawClient{framer: http2.NewFramer(conn, conn), window: window, ended: map[uint32]bool{}}
	go func() {
		for {
			frame, err := c.framer.ReadFrame()
			if err != nil {
				return
			}
			c.read(frame)
			if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
				c.writing.Lock()
				_ = c.framer.WritePing(true, ping.Data)
				c.writing.Unlock()
			}
		}
	}()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *rawClient) read(frame http2.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if n, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
			c.maxStreams = n
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += f.Increment
		}
	case *http2.HeadersFrame:
		if f.StreamEnded() {
			c.ended[f.StreamID] = true
		}
	case *http2.RSTStreamFrame:
		if f.ErrCode == http2.ErrCodeRefusedStream {
			c.refused++
		}
		c.ended[f.StreamID] = true
	}
}

// open begins streams of a method, without a message.
func (c *rawClient) open(t *testing.T, method string, n int) {
	t.Helper()
	c.openWith(t, method, n, 0)
}

// openWith begins streams with that many fields more in their header.
func (c *rawClient) openWith(t *testing.T, method string, n, more int) {
	t.Helper()
	c.writing.Lock()
	defer c.writing.Unlock()
	for range n {
		var header bytes.Buffer
		encoder := hpack.NewEncoder(&header)
		for _, field := range [][2]string{
			{":method", http.MethodPost}, {":scheme", "http"}, {":path", method}, {":authority", "usher"}, {"content-type", "application/grpc"},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		for range more {
			_ = encoder.WriteField(hpack.HeaderField{Name: "a", Value: "b"})
		}
		err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*c.opened + 1, BlockFragment: header.Bytes(), EndHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
		c.opened++
	}
}

// checkAtOnce begins checks, as Envoy does: with the header of each it sends the message, unless the window is full.
func (c *rawClient) checkAtOnce(t *testing.T, n int) {
	t.Helper()
	encoded, err := proto.Marshal(playlist())
	if err != nil {
		t.Fatal(err)
	}
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(encoded))), encoded...)
	c.mu.Lock()
	window := int(c.window)
	c.mu.Unlock()
	for range n {
		c.open(t, checkMethod, 1)
		if window -= len(message); window < 0 {
			continue
		}
		c.writing.Lock()
		err := c.framer.WriteData(2*c.opened-1, true, message)
		c.writing.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// counts returns how many streams the server allows, how many it refused, and how many have ended.
func (c *rawClient) counts() (maxStreams uint32, refused, ended int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.maxStreams, c.refused, len(c.ended)
}

const (
	checkMethod  = "/envoy.service.auth.v3.Authorization/Check"
	healthMethod = "/grpc.health.v1.Health/Check"
	watchMethod  = "/grpc.health.v1.Health/Watch"
)

func TestServer_Run_Streams_WithoutMessage(t *testing.T) {
	t.Parallel()
	for _, method := range []string{checkMethod, healthMethod, watchMethod} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := gatewaytest.NewListener()
				r := run(t, &recorder{}, options{listener: network})
				c := dialRaw(t, network)
				c.open(t, method, maxStreams+10)
				synctest.Wait()
				if allowed, refused, ended := c.counts(); allowed != maxStreams || refused != 10 || ended != 10 {
					t.Errorf("%d streams are allowed, %d were refused, %d have ended; want %d, 10, 10", allowed, refused, ended, maxStreams)
				}
				r.check(t, playlist())
				<-time.After(messageTimeout)
				synctest.Wait()
				if _, _, ended := c.counts(); ended != maxStreams+10 {
					t.Errorf("%d streams have ended after %v, want all", ended, messageTimeout)
				}
			})
		})
	}
}

// TestServer_Run_Streams_LargeHeader has a header that is small on the wire, and large in memory.
func TestServer_Run_Streams_LargeHeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		r := run(t, &recorder{}, options{listener: network})
		c := dialRaw(t, network)
		c.openWith(t, checkMethod, 1, maxCallHeader/34)
		synctest.Wait()
		if _, _, ended := c.counts(); ended != 1 {
			t.Errorf("%d streams have ended at once, want 1", ended)
		}
		r.check(t, playlist())
	})
}

// TestServer_Run_Streams_OfManyConnections has strangers open more streams without a message than may wait on all connections.
func TestServer_Run_Streams_OfManyConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		var beyond atomic.Int32
		r := run(t, &recorder{}, options{listener: network, onOverload: func(bound string) {
			if bound != "streams of ext_authz.listen" {
				t.Errorf("got the bound %q", bound)
			}
			beyond.Add(1)
		}})
		first := dialRaw(t, network)
		first.open(t, checkMethod, maxStreams)
		for range maxAwaited/maxStreams - 1 {
			dialRaw(t, network).open(t, checkMethod, maxStreams)
		}
		last := dialRaw(t, network)
		last.open(t, checkMethod, 20)
		synctest.Wait()
		if _, _, ended := first.counts(); ended != 20 || beyond.Load() != 20 {
			t.Errorf("%d of the oldest streams have ended, and %d overloads were told, want 20 of each", ended, beyond.Load())
		}
		if _, _, ended := last.counts(); ended != 0 {
			t.Errorf("%d of the newest streams have ended, want none", ended)
		}
		r.check(t, playlist())
	})
}

// TestServer_Run_Streams_Burst has several Envoys ask at once whatever their connections take.
func TestServer_Run_Streams_Burst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, release := gatewaytest.NewListener(), make(chan struct{})
		defer close(release)
		var asked atomic.Int32
		run(t, checkerFunc(func(ctx context.Context, _ *edge.CheckRequest, a *gateway.Response) error {
			asked.Add(1)
			a.Status = http.StatusOK
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), options{listener: network})
		const connections = maxAwaited/maxStreams + 1
		var envoys [connections]*rawClient
		for i := range envoys {
			envoys[i] = dialRaw(t, network)
			synctest.Wait()
			envoys[i].checkAtOnce(t, maxStreams)
		}
		synctest.Wait()
		if n := asked.Load(); n != connections*maxStreams {
			t.Errorf("%d checks began, want %d", n, connections*maxStreams)
		}
		for i, envoy := range envoys {
			if _, _, ended := envoy.counts(); ended != 0 {
				t.Errorf("%d checks of connection %d have ended, want none", ended, i)
			}
		}
	})
}

// TestServer_Run_Streams_Tracestate has an Envoy that traces pass on the longest tracestate that it takes of a viewer.
func TestServer_Run_Streams_Tracestate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		r := run(t, checkerFunc(func(context.Context, *edge.CheckRequest, *gateway.Response) error {
			if asked.Add(1) == 1 {
				<-release
			}
			return nil
		}), options{listener: gatewaytest.NewListener()})
		first := make(chan error, 1)
		go func() {
			_, err := auth.NewAuthorizationClient(r.conn).Check(t.Context(), playlist())
			first <- err
		}()
		synctest.Wait()
		const most = 60 << 10
		traced := metadata.AppendToOutgoingContext(t.Context(), "tracestate", strings.Repeat("v", most))
		if _, err := auth.NewAuthorizationClient(r.conn).Check(traced, playlist()); err != nil {
			t.Errorf("the check with a long tracestate: %v", err)
		}
		close(release)
		if err := <-first; err != nil {
			t.Errorf("the check beside it: %v", err)
		}
	})
}

// TestServer_Run_Streams_LongChecks has a check take longer than its message might have.
func TestServer_Run_Streams_LongChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := run(t, checkerFunc(func(ctx context.Context, _ *edge.CheckRequest, a *gateway.Response) error {
			a.Status = http.StatusOK
			select {
			case <-time.After(2 * messageTimeout):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), options{listener: gatewaytest.NewListener()})
		watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		r.check(t, playlist())
		if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health, as it is watched: %v, %v; want SERVING", got, err)
		}
	})
}

func TestServer_Run_Streams_WithoutMessageDoNotDelayDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewListener()
		r := serve(t, &recorder{}, options{listener: network, drain: gateway.DrainConfig{Timeout: time.Hour}})
		defer func() { _ = r.conn.Close() }()
		dialRaw(t, network).open(t, healthMethod, 1)
		synctest.Wait()
		began := time.Now()
		r.drain()
		if err := <-r.ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		// gRPC leaves the peer a second to close its connection.
		if took, most := time.Since(began), messageTimeout+time.Second; took > most {
			t.Errorf("the drain took %v, want at most %v", took, most)
		}
	})
}
