package viewer

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/viewer/edge"
	"usher/bench/viewer/wire"
)

// edgeOf returns viewers of an edge of that dialect who start at once.
func edgeOf(d edge.Dialect, viewers int) Config {
	c := oneTarget(viewers)
	c.Auth = &Auth{Dialect: d, Path: "/auth/x", Every: 2 * time.Second, Host: "tv.example.com"}
	return c
}

// TestRun_Auth asks about known and new viewers as each edge does.
func TestRun_Auth(t *testing.T) {
	const path, query, agent = "/play/a001/index.m3u8", "token=viewer-1", "usher-bench"
	tests := map[edge.Dialect]map[string]string{
		edge.Nginx: {
			"X-Original-Uri": path + "?" + query, "X-Original-Method": "GET", "X-Real-Ip": "10.0.0.2", "X-Forwarded-Proto": "http", "User-Agent": agent,
			"host": "tv.example.com", "uri": "/auth/x",
		},
		edge.Traefik: {
			"X-Forwarded-Uri": path + "?" + query, "X-Forwarded-Method": "GET", "X-Forwarded-For": "10.0.0.2", "X-Forwarded-Proto": "http",
			"X-Forwarded-Host": "tv.example.com", "User-Agent": agent, "host": "tv", "uri": "/auth/x",
		},
		edge.Caddy: {"X-Forwarded-Uri": path + "?" + query, "X-Forwarded-For": "10.0.0.2", "host": "tv", "uri": "/auth/x"},
		edge.Astra: {
			"X-Real-Ip": "10.0.0.2", "X-Real-Path": path, "X-Real-Ua": agent, "X-Real-Host": "tv.example.com", "X-Channel-Id": "a001",
			"host": "tv", "uri": "/auth/x?" + query,
		},
		edge.Alta: {
			"X-Real-Ip": "10.0.0.2", "X-Real-Path": path, "X-Real-Ua": agent, "X-Real-Origin": "http://tv.example.com",
			"host": "tv", "uri": "/auth/x?" + query,
		},
		edge.Flussonic: {
			"name": "a001", "ip": "10.0.0.2", "token": "viewer-1", "qs": query, "user_agent": agent, "host": "tv.example.com", "proto": "hls",
			"request_type": "update_session", "User-Agent": "Flussonic", "request_number": "4",
		},
	}
	for dialect, want := range tests {
		t.Run(string(dialect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &watch{next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
				m := play(t, edgeOf(dialect, 2), 10*time.Second, server)
				if o := m.Operations[result.AuthQuestion]; o.Requests != 10 || o.Failed() > 0 || len(m.Operations) != 1 {
					t.Fatalf("%d questions, failed %v, %d operations; want 10, none, 1", o.Requests, o.Errors, len(m.Operations))
				}
				for _, r := range server.requests[8:] {
					if !strings.Contains(r.RequestURI+r.Header.Get("X-Forwarded-Uri")+r.Header.Get("X-Original-Uri"), "viewer-1") {
						continue
					}
					got := map[string]string{"host": r.Host, "uri": r.RequestURI}
					for name := range want {
						if value := r.Header.Get(name); value != "" {
							got[name] = value
						}
						if value := r.URL.Query().Get(name); value != "" && dialect == edge.Flussonic {
							got[name] = value
						}
					}
					for name, value := range want {
						if got[name] != value {
							t.Errorf("%s: %q, want %q", name, got[name], value)
						}
					}
				}
				if sessions := server.values(sessionOf); dialect == edge.Flussonic && len(sessions) != 2 {
					t.Errorf("sessions %v, want one of each viewer", sessions)
				}
			})
		})
	}
}

func sessionOf(r *http.Request) string {
	return r.Header.Get("X-Session-Id") + r.URL.Query().Get("session_id")
}

// TestRun_Auth_Pause has viewers who zap and pause at an edge with sessions: each channel is a session whose questions are numbered.
func TestRun_Auth_Pause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := edgeOf(edge.Flussonic, 3)
		c.Channels = []string{"a001", "a002", "a003"}
		c.Behaviour.Pause, c.Behaviour.PauseFor, c.Behaviour.Zap = 10*time.Second, 5*time.Second, 20*time.Second
		server := &watch{next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		m := play(t, c, 2*time.Minute, server)
		if m.Counts["pauses"] == 0 || m.Counts["zaps"] == 0 {
			t.Errorf("counts %v, want pauses and zaps", m.Counts)
		}
		channels := map[string]string{}
		next := map[string]int{}
		for _, r := range server.requests {
			q := r.URL.Query()
			id, number := q.Get("session_id"), q.Get("request_number")
			if channel := channels[id]; channel != "" && channel != q.Get("name") {
				t.Errorf("session %s is of %s and of %s", id, channel, q.Get("name"))
			}
			channels[id] = q.Get("name")
			if number == "0" {
				next[id] = 0
			}
			if number != strconv.Itoa(next[id]) || (number == "0") != (q.Get("request_type") == "new_session") {
				t.Errorf("question %s of a session is %s, want %d", number, q.Get("request_type"), next[id])
			}
			next[id]++
		}
	})
}

// TestRun_Auth_Denials asks again after a denial, about the viewer as a new one.
func TestRun_Auth_Denials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := play(t, edgeOf(edge.Nginx, 1), 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}))
		if o := m.Operations[result.AuthQuestion]; o.Requests != 3 || o.Errors["status 403"] != 3 {
			t.Errorf("%d questions, failed %v; want 3 in ten seconds, all", o.Requests, o.Errors)
		}
	})
}

// fakeEnvoyServer is an auth server over gRPC.
type fakeEnvoyServer struct {
	auth.UnimplementedAuthorizationServer

	asked  atomic.Int64
	enough func()

	mu    sync.Mutex
	last  *auth.CheckRequest
	trace []string
}

// Check denies every third viewer's question with 403, and every fifth with no status.
func (s *fakeEnvoyServer) Check(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.last, s.trace = r, md.Get("traceparent")
	s.mu.Unlock()
	n := s.asked.Add(1)
	if n == 200 {
		s.enough()
	}
	denied := &rpcstatus.Status{Code: int32(codes.PermissionDenied)}
	switch {
	case n%3 == 0:
		return &auth.CheckResponse{Status: denied, HttpResponse: &auth.CheckResponse_DeniedResponse{
			DeniedResponse: &auth.DeniedHttpResponse{Status: &envoytype.HttpStatus{Code: envoytype.StatusCode_ServiceUnavailable}},
		}}, nil
	case n%5 == 0:
		return &auth.CheckResponse{Status: denied}, nil
	}
	return &auth.CheckResponse{}, nil
}

func TestRun_Auth_Envoy(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fake := &fakeEnvoyServer{enough: cancel}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	auth.RegisterAuthorizationServer(server, fake)
	over := make(chan error)
	go func() { over <- server.Serve(l) }()
	c := edgeOf(edge.Envoy, 30)
	c.Auth.Every, c.Behaviour.Retry, c.Behaviour.RetryDenied = 5*time.Millisecond, 5*time.Millisecond, 5*time.Millisecond
	c.Targets, c.TraceShare = []string{"http://" + l.Addr().String()}, 1
	r := record.New(time.Now())
	if err := Run(ctx, c, r); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	o := r.Finish(time.Now()).Operations[result.AuthQuestion]
	if o.Errors["status 503"] == 0 || o.Errors["status 403"] == 0 || o.Failed() == o.Requests {
		t.Errorf("%d questions, failed %v; want some of 503 and of 403, and others", o.Requests, o.Errors)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	h := fake.last.GetAttributes().GetRequest().GetHttp()
	socket := fake.last.GetAttributes().GetSource().GetAddress().GetAddress().(*core.Address_SocketAddress).SocketAddress
	if !strings.HasPrefix(h.GetPath(), "/play/a001/index.m3u8?token=viewer-") || h.GetHost() != "tv.example.com" || h.GetMethod() != "GET" ||
		!strings.HasPrefix(socket.GetAddress(), "10.0.0.") || h.GetHeaders()["user-agent"] != "usher-bench" {
		t.Errorf("asked %v from %s", h, socket.GetAddress())
	}
	if len(fake.trace) != 1 || !strings.HasPrefix(fake.trace[0], "00-") {
		t.Errorf("traceparent %q, want one", fake.trace)
	}
}

func TestRun_Auth_Envoy_Unreachable(t *testing.T) {
	t.Parallel()
	l := httptest.NewServer(nil)
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := edgeOf(edge.Envoy, 1)
	c.Targets = []string{l.URL}
	e := newEngine(ctx, c, record.New(time.Now()), wire.Config{})
	if err := e.dialEnvoys(); err != nil {
		t.Fatal(err)
	}
	defer e.closeEnvoys()
	if got := newWorker(e).sendEnvoy(&viewer{}, &edge.Question{}); got != wire.Unreachable {
		t.Errorf("failure %q, want %q", got, wire.Unreachable)
	}
}
