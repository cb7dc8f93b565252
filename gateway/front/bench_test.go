package front

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// rawViewer requests one path again and again on one connection. It allocates nothing, so only the server is measured.
type rawViewer struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

// newRawViewer connects to the address.
func newRawViewer(tb testing.TB, address, uri string) *rawViewer {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &rawViewer{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), request: fmt.Appendf(nil,
		"GET %s HTTP/1.1\r\nHost: tv.example.com\r\nUser-Agent: MAG250\r\nAccept: */*\r\n\r\n", uri)}
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

func benchmarkViewer(b *testing.B, v *rawViewer, want int) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if got := v.do(b); got != want {
			b.Fatalf("status %d, want %d", got, want)
		}
	}
}

// longPlaylist returns a playlist that never changes, so that the benchmark measures no fetch.
func longPlaylist() string {
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:86400\n")
	for n := range 30 {
		fmt.Fprintf(&b, "#EXTINF:6.000,\nsegment-%d.ts\n", n)
	}
	return b.String()
}

func BenchmarkServer_Cached(b *testing.B) {
	for _, f := range []frontKind{netHTTP, plainFront} {
		s := newTestServer(b, f, nil)
		s.upstream.Files["/play/a001/index.m3u8"] = longPlaylist()
		s.upstream.Files["/play/a001/small.ts"] = strings.Repeat("x", 1000)
		s.upstream.Files["/play/a001/large.ts"] = strings.Repeat("x", 1_000_000)
		below := "/~" + s.ticket + "/play/a001/"
		for _, test := range []struct{ name, uri string }{
			{"playlist by original URL", "/play/a001/index.m3u8?token=123"},
			{"playlist below a ticket", below + "index.m3u8"},
			{"segment of 1 kB", below + "small.ts"},
			{"segment of 1 MB", below + "large.ts"},
		} {
			b.Run(string(f)+"/"+test.name, func(b *testing.B) {
				s.want(b, http.StatusOK, test.uri)
				benchmarkViewer(b, newRawViewer(b, s.address, test.uri), http.StatusOK)
			})
		}
	}
}
