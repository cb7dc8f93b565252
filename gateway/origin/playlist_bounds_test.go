package origin

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/setting"
	"usher/gateway/upstream"
)

// TestPlaylist_LargestSize fetches playlists of fetch.max_playlist_size, and of one byte more.
func TestPlaylist_LargestSize(t *testing.T) {
	t.Parallel()
	const largest = int(64 * setting.KiB)
	for name, test := range map[string]struct {
		size      int
		hasLength bool
		want      bool
	}{
		"empty":                        {0, true, true},
		"as large, with its length":    {largest, true, true},
		"as large, without a length":   {largest, false, true},
		"one byte more, with a length": {largest + 1, true, false},
		"one byte more, without":       {largest + 1, false, false},
	} {
		o := newFixture(t, func(c *Config) { c.Fetch.MaxPlaylistSize = 64 * setting.KiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if test.hasLength {
				w.Header().Set("Content-Length", strconv.Itoa(test.size))
			}
			_, _ = io.WriteString(w, strings.Repeat("#", test.size))
		})})
		got, err := o.Playlist(t.Context(), new(reloadRequest()))
		switch {
		case !test.want && !errors.Is(err, ErrTooLarge):
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		case test.want && (err != nil || len(got.Body) != test.size):
			t.Errorf("%s: got %v, want %d bytes", name, err, test.size)
		}
	}
}

func TestObject_SameAs_EveryField(t *testing.T) {
	t.Parallel()
	whole := func(contentType, path, body string) *Object {
		return &Object{Header: Header{ContentType: contentType}, Source: Source{Path: path}, Body: []byte(body)}
	}
	o := whole("t", "/p", "b")
	for name, test := range map[string]struct {
		old, next *Object
		want      bool
	}{
		"the same":       {o, whole("t", "/p", "b"), true},
		"another type":   {o, whole("u", "/p", "b"), false},
		"another source": {o, whole("t", "/q", "b"), false},
		"other bytes":    {o, whole("t", "/p", "c"), false},
		"nothing alike":  {o, whole("u", "/q", "c"), false},
		"without an old": {nil, o, false},
	} {
		if got := test.old.sameAs(test.next); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestOrigin_PlaylistEntry_Times(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	inspect := func(fresh, stale time.Duration) func([]byte) (Inspection, error) {
		return func([]byte) (Inspection, error) { return Inspection{Fresh: fresh, Stale: stale}, nil }
	}
	const received = 1000
	for name, test := range map[string]struct {
		variant                 string
		inspect                 func([]byte) (Inspection, error)
		fresh, stale, retention time.Duration
	}{
		"ordinary":             {"", inspect(3, 18), 3, 18, 18 + playlistRetention},
		"held":                 {"_HLS_msn=1", inspect(3, 18), 3, 18, 18},
		"longer fresh":         {"_HLS_msn=1", inspect(20, 18), 20, 18, 20},
		"without a freshness":  {"", nil, 0, 0, playlistRetention},
		"held, without it":     {"_HLS_msn=1", nil, 0, 0, 0},
		"longer than the most": {"_HLS_msn=1", inspect(2*maxFresh, 3*maxFresh), maxFresh, maxFresh, maxFresh},
	} {
		f := &fetch{key: cacheKey{variant: test.variant}, inspect: test.inspect}
		a := &response{Response: &http.Response{Header: http.Header{"Etag": {"v"}, "Last-Modified": {modified}}}, received: received}
		e, err := o.playlistEntry(f, a, &Object{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e.freshUntil.Load() != received+int64(test.fresh) || e.staleUntil.Load() != received+int64(test.stale) || e.retention != test.retention {
			t.Errorf("%s: fresh until %d, stale until %d, kept for %v", name, e.freshUntil.Load(), e.staleUntil.Load(), e.retention)
		}
		if e.etag != "v" || e.lastModified != modified {
			t.Errorf("%s: got the validators %q, %q", name, e.etag, e.lastModified)
		}
	}
}

func TestOrigin_SourceOf_AddressOrHop(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a/same", "http://b/same", "http://c/other"},
		WithUpstream(upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "edge"}}}))
	for name, test := range map[string]struct {
		at   *address
		base string
		hop  hop
		want string
	}{
		"the preferred":               {o.addresses[0], "", hop{}, "http://a/same/x?q"},
		"a fallback of the same path": {o.addresses[1], "", hop{}, "http://a/same/x?q"},
		"a fallback of another path":  {o.addresses[2], "", hop{}, "http://c/other/x?q"},
		"a host with the same path":   {newAddress(mustURL(t, "http://edge/same"), 1, false), "http://edge", hop{}, "http://edge/same/x?q"},
		"redirected":                  {o.addresses[1], "", hop{url: mustURL(t, "http://edge/y?z"), isRedirected: true}, "http://edge/y?z"},
		"redirected to the root":      {o.addresses[1], "", hop{url: mustURL(t, "http://edge"), isRedirected: true}, "http://edge/"},
	} {
		f := &fetch{key: cacheKey{base: test.base, path: "/x", query: "q"}}
		if got := o.sourceOf(f, &response{address: test.at, hop: &test.hop}); got.URL() != test.want {
			t.Errorf("%s: got %s, want %s", name, got.URL(), test.want)
		}
	}
}

// TestOrigin_Refresh_FreshMeanwhile checks that a viewer who found no fresh copy gets the one that was stored meanwhile.
func TestOrigin_Refresh_FreshMeanwhile(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://127.0.0.1:1"})
	k := cacheKey{origin: o.id, path: "/live.m3u8"}
	for name, stored := range map[string]*entry{
		"a playlist": {object: &Object{}, retention: time.Hour}, "a 404": negativeEntry(&StatusError{Status: 404}, 0, time.Hour),
	} {
		stored.freshUntil.Store(o.cache.now() + int64(time.Hour))
		o.cache.store(k, stored)
		got, err := o.refresh(t.Context(), &k, new(reloadRequest()), nil)
		if got.Object != stored.object || got.Stale || (err != nil) != (stored.negative != nil) {
			t.Errorf("%s: got %v, %v; want what is stored", name, got, err)
		}
	}
	if got := o.Stats().Fetches; got != 0 {
		t.Errorf("%d fetches, want none", got)
	}
}

// TestPlaylist_OriginFails_RefreshedAfterTheBackoff asks a failing origin again at the end of the pause, and not before.
func TestPlaylist_OriginFails_RefreshedAfterTheBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		mustPlaylist(t, o, reloadRequest())
		p.set(func(p *playlistOrigin) { p.status = http.StatusServiceUnavailable })
		sleep(4 * time.Second)
		for i, step := range []struct {
			after time.Duration
			want  int
		}{{0, 2}, {refreshBackoff - 1, 2}, {1, 3}, {0, 3}} {
			sleep(step.after)
			if got := mustPlaylist(t, o, reloadRequest()); !got.Stale || p.requestCount() != step.want {
				t.Errorf("step %d: stale %v after %d requests, want %d", i, got.Stale, p.requestCount(), step.want)
			}
		}
	})
}

// TestOrigin_OriginRefuses_NeverStale has an origin refuse what is stored. That is a decision, which no stale copy hides: neither the
// request that learns of it nor those that follow within the pause after a failure get one.
func TestOrigin_OriginRefuses_NeverStale(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		synctest.Test(t, func(t *testing.T) {
			p := &playlistOrigin{}
			o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
			r := reloadRequest()
			mustPlaylist(t, o, r)
			key := &entry{object: &Object{Status: http.StatusOK, Body: []byte("old")}, retention: time.Hour}
			key.staleUntil.Store(o.cache.now() + int64(time.Hour))
			o.cache.store(cacheKey{origin: o.id, path: "/a.key", media: true}, key)
			p.set(func(p *playlistOrigin) { p.status = status })
			sleep(4 * time.Second)
			for i, after := range []time.Duration{0, refreshBackoff - 1, 1, 0} {
				sleep(after)
				if _, err := o.Playlist(t.Context(), &r); !isStatus(err, status) {
					t.Errorf("step %d: the playlist's error is %v, want status %d", i, err, status)
				}
				if _, _, err := fetchMedia(t, o, Request{Path: "/a.key"}); !isStatus(err, status) {
					t.Errorf("step %d: the key's error is %v, want status %d", i, err, status)
				}
			}
		})
	}
}

func isStatus(err error, want int) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Status == want
}
