package origin

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"usher/backends/setting"
)

func compress(t *testing.T, encoding string, body []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "zlib":
		w = zlib.NewWriter(&buf)
	case "raw":
		w, _ = flate.NewWriter(&buf, flate.BestCompression)
	default:
		return body
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestNewDecoder_CompressedResponses(t *testing.T) {
	t.Parallel()
	body := []byte(strings.Repeat("#EXTINF:4,\nseg.ts\n", 1000))
	tests := map[string]struct{ field, kind string }{
		"gzip":                   {"gzip", "gzip"},
		"x-gzip":                 {"X-GZIP", "gzip"},
		"deflate as it should":   {"deflate", "zlib"},
		"deflate as some do it":  {"deflate", "raw"},
		"identity named as such": {"identity", "none"},
		"of an upload":           {"aws-chunked", "none"},
		"of an upload, and gzip": {"gzip,aws-chunked", "gzip"},
		"a charset":              {"UTF-8", "none"},
		"a word of no meaning":   {"none", "none"},
		"nothing":                {"", "none"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.Header.Get("Accept-Encoding"), map[bool]string{true: "gzip", false: "identity"}[strings.HasSuffix(r.URL.Path, ".m3u8")]; got != want {
					t.Errorf("%s: Accept-Encoding: got %q, want %q", r.URL.Path, got, want)
				}
				w.Header().Set("Content-Encoding", test.field)
				w.Header().Set("ETag", `"v"`)
				if test.kind == "none" {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
					return
				}
				_, _ = w.Write(compress(t, test.kind, body))
			})})
			requireSameBytes(t, mustPlaylist(t, o, reloadRequest()).Body, body)
			if test.kind == "none" {
				part, got := mustMedia(t, o, Request{Path: "/part.vtt", Range: "bytes=3-9"})
				requireSameBytes(t, []byte(got), body[3:10])
				if part.Status != http.StatusPartialContent {
					t.Errorf("a range: got status %d", part.Status)
				}
			}
			s, got := mustMedia(t, o, Request{Path: "/sub.vtt"})
			requireSameBytes(t, []byte(got), body)
			if want := map[bool]string{true: `"v"`, false: `W/"v"`}[test.kind == "none"]; s.ETag != want {
				t.Errorf("ETag: got %s, want %s", s.ETag, want)
			}
		})
	}
}

func TestNewDecoder_UnknownEncoding_Fails(t *testing.T) {
	t.Parallel()
	for name, field := range map[string]string{"unknown": "br", "unknown after a known one": "gzip, zstd", "too many": "gzip, gzip, gzip", "not what it says": "gzip", "not even zlib": "deflate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", field)
				_, _ = w.Write([]byte{0x07})
			})})
			var unreachable *UnreachableError
			if _, err := o.Playlist(t.Context(), new(reloadRequest())); !errors.As(err, &unreachable) {
				t.Errorf("playlist: got %v, want an UnreachableError", err)
			}
			if _, _, err := fetchMedia(t, o, Request{Path: "/sub.vtt"}); !errors.As(err, &unreachable) {
				t.Errorf("media: got %v, want an UnreachableError", err)
			}
		})
	}
}

func TestNewDecoder_DecompressionBomb_Bounded(t *testing.T) {
	t.Parallel()
	bomb := compress(t, "gzip", make([]byte, 6<<20))
	o := newFixture(t, func(c *Config) { c.Cache.MaxObjectSize = setting.MiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	})})
	if _, err := o.Playlist(t.Context(), new(reloadRequest())); !errors.Is(err, ErrTooLarge) {
		t.Errorf("playlist: got %v, want ErrTooLarge", err)
	}
	_, body, err := fetchMedia(t, o, Request{Path: "/seg.ts"})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "cache.max_object_size=1MiB") {
		t.Errorf("media: got %v, want ErrTooLarge naming cache.max_object_size=1MiB", err)
	}
	if len(body) > 2<<20 {
		t.Errorf("media: %d bytes came through", len(body))
	}
}
