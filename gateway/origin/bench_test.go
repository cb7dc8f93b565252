package origin

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

func newCachedFixture(tb testing.TB, size int) fixture {
	tb.Helper()
	body := randomBody(size)
	o := newFixture(tb, nil, []string{serve(tb, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})})
	mustMedia(tb, o, Request{Path: "/play/a001/seg-17.ts"})
	return o
}

func readHit(o fixture) int {
	s, err := o.Media(context.Background(), Request{Path: "/play/a001/seg-17.ts"})
	if err != nil {
		return 0
	}
	defer s.Close()
	object, _ := s.Object()
	n, _ := io.Discard.Write(object.Body)
	return n
}

func alwaysFresh([]byte) (Inspection, error) {
	return Inspection{Fresh: time.Hour, Stale: time.Hour}, nil
}

func readPlaylistHit(o fixture) int {
	p, err := o.Playlist(context.Background(), &Request{Path: "/play/a001/index.m3u8", Inspect: alwaysFresh})
	if err != nil {
		return 0
	}
	return len(p.Body)
}

func TestMedia_Hit_DoesNotAllocate(t *testing.T) {
	o := newCachedFixture(t, 1000)
	if n := testing.AllocsPerRun(1000, func() { readHit(o) }); n >= 1 {
		t.Errorf("media: %v allocations, want none", n)
	}
	if n := testing.AllocsPerRun(1000, func() { readPlaylistHit(o) }); n >= 1 {
		t.Errorf("playlist: %v allocations, want none", n)
	}
	edge := serve(t, respondWith("edge"))
	o = newFixture(t, nil, []string{"http://127.0.0.1:9"}, allowLoopback(edge))
	r := Request{Base: edge, Path: "/seg-17.ts"}
	mustMedia(t, o, r)
	if n := testing.AllocsPerRun(1000, func() {
		s, err := o.Media(context.Background(), r)
		if _, isHit := s.Object(); err != nil || !isHit {
			t.Errorf("media of a redirect host: %v, want a hit", err)
		}
		_ = s.Close()
	}); n >= 1 {
		t.Errorf("media of a redirect host: %v allocations, want none", n)
	}
}

func BenchmarkOrigin_Hit(b *testing.B) {
	for name, size := range map[string]int{"1kB": 1000, "1MB": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			o := newCachedFixture(b, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if readHit(o) != size {
					b.Fatal("not in memory")
				}
			}
		})
	}
	b.Run("playlist", func(b *testing.B) {
		o := newCachedFixture(b, 1000)
		b.ReportAllocs()
		for b.Loop() {
			if readPlaylistHit(o) == 0 {
				b.Fatal("not in memory")
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		o := newCachedFixture(b, 1000)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				readHit(o)
			}
		})
	})
}

// BenchmarkMedia_CoalescedMiss measures one fetch of 100 kB over loopback with 50 viewers who read it as it arrives.
func BenchmarkMedia_CoalescedMiss(b *testing.B) {
	body := randomBody(100_000)
	o := newFixture(b, nil, []string{serve(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})})
	const viewers = 50
	b.ReportAllocs()
	b.SetBytes(int64(viewers * len(body)))
	read := make(chan int, viewers)
	for i := 0; b.Loop(); i++ {
		r := Request{Path: "/" + strconv.Itoa(i) + ".ts"}
		for range viewers {
			go func() {
				s, err := o.Media(context.Background(), r)
				if err != nil {
					read <- 0
					return
				}
				n, _ := s.WriteTo(io.Discard)
				_ = s.Close()
				read <- int(n)
			}()
		}
		for range viewers {
			if n := <-read; n != len(body) {
				b.Fatalf("read %d bytes", n)
			}
		}
	}
	b.ReportMetric(float64(o.Stats().Fetches)/float64(b.N), "fetches/op")
}
