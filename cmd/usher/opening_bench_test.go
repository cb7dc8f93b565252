//go:build !race

package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"usher/cmd/usher/config"
)

// BenchmarkNode_Opening has ever new viewers open a channel, many at once, each asked about with one call of a middleware on
// loopback. The middleware runs in this process, so that its time counts as well.
func BenchmarkNode_Opening(b *testing.B) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:86400\n"+strings.Repeat("#EXTINF:6.000,\nsegment.ts\n", 10))
	}))
	b.Cleanup(origin.Close)
	middleware := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-Authduration"] = []string{"3600"}
		w.WriteHeader(http.StatusOK)
	}))
	b.Cleanup(middleware.Close)
	s := defaultSettings()
	text := strings.Replace(settingsFor(middleware.URL+"/check"), "http://127.0.0.1:9", origin.URL, 1)
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		b.Fatal(err)
	}
	n, err := newNode(s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.close)
	var opened atomic.Uint32
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		w := &discardingWriter{header: http.Header{}}
		for pb.Next() {
			i := opened.Add(1)
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet,
				"/play/a001/index.m3u8?token=good"+strconv.Itoa(int(i)), nil)
			r.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1000).String()
			clear(w.header)
			if n.handler.ServeHTTP(w, r); w.status == http.StatusForbidden {
				b.Errorf("%d, want an allowed viewer", w.status)
				return
			}
		}
	})
}
