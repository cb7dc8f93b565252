package origin

import (
	"net/http"
	"strconv"
	"testing"

	"usher/backends/setting"
)

// TestOrigin_Media_LargestObject_Stored fetches bodies of cache.max_object_size, and of one byte more, with a length and without,
// plain and encoded.
func TestOrigin_Media_LargestObject_Stored(t *testing.T) {
	t.Parallel()
	const largest = int(setting.MiB)
	for name, test := range map[string]struct {
		size       int
		hasLength  bool
		isGzip     bool
		wantStored bool
	}{
		"as large, with its length":    {largest, true, false, true},
		"as large, without a length":   {largest, false, false, true},
		"as large, encoded":            {largest, true, true, true},
		"one byte more, with a length": {largest + 1, true, false, false},
		"one byte more, without":       {largest + 1, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := randomBody(test.size)
			sent := whole
			if test.isGzip {
				sent = compress(t, "gzip", whole)
			}
			o := newFixture(t, func(c *Config) { c.Cache.MaxObjectSize = setting.MiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "video/mp2t")
				if test.isGzip {
					w.Header().Set("Content-Encoding", "gzip")
				}
				if test.hasLength {
					w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
				}
				_, _ = w.Write(sent[:len(sent)/2])
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(sent[len(sent)/2:])
			})})
			if _, got := mustMedia(t, o, Request{Path: "/seg.ts"}); got != string(whole) {
				t.Fatalf("got %d bytes, want the %d of the origin", len(got), len(whole))
			}
			o.cache.entries.CleanUp()
			if s := o.cache.Stats(); (s.Entries == 1) != test.wantStored || s.InFlight != 0 {
				t.Errorf("%d entries, %d bytes in flight; want it stored: %v", s.Entries, s.InFlight, test.wantStored)
			}
		})
	}
}

func TestCanBePlaylist(t *testing.T) {
	t.Parallel()
	part := func(lo int64) contentRange { return contentRange{lo: lo, hi: lo + 10} }
	for name, test := range map[string]struct {
		head responseHead
		want bool
	}{
		"no type":                 {responseHead{status: 200}, true},
		"text":                    {responseHead{status: 200, Header: Header{ContentType: "text/plain"}}, true},
		"a playlist's":            {responseHead{status: 200, Header: Header{ContentType: "application/vnd.apple.mpegurl"}}, true},
		"a playlist's, as audio":  {responseHead{status: 200, Header: Header{ContentType: "audio/x-mpegurl"}}, true},
		"in capitals":             {responseHead{status: 200, Header: Header{ContentType: "AUDIO/MPEGURL"}}, true},
		"audio":                   {responseHead{status: 200, Header: Header{ContentType: "audio/aac"}}, false},
		"video":                   {responseHead{status: 200, Header: Header{ContentType: "Video/MP2T"}}, false},
		"video of a playlist":     {responseHead{status: 200, Header: Header{ContentType: "video/mpegurl"}}, false},
		"an image":                {responseHead{status: 200, Header: Header{ContentType: "image/jpeg"}}, false},
		"the beginning of a text": {responseHead{status: 206, partRange: part(0)}, true},
		"a later part of it":      {responseHead{status: 206, partRange: part(1)}, false},
	} {
		if got := canBePlaylist(&test.head); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
