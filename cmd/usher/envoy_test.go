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

// envoy is a client that acts as Envoy, with a node that uses the sample's settings.
type envoy struct {
	middleware *backendtest.Server
	address    string
}

// startEnvoy runs a node with the sample's usher.yaml and a scripted middleware until the test ends.
func startEnvoy(t *testing.T) *envoy {
	t.Helper()
	e := &envoy{middleware: middleware(t)}
	const portal = "https://auth.example.com/check"
	text := string(edgeFile(t, "envoy", "usher.yaml"))
	if strings.Count(text, portal) != 1 {
		t.Fatalf("usher.yaml does not name %s exactly once", portal)
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
	e.address = on.extAuthz.Addr().String()
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

// connect returns a client of the node whose connections come from that local address.
func (e *envoy) connect(t *testing.T, from string) auth.AuthorizationClient {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := grpc.NewClient("passthrough:///"+e.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", to)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return auth.NewAuthorizationClient(conn)
}

// viewer is a viewer as Envoy sees them.
type viewer struct{ address, agent string }

// checkRequest returns the check that Envoy sends for the viewer's request.
func (v viewer) checkRequest(path string) *auth.CheckRequest {
	return &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{
			SocketAddress: &core.SocketAddress{
				Address: v.address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: 40404},
			},
		}}},
		Request: &auth.AttributeContext_Request{Http: &auth.AttributeContext_HttpRequest{
			Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: path, Protocol: "HTTP/1.1",
			Headers: map[string]string{":path": path, "user-agent": v.agent, "x-session-name": "forged"},
		}},
	}}
}

// envoyAnswer is the answer to Envoy's check.
type envoyAnswer struct {
	status               int
	name, userID, source string // fields that Envoy forwards to the origin
}

// sendCheck sends a check for a viewer's request. The origin must not receive the viewer's own values of fields that it trusts.
func sendCheck(t *testing.T, client auth.AuthorizationClient, v viewer, path string) envoyAnswer {
	t.Helper()
	answer, err := client.Check(t.Context(), v.checkRequest(path))
	if err != nil {
		t.Fatalf("check %s for %v: %v", path, v, err)
	}
	if err := answer.ValidateAll(); err != nil {
		t.Errorf("Envoy would reject the answer: %v", err)
	}
	ok := answer.GetOkResponse()
	if (ok != nil) != (answer.GetStatus().GetCode() == int32(codes.OK)) {
		t.Errorf("allowed and denied at once: %v", answer)
	}
	if ok == nil {
		return envoyAnswer{status: int(answer.GetDeniedResponse().GetStatus().GetCode())}
	}
	fields := map[string]string{}
	for _, h := range ok.GetHeaders() {
		fields[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	for _, name := range ok.GetHeadersToRemove() {
		fields[name] = ""
	}
	if len(fields) != 3 {
		t.Errorf("fields set or removed: %v, want all three that the origin trusts", fields)
	}
	return envoyAnswer{http.StatusOK, fields["X-Session-Name"], fields["X-Userid"], fields["X-Usher-Source"]}
}

// TestNode_Envoy_ChecksViewers sends Envoy's checks for viewers of one channel, and counts the middleware's calls.
func TestNode_Envoy_ChecksViewers(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	client := e.connect(t, "127.0.0.1")
	const playlist, segment = "/play/a001/index.m3u8", "/play/a001/seg-17.ts"
	alice := viewer{"192.0.2.7", "VLC/3.0.20 LibVLC/3.0.20"}
	neighbour, sameAgent := viewer{alice.address, "Lavf/60.3.100"}, viewer{"192.0.2.8", alice.agent}
	allowed := envoyAnswer{http.StatusOK, "alice", "7", "backend"}
	denied := envoyAnswer{status: http.StatusForbidden}
	steps := []struct {
		what string
		who  viewer
		path string
		want envoyAnswer
		// calls is how often the middleware has been called by then.
		calls uint64
	}{
		{"a segment before any playlist", alice, segment, denied, 0},
		{"a playlist without a token", alice, playlist, denied, 0},
		{"a good token", alice, playlist + "?token=good", allowed, 1},
		{"the playlist again", alice, playlist + "?token=good", allowed, 1},
		{"a segment without a token", alice, segment, allowed, 1},
		{"a playlist without a token, of a known viewer", alice, playlist, allowed, 1},
		{"a segment of another channel", alice, "/play/a002/seg-17.ts", denied, 1},
		{"a segment, with another player", neighbour, segment, denied, 1},
		{"a segment, from another address", sameAgent, segment, denied, 1},
		{"a bad token", sameAgent, playlist + "?token=bad", denied, 2},
		{"a bad token again", sameAgent, playlist + "?token=bad", denied, 2},
		{"a segment, of a denied viewer", sameAgent, segment, denied, 2},
		{"a path outside the route", alice, "/admin?token=good", denied, 2},
		{"an ambiguous path", alice, "/play/a001/../a002/index.m3u8?token=good", denied, 2},
	}
	for _, step := range steps {
		if got := sendCheck(t, client, step.who, step.path); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.what, got, step.want)
		}
		if got := e.middleware.Calls(); got != step.calls {
			t.Errorf("%s: %d calls of the middleware, want %d", step.what, got, step.calls)
		}
	}
}

// TestNode_Envoy_MiddlewareUnavailable_Answered requires an answer to each check in an outage: Envoy's own
// failure_mode_allow treats all viewers alike.
func TestNode_Envoy_MiddlewareUnavailable_Answered(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	client := e.connect(t, "127.0.0.1")
	alice, bob := viewer{"192.0.2.7", "VLC/3.0.20"}, viewer{"192.0.2.8", "VLC/3.0.20"}
	mallory := viewer{"192.0.2.9", "VLC/3.0.20"}
	const playlist, segment = "/play/a001/index.m3u8", "/play/a001/seg-17.ts"
	sendCheck(t, client, alice, playlist+"?token=good")
	sendCheck(t, client, mallory, playlist+"?token=bad")
	if err := e.middleware.SetMode(backendtest.Refuse()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		who  viewer
		path string
		want envoyAnswer
	}{
		{"a playing viewer continues", alice, segment, envoyAnswer{http.StatusOK, "alice", "7", "backend"}},
		{"a new viewer is admitted", bob, playlist + "?token=new", envoyAnswer{status: http.StatusOK, source: "fail-open"}},
		{"the new viewer's segments", bob, segment, envoyAnswer{status: http.StatusOK, source: "fail-open"}},
		{"a denied viewer stays denied", mallory, playlist + "?token=bad", envoyAnswer{status: http.StatusForbidden}},
		{"a viewer without credentials is denied", viewer{"192.0.2.10", "VLC/3.0.20"}, playlist, envoyAnswer{status: http.StatusForbidden}},
	} {
		if got := sendCheck(t, client, step.who, step.path); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.what, got, step.want)
		}
	}
}

// TestNode_Envoy_Unlisted_Rejected sends a check from an address that ext_authz does not list.
func TestNode_Envoy_Unlisted_Rejected(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	unlisted := e.connect(t, "127.0.0.9")
	got := sendCheck(t, unlisted, viewer{"192.0.2.7", "VLC/3.0.20"}, "/play/a001/index.m3u8?token=good")
	if got.status != http.StatusForbidden || e.middleware.Calls() != 0 {
		t.Errorf("an unlisted edge got %+v after %d calls of the middleware, want 403 and none", got, e.middleware.Calls())
	}
}
