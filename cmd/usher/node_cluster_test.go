package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"usher/backends/backendtest"
	"usher/backends/backendtest/testproc"
	"usher/bench/stage"
)

// startRedis runs a redis-server until the test ends, and returns its socket.
func startRedis(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	socket := filepath.Join(folder, "redis.sock")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder)
	wait, err := testproc.Start(cmd)
	if err != nil {
		t.Fatalf("redis-server, from the Debian package redis-server: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = wait()
	})
	eventually(t, "redis-server answers", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("PING\r\n"))
		answer := make([]byte, len("+PONG"))
		_, err = io.ReadFull(conn, answer)
		return err == nil && string(answer) == "+PONG"
	})
	return socket
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within half a minute", what)
		}
	}
}

// nodePair is two nodes that share a Redis, an origin and a middleware.
type nodePair struct {
	t          *testing.T
	middleware *backendtest.Server
	nodes      [2]*node
	addresses  [2]string
	stops      [2]func()
}

func startNodePair(t *testing.T, users map[string]backendtest.User, provider *sdktrace.TracerProvider) *nodePair {
	t.Helper()
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	p := &nodePair{t: t, middleware: backendtest.New(backendtest.Config{Address: "127.0.0.1:0", Record: 100, Users: users})}
	if err := p.middleware.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.middleware.Close)
	// Long heartbeat intervals and deadlines keep other round trips out of the count.
	text := strings.NewReplacer("http://127.0.0.1:9", origin.URL, "timeout: 300ms", "timeout: 30s, answer_deadline: 20s, breaker: { interval: 3m }").
		Replace(settingsFor(p.middleware.URL()+"/check")) + fmt.Sprintf(`
sessions: { idle_timeout: 30m, recheck: { min: 1s, jitter_percent: 0 } }
cluster: { redis: { addresses: [ %q ] }, encryption_keys: [ { id: a, secret: "0123456789abcdef" } ], heartbeat_interval: 10m, session_ttl: 1h, redis_timeout: 10s }
`, startRedis(t))
	for i := range p.nodes {
		p.nodes[i], p.addresses[i], p.stops[i] = launchNode(t, text, provider)
	}
	return p
}

// get fetches a path from a node, and requires status 200.
func (p *nodePair) get(node int, path string) (body string) {
	p.t.Helper()
	status, body := get(p.t, p.addresses[node]+path)
	if status != http.StatusOK {
		p.t.Fatalf("node %d, %s: %d %s", node, path, status, body)
	}
	return body
}

// countRoundTrips counts the node's round trips to Redis caused by do, and waits until there are at least want.
func (p *nodePair) countRoundTrips(node int, want uint64, do func()) uint64 {
	p.t.Helper()
	c := p.nodes[node].cluster
	before := c.RoundTrips()
	do()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%d round trips", c.RoundTrips()-before)
		}
	}()
	eventually(p.t, "the round trips", func() bool { return c.RoundTrips()-before >= want })
	return c.RoundTrips() - before
}

// withTicket returns the first path with a ticket in a playlist.
func withTicket(t testing.TB, playlist string) string {
	t.Helper()
	path := regexp.MustCompile(`(?m)^/~.*$`).FindString(playlist)
	if path == "" {
		t.Fatalf("no path in the playlist has a ticket:\n%s", playlist)
	}
	return path
}

// TestNode_RedisRoundTrips counts a session's round trips to Redis, on the node that opens it and on one that adopts it.
func TestNode_RedisRoundTrips(t *testing.T) {
	p := startNodePair(t, map[string]backendtest.User{
		"plain":   {ID: "1", Name: "plain", ValidFor: time.Hour},
		"limited": {ID: "2", Name: "limited", ValidFor: time.Hour, MaxSessions: 2},
		"short":   {ID: "3", Name: "short", ValidFor: 2 * time.Second},
		"other":   {ID: "4", Name: "other", ValidFor: time.Hour, MaxSessions: 2},
	}, sdktrace.NewTracerProvider())
	// Loading a script costs a round trip each, so these requests come first. One round trip may carry the calls of several
	// sessions, so each count starts when nothing is in flight.
	p.countRoundTrips(0, 2*3, func() { p.get(0, "/play/a001/low.m3u8?token=limited&warm=0") })
	p.countRoundTrips(1, 3, func() { p.get(1, "/play/a001/low.m3u8?token=other") })
	var media string
	opening := p.countRoundTrips(0, 2, func() { media = p.get(0, "/play/a001/low.m3u8?token=plain") })
	segment := withTicket(t, media)
	adoption := p.countRoundTrips(1, 1, func() { p.get(1, segment) })
	segments := p.countRoundTrips(1, 0, func() {
		for range 10 {
			p.get(1, segment)
			p.get(0, segment)
		}
	})
	limited := p.countRoundTrips(0, 3, func() { p.get(0, "/play/a001/low.m3u8?token=limited") })
	contended := p.countRoundTrips(1, 4, func() { p.get(1, "/play/a001/low.m3u8?token=limited&elsewhere=1") })
	before := p.middleware.Calls()
	recheck := p.countRoundTrips(0, 2+2, func() {
		p.get(0, "/play/a001/low.m3u8?token=short")
		// The first re-check's answer is valid for an hour, so there is only one re-check.
		p.middleware.SetUser("short", backendtest.User{ID: "3", Name: "short", ValidFor: time.Hour})
	}) - opening
	segments += p.countRoundTrips(0, 0, func() { p.get(0, segment) })
	got := fmt.Sprintf("adoption %d, opening %d, opening with limit %d, after another node's %d, re-check %d, segment %d",
		adoption, opening, limited, contended, recheck, segments)
	t.Logf("round trips to Redis: %s", got)
	if want := "adoption 1, opening 2, opening with limit 3, after another node's 4, re-check 2, segment 0"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if calls := p.middleware.Calls(); calls != before+2 {
		t.Errorf("%d calls of the middleware for the short session, want two", calls-before)
	}
}

// TestNode_Trace_ContinuesOnOtherNode opens a session on one node, and lets the other re-check it.
func TestNode_Trace_ContinuesOnOtherNode(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	p := startNodePair(t, map[string]backendtest.User{"good": {ID: "1", Name: "alice", ValidFor: 2 * time.Second}}, provider)
	segment := withTicket(t, p.get(0, "/play/a001/low.m3u8?token=good"))
	p.get(1, segment)
	p.stops[0]()
	if err := p.middleware.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	var recheck *tracetest.SpanStub
	eventually(t, "the re-check's span", func() bool {
		for _, s := range exporter.GetSpans() {
			if s.Name == "session.recheck" {
				recheck = &s
			}
		}
		return recheck != nil
	})
	for _, s := range exporter.GetSpans() {
		if s.Name == "session.open" && len(recheck.Links) == 1 && recheck.Links[0].SpanContext.SpanID() == s.SpanContext.SpanID() {
			if recheck.SpanContext.TraceID() == s.SpanContext.TraceID() {
				t.Error("the re-check is in the opening's trace, want a trace of its own")
			}
			return
		}
	}
	t.Errorf("the re-check links to %+v, want the opening", recheck.Links)
}
