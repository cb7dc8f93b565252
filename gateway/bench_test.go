package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// rawViewer requests one path again and again on one connection. It allocates nothing, so only the server is measured.
type rawViewer struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

// newRawViewer serves the handler on a real socket.
func newRawViewer(tb testing.TB, h http.Handler, path string) *rawViewer {
	tb.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Start()
	tb.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &rawViewer{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), request: fmt.Appendf(nil,
		"GET %s HTTP/1.1\r\nHost: tv.example.com\r\nUser-Agent: MAG250\r\nAccept: */*\r\n\r\n", path)}
}

// do sends the request and reads the response to its end. It returns the status.
func (v *rawViewer) do(tb testing.TB) int {
	if _, err := v.conn.Write(v.request); err != nil {
		tb.Fatal(err)
	}
	status, length := 0, 0
	for first := true; ; first = false {
		line, err := v.in.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		switch {
		case first:
			status = digits(line[len("HTTP/1.1 "):])
		case len(line) == 2:
			if _, err := v.in.Discard(length); err != nil {
				tb.Fatal(err)
			}
			return status
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length = digits(line[len("Content-Length: "):])
		}
	}
}

func digits(text []byte) (n int) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// baseline serves the same bytes and header fields with net/http alone.
func baseline(contentType string, body []byte) http.HandlerFunc {
	fields := map[string][]string{
		"Content-Type": {contentType}, "Content-Length": {strconv.Itoa(len(body))}, "Accept-Ranges": {"bytes"},
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), fields)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(body)
	}
}

// newCachedSegment makes a gateway with a cached segment of that size, and returns the segment's path with a ticket.
func newCachedSegment(tb testing.TB, size int) (*testGateway, string) {
	tb.Helper()
	g := newTestGateway(tb, nil)
	g.upstream.files["/play/a001/seg-17.ts"] = strings.Repeat("x", size)
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
	g.upstream.files["/play/a001/seg-17.ts"] = strings.Repeat("x", size)
	g.upstream.files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nseg-17.ts?expires=1795756715&sig=4211246989abcdef4211246989abcdef\n"
	path := uris(g.want(tb, http.StatusOK, "/play/a001/index.m3u8?token=1").body)[0]
	g.want(tb, http.StatusOK, path)
	return g, path
}

func benchmarkViewer(b *testing.B, v *rawViewer, want int) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if got := v.do(b); got != want {
			b.Fatalf("status %d, want %d", got, want)
		}
	}
}

func BenchmarkHandler_CachedSegment(b *testing.B) {
	for name, size := range map[string]int{"1kB": 1000, "1MB": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			g, path := newCachedSegment(b, size)
			b.Run("floor", func(b *testing.B) {
				b.SetBytes(int64(size))
				body := []byte(g.upstream.files["/play/a001/seg-17.ts"])
				benchmarkViewer(b, newRawViewer(b, baseline("text/plain; charset=utf-8", body), path), 200)
			})
			b.Run("usher", func(b *testing.B) {
				b.SetBytes(int64(size))
				benchmarkViewer(b, newRawViewer(b, g.handler, path), 200)
			})
			b.Run("usher, by reference", func(b *testing.B) {
				g, path := newCachedReference(b, size)
				b.SetBytes(int64(size))
				benchmarkViewer(b, newRawViewer(b, g.handler, path), 200)
			})
		})
	}
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
	g.upstream.files["/play/a001/index.m3u8"] = longPlaylist(false)
	return g
}

func BenchmarkHandler_Playlist(b *testing.B) {
	g := newPlaylistGateway(b)
	b.Run("floor", func(b *testing.B) {
		benchmarkViewer(b, newRawViewer(b, baseline(playlistType, []byte(longPlaylist(false))), "/"), 200)
	})
	b.Run("below a ticket", func(b *testing.B) {
		benchmarkViewer(b, newRawViewer(b, g.handler, "/~"+g.ticket(b, "a001")+"/play/a001/index.m3u8"), 200)
	})
	b.Run("spliced", func(b *testing.B) {
		benchmarkViewer(b, newRawViewer(b, g.handler, "/play/a001/index.m3u8?token=123"), 200)
	})
	b.Run("forged ticket", func(b *testing.B) {
		ticket := g.ticket(b, "a001")
		benchmarkViewer(b, newRawViewer(b, g.handler, "/~"+ticket[:len(ticket)-1]+"A/play/a001/index.m3u8"), 403)
	})
}

func BenchmarkHandler_ParallelSegments(b *testing.B) {
	g, path := newCachedSegment(b, 1000)
	handlers := map[string]http.Handler{"floor": baseline("text/plain; charset=utf-8", make([]byte, 1000)), "usher": g.handler}
	for name, h := range handlers {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				w := &discardWriter{header: http.Header{}}
				for pb.Next() {
					clear(w.header)
					h.ServeHTTP(w, r)
				}
			})
		})
	}
}

// discardWriter is a ResponseWriter that discards everything.
type discardWriter struct {
	io.Writer
	header http.Header
}

func (d *discardWriter) Header() http.Header         { return d.header }
func (d *discardWriter) WriteHeader(int)             {}
func (d *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
