package origin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/setting"
)

func newSeeker(n int) io.ReadSeeker { return bytes.NewReader(randomBody(n)) }

const modified = "Mon, 02 Nov 2020 10:00:00 GMT"

// serveVersioned serves a thousand bytes with validators; with ignoring it ignores ranges.
func serveVersioned(t *testing.T, body []byte, ignoring bool, requests *atomic.Int32) string {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("Cache-Control", "max-age=60") // else the object may grow
		if ignoring {
			w.Header().Set("Last-Modified", modified)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
			return
		}
		at, _ := http.ParseTime(modified)
		http.ServeContent(w, r, "seg.mp4", at, bytes.NewReader(body))
	})
}

func TestMedia_RangesAndConditions(t *testing.T) {
	t.Parallel()
	body := randomBody(1000)
	whole := string(body)
	tests := map[string]struct {
		request      Request
		status       int
		contentRange string
		body         string
	}{
		"the whole":                            {Request{}, 200, "", whole},
		"the first bytes":                      {Request{Range: "bytes=0-99"}, 206, "bytes 0-99/1000", whole[:100]},
		"bytes in between":                     {Request{Range: "bytes=100-199"}, 206, "bytes 100-199/1000", whole[100:200]},
		"an open end":                          {Request{Range: "bytes=900-"}, 206, "bytes 900-999/1000", whole[900:]},
		"everything as a range":                {Request{Range: "bytes=0-"}, 206, "bytes 0-999/1000", whole},
		"a suffix":                             {Request{Range: "bytes=-10"}, 206, "bytes 990-999/1000", whole[990:]},
		"a suffix longer than the object":      {Request{Range: "bytes=-5000"}, 206, "bytes 0-999/1000", whole},
		"an end beyond the object":             {Request{Range: "bytes=990-2000"}, 206, "bytes 990-999/1000", whole[990:]},
		"another spelling":                     {Request{Range: "Bytes=010-019"}, 206, "bytes 10-19/1000", whole[10:20]},
		"a start beyond the object":            {Request{Range: "bytes=1000-"}, 416, "bytes */1000", ""},
		"several ranges":                       {Request{Range: "bytes=0-1,5-6"}, 200, "", whole},
		"another unit":                         {Request{Range: "lines=1-2"}, 200, "", whole},
		"a range that makes no sense":          {Request{Range: "bytes=9-1"}, 200, "", whole},
		"If-Range by this version's ETag":      {Request{Range: "bytes=0-9", IfRange: `"v1"`}, 206, "bytes 0-9/1000", whole[:10]},
		"If-Range by another version's ETag":   {Request{Range: "bytes=0-9", IfRange: `"v0"`}, 200, "", whole},
		"If-Range by a weak ETag":              {Request{Range: "bytes=0-9", IfRange: `W/"v1"`}, 200, "", whole},
		"If-Range by this version's date":      {Request{Range: "bytes=0-9", IfRange: modified}, 206, "bytes 0-9/1000", whole[:10]},
		"If-Range, beyond the object":          {Request{Range: "bytes=1000-", IfRange: `"v1"`}, 416, "bytes */1000", ""},
		"If-Range, beyond another version":     {Request{Range: "bytes=1000-", IfRange: `"v0"`}, 200, "", whole},
		"If-Range by another date":             {Request{Range: "bytes=0-9", IfRange: "Mon, 02 Nov 2020 11:00:00 GMT"}, 200, "", whole},
		"If-None-Match of this version":        {Request{IfNoneMatch: `"v0", W/"v1"`}, 304, "", ""},
		"If-None-Match of any version":         {Request{IfNoneMatch: `*`}, 304, "", ""},
		"If-None-Match of another version":     {Request{IfNoneMatch: `"v0"`}, 200, "", whole},
		"If-None-Match overrules the date":     {Request{IfNoneMatch: `"v0"`, IfModifiedSince: modified}, 200, "", whole},
		"If-Modified-Since the same date":      {Request{IfModifiedSince: modified}, 304, "", ""},
		"If-Modified-Since a later date":       {Request{IfModifiedSince: "Mon, 02 Nov 2020 11:00:00 GMT"}, 304, "", ""},
		"If-Modified-Since an earlier date":    {Request{IfModifiedSince: "Mon, 02 Nov 2020 09:00:00 GMT"}, 200, "", whole},
		"If-Modified-Since what is no date":    {Request{IfModifiedSince: "yesterday"}, 200, "", whole},
		"If-None-Match of a part":              {Request{Range: "bytes=5-9", IfNoneMatch: `"v1"`}, 304, "", ""},
		"the end of a range beyond all counts": {Request{Range: "bytes=995-9223372036854775807"}, 206, "bytes 995-999/1000", whole[995:]},
	}
	for name, test := range tests {
		for state, ignoring := range map[string]bool{"miss": false, "hit": false, "miss, an origin without ranges": true} {
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int32
				o := newFixture(t, nil, []string{serveVersioned(t, body, ignoring, &requests)})
				if state == "hit" {
					mustMedia(t, o, Request{Path: "/seg.mp4"})
				}
				r := test.request
				r.Path = "/seg.mp4"
				for _, again := range []string{"first", "again"} {
					s, got := mustMedia(t, o, r)
					if s.Status != test.status || s.ContentRange != test.contentRange || s.ContentType == "" && s.Status != 416 {
						t.Errorf("%s: got %d, Content-Range %q, type %q; want %d, %q", again,
							s.Status, s.ContentRange, s.ContentType, test.status, test.contentRange)
					}
					if s.ContentLength != int64(len(test.body)) {
						t.Errorf("%s: Content-Length: got %d, want %d", again, s.ContentLength, len(test.body))
					}
					requireSameBytes(t, []byte(got), []byte(test.body))
				}
				if state == "hit" && requests.Load() != 1 {
					t.Errorf("origin requests: got %d, want 1", requests.Load())
				}
			})
		}
	}
}

func TestMedia_Range_StoredUnderItsOwnKey(t *testing.T) {
	t.Parallel()
	body := randomBody(1000)
	var requests atomic.Int32
	o := newFixture(t, nil, []string{serveVersioned(t, body, false, &requests)})
	part := Request{Path: "/seg.mp4", Range: "bytes=10-19"}
	for range 3 {
		mustMedia(t, o, part)
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("requests for the part: got %d, want 1", got)
	}
	s, got := mustMedia(t, o, Request{Path: "/seg.mp4"})
	if s.Status != 200 {
		t.Errorf("the whole: got status %d", s.Status)
	}
	requireSameBytes(t, []byte(got), body)
}

// TestMedia_RangeOfStaleWhole has an origin fail of which the whole object is kept. Its ranges are served as it is.
func TestMedia_RangeOfStaleWhole(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	fail := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	for name, test := range map[string]struct {
		cacheControl string
		fail         http.HandlerFunc
		field, want  string // empty: an error
		waits        time.Duration
	}{
		"a range":                       {"max-age=5", fail, "bytes=1-3", "fil", 0},
		"to the end":                    {"max-age=5", fail, "bytes=3-", "lm", 0},
		"the end":                       {"max-age=5", fail, "bytes=-2", "lm", 0},
		"beyond the end":                {"max-age=5", fail, "bytes=5-", "", 0},
		"the origin hangs":              {"max-age=5", hang, "bytes=1-3", "fil", time.Second}, // cache.max_wait_for_fresh
		"the origin has it no more":     {"max-age=5", http.NotFound, "bytes=1-3", "", 0},
		"of which there may be more":    {"", fail, "bytes=1-3", "fil", 0},
		"what there may be more of":     {"", fail, "bytes=3-", "", 0},
		"which must not be stale":       {"max-age=5, must-revalidate", fail, "bytes=1-3", "", 0},
		"the origin refuses, and knows": {"max-age=5", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "bytes=1-3", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var isDown atomic.Bool
				var asked atomic.Int32
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					if isDown.Load() {
						test.fail(w, r)
						return
					}
					w.Header()["Cache-Control"] = []string{test.cacheControl}
					http.ServeContent(w, r, "ad.mp4", time.Time{}, strings.NewReader("\x00film"))
				}}), nil, "a")
				r := Request{Path: "/ad.mp4", FreshFor: 5 * time.Second}
				mustMedia(t, o, r)
				isDown.Store(true)
				sleep(7 * time.Second)
				began := time.Now()
				r.Range = test.field
				s, got, err := fetchMedia(t, o, r)
				if got != test.want || (err == nil) != (test.want != "") || err == nil && (!s.Stale || s.Status != http.StatusPartialContent) {
					t.Errorf("got %d %q, stale: %t, %v; want %q", s.Status, got, s.Stale, err, test.want)
				}
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("waited %v, want %v", waited, test.waits)
				}
				if before := asked.Load(); test.want != "" {
					if _, _, err := fetchMedia(t, o, r); err != nil || asked.Load() != before {
						t.Errorf("the origin is asked again at once: %t, %v", asked.Load() != before, err)
					}
				}
			})
		})
	}
}

func TestMedia_OriginIgnoresRanges_FetchedOnce(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	o := newFixture(t, nil, []string{serveVersioned(t, randomBody(1000), true, &requests)})
	for _, r := range []string{"bytes=10-19", "bytes=20-29", "bytes=-5", ""} {
		mustMedia(t, o, Request{Path: "/seg.mp4", Range: r})
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("origin requests: got %d, want 1", got)
	}
}

func TestMedia_UnrequestedRange_Malformed(t *testing.T) {
	t.Parallel()
	for name, field := range map[string]string{
		"another start": "bytes 0-9/100", "more than asked": "bytes 10-90/100", "nothing": "", "nonsense": "bytes x",
		"backwards": "bytes 19-10/100", "beyond its end": "bytes 10-19/15",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", field)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "0123456789")
			})})
			if _, _, err := fetchMedia(t, o, Request{Path: "/seg.mp4", Range: "bytes=10-19"}); err == nil {
				t.Error("taken for the part")
			}
		})
	}
}

func TestMedia_RangeOfUnknownLength_WholeObject(t *testing.T) {
	t.Parallel()
	headSeen := make(chan struct{})
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "video/mp4")
		_, _ = io.WriteString(w, "0")
		w.(http.Flusher).Flush()
		<-headSeen
		_, _ = io.WriteString(w, "123456789")
	})})
	live, err := o.Media(t.Context(), Request{Path: "/seg.mp4", Range: "bytes=2-3"})
	if err != nil {
		t.Fatalf("Media: %v", err)
	}
	defer live.Close()
	close(headSeen)
	got, err := io.ReadAll(&live)
	if live.Status != 200 || live.ContentLength != -1 || string(got) != "0123456789" || err != nil {
		t.Errorf("miss: got %d, length %d, %q, %v", live.Status, live.ContentLength, got, err)
	}
	if s, body := mustMedia(t, o, Request{Path: "/seg.mp4", Range: "bytes=2-3"}); s.Status != 206 || body != "23" {
		t.Errorf("hit: got %d, %q", s.Status, body)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=1-2", "bytes=1-2,4-5", "BYTES= 1-2", "bytes=-", "bytes=9-1"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, field string, length int64) {
		b := parseRange(field)
		if !b.isSet {
			return
		}
		if again := parseRange(b.String()); again != b {
			t.Fatalf("%q: %+v, written and read again %+v", field, b, again)
		}
		if length < 0 {
			return
		}
		lo, hi, ok := b.resolve(length)
		if ok && (lo < 0 || lo >= hi || hi > length) {
			t.Fatalf("%q of %d: [%d, %d)", field, length, lo, hi)
		}
		if ok && !(contentRange{lo, hi, length}).satisfies(b) {
			t.Fatalf("%q of %d: its own part is not taken for an answer", field, length)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 0-9/*", "bytes */10", "bytes 5-2/10", "bytes 0-9/5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		c, ok := parseContentRange(field)
		if !ok {
			return
		}
		if c.lo < 0 || c.hi <= c.lo || (c.total >= 0 && c.hi > c.total) {
			t.Fatalf("%q: %+v", field, c)
		}
		if again, ok := parseContentRange(c.String()); !ok || again != c {
			t.Fatalf("%q: %+v, written %q and read again %+v", field, c, c, again)
		}
	})
}

func FuzzMatchesAny(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		matchesAny(list, tag)
		if etag := fmt.Sprintf("%q", "v"); !matchesAny(`"x", W/`+etag+list, etag) {
			t.Fatalf("%q not found at the head of the list", etag)
		}
	})
}

// TestParseContentRange shows what counts as a Content-Range: the total may be unknown, as "*".
func TestParseContentRange(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]contentRange{
		"bytes 0-9/10":  {0, 10, 10},
		"BYTES 5-9/100": {5, 10, 100},
		"bytes 0-9/*":   {0, 10, -1},
		"bytes 7-7/*":   {7, 8, -1},
	} {
		if got, ok := parseContentRange(field); !ok || got != want {
			t.Errorf("%q: got %+v, %t; want %+v", field, got, ok, want)
		}
	}
	for _, field := range []string{
		"", "bytes", "bytes */10", "bytes */*", "bytes 0-9", "bytes 0-/10", "bytes -9/10", "bytes 5-2/*", "bytes 0-10/10", "bytes 0-9/**",
		"bytes 0-9223372036854775807/*", "items 0-9/10", "bytes 0-9/-1",
	} {
		if got, ok := parseContentRange(field); ok {
			t.Errorf("%q: got %+v, want none", field, got)
		}
	}
}

// TestMedia_PartOfUntypedFile_StartFetchedOnce plays a file by ranges that is too large for the cache and of which the origin does
// not say what it is.
func TestMedia_PartOfUntypedFile_StartFetchedOnce(t *testing.T) {
	t.Parallel()
	body := randomBody(int(3 * setting.MiB))
	for name, test := range map[string]struct {
		contentType string
		want        []string
	}{
		"data":      {"application/octet-stream", []string{"bytes=1000-1999", "bytes=0-511", "bytes=2000000-2999999", "bytes=-10"}},
		"no type":   {"", []string{"bytes=1000-1999", "bytes=0-511", "bytes=2000000-2999999", "bytes=-10"}},
		"a video":   {"video/mp4", []string{"bytes=1000-1999", "bytes=2000000-2999999", "bytes=-10"}},
		"a picture": {"image/jpeg", []string{"bytes=1000-1999", "bytes=2000000-2999999", "bytes=-10"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var ranges []string
			limit := func(c *Config) { c.Cache.MaxObjectSize = setting.MiB }
			o := newFixture(t, limit, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				ranges = append(ranges, r.Header.Get("Range"))
				mu.Unlock()
				w.Header()["Content-Type"] = []string{test.contentType}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			})})
			for range 2 {
				for _, part := range []struct {
					field  string
					lo, hi int
				}{{"bytes=1000-1999", 1000, 2000}, {"bytes=2000000-2999999", 2_000_000, 3_000_000}, {"bytes=-10", len(body) - 10, len(body)}} {
					s, got := mustMedia(t, o, Request{Path: "/film", Range: part.field})
					if s.Status != http.StatusPartialContent {
						t.Errorf("%s: got status %d", part.field, s.Status)
					}
					requireSameBytes(t, []byte(got), body[part.lo:part.hi])
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(ranges, test.want) {
				t.Errorf("the origin got %q, want %q", ranges, test.want)
			}
		})
	}
}

// TestMedia_PartOfUntypedFile_StartFails gives no part of what may be a playlist.
func TestMedia_PartOfUntypedFile_StartFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   func(error) bool
	}{
		"it fails": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
			func(err error) bool { return err != nil && !errors.Is(err, ErrPlaylist) },
		},
		"it is a playlist": {
			func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader("#EXTM3U\n#EXTINF:1\n1.ts\n"))
			},
			func(err error) bool { return errors.Is(err, ErrPlaylist) },
		},
		"it is the whole": { // an origin that gives some ranges only
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(randomBody(100)) },
			func(err error) bool { return err == nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "bytes=5-9" {
					w.Header().Set("Content-Range", "bytes 5-9/100")
					w.WriteHeader(http.StatusPartialContent)
					_, _ = io.WriteString(w, "56789")
					return
				}
				test.answer(w, r)
			})})
			r := Request{Path: "/film", Range: "bytes=5-9", IfRange: "", IfModifiedSince: modified}
			for range 2 {
				if _, body, err := fetchMedia(t, o, r); !test.want(err) || err == nil && body == "" {
					t.Errorf("got %q, %v", body, err)
				}
			}
			waitUntil(t, "all fetches end", func() bool { return o.Stats().ActiveFetches == 0 })
		})
	}
}

// TestMedia_PartOfUnknownTotal_IsNotTheWhole fetches a part whose Content-Range has no total, and then the object.
func TestMedia_PartOfUnknownTotal_IsNotTheWhole(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "video/mp4")
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 2-4/*")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "234")
			return
		}
		_, _ = io.WriteString(w, "0123456789")
	})})
	for range 2 {
		s, got := mustMedia(t, o, Request{Path: "/seg.mp4", Range: "bytes=2-4"})
		if s.Status != http.StatusPartialContent || s.ContentRange != "bytes 2-4/*" || got != "234" {
			t.Errorf("the part: got %d, Content-Range %q, %q", s.Status, s.ContentRange, got)
		}
	}
	if s, got := mustMedia(t, o, Request{Path: "/seg.mp4"}); s.Status != http.StatusOK || got != "0123456789" {
		t.Errorf("the whole: got %d, %q", s.Status, got)
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("origin requests: got %d, want one for the part and one for the whole", got)
	}
}

func TestContentRange_Satisfies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asked         string
		lo, hi, total int64
		want          bool
	}{
		{"bytes=5-9", 5, 10, 100, true},
		{"bytes=5-9", 5, 8, 8, true},
		{"bytes=5-9", 4, 10, 100, false},
		{"bytes=5-9", 5, 11, 100, false},
		{"bytes=5-", 5, 100, 100, true},
		{"bytes=5-", 6, 100, 100, false},
		{"bytes=-10", 90, 100, 100, true},
		{"bytes=-10", 90, 99, 100, false},
		{"bytes=-10", 91, 100, 100, false},
		{"bytes=-10", 89, 100, 100, false},
		{"bytes=-10", 0, 6, 6, true},
		{"bytes=-10", 1, 6, 6, false},
		{"bytes=-10", 0, 10, -1, true},
		{"bytes=-10", 0, 11, -1, false},
	} {
		if got := (contentRange{test.lo, test.hi, test.total}).satisfies(parseRange(test.asked)); got != test.want {
			t.Errorf("%s answered by %d to %d of %d: got %v, want %v", test.asked, test.lo, test.hi, test.total, got, test.want)
		}
	}
}

// TestMedia_RangeOfGrowingObject gets a range whose end is that of all numbers, of what the origin still writes (RFC 8673).
func TestMedia_RangeOfGrowingObject(t *testing.T) {
	t.Parallel()
	const contentRange = "bytes 1000-9007199254740991/*"
	var requests atomic.Int32
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		for range 3 {
			_, _ = io.WriteString(w, "part ")
			_ = http.NewResponseController(w).Flush()
		}
	})})
	for want := range int32(2) {
		s, body := mustMedia(t, o, Request{Path: "/seg.mp4", Range: "bytes=1000-9007199254740991"})
		if s.Status != 206 || s.ContentRange != contentRange || s.ContentLength != -1 || body != "part part part " {
			t.Errorf("got %d, Content-Range %q, Content-Length %d, %q", s.Status, s.ContentRange, s.ContentLength, body)
		}
		if got := requests.Load(); got != want+1 {
			t.Errorf("%d requests to the origin, want %d: the range is not all there is", got, want+1)
		}
	}
}
