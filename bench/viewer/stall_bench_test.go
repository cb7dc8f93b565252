package viewer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/bench/pace"
	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/stage"
	"usher/bench/viewer/wire"
)

// BenchmarkRun_StallingServer reports the p99 of a server that stalls for a second of every ten: by this generator, by connections that
// wait with the server, and by wrk, which adds to what it measured the requests that it should have sent.
func BenchmarkRun_StallingServer(b *testing.B) {
	const length = 20 * time.Second
	start := time.Now()
	origin := stage.NewOrigin(stage.Config{SegmentDuration: time.Second})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at := time.Since(start) % (10 * time.Second); at > 9*time.Second {
			time.Sleep(10*time.Second - at)
		}
		origin.ServeHTTP(w, r)
	}))
	defer server.Close()
	b.Run("generator", func(b *testing.B) {
		for b.Loop() {
			c := DefaultConfig()
			c.Targets, c.Viewers, c.Pace, c.Light, c.Behaviour.Multivariant = []string{server.URL}, 500, pace.Constant(500), true, 0
			ctx, cancel := context.WithTimeout(b.Context(), length)
			r := record.New(time.Now())
			if err := Run(ctx, c, r); err != nil {
				b.Fatal(err)
			}
			cancel()
			o := r.Finish(time.Now()).Operations[result.Playlist]
			b.ReportMetric(float64(o.Latency.Quantile(0.5).Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(o.Latency.Quantile(0.99).Microseconds())/1000, "p99-ms")
		}
	})
	b.Run("closed loop", func(b *testing.B) {
		for b.Loop() {
			h := closedLoop(b, server.URL, length)
			b.ReportMetric(float64(h.Quantile(0.5).Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(h.Quantile(0.99).Microseconds())/1000, "p99-ms")
		}
	})
	b.Run("wrk", func(b *testing.B) {
		for b.Loop() {
			out, err := exec.CommandContext(b.Context(), "wrk", "-t1", "-c64", "--latency", "-d"+length.String(), server.URL+"/play/a001/low.m3u8").Output()
			if err != nil {
				b.Fatalf("wrk (package wrk): %v", err)
			}
			for line := range strings.Lines(string(out)) {
				f := strings.Fields(line)
				if len(f) != 2 || f[0] != "50%" && f[0] != "99%" {
					continue
				}
				if d, err := time.ParseDuration(f[1]); err == nil {
					b.ReportMetric(float64(d.Microseconds())/1000, "p"+strings.TrimSuffix(f[0], "%")+"-ms")
				}
			}
		}
	})
}

// closedLoop measures each request of some connections that send the next one when the last one was answered.
func closedLoop(b *testing.B, url string, length time.Duration) *result.Histogram {
	client := wire.NewClient(b.Context(), wire.Config{})
	defer client.Close()
	origin := newOrigin(url)
	var all result.Histogram
	var mu sync.Mutex
	var running sync.WaitGroup
	end := time.Now().Add(length)
	for range benchConnections {
		running.Go(func() {
			conn, x := client.NewConn(origin, netip.Addr{}), wire.NewExchange()
			x.Target, x.Timeout = []byte("/play/a001/low.m3u8"), time.Minute
			for x.End.Before(end) {
				conn.Do(x)
				mu.Lock()
				all.Record(x.End.Sub(x.Sent))
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return &all
}
