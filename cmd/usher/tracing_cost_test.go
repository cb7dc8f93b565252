//go:build !race

package main

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"usher/backends/backendtest"
	"usher/cmd/usher/config"
)

// Allocations are counted without the race detector, under which pools drop items on purpose.

// cachedNode is a node that holds one viewer's playlist and segment in memory.
type cachedNode struct {
	*node
	playlist, segment string // their paths
}

// newCachedNode makes a node and has a viewer open a channel. The tracer may be nil.
func newCachedNode(tb testing.TB, tracer trace.Tracer) *cachedNode {
	tb.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".m3u8") {
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:86400\n"+strings.Repeat("#EXTINF:6.000,\nsegment.ts\n", 10))
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	}))
	tb.Cleanup(origin.Close)
	m := backendtest.New(backendtest.Config{
		Address: "127.0.0.1:0", Users: map[string]backendtest.User{"good": {ID: "7", ValidFor: time.Hour}},
	})
	if err := m.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	s := defaultSettings()
	text := strings.Replace(settingsFor(m.URL()+"/check"), "http://127.0.0.1:9", origin.URL, 1)
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		tb.Fatal(err)
	}
	n, err := newNode(s, slog.New(slog.DiscardHandler), tracer)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(n.close)
	c := &cachedNode{node: n}
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/play/a001/index.m3u8?token=good", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasSuffix(line, ".ts\n") {
			c.segment = strings.TrimSpace(line)
		}
	}
	if w.Code != http.StatusOK || c.segment == "" {
		tb.Fatalf("the playlist: %d %s", w.Code, w.Body)
	}
	c.playlist = strings.Replace(c.segment, "segment.ts", "index.m3u8", 1)
	c.serve(tb)() // the segment is in memory now
	return c
}

// discardingWriter is a ResponseWriter that keeps the status alone.
type discardingWriter struct {
	header http.Header
	status int
}

func (w *discardingWriter) Header() http.Header         { return w.header }
func (w *discardingWriter) WriteHeader(status int)      { w.status = status }
func (w *discardingWriter) Write(b []byte) (int, error) { return len(b), nil }

// serve returns a function that requests the playlist and the segment.
func (c *cachedNode) serve(tb testing.TB) func() {
	tb.Helper()
	w := &discardingWriter{header: http.Header{}}
	requests := []*http.Request{
		httptest.NewRequestWithContext(context.Background(), http.MethodGet, c.playlist, nil),
		httptest.NewRequestWithContext(context.Background(), http.MethodGet, c.segment, nil),
	}
	return func() {
		for _, r := range requests {
			clear(w.header)
			if c.handler.ServeHTTP(w, r); w.status != http.StatusOK {
				tb.Fatalf("%s: %d, want 200", r.URL.Path, w.status)
			}
		}
	}
}

// exportingTracer returns the tracer of a node that sends every trace to an endpoint.
func exportingTracer(tb testing.TB, endpoint string) trace.Tracer {
	tb.Helper()
	settings := tracingSettings{Endpoint: endpoint, Protocol: "http", Sample: 1}
	tracer, _, flush, err := settings.tracer(tb.Context(), slog.New(slog.DiscardHandler), "node")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(flush)
	return tracer
}

// collector returns the endpoint of a receiver that takes everything.
func collector(tb testing.TB) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

// deadCollector returns an endpoint that takes connections and never answers.
func deadCollector(tb testing.TB) string {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

// TestNode_Tracing_CachedRequests_NoCost has a viewer whose playlist and segment are in memory: with every trace sampled, these
// requests make no span and allocate as without tracing.
func TestNode_Tracing_CachedRequests_NoCost(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.AlwaysSample()))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	traced := newCachedNode(t, provider.Tracer("usher"))
	// A garbage collection empties pools, so that the least of several runs counts.
	fewest := func(serve func()) float64 {
		n := math.Inf(1)
		for range 4 {
			n = min(n, testing.AllocsPerRun(200, serve))
		}
		return n
	}
	before := len(spans.Started())
	if before == 0 {
		t.Fatal("the opening made no span: nothing is traced")
	}
	on := fewest(traced.serve(t))
	if made := len(spans.Started()) - before; made != 0 {
		t.Errorf("cached requests made %d spans, want none", made)
	}
	if off := fewest(newCachedNode(t, nil).serve(t)); on > off {
		t.Errorf("%v allocations for a playlist and a segment, want the %v without tracing", on, off)
	}
}

// BenchmarkNode_Tracing serves a playlist and a segment from memory, which no trace shows, and openings, which traces do.
func BenchmarkNode_Tracing(b *testing.B) {
	for name, newTracer := range map[string]func(testing.TB) trace.Tracer{
		"off":              func(testing.TB) trace.Tracer { return nil },
		"on":               func(tb testing.TB) trace.Tracer { tb.Helper(); return exportingTracer(tb, collector(tb)) },
		"collector down":   func(tb testing.TB) trace.Tracer { tb.Helper(); return exportingTracer(tb, "http://127.0.0.1:9") },
		"collector silent": func(tb testing.TB) trace.Tracer { tb.Helper(); return exportingTracer(tb, deadCollector(tb)) },
	} {
		b.Run("cached/"+name, func(b *testing.B) {
			serve := newCachedNode(b, newTracer(b)).serve(b)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
		b.Run("opening/"+name, func(b *testing.B) {
			c := newCachedNode(b, newTracer(b))
			w := &discardingWriter{header: http.Header{}}
			open := openings(b)
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				if c.handler.ServeHTTP(w, open()); w.status != http.StatusForbidden {
					b.Fatalf("%d, want 403", w.status)
				}
			}
		})
	}
}

// openings returns requests of ever new viewers, each of whom the middleware denies.
func openings(b *testing.B) func() *http.Request {
	b.Helper()
	n := 0
	return func() *http.Request {
		n++
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/play/a001/index.m3u8?token=stranger"+strconv.Itoa(n), nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1234).String()
		return r
	}
}
