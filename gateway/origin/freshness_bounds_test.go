package origin

import (
	"math"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestMediaLifetime_Bounds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	const fallback = 42 * time.Second
	for name, test := range map[string]struct {
		header map[string]string
		want   lifetime
	}{
		"nothing":      {nil, lifetime{isStorable: true, fresh: fallback}},
		"only its age": {map[string]string{"Age": "3"}, lifetime{isStorable: true, fresh: fallback, age: 3 * time.Second}},
		"max-age=0":    {map[string]string{"Cache-Control": "max-age=0"}, lifetime{isStorable: true, isStated: true}},
		"max-age=0 of an age": {
			map[string]string{"Cache-Control": "max-age=0", "Age": "3"},
			lifetime{isStorable: true, isStated: true, fresh: -3 * time.Second, age: 3 * time.Second},
		},
		"max-age and Expires": {
			map[string]string{"Cache-Control": "max-age=7", "Expires": "Mon, 02 Nov 2026 10:00:09 GMT"},
			lifetime{isStorable: true, isStated: true, fresh: 7 * time.Second},
		},
		"s-maxage=0": {map[string]string{"Cache-Control": "max-age=5, s-maxage=0"}, lifetime{isStorable: true, isStated: true, mustRevalidate: true}},
		"s-maxage of an age": {
			map[string]string{"Cache-Control": "s-maxage=9", "Age": "3"},
			lifetime{isStorable: true, isStated: true, mustRevalidate: true, fresh: 6 * time.Second, age: 3 * time.Second},
		},
		"no-cache": {
			map[string]string{"Cache-Control": "no-cache, max-age=5", "Age": "3"},
			lifetime{isStorable: true, isStated: true, mustRevalidate: true, age: 3 * time.Second},
		},
		"no-store": {map[string]string{"Cache-Control": "no-store, max-age=5"}, lifetime{isStated: true, fresh: 5 * time.Second}},
		"must-revalidate": {
			map[string]string{"Cache-Control": "must-revalidate, max-age=5"},
			lifetime{isStorable: true, isStated: true, mustRevalidate: true, fresh: 5 * time.Second},
		},
		"proxy-revalidate": {
			map[string]string{"Cache-Control": "proxy-revalidate"},
			lifetime{isStorable: true, mustRevalidate: true, fresh: fallback},
		},
		"it varies": {map[string]string{"Vary": "*", "Cache-Control": "max-age=5"}, lifetime{isStated: true, fresh: 5 * time.Second}},
		"Expires of an age": {
			map[string]string{"Expires": "Mon, 02 Nov 2026 10:00:09 GMT", "Age": "3"},
			lifetime{isStorable: true, isStated: true, fresh: 6 * time.Second, age: 3 * time.Second},
		},
	} {
		h := http.Header{}
		for field, value := range test.header {
			h.Set(field, value)
		}
		if got := mediaLifetime(h, now, fallback); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestUntilExpires(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		expires, date string
		want          time.Duration
	}{
		{"Mon, 02 Nov 2026 10:00:09 GMT", "", 9 * time.Second},
		{"Mon, 02 Nov 2026 10:00:09 GMT", "Mon, 02 Nov 2026 10:00:04 GMT", 5 * time.Second},
		{"Mon, 02 Nov 2026 10:00:09 GMT", "today", 9 * time.Second},
		{"Mon, 02 Nov 2026 10:00:00 GMT", "", 0},
		{"Mon, 02 Nov 2026 09:00:00 GMT", "", 0},
		{"0", "Mon, 02 Nov 1998 10:00:00 GMT", 0},
		{"Tue, 02 Nov 2027 10:00:00 GMT", "", maxFresh},
		{"Tue, 02 Nov 2027 09:59:59 GMT", "", maxFresh - time.Second},
		{"Tue, 02 Nov 2027 10:00:01 GMT", "", maxFresh},
	} {
		if got := untilExpires(http.Header{"Expires": {test.expires}, "Date": {test.date}}, now); got != test.want {
			t.Errorf("Expires %q, Date %q: got %v, want %v", test.expires, test.date, got, test.want)
		}
	}
}

func TestParseDirectives(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fields []string
		want   cacheDirectives
	}{
		"none":             {nil, cacheDirectives{maxAge: -1, sharedMaxAge: -1}},
		"an unknown one":   {[]string{"public, immutable"}, cacheDirectives{maxAge: -1, sharedMaxAge: -1}},
		"private":          {[]string{"PRIVATE"}, cacheDirectives{noStore: true, maxAge: -1, sharedMaxAge: -1}},
		"of several lines": {[]string{"no-store", "max-age=5"}, cacheDirectives{noStore: true, maxAge: 5 * time.Second, sharedMaxAge: -1}},
		"with blanks":      {[]string{` no-cache ,	max-age = "7" `}, cacheDirectives{noCache: true, maxAge: 7 * time.Second, sharedMaxAge: -1}},
		"of a shared cache": {
			[]string{"s-maxage=1,proxy-revalidate"},
			cacheDirectives{mustRevalidate: true, maxAge: -1, sharedMaxAge: time.Second},
		},
		"of any cache":     {[]string{"must-revalidate"}, cacheDirectives{mustRevalidate: true, maxAge: -1, sharedMaxAge: -1}},
		"of no value":      {[]string{"max-age"}, cacheDirectives{sharedMaxAge: -1}},
		"of two equal":     {[]string{"max-age=5, max-age=6"}, cacheDirectives{maxAge: 6 * time.Second, sharedMaxAge: -1}},
		"of an equal sign": {[]string{"max-age==5"}, cacheDirectives{sharedMaxAge: -1}},
	} {
		if got := parseDirectives(test.fields); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestDeltaSeconds(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "31535999": maxFresh - time.Second, "31536000": maxFresh, "31536001": maxFresh,
		"18446744073709551615": maxFresh, "18446744073709551616": maxFresh, "-1": 0, "+1": 0, "1.5": 0, "5x": 0,
	} {
		if got := deltaSeconds(s); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

func TestOrigin_FallbackFreshness(t *testing.T) {
	t.Parallel()
	o := newFixture(t, func(c *Config) { c.Cache.MediaTTL = time.Minute }, []string{"http://a"})
	for freshFor, want := range map[time.Duration]time.Duration{
		-1: time.Minute, 0: time.Minute, 1: 1, time.Minute - 1: time.Minute - 1, time.Minute: time.Minute, time.Minute + 1: time.Minute,
	} {
		if got := o.fallbackFreshness(&fetch{freshFor: freshFor}); got != want {
			t.Errorf("%v: got %v, want %v", freshFor, got, want)
		}
	}
}

func TestListedState_IsCurrent(t *testing.T) {
	t.Parallel()
	for at, want := range map[int64]bool{9: true, 10: false, 11: false} {
		if got := (&listedState{until: 10}).isCurrent(at); got != want {
			t.Errorf("at %d: got %v, want %v", at, got, want)
		}
	}
	if (*listedState)(nil).isCurrent(0) {
		t.Error("none is current")
	}
}

func TestListedState_Continues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		isKey       bool
		before, now []uint64
		want        bool
	}{
		{false, []uint64{1}, []uint64{1}, true},
		{false, []uint64{1}, []uint64{2}, false},
		{false, []uint64{1, 2}, []uint64{2, 3}, true},
		{false, []uint64{1, 2}, []uint64{3, 4}, false},
		{true, []uint64{1}, []uint64{1}, true},
		{true, []uint64{1}, []uint64{2}, false},
		{true, []uint64{1, 2}, []uint64{2}, true},
		{true, []uint64{1}, []uint64{1, 2}, false},
	} {
		s := &listedState{versions: test.now, isKey: test.isKey}
		if got := s.continues(&listedState{versions: test.before, isKey: test.isKey}); got != test.want {
			t.Errorf("key %v, %v after %v: got %v, want %v", test.isKey, test.now, test.before, got, test.want)
		}
	}
}

// mark is a listedMark without its hash.
type mark struct{ index, segmentsAfter int }

func marksIn(o fixture, all []ListedMedia) (marks []mark) {
	for _, m := range o.marksOf(all) {
		marks = append(marks, mark{m.index, m.segmentsAfter})
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return b.index - a.index })
	return marks
}

func TestOrigin_MarksOf(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	cached := cacheKey{origin: o.id, path: "/cached.ts", media: true}
	o.cache.store(cached, &entry{object: &Object{}, retention: time.Hour})
	for name, test := range map[string]struct {
		media []ListedMedia
		want  []mark
	}{
		"none":         {nil, nil},
		"one":          {media("/1.ts", 1), []mark{{0, 0}}},
		"three":        {media("/1.ts", 1, "/2.ts", 2, "/3.ts", 3), []mark{{2, 0}, {1, 1}, {0, 2}}},
		"four":         {media("/1.ts", 1, "/2.ts", 2, "/3.ts", 3, "/4.ts", 4), []mark{{3, 0}, {2, 1}, {1, 2}}},
		"a cached one": {media("/cached.ts", 1, "/1.ts", 2, "/2.ts", 3, "/3.ts", 4, "/4.ts", 5), []mark{{4, 0}, {3, 1}, {2, 2}, {0, 4}}},
		"parts of one": {media("/1.ts", 1, "/2.ts", 2, "/3.ts", 2, "/4.ts", 2, "/5.ts", 3), []mark{{4, 0}, {3, 1}, {2, 1}, {1, 1}, {0, 2}}},
		"keys":         {media("/a.key", 7, "/1.ts", 1, "/b.key", 8, "/2.ts", 2, "/c.key", 9), []mark{{4, 0}, {3, 0}, {2, 0}, {1, 1}, {0, 1}}},
		"with ranges": {
			[]ListedMedia{{Path: "/1.ts", Version: 1}, {Path: "/2.ts", Version: 9, MayGrow: true}, {Path: "/2.ts", Version: 2}, {Path: "/3.ts", Version: 8, MayGrow: true}},
			[]mark{{3, 0}, {2, 0}, {1, 0}, {0, 1}},
		},
		"without path": {[]ListedMedia{{Base: "://", Path: "/1.ts", Version: 1}}, nil},
	} {
		if got := marksIn(o, test.media); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	marks := o.marksOf(media("/1.ts", 1, "/2.ts", 2, "/1.ts", 3))
	for i, m := range marks {
		if i > 0 && (m.hash < marks[i-1].hash || m.hash == marks[i-1].hash && m.index >= marks[i-1].index) {
			t.Errorf("not together, the last one first: %v", marks)
		}
	}
}

// TestOrigin_Listed_State shows what is recorded of media that no one has fetched.
func TestOrigin_Listed_State(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		sleep(time.Hour)
		at := o.cache.now() - int64(time.Second)
		all := media("/long.ts", 1, "/k.key", 2, "/a.ts", 3, "/b.ts", 4, "/c.ts", 5)
		all[2].RequestVersion = 6
		o.listed("p", time.Now().Add(-time.Second), all)
		until, freshUntil := at+int64(5*testTarget), at+int64(2*testTarget)
		for _, test := range []struct {
			path    string
			version uint64
			want    *listedState
		}{
			{"/long.ts", 0, nil},
			{"/k.key", 0, &listedState{versions: []uint64{2}, since: at, until: until, isKey: true}},
			{"/a.ts", 6, &listedState{versions: []uint64{3}, since: math.MinInt64, until: until, freshUntil: freshUntil}},
			{"/b.ts", 0, &listedState{versions: []uint64{4}, since: at, until: until, freshUntil: freshUntil}},
			{"/c.ts", 0, &listedState{versions: []uint64{5}, since: at, until: until, freshUntil: freshUntil}},
		} {
			e := o.cache.peek(cacheKey{origin: o.id, path: test.path, version: test.version, media: true})
			switch {
			case test.want == nil && e == nil:
			case test.want == nil || e == nil:
				t.Errorf("%s: got %v, want %v", test.path, e, test.want)
			default:
				got, want := e.listed.Load(), test.want
				if !slices.Equal(got.versions, want.versions) || got.since != want.since || got.at != at || got.until != want.until ||
					got.freshUntil != want.freshUntil || got.isKey != want.isKey {
					t.Errorf("%s: got %+v, want %+v", test.path, got, want)
				}
			}
		}
	})
}

func TestCache_SetListed_Bounds(t *testing.T) {
	t.Parallel()
	const trusted, old = 50, 40
	was := func(playlist uint64) *listedState {
		return &listedState{since: 10, at: old, versions: []uint64{1}, playlist: playlist}
	}
	for name, test := range map[string]struct {
		// before is what the entry is listed as; nil: nothing.
		before  *listedState
		started int64
		s       listedState
		// wantSince is 0 if the entry keeps what it is listed as.
		wantSince int64
	}{
		"first listed, fetched just in time":  {nil, trusted, listedState{since: 90}, trusted},
		"first listed, fetched later":         {nil, trusted + 1, listedState{since: 90}, trusted + 1},
		"first listed, fetched too early":     {nil, trusted - 1, listedState{since: 90}, 90},
		"the same bytes":                      {was(0), 20, listedState{since: 90, at: 90, versions: []uint64{1}}, 10},
		"the same version of the playlist":    {was(0), 20, listedState{since: 90, at: old, versions: []uint64{2}}, 90},
		"an older version of the playlist":    {was(0), 20, listedState{since: 90, at: old - 1, versions: []uint64{1}}, 0},
		"other bytes":                         {was(0), 20, listedState{since: 90, at: 90, versions: []uint64{2}}, 90},
		"another playlist":                    {was(8), 20, listedState{since: 90, at: 90, versions: []uint64{1}}, 0},
		"another playlist, fetched long then": {&listedState{since: 10, at: old, until: -1, playlist: 8}, 20, listedState{since: 90, at: 90}, 90},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{"http://a"})
			k := cacheKey{origin: o.id, path: "/a.ts", media: true}
			e := &entry{object: &Object{}, retention: time.Hour, started: test.started}
			if test.before != nil {
				if test.before.until == 0 {
					test.before.until = math.MaxInt64
				}
				e.listed.Store(test.before)
			}
			o.cache.store(k, e)
			s := test.s
			s.until = math.MaxInt64
			o.cache.setListed(k, &s, trusted)
			switch got := e.listed.Load(); {
			case test.wantSince == 0 && got != test.before:
				t.Errorf("got %+v, want what it was listed as", got)
			case test.wantSince != 0 && (got != &s || s.since != test.wantSince):
				t.Errorf("got %+v, want it since %d", got, test.wantSince)
			}
		})
	}
}

func TestCache_SetListed_OfNoEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		sleep(time.Hour)
		now := o.cache.now()
		for i, test := range []struct {
			until, trustedFrom int64
			want               time.Duration
		}{
			{now + 1, math.MaxInt64, 1},
			{now + int64(time.Hour), math.MaxInt64, time.Minute},
			{now, math.MaxInt64, 0},
			{now + 1, math.MaxInt64 - 1, 0},
		} {
			k := cacheKey{origin: o.id, path: string(rune('a' + i)), media: true}
			o.cache.setListed(k, &listedState{until: test.until}, test.trustedFrom)
			e := o.cache.peek(k)
			if (e != nil) != (test.want > 0) || e != nil && e.retention != test.want {
				t.Errorf("until %d, trusted from %d: got %+v, want a retention of %v", test.until-now, test.trustedFrom, e, test.want)
			}
		}
	})
}

func TestCache_Listed(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	store := func(k cacheKey, s *listedState) {
		e := &entry{object: &Object{}, retention: time.Hour}
		e.listed.Store(s)
		o.cache.store(k, e)
	}
	listed, expired := cacheKey{path: "/listed", media: true}, cacheKey{path: "/expired", media: true}
	plain, playlist := cacheKey{path: "/plain", media: true}, cacheKey{path: "/playlist"}
	store(listed, &listedState{since: 5, until: math.MaxInt64})
	store(expired, &listedState{since: 5})
	store(plain, nil)
	store(playlist, &listedState{since: 5, until: math.MaxInt64})
	part := listed
	part.variant = "bytes=0-5"
	for k, want := range map[cacheKey]bool{
		listed: true, part: true, expired: false, plain: false, playlist: false, {path: "/none", media: true}: false,
	} {
		if got := o.cache.listed(k); (got != nil) != want || got != nil && got.since != 5 {
			t.Errorf("%+v: got %+v, want one: %v", k, got, want)
		}
	}
}

func TestEntry_IsOf(t *testing.T) {
	t.Parallel()
	missing := &StatusError{Status: http.StatusNotFound}
	for _, test := range []struct {
		negative         error
		limit, since, at int64
		want             bool
	}{
		{nil, 0, 9, 9, true},
		{nil, 1, 4, 9, true},
		{nil, 1, 5, 9, true},
		{nil, 1, 6, 9, false},
		{nil, -1, 6, 9, false},
		{missing, 1, 4, 4, true},
		{missing, 1, 4, 5, true},
		{missing, 1, 4, 6, false},
		{ErrPlaylist, 0, 9, 9, true},
	} {
		e := &entry{negative: test.negative, freshLimit: test.limit, started: 5}
		if got := e.isOf(&listedState{since: test.since, at: test.at}); got != test.want || !e.isOf(nil) {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

func TestEntry_MayBeOther(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		limit, until int64
		want         bool
	}{
		{0, 5, false}, {0, 20, false}, {1, 20, false}, {1, 11, false}, {1, 10, true}, {1, 5, true},
	} {
		e := &entry{freshLimit: test.limit}
		e.listed.Store(&listedState{until: test.until})
		if got := e.mayBeOther(10); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	if !(&entry{freshLimit: 1}).mayBeOther(10) {
		t.Error("what no playlist lists is taken for the same")
	}
}

func TestEntry_SetListed_Bounds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit, started      int64
		fresh, stale        int64
		s                   *listedState
		isListed            bool
		wantFresh, wantStal int64
	}{
		"none":                        {100, 5, 20, 30, nil, false, 20, 30},
		"an expired one":              {100, 5, 20, 30, &listedState{until: 10, freshUntil: 40}, false, 20, 30},
		"longer":                      {100, 5, 20, 30, &listedState{until: 11, freshUntil: 40}, true, 40, 50},
		"longer, never stale":         {100, 5, 20, 0, &listedState{until: 11, freshUntil: 40}, true, 40, 0},
		"longer, stale at once":       {100, 5, 20, 1, &listedState{until: 11, freshUntil: 40}, true, 40, 21},
		"by one":                      {100, 5, 20, 30, &listedState{until: 11, freshUntil: 21}, true, 21, 31},
		"as long":                     {100, 5, 20, 30, &listedState{until: 11, freshUntil: 20}, true, 20, 30},
		"shorter":                     {100, 5, 20, 30, &listedState{until: 11, freshUntil: 19}, true, 20, 30},
		"up to the limit":             {25, 5, 20, 30, &listedState{until: 11, freshUntil: 40}, true, 25, 35},
		"without a limit":             {0, 5, 20, 30, &listedState{until: 11, freshUntil: 40}, true, 20, 30},
		"other bytes":                 {100, 5, 20, 30, &listedState{until: 11, freshUntil: 40, since: 6}, true, 0, 0},
		"fetched as it began":         {100, 5, 20, 30, &listedState{until: 11, freshUntil: 40, since: 5}, true, 40, 50},
		"other bytes of a stated age": {0, 5, 20, 30, &listedState{until: 11, freshUntil: 40, since: 6}, true, 20, 30},
	} {
		e := &entry{freshLimit: test.limit, started: test.started}
		e.freshUntil.Store(test.fresh)
		e.staleUntil.Store(test.stale)
		e.setListed(test.s, 10)
		if fresh, stale := e.freshUntil.Load(), e.staleUntil.Load(); fresh != test.wantFresh || stale != test.wantStal ||
			(e.listed.Load() != nil) != test.isListed {
			t.Errorf("%s: got fresh until %d, stale until %d, listed %v; want %d, %d, %v", name, fresh, stale, e.listed.Load() != nil,
				test.wantFresh, test.wantStal, test.isListed)
		}
	}
}
