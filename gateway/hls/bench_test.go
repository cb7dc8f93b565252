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

// lowLatencyPlaylist returns an encrypted playlist with parts, with the given number of segments.
func lowLatencyPlaylist(segments int) []byte {
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA-SEQUENCE:118\n#EXT-X-MAP:URI=\"init.mp4\"\n")
	for i := range segments {
		fmt.Fprintf(&b, "#EXT-X-KEY:METHOD=AES-128,URI=\"key-%d\",IV=0x%032x\n", i, i)
		for part := range 4 {
			fmt.Fprintf(&b, "#EXT-X-PART:DURATION=1.00000,INDEPENDENT=YES,URI=\"part-%d.%d.mp4\"\n", i, part)
		}
		fmt.Fprintf(&b, "#EXTINF:4.00000,\nseg-%d.mp4\n", i)
	}
	b.WriteString("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"next.mp4\"\n#EXT-X-RENDITION-REPORT:URI=\"../b/list.m3u8\",LAST-MSN=1\n")
	return []byte(b.String())
}

func BenchmarkParse_LowLatency(b *testing.B) {
	body, o := lowLatencyPlaylist(10), modes()["path-ticketed"].options()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := hls.Parse(body, o); err != nil {
			b.Fatal(err)
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

// BenchmarkScan_LineEnds scans as many bytes in the same time for each of them.
func BenchmarkScan_LineEnds(b *testing.B) {
	for name, end := range map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"} {
		body := []byte(strings.ReplaceAll(string(livePlaylist(20_000)), "\n", end))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := hls.Scan(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	ticket := []byte("AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIj")
	for _, segments := range []int{24, 2000} {
		for _, name := range []string{"path", "path-ticketed", "query"} {
			b.Run(fmt.Sprintf("segments=%d/%s", segments, name), func(b *testing.B) {
				template, err := hls.Parse(livePlaylist(segments), modes()[name].options())
				if err != nil {
					b.Fatal(err)
				}
				room := make([]byte, 0, template.Size(ticket, nil))
				b.ReportAllocs()
				b.SetBytes(int64(cap(room)))
				for b.Loop() {
					room = template.Append(room[:0], ticket, nil)
				}
			})
		}
	}
}
