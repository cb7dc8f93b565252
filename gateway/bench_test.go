package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// directViewer sends a gateway one request again and again, without a server. It allocates nothing itself.
type directViewer struct {
	gateway *Gateway
	request Request
	resp    Response
}

func newDirectViewer(g *Gateway, uri string) *directViewer {
	path, query, _ := strings.Cut(uri, "?")
	return &directViewer{gateway: g, request: Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: path, Query: query, Peer: netip.MustParseAddr("127.0.0.1"),
		Header: http.Header{"User-Agent": {"MAG250"}, "Accept": {"*/*"}},
	}}
}

// do sends the request and reads the response to its end. It returns the status.
func (v *directViewer) do(tb testing.TB) int {
	if err := v.gateway.Serve(context.Background(), &v.request, &v.resp); err != nil {
		tb.Fatal(err)
	}
	status := v.resp.Status
	var err error
	for v.resp.Stream != nil && err == nil {
		var body []byte
		body, err = v.resp.Stream.Next()
		v.resp.Sent(int64(len(body)))
	}
	if v.resp.Stream != nil {
		_ = v.resp.Stream.Close()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		tb.Fatal(err)
	}
	v.resp.Reset()
	return status
}

// newCachedSegment makes a gateway with a cached segment of that size, and returns the segment's path with a ticket.
func newCachedSegment(tb testing.TB, size int) (*testGateway, string) {
	tb.Helper()
	g := newTestGateway(tb, nil)
	g.upstream.Files["/play/a001/seg-17.ts"] = strings.Repeat("x", size)
	path := "/~" + g.ticket(tb, "a001") + "/play/a001/seg-17.ts"
	if got := g.want(tb, http.StatusOK, path); len(got.body) != size {
		tb.Fatalf("segment: got %d bytes", len(got.body))
	}
	return g, path
}

// newCachedReference is newCachedSegment for a segment that is listed with a query.
func newCachedReference(tb testing.TB, size int) (*testGateway, string) {
	tb.Helper()
	g := newTestGateway(tb, nil)
	g.upstream.Files["/play/a001/seg-17.ts"] = strings.Repeat("x", size)
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-17.ts?expires=1795756715&sig=4211246989abcdef4211246989abcdef\n"
	path := uris(g.want(tb, http.StatusOK, "/play/a001/index.m3u8?token=1").body)[0]
	g.want(tb, http.StatusOK, path)
	return g, path
}

// longPlaylist returns a playlist that never changes, so that the benchmark measures no fetch.
func longPlaylist(variants bool) string {
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:86400\n")
	for n := range 30 {
		if variants {
			fmt.Fprintf(&b, "#EXT-X-STREAM-INF:BANDWIDTH=%d\nv%d/index.m3u8\n", n, n)
			continue
		}
		fmt.Fprintf(&b, "#EXTINF:6.000,\nsegment-%d.ts\n", n)
	}
	return b.String()
}

func newPlaylistGateway(tb testing.TB) *testGateway {
	tb.Helper()
	g := newTestGateway(tb, nil)
	g.upstream.Files["/play/a001/index.m3u8"] = longPlaylist(false)
	return g
}

func (v *directViewer) benchmark(b *testing.B, want int) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if got := v.do(b); got != want {
			b.Fatalf("status %d, want %d", got, want)
		}
	}
}

func BenchmarkServe_CachedSegment(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		g, path := newCachedSegment(b, 1000)
		newDirectViewer(g.Gateway, path).benchmark(b, http.StatusOK)
	})
	b.Run("by reference", func(b *testing.B) {
		g, path := newCachedReference(b, 1000)
		newDirectViewer(g.Gateway, path).benchmark(b, http.StatusOK)
	})
	b.Run("in parallel", func(b *testing.B) {
		g, path := newCachedSegment(b, 1000)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for v := newDirectViewer(g.Gateway, path); pb.Next(); {
				v.do(b)
			}
		})
	})
}

func BenchmarkServe_Playlist(b *testing.B) {
	g := newPlaylistGateway(b)
	ticket := g.ticket(b, "a001")
	for name, test := range map[string]struct {
		uri  string
		want int
	}{
		"below a ticket": {"/~" + ticket + "/play/a001/index.m3u8", http.StatusOK},
		"spliced":        {"/play/a001/index.m3u8?token=123", http.StatusOK},
		"forged ticket":  {"/~" + forged(ticket) + "/play/a001/index.m3u8", http.StatusForbidden},
	} {
		b.Run(name, func(b *testing.B) { newDirectViewer(g.Gateway, test.uri).benchmark(b, test.want) })
	}
}
