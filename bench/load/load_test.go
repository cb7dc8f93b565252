package load_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"usher/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server, and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// each returns Options.Next for one target.
func each(target string, first byte) func(int, int) load.Request {
	head := load.Get("example.com", target, "X-Real-IP", "192.0.2.1")
	return func(int, int) load.Request { return load.Request{Head: head, First: first} }
}

func TestRun_CountsWhatWasServed(t *testing.T) {
	t.Parallel()
	large := "#" + strings.Repeat("x", 1<<20)
	handlers := map[string]struct {
		handler http.HandlerFunc
		want    string // of each request; empty: served
		bytes   int
	}{
		"a body with its length": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "#EXTM3U") }, "", 7},
		"a large body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large)
		}, "", len(large)},
		"a chunked body": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "#EXT")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "M3U")
		}, "", 7},
		"a connection that ends": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "#")
		}, "", 1},
		"another body":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "broken body", 0},
		"an empty body":    {func(http.ResponseWriter, *http.Request) {}, "broken body", 0},
		"a refusal":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "status 403", 0},
		"a redirect":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "status 302", 0},
		"no body":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "broken body", 0},
		"not modified":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "status 304", 0},
		"half a body":      {func(w http.ResponseWriter, _ *http.Request) { writeHalf(w) }, "broken body", 0},
		"a reset":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "reset", 0},
		"a missing header": {func(w http.ResponseWriter, r *http.Request) { wantHeader(w, r) }, "", 1},
	}
	const connections, limit = 3, 4
	for name, c := range handlers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := load.Run(t.Context(), load.Options{
				Address: serve(t, c.handler), Connections: connections, Limit: limit, Next: each("/", '#'),
			}, nil)
			want := map[string]uint64{}
			if c.want != "" {
				want[c.want] = connections * limit
			}
			if diff := cmp.Diff(want, r.Failures); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
			if r.Served+r.Failed() != connections*limit || r.Bytes != r.Served*uint64(c.bytes) || r.Latency.Count() != r.Served {
				t.Errorf("%d served, %d bytes, %d latencies", r.Served, r.Bytes, r.Latency.Count())
			}
		})
	}
}

func writeHalf(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "10")
	_, _ = io.WriteString(w, "#half")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func wantHeader(w http.ResponseWriter, r *http.Request) {
	if r.Host != "example.com" || r.Header.Get("X-Real-IP") != "192.0.2.1" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, "#")
}

func TestRun_NothingListens_Refused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	r := load.Run(t.Context(), load.Options{
		Address: server.Listener.Addr().String(), Connections: 2, Limit: 2, Next: each("/", 0),
	}, nil)
	if diff := cmp.Diff(map[string]uint64{"refused": 4}, r.Failures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestRun_ServerHangs_Timeout(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel alone, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := load.Run(t.Context(), load.Options{
		Address: listener.Addr().String(), Connections: 1, Limit: 1, Timeout: 50 * time.Millisecond, Next: each("/", 0),
	}, nil)
	if diff := cmp.Diff(map[string]uint64{"timeout": 1}, r.Failures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestRun_ContextEnds_InterruptsWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	go func() {
		<-asked
		cancel()
	}()
	r := load.Run(ctx, load.Options{Address: address, Connections: 1, Next: each("/", 0), Timeout: time.Hour}, nil)
	if r.Served+r.Failed() != 0 {
		t.Errorf("%d served, %d failed; want what was in flight not to count", r.Served, r.Failed())
	}
}

// TestRun_OpenLoop_StallCountsForAllThatItDelays stalls a server once. By their send times one request was slow; by the plan
// all that were due meanwhile were.
func TestRun_OpenLoop_StallCountsForAllThatItDelays(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var requests atomic.Int64
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 10 {
			select {
			case <-time.After(stall):
			case <-r.Context().Done():
			}
		}
	})
	r := load.Run(t.Context(), load.Options{
		Address: address, Connections: 1, Rate: 100, Limit: 40, Next: each("/", 0),
	}, nil)
	if r.Served != 40 || r.Latency.Max() < stall || r.Latency.Quantile(0.75) < 20*time.Millisecond {
		t.Errorf("%d served, longest %v, p75 %v; want the requests behind the stall to count it", r.Served, r.Latency.Max(),
			r.Latency.Quantile(0.75))
	}
}

// TestRun_Counted_RunsInTime has a server that answers only once counting has begun.
func TestRun_Counted_RunsInTime(t *testing.T) {
	t.Parallel()
	counting := make(chan struct{})
	address := serve(t, func(http.ResponseWriter, *http.Request) { <-counting })
	r := load.Run(t.Context(), load.Options{
		Address: address, Connections: 2, Limit: 1, Warm: time.Millisecond, Next: each("/", 0), Timeout: time.Minute,
	}, func() { close(counting) })
	if r.Failed() > 0 {
		t.Errorf("failures: %v", r.Failures)
	}
}

func TestResult_PerSecond(t *testing.T) {
	t.Parallel()
	if got := (&load.Result{Served: 10, Elapsed: 2 * time.Second}).PerSecond(); got != 5 {
		t.Errorf("%v requests a second, want 5", got)
	}
	if got := new(load.Result).PerSecond(); got != 0 {
		t.Errorf("%v requests a second in no time, want 0", got)
	}
}
