package origin

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/setting"
)

func TestNewCache_MaxBodyBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ size, object, want setting.ByteSize }{
		{8 * setting.MiB, setting.MiB, 2 * setting.MiB},
		{8 * setting.MiB, 2 * setting.MiB, 2 * setting.MiB},
		{8 * setting.MiB, 3 * setting.MiB, 3 * setting.MiB},
		{8 * setting.MiB, 2*setting.MiB - 1, 2 * setting.MiB},
	} {
		c, err := NewCache(CacheConfig{MaxSize: test.size, MaxObjectSize: test.object}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if c.maxBodyBytes != int64(test.want) {
			t.Errorf("max_size %v, max_object_size %v: got %d, want %v", test.size, test.object, c.maxBodyBytes, test.want)
		}
		c.Close()
	}
}

func TestCache_Reserve_Bounds(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	for i, test := range []struct {
		n         int64
		want      bool
		wantBytes int64
	}{
		{c.maxBodyBytes + 1, false, 0},
		{c.maxBodyBytes, true, c.maxBodyBytes},
		{1, false, c.maxBodyBytes},
		{0, true, c.maxBodyBytes},
	} {
		if got := c.reserve(test.n); got != test.want || c.Stats().InFlight != test.wantBytes {
			t.Errorf("step %d, of %d: got %v, %d in flight", i, test.n, got, c.Stats().InFlight)
		}
	}
	c.reserveAnyway(5)
	c.release(6)
	if got := c.Stats().InFlight; got != c.maxBodyBytes-1 {
		t.Errorf("in flight: got %d", got)
	}
}

func TestCache_GetFresh_Bounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newNumbered(t, nil).cache
		sleep(time.Second)
		k := cacheKey{path: "/a"}
		if c.getFresh(k) != nil {
			t.Error("got what was never stored")
		}
		e := &entry{object: &Object{}, retention: time.Hour}
		c.store(k, e)
		for until, want := range map[int64]bool{c.now() - 1: false, c.now(): false, c.now() + 1: true} {
			e.freshUntil.Store(until)
			if got := c.getFresh(k); (got == e) != want {
				t.Errorf("fresh until %d at %d: got %v", until, c.now(), got != nil)
			}
		}
	})
}

// TestCache_Store_WithoutGap replaces entries while others read what is known of them: what the last playlist told, and since when a playlist
// lists media.
func TestCache_Store_WithoutGap(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	r := &Request{Path: "/a.m3u8"}
	told := cacheKey{origin: o.id, path: r.Path}.ofLastInfo()
	media := cacheKey{origin: o.id, path: "/a.ts", media: true}
	list := func() {
		now := o.cache.now()
		o.cache.setListed(media, &listedState{versions: []uint64{1}, since: now, at: now, until: math.MaxInt64}, math.MaxInt64)
	}
	list()
	since := o.cache.listed(media).since
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20_000 {
			o.cache.store(told, &entry{info: "told", retention: time.Hour})
			o.cache.store(media, &entry{object: &Object{}, started: o.cache.now(), freshLimit: math.MaxInt64, retention: time.Hour})
		}
	}()
	for isDone := false; !isDone; {
		if o.cache.peek(told) != nil && o.LastInfo(r) == nil {
			t.Fatal("nothing is known of the playlist")
		}
		list()
		select {
		case <-done:
			isDone = true
		default:
		}
	}
	if got := o.cache.listed(media).since; got != since {
		t.Errorf("it is listed since %d, want %d", got, since)
	}
}

func TestCache_Store_Retention(t *testing.T) {
	t.Parallel()
	c := newSmallCache(t)
	k := cacheKey{path: "/a"}
	for retention, want := range map[time.Duration]bool{-1: false, 0: false, time.Hour: true} {
		c.store(k, &entry{object: &Object{}, retention: time.Hour})
		e := &entry{object: &Object{}, retention: retention}
		c.store(k, e)
		if got := c.peek(k); (got == e) != want || (got == nil) == want {
			t.Errorf("retention %v: got %v", retention, got)
		}
	}
}

func TestCache_Store_KeepsWhatIsListed(t *testing.T) {
	t.Parallel()
	for isMedia, want := range map[bool]bool{true: true, false: false} {
		c := newSmallCache(t)
		k := cacheKey{path: "/a", media: isMedia}
		before := &entry{retention: time.Hour}
		before.listed.Store(&listedState{until: math.MaxInt64})
		c.store(k, before)
		e := &entry{object: &Object{}, retention: time.Hour}
		c.store(k, e)
		if got := e.listed.Load() == before.listed.Load(); got != want {
			t.Errorf("media %v: kept %v", isMedia, got)
		}
	}
}

func TestEntry_CanServeStale_Bounds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		e    *entry
		now  int64
		want bool
	}{
		"none":           {nil, 0, false},
		"it was media":   {negativeEntry(ErrMedia, 0, 0), 9, true},
		"media no more":  {negativeEntry(ErrMedia, 0, 0), 10, false},
		"before its end": {&entry{object: &Object{}}, 9, true},
		"at its end":     {&entry{object: &Object{}}, 10, false},
		"after its end":  {&entry{object: &Object{}}, 11, false},
	} {
		if test.e != nil {
			test.e.staleUntil.Store(10)
		}
		if got := test.e.canServeStale(test.now); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestEntry_HasValidator(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		e    *entry
		want bool
	}{
		"none":               {nil, false},
		"missing":            {&entry{etag: `"v"`, lastModified: modified}, false},
		"without validators": {&entry{object: &Object{}}, false},
		"with an ETag":       {&entry{object: &Object{}, etag: `"v"`}, true},
		"with a date":        {&entry{object: &Object{}, lastModified: modified}, true},
		"with both":          {&entry{object: &Object{}, etag: `"v"`, lastModified: modified}, true},
	} {
		if got := test.e.hasValidator(); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestNegativeEntry(t *testing.T) {
	t.Parallel()
	e := negativeEntry(ErrPlaylist, 100, 5)
	if !errors.Is(e.negative, ErrPlaylist) || e.retention != 5 || e.freshUntil.Load() != 105 || e.object != nil {
		t.Errorf("got %+v", e)
	}
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	object := &Object{Body: make([]byte, 1000)}
	for name, test := range map[string]struct {
		k    cacheKey
		e    *entry
		want uint32
	}{
		"missing":    {cacheKey{}, &entry{}, entryOverhead},
		"its name":   {cacheKey{path: "/12345", query: "123", variant: "1", media: true}, &entry{}, entryOverhead + 10},
		"a segment":  {cacheKey{path: "/1", media: true}, &entry{object: object}, entryOverhead + 1002},
		"a playlist": {cacheKey{path: "/1"}, &entry{object: object}, entryOverhead + 3002},
	} {
		if got := weigh(test.k, test.e); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestCacheLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := cacheLogger{slog.New(slog.NewTextHandler(&out, nil))}
	l.Warn(t.Context(), "first", ErrPath)
	l.Error(t.Context(), "second", ErrClosed)
	for i, want := range []string{`level=WARN msg="cache warning" detail=first`, `level=ERROR msg="cache failed" detail=second`} {
		if got := strings.Split(out.String(), "\n")[i]; !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

// TestEntry_IsShortOf asks entries of a hundred bytes for ranges.
func TestEntry_IsShortOf(t *testing.T) {
	t.Parallel()
	whole := &Object{Body: make([]byte, 100)}
	part := &Object{Body: make([]byte, 100), Status: http.StatusPartialContent, ContentRange: "bytes 50-149/150"}
	listed, growing := &listedState{}, &listedState{isGrowing: true}
	for name, test := range map[string]struct {
		object     *Object
		freshLimit int64
		listed     *listedState
		want       string // the range
		isShort    bool
	}{
		"no range":                      {whole, 1, nil, "", false},
		"within":                        {whole, 1, nil, "bytes=10-99", false},
		"one byte behind":               {whole, 1, nil, "bytes=10-100", true},
		"all behind":                    {whole, 1, nil, "bytes=100-110", true},
		"everything":                    {whole, 1, nil, "bytes=0-", false},
		"an open end":                   {whole, 1, nil, "bytes=1-", true},
		"the end of all numbers":        {whole, 1, nil, "bytes=1-9223372036854775807", true},
		"a suffix":                      {whole, 1, nil, "bytes=-10", false},
		"an open end, listed":           {whole, 1, listed, "bytes=1-", false},
		"one byte behind, listed":       {whole, 1, listed, "bytes=10-100", false},
		"an open end, while it grows":   {whole, 1, growing, "bytes=1-", true},
		"within, while it grows":        {whole, 1, growing, "bytes=10-99", false},
		"an open end, of a stated age":  {whole, 0, nil, "bytes=1-", false},
		"one behind, of a stated age":   {whole, 0, nil, "bytes=10-100", false},
		"no range, while it grows":      {whole, 1, growing, "", true},
		"everything, while it grows":    {whole, 1, growing, "bytes=0-", true},
		"no range, listed":              {whole, 1, listed, "", false},
		"no range, of a stated age":     {whole, 0, growing, "", false},
		"within a part":                 {part, 1, nil, "bytes=50-149", false},
		"one byte behind a part":        {part, 1, nil, "bytes=50-150", true},
		"an open end of a part":         {part, 1, nil, "bytes=50-", true},
		"an open end of a listed part":  {part, 1, listed, "bytes=50-", false},
		"what is missing has no length": {nil, 1, nil, "bytes=1-", false},
	} {
		e := &entry{object: test.object, freshLimit: test.freshLimit}
		if got := e.isShortOf(parseRange(test.want), test.listed, false); got != test.isShort {
			t.Errorf("%s: got %v, want %v", name, got, test.isShort)
		}
		if want := test.isShort && test.listed != nil; e.isShortOf(parseRange(test.want), test.listed, true) != want {
			t.Errorf("%s, of a complete playlist: want %v", name, want)
		}
	}
}

// TestCache_Store_KeepsMaxSize stores keys for which the cache has something that it has just been given.
func TestCache_Store_KeepsMaxSize(t *testing.T) {
	t.Parallel()
	object := func() *entry { return &entry{object: &Object{Body: make([]byte, 10_000)}, retention: time.Hour} }
	for name, test := range map[string]struct {
		isMedia bool
		before  func(*Cache, cacheKey)
	}{
		"listed": {true, func(c *Cache, k cacheKey) {
			now := c.now()
			c.setListed(k, &listedState{versions: []uint64{1}, at: now, until: now + int64(time.Hour)}, math.MaxInt64)
		}},
		"media":            {true, func(c *Cache, k cacheKey) { c.store(k, object()) }},
		"a playlist":       {false, func(c *Cache, k cacheKey) { c.store(k, object()) }},
		"at the same time": {true, func(c *Cache, k cacheKey) { go c.store(k, object()) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const maxSize = setting.MiB
				c, err := NewCache(CacheConfig{MaxSize: maxSize, MaxObjectSize: setting.MiB, MediaTTL: time.Hour}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				for i := range 1000 {
					k := cacheKey{path: fmt.Sprint("/", i), media: test.isMedia}
					test.before(c, k)
					c.store(k, object())
				}
				synctest.Wait()
				c.entries.CleanUp()
				if stored := c.Stats().Stored; stored > int64(maxSize) {
					t.Errorf("stores %d bytes, want at most %d", stored, int64(maxSize))
				}
			})
		})
	}
}
