package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"usher/backends"
)

// playlistOrigin is a live playlist whose every answer a test can change.
type playlistOrigin struct {
	mu       sync.Mutex
	requests int
	version  int
	status   int           // 0: 200
	hold     time.Duration // before answering
	etag     bool
}

func (p *playlistOrigin) set(change func(*playlistOrigin)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *playlistOrigin) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *playlistOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	status, hold, body := p.status, p.hold, fmt.Sprintf("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:%d\n", p.version)
	tag := fmt.Sprintf("%q", fmt.Sprint(p.version))
	if p.etag {
		w.Header().Set("ETag", tag)
	}
	notModified := p.etag && r.Header.Get("If-None-Match") == tag
	p.mu.Unlock()
	select {
	case <-time.After(hold):
	case <-r.Context().Done():
		return
	}
	switch {
	case status != 0:
		w.WriteHeader(status)
	case notModified:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		_, _ = io.WriteString(w, body)
	}
}

// live is fresh for 3 s and may be stale until 18 s after its fetch, as for a target duration of 6 s.
func live([]byte) (fresh, stale time.Duration) { return 3 * time.Second, 18 * time.Second }

func reload() Request { return Request{Path: "/live.m3u8", Freshness: live} }

func mustPlaylist(t *testing.T, o fixture, r Request) Playlist {
	t.Helper()
	p, err := o.Playlist(t.Context(), r)
	if err != nil {
		t.Fatalf("Playlist: %v", err)
	}
	return p
}

func sequence(p Playlist) string {
	_, n, _ := strings.Cut(string(p.Body), "SEQUENCE:")
	return strings.TrimSpace(n)
}

func TestAPlaylistIsFetchedOnceWhileItIsFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		first := mustPlaylist(t, o, reload())
		pass(3*time.Second - 1)
		p.set(func(p *playlistOrigin) { p.version = 1 })
		if again := mustPlaylist(t, o, reload()); again.Object != first.Object || again.Stale {
			t.Error("while fresh: got another object")
		}
		pass(1)
		var done sync.WaitGroup
		for range 50 {
			done.Go(func() {
				if got := mustPlaylist(t, o, reload()); sequence(got) != "1" || got.Stale {
					t.Errorf("after the refresh: got sequence %s, stale %v", sequence(got), got.Stale)
				}
			})
		}
		done.Wait()
		if got := p.asked(); got != 2 {
			t.Errorf("origin requests: got %d, want 2", got)
		}
	})
}

func TestAnUnchangedPlaylistKeepsItsObjectAndWhatWasDerived(t *testing.T) {
	t.Parallel()
	for name, etag := range map[string]bool{"by ETag": true, "by its bytes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &playlistOrigin{etag: etag}
				o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
				derived := 0
				derive := func() int { derived++; return derived }
				for i := range 5 {
					got := mustPlaylist(t, o, reload())
					if v := got.Derive("template", func() any { return derive() }); v != 1 {
						t.Errorf("reload %d: derived again", i)
					}
					pass(4 * time.Second)
				}
				if got := p.asked(); got != 5 {
					t.Errorf("origin requests: got %d, want 5", got)
				}
				if got, want := o.Stats().Revalidated, map[bool]uint64{true: 4}[etag]; got != want {
					t.Errorf("revalidated: got %d, want %d", got, want)
				}
				p.set(func(p *playlistOrigin) { p.version = 7 })
				if got := mustPlaylist(t, o, reload()); sequence(got) != "7" {
					t.Errorf("the next version: got sequence %s", sequence(got))
				}
			})
		})
	}
}

func TestAStalePlaylistStandsInForAFailingOrigin(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fail    func(*playlistOrigin)
		waits   time.Duration // what the first viewer pays
		is      func(error) bool
		excused bool
	}{
		"it answers 5xx": {
			fail:    func(p *playlistOrigin) { p.status = http.StatusServiceUnavailable },
			excused: true,
		},
		"it hangs": {
			fail:    func(p *playlistOrigin) { p.hold = time.Hour },
			waits:   time.Second, // cache.max_wait_for_fresh
			excused: true,
		},
		"it says that there is no such playlist": {fail: func(p *playlistOrigin) { p.status = http.StatusNotFound }},
		"it says that we may not":                {fail: func(p *playlistOrigin) { p.status = http.StatusForbidden }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &playlistOrigin{}
				o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
				mustPlaylist(t, o, reload())
				pass(4 * time.Second)
				p.set(test.fail)
				began := time.Now()
				got, err := o.Playlist(t.Context(), reload())
				if test.excused != (err == nil && got.Stale) {
					t.Fatalf("got stale %v, %v; want a stale copy: %v", got.Object != nil, err, test.excused)
				}
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("waited %v, want %v", waited, test.waits)
				}
				pass(14 * time.Second) // stale until 18 s
				if got, err := o.Playlist(t.Context(), reload()); err == nil {
					t.Errorf("long after: got sequence %s, want the error", sequence(got))
				}
				p.set(func(p *playlistOrigin) { p.status, p.hold, p.version = 0, 0, 9 })
				pass(time.Second)
				if got := mustPlaylist(t, o, reload()); sequence(got) != "9" || got.Stale {
					t.Errorf("when it is back: got sequence %s, stale %v", sequence(got), got.Stale)
				}
			})
		})
	}
}

func TestAFailingOriginIsAskedOnceASecondForAStalePlaylist(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		mustPlaylist(t, o, reload())
		pass(4 * time.Second)
		p.set(func(p *playlistOrigin) { p.status = 500 })
		for range 500 { // five seconds of a hundred viewers
			if got := mustPlaylist(t, o, reload()); !got.Stale {
				t.Fatal("not marked stale")
			}
			pass(10 * time.Millisecond)
		}
		if got := p.asked(); got < 5 || got > 6 {
			t.Errorf("origin requests: got %d, want the first and one a second", got)
		}
	})
}

// Only the first viewer pays for an origin that hangs.
func TestAHangingOriginCostsViewersWithAStaleCopyNoMoreThanOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		mustPlaylist(t, o, reload())
		pass(4 * time.Second)
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		var waited time.Duration
		for range 100 {
			began := time.Now()
			mustPlaylist(t, o, reload())
			waited += time.Since(began)
			pass(100 * time.Millisecond)
		}
		if waited != time.Second {
			t.Errorf("a hundred viewers waited %v together, want %v", waited, time.Second)
		}
	})
}

func TestIdenticalBlockingReloadsShareOneRequest(t *testing.T) {
	t.Parallel()
	var blocking, ordinary atomic.Int32
	release := make(chan struct{})
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" {
			ordinary.Add(1)
			return
		}
		blocking.Add(1)
		<-release
		_, _ = io.WriteString(w, r.URL.RawQuery)
	})})
	const viewers, directives = 100, "_HLS_msn=9&_HLS_part=1"
	var done sync.WaitGroup
	for range viewers {
		done.Go(func() {
			got, err := o.Playlist(t.Context(), Request{Path: "/live.m3u8", Directives: directives, Freshness: live})
			if err != nil || string(got.Body) != directives {
				t.Errorf("got %v, %v", got.Object, err)
			}
		})
	}
	waitFor(t, "all have joined", func() bool { return o.Stats().Coalesced == viewers-1 })
	mustPlaylist(t, o, reload()) // not held up by them
	close(release)
	done.Wait()
	if blocking.Load() != 1 || ordinary.Load() != 1 {
		t.Errorf("origin requests: got %d blocking, %d ordinary, want 1 each", blocking.Load(), ordinary.Load())
	}
}

func TestABlockingReloadIsHeldForItsOwnTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{hold: 15 * time.Second}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		held := Request{Path: "/live.m3u8", Directives: "_HLS_msn=9", Freshness: live}
		mustPlaylist(t, o, held) // longer than an ordinary request may take
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		held.Directives = "_HLS_msn=10"
		_, err := o.Playlist(t.Context(), held)
		if err == nil || !strings.Contains(err.Error(), "fetch.blocking_timeout=20s") {
			t.Errorf("got %v, want an error that names fetch.blocking_timeout=20s", err)
		}
		if o.Stats().Down != 0 {
			t.Error("a hold that was asked for set the address aside")
		}
		_, err = o.Playlist(t.Context(), reload())
		if err == nil || !strings.Contains(err.Error(), "fetch.response_timeout=10s") {
			t.Errorf("ordinary: got %v, want an error that names fetch.response_timeout=10s", err)
		}
	})
}

func TestNobodyWaitingEndsABlockingReloadButNotAnOrdinaryOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{hold: 5 * time.Second}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		for flights, directives := range []string{"_HLS_msn=9", ""} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := o.Playlist(ctx, Request{Path: "/live.m3u8", Directives: directives, Freshness: live})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q: got %v, want the viewer's own deadline", directives, err)
			}
			synctest.Wait()
			if got := o.Stats().Flights; got != flights {
				t.Errorf("%q: %d fetches under way, want %d", directives, got, flights)
			}
			pass(5 * time.Second)
		}
		asked := p.asked()
		mustPlaylist(t, o, reload())
		if p.asked() != asked {
			t.Error("what the ordinary one fetched was not stored")
		}
	})
}

func TestWhereARedirectLedIsKnown(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live.m3u8" {
			http.Redirect(w, r, "/edge/7/live.m3u8?s=1", http.StatusFound)
		}
	})
	o := newFixture(t, nil, []string{url})
	if got, want := mustPlaylist(t, o, reload()).FinalURL, url+"/edge/7/live.m3u8?s=1"; got != want {
		t.Errorf("redirected: got %q, want %q", got, want)
	}
	if got := mustPlaylist(t, o, Request{Path: "/other.m3u8"}).FinalURL; got != "" {
		t.Errorf("not redirected: got %q, want none", got)
	}
}

func TestAPlaylistIsBounded(t *testing.T) {
	t.Parallel()
	for name, declare := range map[string]bool{"declared": true, "not declared": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, func(c *Config) { c.Fetch.MaxPlaylistSize = 64 * backends.KiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if declare {
					w.Header().Set("Content-Length", "70000")
				}
				_, _ = io.WriteString(w, strings.Repeat("#", 70000))
			})})
			_, err := o.Playlist(t.Context(), reload())
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "fetch.max_playlist_size=64KiB") {
				t.Errorf("got %v, want ErrTooLarge naming fetch.max_playlist_size=64KiB", err)
			}
		})
	}
}

func TestAPanicOfTheCallersIsAnErrorAndNotTheEnd(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(http.ResponseWriter, *http.Request) {})})
	_, err := o.Playlist(t.Context(), Request{Path: "/live.m3u8", Freshness: func([]byte) (a, b time.Duration) { panic("bad playlist") }})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "bad playlist") {
		t.Errorf("got %v, want an UnreachableError that says so", err)
	}
	mustPlaylist(t, o, reload())
}
