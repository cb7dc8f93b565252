package origin

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMedia_FreshnessByHeader(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header map[string]string
		// fresh is how long the object is fresh; 0 means that it is fetched again at once.
		fresh time.Duration
	}{
		"it says nothing":                    {nil, time.Minute},
		"max-age":                            {map[string]string{"Cache-Control": "public, max-age=5"}, 5 * time.Second},
		"s-maxage is for us":                 {map[string]string{"Cache-Control": "max-age=5, s-maxage=7"}, 7 * time.Second},
		"Age is subtracted":                  {map[string]string{"Cache-Control": "max-age=5", "Age": "2"}, 3 * time.Second},
		"Age is subtracted from s-maxage":    {map[string]string{"Cache-Control": "max-age=60, s-maxage=7", "Age": "2"}, 5 * time.Second},
		"older than its s-maxage":            {map[string]string{"Cache-Control": "max-age=60, s-maxage=7", "Age": "7"}, 0},
		"older than its max-age":             {map[string]string{"Cache-Control": "max-age=5", "Age": "5"}, 0},
		"no-store":                           {map[string]string{"Cache-Control": "no-store"}, 0},
		"private":                            {map[string]string{"Cache-Control": "Private, max-age=60"}, 0},
		"no-cache without a validator":       {map[string]string{"Cache-Control": "no-cache"}, 0},
		"max-age that is no number":          {map[string]string{"Cache-Control": "max-age=soon"}, 0},
		"max-age that no number holds":       {map[string]string{"Cache-Control": "max-age=99999999999999999999"}, time.Hour},
		"Expires by its own clock":           {map[string]string{"Date": "Mon, 02 Nov 2026 10:00:00 GMT", "Expires": "Mon, 02 Nov 2026 10:00:09 GMT"}, 9 * time.Second},
		"Expires in the past":                {map[string]string{"Expires": "Mon, 02 Nov 1998 10:00:00 GMT"}, 0},
		"Expires that is no date":            {map[string]string{"Expires": "0"}, 0},
		"max-age overrules Expires":          {map[string]string{"Cache-Control": `max-age="4"`, "Expires": "0"}, 4 * time.Second},
		"it varies by everything":            {map[string]string{"Vary": "*"}, 0},
		"it varies by what is the same here": {map[string]string{"Vary": "Accept-Encoding"}, time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
					requests.Add(1)
					for name, value := range test.header {
						w.Header().Set(name, value)
					}
					_, _ = io.WriteString(w, "segment")
				}}), nil, "a")
				ask := func(want int32, when string) {
					t.Helper()
					mustMedia(t, o, Request{Path: "/seg.ts"})
					if got := requests.Load(); got != want {
						t.Errorf("%s: %d requests, want %d", when, got, want)
					}
				}
				ask(1, "at first")
				if test.fresh == 0 {
					ask(2, "at once")
					return
				}
				sleep(test.fresh - 1)
				ask(1, "while fresh")
				if test.fresh < time.Hour {
					sleep(1)
					ask(2, "afterwards")
				}
			})
		})
	}
}

func TestMedia_Stale_RevalidatedByETag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var full, unchanged atomic.Int32
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Cache-Control", "max-age=5")
			if r.Header.Get("If-None-Match") == `"v1"` {
				unchanged.Add(1)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			full.Add(1)
			_, _ = io.WriteString(w, "segment")
		}}), nil, "a")
		for range 4 {
			s, body := mustMedia(t, o, Request{Path: "/seg.ts"})
			if body != "segment" || s.CacheControl != "max-age=5" || time.Since(s.Fetched) != 0 {
				t.Errorf("got %q, Cache-Control %q, age %v", body, s.CacheControl, time.Since(s.Fetched))
			}
			sleep(6 * time.Second)
		}
		if full.Load() != 1 || unchanged.Load() != 3 {
			t.Errorf("got %d full answers and %d times not modified, want 1 and 3", full.Load(), unchanged.Load())
		}
	})
}

func TestMedia_OriginFails_ServesStale(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cacheControl string
		stale        bool
	}{
		"an ordinary one":              {"max-age=30", true},
		"one that must be revalidated": {"max-age=30, must-revalidate", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var failing atomic.Bool
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Control", test.cacheControl)
					if failing.Load() {
						w.WriteHeader(http.StatusBadGateway)
					}
					_, _ = io.WriteString(w, "segment")
				}}), nil, "a")
				mustMedia(t, o, Request{Path: "/seg.ts"})
				failing.Store(true)
				sleep(31 * time.Second)
				for range 2 {
					s, body, err := fetchMedia(t, o, Request{Path: "/seg.ts"})
					if test.stale != (err == nil && s.Stale && body == "segment") {
						t.Errorf("got stale %v, %q, %v; want a stale copy: %v", s.Stale, body, err, test.stale)
					}
				}
				sleep(31 * time.Second)
				if _, _, err := fetchMedia(t, o, Request{Path: "/seg.ts"}); err == nil {
					t.Error("twice its age later: still served")
				}
			})
		})
	}
}

func TestMedia_NotFound_CachedForNegativeTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.WriteHeader(http.StatusNotFound)
		}}), nil, "a")
		for i, want := range []int32{1, 1, 2} {
			requireStatus(t, o, "/seg.ts", 404)
			if got := requests.Load(); got != want {
				t.Errorf("ask %d: %d requests, want %d", i, got, want)
			}
			sleep(600 * time.Millisecond)
		}
	})
}

func FuzzCacheControl(f *testing.F) {
	f.Add("max-age=5, no-store", "3", "Mon, 02 Nov 2026 10:00:09 GMT")
	f.Add("s-maxage=99999999999999999999", "-1", "0")
	now := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, control, age, expires string) {
		h := http.Header{"Cache-Control": {control}, "Age": {age}, "Expires": {expires}}
		l := mediaLifetime(h, now, time.Minute)
		if l.fresh > maxFresh || l.fresh < -maxFresh || l.age < 0 || l.age > maxFresh {
			t.Fatalf("%v: %+v", h, l)
		}
	})
}

// TestMedia_Stale_ViewerLeaves_FetchedAgain has the viewer leave for whom what has expired is fetched.
func TestMedia_Stale_ViewerLeaves_FetchedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, http.Header{"Cache-Control": {"max-age=0"}})
		key := Request{Path: "/a.key"}
		o.want(t, "fetch 1", key)
		hold := make(chan struct{})
		o.hold.Store(&hold)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := o.Media(ctx, key)
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the first viewer: got %v", err)
		}
		synctest.Wait()
		close(hold)
		if s, got := mustMedia(t, o.fixture, key); s.Stale || got != "fetch 3" {
			t.Errorf("the next viewer: got %q, stale %v, want what the origin has now", got, s.Stale)
		}
	})
}

// TestMedia_Stale_OriginHangs_NextViewerWaitsNot has an origin hang longer than cache.max_wait_for_fresh.
func TestMedia_Stale_OriginHangs_NextViewerWaitsNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, http.Header{"Cache-Control": {"max-age=0"}})
		key := Request{Path: "/a.key"}
		o.want(t, "fetch 1", key)
		hold := make(chan struct{})
		defer close(hold)
		o.hold.Store(&hold)
		for _, want := range []time.Duration{DefaultConfig().Cache.MaxWaitForFresh, 0} {
			began := time.Now()
			if s, got := mustMedia(t, o.fixture, key); !s.Stale || got != "fetch 1" || time.Since(began) != want {
				t.Errorf("got %q, stale %v after %v, want the old copy after %v", got, s.Stale, time.Since(began), want)
			}
			synctest.Wait()
			o.hold.Store(&hold)
		}
	})
}

// TestMedia_Revalidated_WithoutFields_AsBefore has a 304 not say how long an object is fresh, when the 200 did.
func TestMedia_Revalidated_WithoutFields_AsBefore(t *testing.T) {
	t.Parallel()
	const expires = "Sat, 01 Jan 2000 00:00:05 GMT" // in the bubble it is midnight
	for name, test := range map[string]struct {
		header http.Header
		fresh  time.Duration
	}{
		"no-cache":           {http.Header{"Cache-Control": {"no-cache"}}, 0},
		"no-cache, later":    {http.Header{"Cache-Control": {"public", "no-cache"}}, 0},
		"max-age=5":          {http.Header{"Cache-Control": {"max-age=5, must-revalidate"}}, 5 * time.Second},
		"max-age and others": {http.Header{"Cache-Control": {"must-revalidate", "max-age=5"}}, 5 * time.Second},
		"Expires":            {http.Header{"Expires": {expires}, "Cache-Control": {"must-revalidate"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int32
				var isFailing atomic.Bool
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					w.Header().Set("ETag", `"a"`)
					switch {
					case isFailing.Load():
						w.WriteHeader(http.StatusBadGateway)
					case r.Header.Get("If-None-Match") != "":
						w.WriteHeader(http.StatusNotModified)
					default:
						maps.Copy(w.Header(), test.header)
						_, _ = io.WriteString(w, "key")
					}
				}}), nil, "a")
				r := Request{Path: "/a.key", FreshFor: time.Minute}
				mustMedia(t, o, r)
				sleep(6 * time.Second)
				for i := range int32(3) {
					s, _ := mustMedia(t, o, r)
					if got, want := s.CacheControl, strings.Join(test.header["Cache-Control"], ", "); got != want {
						t.Errorf("the viewer got Cache-Control %q, want %q", got, want)
					}
					if got := requests.Load(); got != 2+i {
						t.Errorf("ask %d: %d requests of the origin, want %d", i, got, 2+i)
					}
					if test.fresh > 0 {
						sleep(test.fresh - 1)
						mustMedia(t, o, r)
						sleep(1)
					}
				}
				isFailing.Store(true)
				if _, body, err := fetchMedia(t, o, r); err == nil {
					t.Errorf("it must be revalidated, got %q", body)
				}
			})
		})
	}
}

// TestOrigin_VersionsOfOneSecond_ToldApart has an origin change what it has twice within a second, of which it states the date alone. Neither
// viewers nor the origin say by that date that they have the second version.
func TestOrigin_VersionsOfOneSecond_ToldApart(t *testing.T) {
	t.Parallel()
	const soon, later = "Mon, 02 Nov 2020 10:00:00 GMT", "Mon, 02 Nov 2020 10:00:01 GMT"
	for name, get := range map[string]func(*testing.T, fixture) (body, date string){
		"media": func(t *testing.T, o fixture) (string, string) {
			t.Helper()
			s, body := mustMedia(t, o, Request{Path: "/a", IfModifiedSince: modified})
			if _, part := mustMedia(t, o, Request{Path: "/a", Range: "bytes=1-", IfRange: modified}); s.Status == 200 && part != body {
				t.Errorf("got a part %q of %q by If-Range", part, body)
			}
			return body, s.LastModified
		},
		"a playlist": func(t *testing.T, o fixture) (string, string) {
			t.Helper()
			p := mustPlaylist(t, o, Request{Path: "/a"})
			return string(p.Body), p.LastModified
		},
	} {
		for _, sent := range []string{soon, later} {
			t.Run(name+" sent at "+sent, func(t *testing.T) {
				t.Parallel()
				var version atomic.Pointer[string]
				o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Date", sent)
					w.Header().Set("Last-Modified", modified)
					w.Header().Set("Cache-Control", "max-age=0")
					if r.Header.Get("If-Modified-Since") != "" {
						w.WriteHeader(http.StatusNotModified)
						return
					}
					_, _ = io.WriteString(w, *version.Load())
				})})
				first, second := "first", "second"
				version.Store(&first)
				before, date := get(t, o)
				version.Store(&second)
				after, _ := get(t, o)
				isStrong := sent == later
				if (date == modified) != isStrong {
					t.Errorf("got Last-Modified %q, want it told: %t", date, isStrong)
				}
				if !isStrong && (before != first || after != second) {
					t.Errorf("got %q, then %q, want both versions", before, after)
				}
			})
		}
	}
}

func TestStrongDate(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 11, 2, 10, 0, 0, 0, time.UTC)
	const second = "Mon, 02 Nov 2020 10:00:00 GMT"
	for name, test := range map[string]struct {
		header http.Header
		now    time.Time
		want   string
	}{
		"none":                         {http.Header{"Date": {second}}, now, ""},
		"no date":                      {http.Header{"Last-Modified": {"today"}}, now, ""},
		"the second of the response":   {http.Header{"Last-Modified": {second}, "Date": {second}}, now.Add(time.Hour), ""},
		"the one before":               {http.Header{"Last-Modified": {second}, "Date": {"Mon, 02 Nov 2020 10:00:01 GMT"}}, now, second},
		"to come":                      {http.Header{"Last-Modified": {second}, "Date": {"Mon, 02 Nov 2020 09:00:00 GMT"}}, now.Add(time.Hour), ""},
		"of a response without a date": {http.Header{"Last-Modified": {second}}, now.Add(time.Second), second},
		"too new for one":              {http.Header{"Last-Modified": {second}}, now.Add(time.Second - 1), ""},
	} {
		if got := strongDate(test.header, test.now); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
