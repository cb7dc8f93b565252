package load_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/bench/load"
)

// What the generators do to the same server, which takes answerTime for each answer.
const (
	answerTime  = 20 * time.Millisecond
	connections = 64
	openRate    = 1000
	loadTime    = 5 * time.Second
)

// figures are what a generator says of the server: requests a second, and seconds.
type figures struct{ rate, p50, p99 float64 }

// report reports both and their ratios.
func (f figures) report(b *testing.B, name string, its figures) {
	b.ReportMetric(f.rate, "ours-req/s")
	b.ReportMetric(its.rate, name+"-req/s")
	b.ReportMetric(f.rate/its.rate, "req/s-ratio")
	b.ReportMetric(f.p50/its.p50, "p50-ratio")
	b.ReportMetric(f.p99/its.p99, "p99-ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRun_Agreement compares what this package measures with what wrk (a closed loop) and vegeta (a rate) do on one server.
// They must be in PATH: apt-get install wrk, go install github.com/tsenart/vegeta/v12@v12.13.0.
func BenchmarkRun_Agreement(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(answerTime)
		_, _ = w.Write([]byte("#EXTM3U\n"))
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	ours := func(rate float64) figures {
		head := load.Get(address, "/")
		r := load.Run(b.Context(), load.Options{
			Address: address, Connections: connections, Rate: rate, Warm: time.Second, For: loadTime,
			Next: func(int, int) load.Request { return load.Request{Head: head, First: '#'} },
		}, nil)
		if r.Failed() > 0 {
			b.Fatalf("failed: %v", r.Failures)
		}
		return figures{r.PerSecond(), r.Latency.Quantile(0.5).Seconds(), r.Latency.Quantile(0.99).Seconds()}
	}
	b.Run("wrk", func(b *testing.B) {
		for b.Loop() {
			ours(0).report(b, "wrk", byWrk(b, server.URL))
		}
	})
	b.Run("vegeta", func(b *testing.B) {
		for b.Loop() {
			ours(openRate).report(b, "vegeta", byVegeta(b, server.URL))
		}
	})
}

func byWrk(b *testing.B, url string) figures {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "wrk", "-t2", fmt.Sprintf("-c%d", connections), "-d"+loadTime.String(), "--latency", url).Output()
	if err != nil {
		b.Fatalf("wrk: %v", err)
	}
	number := func(pattern string) (float64, string) {
		found := regexp.MustCompile(pattern).FindSubmatch(out)
		if found == nil {
			b.Fatalf("wrk wrote no %q: %s", pattern, out)
		}
		n, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		return n, string(found[len(found)-1])
	}
	seconds := func(pattern string) float64 {
		n, unit := number(pattern)
		return n * map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1}[unit]
	}
	rate, _ := number(`Requests/sec:\s+([\d.]+)()`)
	return figures{rate, seconds(`50%\s+([\d.]+)(us|ms|s)`), seconds(`99%\s+([\d.]+)(us|ms|s)`)}
}

func byVegeta(b *testing.B, url string) figures {
	b.Helper()
	attack := exec.CommandContext(b.Context(), "vegeta", "attack", "-rate", strconv.Itoa(openRate), "-duration", loadTime.String(),
		"-connections", strconv.Itoa(connections))
	attack.Stdin = strings.NewReader("GET " + url + "\n")
	shots, err := attack.Output()
	if err != nil {
		b.Fatalf("vegeta attack: %v", err)
	}
	reporting := exec.CommandContext(b.Context(), "vegeta", "report", "-type=json")
	reporting.Stdin = bytes.NewReader(shots)
	out, err := reporting.Output()
	var found struct {
		Throughput float64
		Success    float64
		Latencies  map[string]float64
	}
	if err := cmp.Or(err, json.Unmarshal(out, &found)); err != nil || found.Success != 1 {
		b.Fatalf("vegeta report: %v, %v of the requests succeeded", err, found.Success)
	}
	return figures{found.Throughput, found.Latencies["50th"] / 1e9, found.Latencies["99th"] / 1e9}
}
