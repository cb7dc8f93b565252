package stage

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// discard is a ResponseWriter that drops everything, so that a benchmark measures the origin alone.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func benchmarkServe(b *testing.B, cfg Config, path string) {
	o := NewOrigin(cfg)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("%s: %d", path, w.Code)
	}
	b.SetBytes(int64(w.Body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		o.ServeHTTP(discard{make(http.Header)}, r)
	}
}

func BenchmarkOrigin_CachedSegment(b *testing.B) {
	newest := strconv.FormatInt(noon().Unix()/2-1, 10)
	b.Run("TS", func(b *testing.B) { benchmarkServe(b, Config{Now: noon}, "/play/x/high-"+newest+".ts") })
	b.Run("TS stuffed to 1 MB", func(b *testing.B) {
		benchmarkServe(b, Config{Now: noon, StuffTo: 1_000_000}, "/play/x/high-"+newest+".ts")
	})
	b.Run("fMP4 part", func(b *testing.B) { benchmarkServe(b, Config{Now: noon}, "/ll/x/"+newest+".3.m4s") })
}

func BenchmarkOrigin_Playlist(b *testing.B) {
	b.Run("media", func(b *testing.B) { benchmarkServe(b, Config{Now: noon}, "/play/x/high.m3u8") })
	b.Run("low latency", func(b *testing.B) { benchmarkServe(b, Config{Now: noon}, "/ll/x/index.m3u8") })
	b.Run("low latency delta", func(b *testing.B) { benchmarkServe(b, Config{Now: noon}, "/ll/x/index.m3u8?_HLS_skip=YES") })
}

func BenchmarkBuildSegment(b *testing.B) {
	o := NewOrigin(Config{Now: noon})
	number := o.timeline.nextSegment(noon()) - 1
	for name, r := range map[string]rendition{"TS": high, "fMP4": lowLatency} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(o.build(r, number).bytes)))
			b.ReportAllocs()
			for b.Loop() {
				o.build(r, number)
			}
		})
	}
}
