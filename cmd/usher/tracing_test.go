package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"usher/bench/stage"
	"usher/cmd/usher/config"
)

// startNode runs a node with the settings on a free port, and returns its address and a function that stops it.
func startNode(t *testing.T, text string, provider *sdktrace.TracerProvider) (address string, stop func()) {
	t.Helper()
	_, address, stop = launchNode(t, text, provider)
	return address, stop
}

func launchNode(t testing.TB, text string, provider *sdktrace.TracerProvider) (n *node, address string, stop func()) {
	t.Helper()
	s := defaultSettings()
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		t.Fatal(err)
	}
	s.Gateway.Drain.ReadinessDelay = 0
	return launchSettings(t, s, slog.New(slog.DiscardHandler), provider)
}

// launchSettings runs a node until the test ends or stop is called.
func launchSettings(t testing.TB, s *settings, logger *slog.Logger, provider *sdktrace.TracerProvider) (n *node, address string, stop func()) {
	t.Helper()
	n, err := newNode(s, logger, provider.Tracer("usher"))
	if err != nil {
		t.Fatal(err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx, listeners{public: listener}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with: %v", err)
		}
		n.close()
	})
	t.Cleanup(stop)
	return n, "http://" + listener.Addr().String(), stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestNode_OpeningTrace_ReachesMiddlewareWithoutToken(t *testing.T) {
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	m := middleware(t)
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	const token = "good"
	text := strings.Replace(settingsFor(m.URL()+"/check"), "http://127.0.0.1:9", origin.URL, 1)
	address, stop := startNode(t, text, provider)

	status, playlist := get(t, address+"/play/a001/index.m3u8?token="+token)
	if status != http.StatusOK {
		t.Fatalf("the playlist: %d %s", status, playlist)
	}
	for range 5 { // a known session makes no spans
		get(t, address+"/play/a001/index.m3u8?token="+token)
	}
	stop() // ends every span
	spans := exporter.GetSpans()
	var names []string
	for _, s := range spans {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if want := []string{"backend.check", "cluster.acquire_lease", "session.open"}; !slices.Equal(names, want) {
		t.Errorf("spans %v, want %v", names, want)
	}
	ticket := playlist[strings.Index(playlist, "/~")+2:]
	ticket = ticket[:strings.IndexByte(ticket, '/')]
	for _, s := range spans {
		if s.SpanContext.TraceID() != spans[0].SpanContext.TraceID() {
			t.Errorf("span %s is in another trace", s.Name)
		}
		for _, a := range s.Attributes {
			if value := a.Value.String(); strings.Contains(value, token) || strings.Contains(value, ticket) {
				t.Errorf("span %s shows %s=%s", s.Name, a.Key, value)
			}
		}
	}
	requests := m.Requests()
	if len(requests) != 1 || !strings.Contains(requests[0].Header.Get("Traceparent"), spans[0].SpanContext.TraceID().String()) {
		t.Errorf("the middleware got traceparent %q, want trace %s", requests[0].Header.Get("Traceparent"), spans[0].SpanContext.TraceID())
	}
}
