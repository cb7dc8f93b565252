package origin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newAnswer returns a response of the origin, received at the cache's time 1000.
func newAnswer(status int, length int64, header map[string]string) *response {
	h := http.Header{}
	for name, value := range header {
		h.Set(name, value)
	}
	return &response{
		Response: &http.Response{StatusCode: status, ContentLength: length, Header: h, Body: io.NopCloser(strings.NewReader(""))},
		hop:      &hop{url: &url.URL{Scheme: "http", Host: "a"}}, received: 1000,
	}
}

func TestOrigin_MediaHead_Part(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	for name, test := range map[string]struct {
		contentRange string
		length       int64
		etag         string
		isEncoded    bool
		want         bool
	}{
		"of its length":        {"bytes 5-9/20", 5, `"v"`, false, true},
		"of unknown length":    {"bytes 5-9/20", -1, `"v"`, false, true},
		"a byte too long":      {"bytes 5-9/20", 6, `"v"`, false, false},
		"a byte too short":     {"bytes 5-9/20", 4, `"v"`, false, false},
		"without its bytes":    {"bytes 5-9/20", 0, `"v"`, false, false},
		"of unknown total":     {"bytes 5-9/*", 5, `"v"`, false, true},
		"another part":         {"bytes 4-8/20", 5, `"v"`, false, false},
		"without a range":      {"", 5, `"v"`, false, false},
		"encoded":              {"bytes 5-9/20", 5, `"v"`, true, false},
		"encoded, without tag": {"bytes 5-9/20", 5, "", true, true},
		"encoded, a weak tag":  {"bytes 5-9/20", 5, `W/"v"`, true, true},
	} {
		a := newAnswer(206, test.length, map[string]string{"Content-Range": test.contentRange, "ETag": test.etag})
		h, err := o.mediaHead(&fetch{wantedRange: parseRange("bytes=5-9")}, a, test.isEncoded)
		if (err == nil) != test.want {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil && (h.status != 206 || h.length != 5 || h.partRange.lo != 5 || h.partRange.hi != 10 || h.contentRange() != test.contentRange) {
			t.Errorf("%s: got %d bytes, %+v", name, h.length, h.partRange)
		}
		if err != nil && (!errors.Is(err, errMalformed) || h != nil) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOrigin_MediaHead_Whole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		for _, test := range []struct {
			isEncoded  bool
			etag, want string
		}{
			{false, `"v"`, `"v"`}, {true, `"v"`, `W/"v"`}, {true, `W/"v"`, `W/"v"`}, {true, "", ""}, {true, "v", "v"},
		} {
			a := newAnswer(203, 7, map[string]string{"ETag": test.etag, "Age": "3", "Content-Type": "video/mp2t", "Cache-Control": "max-age=5"})
			h, err := o.mediaHead(&fetch{}, a, test.isEncoded)
			if err != nil {
				t.Fatal(err)
			}
			if h.ETag != test.want || h.etag != test.etag {
				t.Errorf("encoded %v: got ETag %s of %s, want %s", test.isEncoded, h.ETag, h.etag, test.want)
			}
			if h.status != 200 || h.length != 7 || h.received != 1000 || time.Since(h.fetched) != 3*time.Second ||
				h.ContentType != "video/mp2t" || h.CacheControl != "max-age=5" || h.contentRange() != "" || h.caching.fresh != 2*time.Second {
				t.Errorf("got %+v", h)
			}
		}
	})
}

func TestOrigin_MediaHead_Unsatisfied(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	h, err := o.mediaHead(&fetch{wantedRange: parseRange("bytes=5-9")}, newAnswer(416, 12, map[string]string{"Content-Range": "bytes */3"}), false)
	if err != nil || h.status != 416 || h.length != 0 || h.unsatisfiedRange != "bytes */3" || h.contentRange() != "" {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestOrigin_MediaEntry_Bounds(t *testing.T) {
	t.Parallel()
	const second = int64(time.Second)
	o := newFixture(t, func(c *Config) { c.Cache.MediaTTL = 5 * time.Minute }, []string{"http://a"})
	for name, test := range map[string]struct {
		life             lifetime
		etag, modified   string
		fresh, stale     int64 // seconds after it was received; stale is -1 for never
		limit, retention int64
	}{
		"fresh for short":         {lifetime{fresh: 4 * time.Second, isStated: true}, "", "", 4, 14, 0, 14},
		"fresh for longer":        {lifetime{fresh: 30 * time.Second, isStated: true}, "", "", 30, 60, 0, 60},
		"fresh for long":          {lifetime{fresh: time.Hour, isStated: true}, "", "", 3600, 3660, 0, 3660},
		"not fresh":               {lifetime{isStated: true}, "", "", 0, 10, 0, 10},
		"too old":                 {lifetime{fresh: -9 * time.Second, isStated: true}, "", "", 0, 10, 0, 10},
		"not stated":              {lifetime{fresh: 8 * time.Second}, "", "", 8, 18, 300, 310},
		"never stale":             {lifetime{fresh: 4 * time.Second, isStated: true, mustRevalidate: true}, "", "", 4, -1, 0, 4},
		"never stale, with tag":   {lifetime{fresh: 4 * time.Second, isStated: true, mustRevalidate: true}, `"v"`, "", 4, -1, 0, 14},
		"never stale, with date":  {lifetime{fresh: 4 * time.Second, isStated: true, mustRevalidate: true}, "", modified, 4, -1, 0, 14},
		"never stale, not stated": {lifetime{fresh: 4 * time.Second, mustRevalidate: true}, "", "", 4, -1, 300, 300},
	} {
		h := &responseHead{Header: Header{LastModified: test.modified}, received: 1000, caching: test.life, etag: test.etag}
		object := &Object{}
		e := o.mediaEntry(&fetch{started: 900}, object, h)
		stale, limit := 1000+test.stale*second, test.limit*second
		if test.stale < 0 {
			stale = 0
		}
		if limit > 0 {
			limit += 1000
		}
		if e.object != object || e.started != 900 || e.etag != test.etag || e.lastModified != test.modified ||
			e.freshUntil.Load() != 1000+test.fresh*second || e.staleUntil.Load() != stale || e.freshLimit != limit ||
			int64(e.retention) != test.retention*second {
			t.Errorf("%s: got fresh until %d, stale until %d, limit %d, retention %v", name, e.freshUntil.Load(), e.staleUntil.Load(),
				e.freshLimit, e.retention)
		}
	}
}

func TestOrigin_FreshenedEntry_Media(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		stored := &entry{etag: `"sent"`, object: &Object{
			Header: Header{CacheControl: "max-age=5", ETag: `W/"sent"`}, Status: 206, ContentRange: "bytes 0-4/9", Body: []byte("01234"),
		}}
		for name, test := range map[string]struct {
			header    map[string]string
			control   string
			retention time.Duration
		}{
			"a new lifetime": {map[string]string{"Cache-Control": "max-age=30", "Age": "3"}, "max-age=30", 54 * time.Second},
			"none":           {map[string]string{"Age": "3"}, "max-age=5", 12 * time.Second},
			"not storable":   {map[string]string{"Cache-Control": "no-store", "Age": "3"}, "no-store", 0},
		} {
			f := &fetch{key: cacheKey{path: "/a.ts", media: true}, stored: stored, started: 900}
			e := o.freshenedEntry(f, newAnswer(304, 0, test.header))
			got := e.object
			if got.CacheControl != test.control || got.ETag != `W/"sent"` || got.Status != 206 || got.ContentRange != "bytes 0-4/9" ||
				string(got.Body) != "01234" || time.Since(got.Fetched) != 3*time.Second || e.retention != test.retention {
				t.Errorf("%s: got %+v, retention %v", name, got, e.retention)
			}
			if e.retention > 0 && (e.etag != `"sent"` || e.started != 900) {
				t.Errorf("%s: got ETag %s, started %d", name, e.etag, e.started)
			}
		}
		if stored.object.CacheControl != "max-age=5" {
			t.Error("the stored object is changed")
		}
	})
}

func TestOrigin_StorableEntry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isStorable bool
		base       int64
		want       bool
	}{
		"complete": {true, 0, true}, "not storable": {false, 0, false}, "its start is dropped": {true, 1, false}, "neither": {false, 1, false},
	} {
		o := newFixture(t, nil, []string{"http://a"})
		f := &fetch{cache: o.cache, body: buffer{flat: []byte("01234"), size: 5, base: test.base}}
		e := o.storableEntry(f, &responseHead{status: 200, caching: lifetime{isStorable: test.isStorable, fresh: time.Minute}})
		passed := map[bool]uint64{true: 0, false: 1}[test.want]
		if (e.object != nil) != test.want || (e.retention > 0) != test.want || o.Stats().PassedThrough != passed {
			t.Errorf("%s: got %+v, %d passed through", name, e, o.Stats().PassedThrough)
		}
		if got := o.count.bytes.Load(); got != 5 {
			t.Errorf("%s: counted %d bytes", name, got)
		}
	}
}

func TestEntry_Stream(t *testing.T) {
	t.Parallel()
	whole := &Object{Header: Header{ETag: `"v"`}, Status: 200, Body: []byte("0123456789")}
	part := &Object{Header: Header{ETag: `"v"`}, Status: 206, ContentRange: "bytes 3-5/10", Body: []byte("345")}
	for name, test := range map[string]struct {
		object   *Object
		r        Request
		status   int
		field    string
		length   int64
		body     string
		isObject bool
		wantErr  error
	}{
		"the whole":              {whole, Request{}, 200, "", 10, "0123456789", true, nil},
		"its head":               {whole, Request{Head: true}, 200, "", 10, "", true, nil},
		"a range of it":          {whole, Request{Range: "bytes=3-5"}, 206, "bytes 3-5/10", 3, "345", false, nil},
		"its range, as the head": {whole, Request{Range: "bytes=3-5", Head: true}, 200, "", 10, "", true, nil},
		"beyond it":              {whole, Request{Range: "bytes=10-"}, 416, "bytes */10", 0, "", false, nil},
		"what the viewer has":    {whole, Request{IfNoneMatch: `"v"`}, 304, "", 0, "", false, nil},
		"a part":                 {part, Request{Range: "bytes=3-5"}, 206, "bytes 3-5/10", 3, "345", true, nil},
		"a part of this version": {part, Request{Range: "bytes=3-5", IfRange: `"v"`}, 206, "bytes 3-5/10", 3, "345", true, nil},
		"a part of another":      {part, Request{Range: "bytes=3-5", IfRange: `"w"`}, 0, "", 0, "", false, errOtherVersion},
		"a part the viewer has":  {part, Request{IfNoneMatch: `"v"`}, 304, "", 0, "", false, nil},
	} {
		s, err := (&entry{object: test.object}).stream(&test.r, true)
		if !errors.Is(err, test.wantErr) || s.Status != test.status || s.ContentRange != test.field || s.ContentLength != test.length ||
			string(s.body) != test.body || (s.object != nil) != test.isObject || s.Stale != (err == nil) {
			t.Errorf("%s: got %d, Content-Range %q of %d bytes, %q, %v", name, s.Status, s.ContentRange, s.ContentLength, s.body, err)
		}
	}
	if _, err := (&entry{negative: ErrPlaylist, object: whole}).stream(&Request{}, false); !errors.Is(err, ErrPlaylist) {
		t.Errorf("a missing one: got %v", err)
	}
}

func TestFetch_Stream_Bounds(t *testing.T) {
	t.Parallel()
	head := func(status int, length int64) *responseHead {
		return &responseHead{
			Header: Header{ETag: `"v"`}, status: status, length: length, partRange: contentRange{3, 6, 10}, unsatisfiedRange: "bytes */9",
		}
	}
	for name, test := range map[string]struct {
		head    *responseHead
		r       Request
		status  int
		field   string
		length  int64
		reads   bool
		lo, hi  int64
		wantErr error
	}{
		"the whole":              {head(200, 10), Request{}, 200, "", 10, true, 0, 10, nil},
		"of unknown length":      {head(200, -1), Request{}, 200, "", -1, true, 0, -1, nil},
		"an empty one":           {head(200, 0), Request{}, 200, "", 0, false, 0, 0, nil},
		"its head":               {head(200, 10), Request{Head: true}, 200, "", 10, false, 0, 0, nil},
		"a head, unknown length": {head(200, -1), Request{Head: true}, 200, "", -1, false, 0, 0, nil},
		"a range of it":          {head(200, 10), Request{Range: "bytes=3-5"}, 206, "bytes 3-5/10", 3, true, 3, 6, nil},
		"a byte of it":           {head(200, 10), Request{Range: "bytes=9-"}, 206, "bytes 9-9/10", 1, true, 9, 10, nil},
		"beyond it":              {head(200, 10), Request{Range: "bytes=10-"}, 416, "bytes */10", 0, false, 0, 0, nil},
		"what the viewer has":    {head(200, 10), Request{IfNoneMatch: `"v"`}, 304, "", 0, false, 0, 0, nil},
		"a part":                 {head(206, 3), Request{}, 206, "bytes 3-5/10", 3, true, 0, 3, nil},
		"a part of another":      {head(206, 3), Request{IfRange: `"w"`}, 0, "", 0, false, 0, 0, errOtherVersion},
		"none":                   {head(416, 0), Request{}, 416, "bytes */9", 0, false, 0, 0, nil},
		"none of another":        {head(416, 0), Request{IfRange: `"v"`}, 0, "", 0, false, 0, 0, errOtherVersion},
	} {
		f := newBodyFetch(t, "")
		f.head = test.head
		s, err := f.stream(t.Context(), &test.r)
		if !errors.Is(err, test.wantErr) || s.Status != test.status || s.ContentRange != test.field || s.ContentLength != test.length ||
			(s.reader != nil) != test.reads {
			t.Errorf("%s: got %d, Content-Range %q of %d bytes, %v", name, s.Status, s.ContentRange, s.ContentLength, err)
		}
		if s.reader != nil && (s.reader.offset != test.lo || s.reader.end != test.hi) {
			t.Errorf("%s: reads [%d, %d)", name, s.reader.offset, s.reader.end)
		}
		if (f.joined == 1) != test.reads || (len(f.readers) == 1) != test.reads {
			t.Errorf("%s: %d joined, %d readers", name, f.joined, len(f.readers))
		}
	}
}

func TestFetch_Stream_OfItsEntry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		e    *entry
		want string
	}{
		"an object":     {&entry{object: &Object{Status: 200, Body: []byte("stored")}}, "stored"},
		"none is kept":  {&entry{}, "sent"},
		"none as yet":   {nil, "sent"},
		"another error": {&entry{negative: ErrPlaylist}, "sent"},
	} {
		f := newBodyFetch(t, "sent")
		f.head, f.entry, f.isDone = &responseHead{status: 200, length: 4}, test.e, true
		s, err := f.stream(t.Context(), &Request{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(&s); string(got) != test.want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err := s.Close(); err != nil || f.joined != 0 {
			t.Errorf("%s: %d joined, %v", name, f.joined, err)
		}
	}
}

func TestViewerHeader(t *testing.T) {
	t.Parallel()
	h := http.Header{"Content-Type": {"a"}, "Last-Modified": {modified}, "Etag": {"c"}, "Cache-Control": {"d", "e"}}
	if got, want := viewerHeader(h, true), (Header{ContentType: "a", LastModified: modified, ETag: "c", CacheControl: "d, e", PrivateCacheControl: "private, d, e"}); got != want {
		t.Errorf("of media: got %+v", got)
	}
	if got, want := viewerHeader(h, false), (Header{ContentType: "a", LastModified: modified, ETag: "c"}); got != want {
		t.Errorf("of a playlist: got %+v", got)
	}
}

// TestOrigin_WaitForHeadOrStale shows who waits for a fetch that does not answer, and how long.
func TestOrigin_WaitForHeadOrStale(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	for name, test := range map[string]struct {
		// staleFor is until when the old entry may be served; 0: there is none.
		staleFor time.Duration
		// isUnlisted reports that the old entry may be other bytes.
		isUnlisted bool
		// endsAfter is when the fetch fails.
		endsAfter time.Duration
		// leavesAfter is when the viewer leaves.
		leavesAfter time.Duration
		want        error
		wantAfter   time.Duration
	}{
		"nothing is old":              {0, false, time.Minute, time.Hour, errBroken, time.Minute},
		"a fetch that fails at once":  {time.Hour, false, time.Second, time.Hour, errBroken, time.Second},
		"a slow one":                  {time.Hour, false, time.Minute, time.Hour, errFreshTimeout, 2 * time.Second},
		"a viewer who leaves":         {time.Hour, false, time.Minute, time.Second, context.DeadlineExceeded, time.Second},
		"one who leaves, nothing old": {0, false, time.Minute, time.Second, context.DeadlineExceeded, time.Second},
		"the old one may be another":  {time.Hour, true, time.Minute, time.Hour, errBroken, time.Minute},
		"the old one expires":         {time.Second, false, time.Minute, time.Hour, errBroken, time.Minute},
		"the old one expires just so": {2 * time.Second, false, time.Minute, time.Hour, errBroken, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newNetworkFixture(t, newNetwork(t, nil), func(c *Config) { c.Cache.MaxWaitForFresh = 2 * time.Second }, "a")
				var old *entry
				if test.staleFor > 0 {
					old = &entry{object: &Object{}}
					old.staleUntil.Store(o.cache.now() + int64(test.staleFor))
				}
				if test.isUnlisted {
					old.freshLimit = 1
				}
				f := &fetch{
					cache: o.cache, key: cacheKey{path: "/a.ts", media: true}, ctx: t.Context(), started: o.cache.now(), joined: 1,
					done: make(chan struct{}),
				}
				time.AfterFunc(test.endsAfter, func() { f.finish(nil, errBroken) })
				ctx, cancel := context.WithTimeout(t.Context(), test.leavesAfter)
				defer cancel()
				began := time.Now()
				err := o.waitForHeadOrStale(ctx, f, old)
				if !errors.Is(err, test.want) || time.Since(began) != test.wantAfter {
					t.Errorf("got %v after %v; want %v after %v", err, time.Since(began), test.want, test.wantAfter)
				}
				<-f.done
			})
		})
	}
}

// TestOrigin_Media_StaleUntilNextRefresh asks for a stale object before and when it is refreshed again.
func TestOrigin_Media_StaleUntilNextRefresh(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{-1: "fetch 1", 0: "fetch 1", 1: "old"} {
		synctest.Test(t, func(t *testing.T) {
			o := newNumbered(t, nil)
			sleep(time.Second)
			e := &entry{object: &Object{Status: 200, Body: []byte("old")}, retention: time.Hour}
			e.staleUntil.Store(o.cache.now() + int64(time.Hour))
			e.nextRefresh.Store(o.cache.now() + int64(after))
			o.cache.store(cacheKey{origin: o.id, path: "/a.ts", media: true}, e)
			if s, got := mustMedia(t, o.fixture, Request{Path: "/a.ts"}); got != want || s.Stale != (want == "old") {
				t.Errorf("refreshed after %v: got %q, stale %v; want %q", after, got, s.Stale, want)
			}
		})
	}
}

// TestOrigin_Media_RangeSentToOrigin shows which ranges are fetched as such.
func TestOrigin_Media_RangeSentToOrigin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		r    Request
		want string
	}{
		"none":                   {Request{}, ""},
		"a part":                 {Request{Range: "bytes=0-6"}, "bytes=0-6"},
		"the whole":              {Request{Range: "bytes=0-"}, ""},
		"of a head":              {Request{Range: "bytes=0-6", Head: true}, ""},
		"several":                {Request{Range: "bytes=0-1,4-6"}, ""},
		"a part in other digits": {Request{Range: "Bytes=00-06"}, "bytes=0-6"},
	} {
		ranges := make(chan string, 1)
		o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
			ranges <- r.Header.Get("Range")
			http.ServeContent(w, r, "a.ts", time.Time{}, newSeeker(10))
		})})
		test.r.Path = "/a.ts"
		mustMedia(t, o, test.r)
		if got := <-ranges; got != test.want {
			t.Errorf("%s: the origin got Range %q, want %q", name, got, test.want)
		}
	}
}
