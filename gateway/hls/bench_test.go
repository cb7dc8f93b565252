package hls_test

import (
	"fmt"
	"strings"
	"testing"

	"usher/gateway/hls"
)

// livePlaylist returns a playlist as ffmpeg writes it, with the given number of segments.
func livePlaylist(segments int) []byte {
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:118\n")
	for i := range segments {
		fmt.Fprintf(&b, "#EXTINF:2.000000,\nseg-%d.ts\n", 118+i)
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, segments := range []int{24, 2000} {
		body := livePlaylist(segments)
		for name, m := range modes() {
			b.Run(fmt.Sprintf("segments=%d/%s", segments, name), func(b *testing.B) {
				o := m.options()
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if _, err := hls.Parse(body, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkScan(b *testing.B) {
	body := livePlaylist(24)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := hls.Scan(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	const ticket = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIj"
	for _, segments := range []int{24, 2000} {
		for _, name := range []string{"path", "path-ticketed", "query"} {
			b.Run(fmt.Sprintf("segments=%d/%s", segments, name), func(b *testing.B) {
				template, err := hls.Parse(livePlaylist(segments), modes()[name].options())
				if err != nil {
					b.Fatal(err)
				}
				room := make([]byte, 0, template.Size(ticket))
				b.ReportAllocs()
				b.SetBytes(int64(cap(room)))
				for b.Loop() {
					room = template.Append(room[:0], ticket)
				}
			})
		}
	}
}
