package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"usher/backends/backendtest"
)

// envoy is somebody in Envoy's place, beside a node as the sample sets it up.
type envoy struct {
	middleware *backendtest.Server
	at         string
}

// startEnvoy runs a node with the sample's usher.yaml until the test ends, before a scripted middleware.
func startEnvoy(t *testing.T) *envoy {
	t.Helper()
	e := &envoy{middleware: middleware(t)}
	const portal = "https://auth.example.com/check"
	text := string(edgeFile(t, "envoy", "usher.yaml"))
	if strings.Count(text, portal) != 1 {
		t.Fatalf("usher.yaml names %s not once", portal)
	}
	s := parseSample(t, []byte(strings.Replace(text, portal, e.middleware.URL()+"/check", 1)))
	s.Gateway.Drain.ReadinessDelay = 0
	n, err := newNode(s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	var on listeners
	for _, l := range []*net.Listener{&on.public, &on.extAuthz} {
		if *l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	e.at = on.extAuthz.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx, on) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with: %v", err)
		}
		n.close()
	})
	return e
}

// connect is a connection to the node from an address of this machine's.
func (e *envoy) connect(t *testing.T, from string) auth.AuthorizationClient {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := grpc.NewClient("passthrough:///"+e.at, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", to)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return auth.NewAuthorizationClient(conn)
}

// viewer is who asks Envoy for something.
type viewer struct{ address, agent string }

// asks returns the check that Envoy sends about the viewer.
func (v viewer) asks(path string) *auth.CheckRequest {
	return &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{
			SocketAddress: &core.SocketAddress{
				Address: v.address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: 40404},
			},
		}}},
		Request: &auth.AttributeContext_Request{Http: &auth.AttributeContext_HttpRequest{
			Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: path, Protocol: "HTTP/1.1",
			Headers: map[string]string{":path": path, "user-agent": v.agent, "x-session-name": "somebody else"},
		}},
	}}
}

// told is what Envoy is told of a viewer.
type told struct {
	status               int
	name, userID, source string // what the origin gets
}

// ask sends a check about a viewer. The origin must not receive the viewer's own values of fields that it trusts.
func ask(t *testing.T, client auth.AuthorizationClient, v viewer, path string) told {
	t.Helper()
	answer, err := client.Check(t.Context(), v.asks(path))
	if err != nil {
		t.Fatalf("%v asks for %s: %v", v, path, err)
	}
	if err := answer.ValidateAll(); err != nil {
		t.Errorf("the answer is none to Envoy: %v", err)
	}
	ok := answer.GetOkResponse()
	if (ok != nil) != (answer.GetStatus().GetCode() == int32(codes.OK)) {
		t.Errorf("a yes and a no at once: %v", answer)
	}
	if ok == nil {
		return told{status: int(answer.GetDeniedResponse().GetStatus().GetCode())}
	}
	fields := map[string]string{}
	for _, h := range ok.GetHeaders() {
		fields[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	for _, name := range ok.GetHeadersToRemove() {
		fields[name] = ""
	}
	if len(fields) != 3 {
		t.Errorf("set or removed are %v, want all three that the origin trusts", fields)
	}
	return told{http.StatusOK, fields["X-Session-Name"], fields["X-Userid"], fields["X-Usher-Source"]}
}

// TestNode_Envoy_ChecksViewers runs through what Envoy asks about viewers of one channel, and what the middleware is asked
// for it.
func TestNode_Envoy_ChecksViewers(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	client := e.connect(t, "127.0.0.1")
	const playlist, segment = "/play/a001/index.m3u8", "/play/a001/seg-17.ts"
	alice := viewer{"192.0.2.7", "VLC/3.0.20 LibVLC/3.0.20"}
	neighbour, sameAgent := viewer{alice.address, "Lavf/60.3.100"}, viewer{"192.0.2.8", alice.agent}
	yes := told{http.StatusOK, "alice", "7", "backend"}
	no := told{status: http.StatusForbidden}
	steps := []struct {
		what string
		who  viewer
		path string
		want told
		// calls is how often the middleware has been asked by then.
		calls uint64
	}{
		{"a segment before any playlist", alice, segment, no, 0},
		{"a playlist without a token", alice, playlist, no, 0},
		{"a good token", alice, playlist + "?token=good", yes, 1},
		{"the playlist again", alice, playlist + "?token=good", yes, 1},
		{"a segment without a token", alice, segment, yes, 1},
		{"a playlist without a token, of who is known", alice, playlist, yes, 1},
		{"a segment of another channel", alice, "/play/a002/seg-17.ts", no, 1},
		{"a segment, by another player", neighbour, segment, no, 1},
		{"a segment, from another address", sameAgent, segment, no, 1},
		{"a bad token", sameAgent, playlist + "?token=bad", no, 2},
		{"a bad token again", sameAgent, playlist + "?token=bad", no, 2},
		{"a segment of who was refused", sameAgent, segment, no, 2},
		{"what is not of the route", alice, "/admin?token=good", no, 2},
		{"a path that could be read in two ways", alice, "/play/a001/../a002/index.m3u8?token=good", no, 2},
	}
	for _, step := range steps {
		if got := ask(t, client, step.who, step.path); got != step.want {
			t.Errorf("%s: Envoy is told %+v, want %+v", step.what, got, step.want)
		}
		if got := e.middleware.Calls(); got != step.calls {
			t.Errorf("%s: the middleware has been asked %d times, want %d", step.what, got, step.calls)
		}
	}
}

// TestNode_Envoy_MiddlewareUnavailable_Answered: a failure is never left to Envoy, who knows no viewer.
func TestNode_Envoy_MiddlewareUnavailable_Answered(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	client := e.connect(t, "127.0.0.1")
	alice, bob := viewer{"192.0.2.7", "VLC/3.0.20"}, viewer{"192.0.2.8", "VLC/3.0.20"}
	refused := viewer{"192.0.2.9", "VLC/3.0.20"}
	const playlist, segment = "/play/a001/index.m3u8", "/play/a001/seg-17.ts"
	ask(t, client, alice, playlist+"?token=good")
	ask(t, client, refused, playlist+"?token=bad")
	if err := e.middleware.SetMode(backendtest.Refuse()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		who  viewer
		path string
		want told
	}{
		{"who watches goes on", alice, segment, told{http.StatusOK, "alice", "7", "backend"}},
		{"a new viewer is let in", bob, playlist + "?token=new", told{status: http.StatusOK, source: "fail-open"}},
		{"and his segments", bob, segment, told{status: http.StatusOK, source: "fail-open"}},
		{"who was refused stays out", refused, playlist + "?token=bad", told{status: http.StatusForbidden}},
		{"who shows nothing stays out", viewer{"192.0.2.10", "VLC/3.0.20"}, playlist, told{status: http.StatusForbidden}},
	} {
		if got := ask(t, client, step.who, step.path); got != step.want {
			t.Errorf("%s: Envoy is told %+v, want %+v", step.what, got, step.want)
		}
	}
}

// TestNode_Envoy_Unlisted_Rejected: what an edge says of a viewer is believed, so nobody else may say it.
func TestNode_Envoy_Unlisted_Rejected(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	stranger := e.connect(t, "127.0.0.9")
	got := ask(t, stranger, viewer{"192.0.2.7", "VLC/3.0.20"}, "/play/a001/index.m3u8?token=good")
	if got.status != http.StatusForbidden || e.middleware.Calls() != 0 {
		t.Errorf("a stranger is told %+v after %d calls of the middleware, want 403 and none", got, e.middleware.Calls())
	}
}
