package viewer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/backends/backendtest/testproc"
	"usher/bench/pace"
	"usher/bench/record"
	"usher/bench/viewer/wire"
)

// benchTime is how long each client loads nginx, and benchConnections by how many connections.
const (
	benchTime        = 3 * time.Second
	benchConnections = 64
)

// nginx is nginx with one process that serves a playlist of 1 kB at /index.m3u8 and a segment of 1 MB at /seg.ts.
type nginx struct {
	url string
	pid int
}

func startNginx(b *testing.B) nginx {
	b.Helper()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	folder := b.TempDir()
	playlist := "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:1\n" + strings.Repeat("#EXTINF:1.000,\nseg.ts?ticket=0123456789012345\n", 20)
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;
		events { worker_connections 20000; }
		http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=10;
		client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
		server { listen %[2]s backlog=4096; root %[1]s; } }`, folder, address)
	for name, data := range map[string]string{"index.m3u8": playlist, "seg.ts": strings.Repeat("x", 1_000_000), "nginx.conf": config} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(data), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.Background(), "nginx", "-c", filepath.Join(folder, "nginx.conf"), "-p", folder)
	if os.Getuid() == 0 {
		_ = os.Chmod(folder, 0o755) // one process does not change its user
	}
	wait, err := testproc.Start(cmd)
	if err != nil {
		b.Fatalf("start nginx (package nginx-light): %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return nginx{"http://" + address, cmd.Process.Pid}
		}
		if time.Now().After(deadline) {
			b.Fatalf("nginx does not answer: %v", err)
		}
	}
}

// cpuOf returns the CPU time of a process.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// BenchmarkRun_Nginx loads nginx's static files as fast as possible, by this package's client and by wrk, and by the whole generator at a
// rate.
func BenchmarkRun_Nginx(b *testing.B) {
	server := startNginx(b)
	for _, path := range []string{"/index.m3u8", "/seg.ts"} {
		b.Run("wire"+path, func(b *testing.B) { server.measure(b, func() float64 { return server.byWire(b, path) }) })
		b.Run("wrk"+path, func(b *testing.B) { server.measureWrk(b, path) })
	}
	for _, rate := range []int{10_000, 20_000, 40_000} {
		b.Run("engine/light/"+strconv.Itoa(rate), func(b *testing.B) {
			server.measure(b, func() float64 { return server.byEngine(b, rate, true) })
		})
	}
	b.Run("engine/full/10000", func(b *testing.B) { server.measure(b, func() float64 { return server.byEngine(b, 10_000, false) }) })
}

// measure reports what a load by this process costs. load returns the number of requests.
func (s nginx) measure(b *testing.B, load func() float64) {
	for b.Loop() {
		own, its, began := cpuOf(b, os.Getpid()), cpuOf(b, s.pid), time.Now()
		n := load()
		s.report(b, n, time.Since(began), cpuOf(b, os.Getpid())-own, cpuOf(b, s.pid)-its)
	}
}

func (s nginx) report(b *testing.B, n float64, took, own, its time.Duration) {
	b.ReportMetric(n/took.Seconds(), "req/s")
	b.ReportMetric(own.Seconds()*1e6/n, "own-µs/req")
	b.ReportMetric(its.Seconds()*1e6/n, "nginx-µs/req")
	b.ReportMetric(own.Seconds()/took.Seconds(), "own-cores")
	b.ReportMetric(its.Seconds()/took.Seconds(), "nginx-cores")
	b.ReportMetric(0, "ns/op")
}

func (s nginx) byWire(b *testing.B, path string) float64 {
	client := wire.NewClient(b.Context(), wire.Config{})
	defer client.Close()
	origin := newOrigin(s.url)
	var all sync.WaitGroup
	var n atomic.Int64
	end := time.Now().Add(benchTime)
	for range benchConnections {
		all.Go(func() {
			conn, x := client.NewConn(origin, netip.Addr{}), wire.NewExchange()
			x.Target, x.Header, x.Timeout = []byte(path), []byte("User-Agent: bench\r\n"), time.Minute
			for done := int64(0); ; done++ {
				if conn.Do(x); x.Failure != "" || x.Status != http.StatusOK {
					b.Errorf("%s", x.FailureText())
				}
				if x.End.After(end) {
					n.Add(done)
					return
				}
			}
		})
	}
	all.Wait()
	return float64(n.Load())
}

func (s nginx) measureWrk(b *testing.B, path string) {
	for b.Loop() {
		its := cpuOf(b, s.pid)
		cmd := exec.CommandContext(b.Context(), "wrk", "-t2", "-c"+strconv.Itoa(benchConnections), "-d"+benchTime.String(), s.url+path)
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("wrk (package wrk): %v", err)
		}
		its = cpuOf(b, s.pid) - its
		var n float64
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == "requests" {
				n, _ = strconv.ParseFloat(f[0], 64)
			}
		}
		usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		s.report(b, n, benchTime, time.Duration(usage.Utime.Nano()+usage.Stime.Nano()), its)
	}
}

func (s nginx) byEngine(b *testing.B, rate int, light bool) float64 {
	c := DefaultConfig()
	c.Targets, c.Path, c.Viewers, c.Light = []string{s.url}, "/index.m3u8", rate, light
	c.Pace, c.Behaviour.Multivariant = pace.Constant(rate), 0
	c.SegmentEvery = 1 << 40 // playlists alone
	if light {
		c.MaxInFlight = benchConnections
	}
	ctx, cancel := context.WithTimeout(b.Context(), benchTime)
	defer cancel()
	r := record.New(time.Now())
	if err := Run(ctx, c, r); err != nil {
		b.Fatal(err)
	}
	m := r.Finish(time.Now())
	n := 0.0
	for name, o := range m.Operations {
		n += float64(o.Requests)
		if o.Failed() > 0 {
			b.Errorf("%s: failed %v", name, o.Errors)
		}
		b.Logf("%s: p50 %v, p99 %v", name, o.Latency.Quantile(0.5), o.Latency.Quantile(0.99))
	}
	b.Logf("late p50 %v p99 %v, dropped %d, notes %q", m.Arrivals.Lateness.Quantile(0.5), m.Arrivals.Lateness.Quantile(0.99), m.Arrivals.Dropped, m.Notes)
	return n
}
