package origin

import (
	"cmp"
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
	"usher/backends/setting"
	"usher/gateway/upstream"
)

// playlistOrigin is a live playlist; a test can change every response.
type playlistOrigin struct {
	mu       sync.Mutex
	requests int
	version  int
	status   int           // 0: 200
	hold     time.Duration // before the response
	etag     bool
	body     string // instead of the playlist
}

func (p *playlistOrigin) set(change func(*playlistOrigin)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *playlistOrigin) requestCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *playlistOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	status, hold, instead, body := p.status, p.hold, p.body, fmt.Sprintf("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:%d\n", p.version)
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
		_, _ = io.WriteString(w, cmp.Or(instead, body))
	}
}

// testPage is no playlist.
const testPage = "<html>"

// inspectLive reads a playlist with a target duration of 6 s: fresh for 3 s, and stale until 18 s after the fetch. A delta update has
// EXT-X-SKIP.
func inspectLive(body []byte) (Inspection, error) {
	if string(body) == testPage {
		return Inspection{}, io.ErrUnexpectedEOF
	}
	isWhole := !strings.Contains(string(body), "#EXT-X-SKIP")
	return Inspection{Fresh: 3 * time.Second, Stale: 18 * time.Second, Info: string(body), IsWhole: isWhole}, nil
}

func reloadRequest() Request { return Request{Path: "/live.m3u8", Inspect: inspectLive} }

func mustPlaylist(t *testing.T, o fixture, r Request) Playlist {
	t.Helper()
	p, err := o.Playlist(t.Context(), new(r))
	if err != nil {
		t.Fatalf("Playlist: %v", err)
	}
	return p
}

func sequence(p Playlist) string {
	_, n, _ := strings.Cut(string(p.Body), "SEQUENCE:")
	return strings.TrimSpace(n)
}

func TestPlaylist_Fresh_FetchedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		first := mustPlaylist(t, o, reloadRequest())
		sleep(3*time.Second - 1)
		p.set(func(p *playlistOrigin) { p.version = 1 })
		if again := mustPlaylist(t, o, reloadRequest()); again.Object != first.Object || again.Stale {
			t.Error("while fresh: got another object")
		}
		sleep(1)
		var done sync.WaitGroup
		for range 50 {
			done.Go(func() {
				if got := mustPlaylist(t, o, reloadRequest()); sequence(got) != "1" || got.Stale {
					t.Errorf("after the refresh: got sequence %s, stale %v", sequence(got), got.Stale)
				}
			})
		}
		done.Wait()
		if got := p.requestCount(); got != 2 {
			t.Errorf("origin requests: got %d, want 2", got)
		}
	})
}

func TestPlaylist_Unchanged_KeepsObjectAndDerived(t *testing.T) {
	t.Parallel()
	for name, etag := range map[string]bool{"by ETag": true, "by its bytes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &playlistOrigin{etag: etag}
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
				derived := 0
				derive := func() int { derived++; return derived }
				for i := range 5 {
					got := mustPlaylist(t, o, reloadRequest())
					if v := got.Derive(1, "template", func() any { return derive() }); v != 1 {
						t.Errorf("reload %d: derived again", i)
					}
					sleep(4 * time.Second)
				}
				if got := p.requestCount(); got != 5 {
					t.Errorf("origin requests: got %d, want 5", got)
				}
				if got, want := o.Stats().Revalidated, map[bool]uint64{true: 4}[etag]; got != want {
					t.Errorf("revalidated: got %d, want %d", got, want)
				}
				p.set(func(p *playlistOrigin) { p.version = 7 })
				if got := mustPlaylist(t, o, reloadRequest()); sequence(got) != "7" {
					t.Errorf("the next version: got sequence %s", sequence(got))
				}
			})
		})
	}
}

func TestPlaylist_OriginFails_ServesStale(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fail    func(*playlistOrigin)
		waits   time.Duration // how long the first viewer waits
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
		"it says that there is no such playlist": {
			fail:    func(p *playlistOrigin) { p.status = http.StatusNotFound },
			excused: true,
		},
		"it sends a page": {
			fail:    func(p *playlistOrigin) { p.body = testPage },
			excused: true,
		},
		"it says that there is none any more": {fail: func(p *playlistOrigin) { p.status = http.StatusGone }},
		"it says that we may not":             {fail: func(p *playlistOrigin) { p.status = http.StatusForbidden }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &playlistOrigin{}
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
				mustPlaylist(t, o, reloadRequest())
				sleep(4 * time.Second)
				p.set(test.fail)
				began := time.Now()
				got, err := o.Playlist(t.Context(), new(reloadRequest()))
				if test.excused != (err == nil && got.Stale) {
					t.Fatalf("got stale %v, %v; want a stale copy: %v", got.Object != nil, err, test.excused)
				}
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("waited %v, want %v", waited, test.waits)
				}
				sleep(14 * time.Second) // stale until 18 s
				if got, err := o.Playlist(t.Context(), new(reloadRequest())); err == nil {
					t.Errorf("long after: got sequence %s, want the error", sequence(got))
				}
				p.set(func(p *playlistOrigin) { p.status, p.hold, p.body, p.version = 0, 0, "", 9 })
				sleep(time.Second)
				if got := mustPlaylist(t, o, reloadRequest()); sequence(got) != "9" || got.Stale {
					t.Errorf("when it is back: got sequence %s, stale %v", sequence(got), got.Stale)
				}
			})
		})
	}
}

// TestPlaylist_PageInItsPlace_NextAddress has one of two addresses send what is no playlist.
func TestPlaylist_PageInItsPlace_NextAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &playlistOrigin{}, &playlistOrigin{version: 7}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": a.ServeHTTP, "b": b.ServeHTTP}), nil, "a", "b")
		for i, page := range []string{"", testPage, testPage} {
			a.set(func(p *playlistOrigin) { p.body = page })
			want := "7"
			if page == "" {
				want = "0"
			}
			if got := mustPlaylist(t, o, reloadRequest()); sequence(got) != want || got.Stale {
				t.Errorf("reload %d: got sequence %s, stale %v, want %s", i, sequence(got), got.Stale, want)
			}
			sleep(4 * time.Second)
		}
		b.set(func(p *playlistOrigin) { p.body = testPage })
		if got := mustPlaylist(t, o, reloadRequest()); sequence(got) != "7" || !got.Stale {
			t.Errorf("from neither: got sequence %s, stale %v", sequence(got), got.Stale)
		}
		sleep(15 * time.Second)
		_, err := o.Playlist(t.Context(), new(reloadRequest()))
		if u, ok := errors.AsType[*UnreachableError](err); !ok || u.URL != "http://b/live.m3u8" || !errors.Is(err, ErrInvalidPlaylist) {
			t.Errorf("long after: got %v, want the address that sent it last", err)
		}
	})
}

func TestPlaylist_OriginFails_RefreshesOncePerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		mustPlaylist(t, o, reloadRequest())
		sleep(4 * time.Second)
		p.set(func(p *playlistOrigin) { p.status = 500 })
		for range 500 { // five seconds of a hundred viewers
			if got := mustPlaylist(t, o, reloadRequest()); !got.Stale {
				t.Fatal("not marked stale")
			}
			sleep(10 * time.Millisecond)
		}
		if got := p.requestCount(); got < 5 || got > 6 {
			t.Errorf("origin requests: got %d, want the first and one a second", got)
		}
	})
}

// TestPlaylist_OriginHangs_StaleViewersWaitOnce checks that only the first viewer waits for an origin that hangs.
func TestPlaylist_OriginHangs_StaleViewersWaitOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		mustPlaylist(t, o, reloadRequest())
		sleep(4 * time.Second)
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		var waited time.Duration
		for range 100 {
			began := time.Now()
			mustPlaylist(t, o, reloadRequest())
			waited += time.Since(began)
			sleep(100 * time.Millisecond)
		}
		if waited != time.Second {
			t.Errorf("a hundred viewers waited %v together, want %v", waited, time.Second)
		}
	})
}

func TestPlaylist_IdenticalBlockingReloads_ShareOneFetch(t *testing.T) {
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
			got, err := o.Playlist(t.Context(), &Request{Path: "/live.m3u8", Directives: directives, Inspect: inspectLive})
			if err != nil || string(got.Body) != directives {
				t.Errorf("got %v, %v", got.Object, err)
			}
		})
	}
	waitUntil(t, "all have joined", func() bool { return o.Stats().Coalesced == viewers-1 })
	mustPlaylist(t, o, reloadRequest()) // the blocking reloads do not delay it
	close(release)
	done.Wait()
	if blocking.Load() != 1 || ordinary.Load() != 1 {
		t.Errorf("origin requests: got %d blocking, %d ordinary, want 1 each", blocking.Load(), ordinary.Load())
	}
}

// TestOrigin_LastInfo_OfAnyResponse asks what the last response told, by any directives. It is forgotten half a minute after the response
// cannot be served any more.
func TestOrigin_LastInfo_OfAnyResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		last := func(path string) any { return o.LastInfo(&Request{Path: path, Directives: "_HLS_msn=9"}) }
		if got := last("/live.m3u8"); got != nil {
			t.Errorf("before any response: got %v", got)
		}
		const delta = "#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n"
		for _, step := range []struct {
			directives, body, want string
			status                 int
			isWhole                bool
		}{
			{"", "whole", "whole", 0, true},
			{"_HLS_msn=1&_HLS_skip=YES", delta, delta, 0, false},
			{"_HLS_msn=2&_HLS_skip=YES", "", delta, http.StatusNotFound, false},
			{"_HLS_msn=3", testPage, delta, 0, false},
			{"_HLS_msn=4", "newer", "newer", 0, true},
		} {
			p.set(func(p *playlistOrigin) { p.body, p.status = step.body, step.status })
			r := reloadRequest()
			r.Directives = step.directives
			_, _ = o.Playlist(t.Context(), new(r))
			if got := last("/live.m3u8"); got != step.want {
				t.Errorf("%q, %q: the last info is %v, want %q", step.directives, step.body, got, step.want)
			}
			p.set(func(p *playlistOrigin) { p.body, p.status = "without directives", 0 })
			sleep(0)
			if got := mustPlaylist(t, o, reloadRequest()); step.isWhole != (string(got.Body) == step.body) {
				t.Errorf("%q, %q: without directives got %q", step.directives, step.body, got.Body)
			}
		}
		if got := last("/other.m3u8"); got != nil {
			t.Errorf("of another playlist: got %v", got)
		}
		sleep(18*time.Second + playlistRetention - 1)
		if last("/live.m3u8") == nil {
			t.Error("forgotten before its time")
		}
		sleep(time.Minute)
		if got := last("/live.m3u8"); got != nil {
			t.Errorf("long after: got %v", got)
		}
	})
}

// TestPlaylist_UnchangedByReload_KeepsObject has a reload get the version that is cached without directives, and later requests find it for
// as long as that of an ordinary one.
func TestPlaylist_UnchangedByReload_KeepsObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		first := mustPlaylist(t, o, reloadRequest())
		sleep(4 * time.Second)
		reload := reloadRequest()
		reload.Directives = "_HLS_msn=9"
		if got := mustPlaylist(t, o, reload); got.Object != first.Object {
			t.Error("the reload gave another object")
		}
		if got := mustPlaylist(t, o, reloadRequest()); got.Object != first.Object || p.requestCount() != 2 {
			t.Errorf("without directives: got another object, or it was fetched again, %d requests", p.requestCount())
		}
		sleep(18*time.Second + playlistRetention - 1)
		if got := mustPlaylist(t, o, reloadRequest()); got.Object != first.Object || p.requestCount() != 3 {
			t.Errorf("when it was almost forgotten: got another object after %d requests", p.requestCount())
		}
	})
}

// TestPlaylist_MayBeMedia requests as a playlist what may be media. It is asked for once, and nothing but its first bytes is read.
func TestPlaylist_MayBeMedia(t *testing.T) {
	t.Parallel()
	film := "\x00\x00\x00\x18ftyp" + strings.Repeat("x", int(DefaultConfig().Fetch.MaxPlaylistSize))
	for name, test := range map[string]struct {
		contentType, body string
		mayBe, isMedia    bool
	}{
		"a film":                        {"application/octet-stream", film, true, true},
		"by its type":                   {"video/mp2t", "G", true, true},
		"nothing":                       {"video/mp4", "", true, false},
		"blanks":                        {"video/mp4", "\ufeff\r\n ", true, false},
		"a playlist with such a type":   {"video/mp2t", "#EXTM3U\n", true, false},
		"a page":                        {"text/html", "<html>", true, false},
		"a page typed as a playlist":    {"audio/x-mpegurl", "<html>", true, false},
		"a film in place of a playlist": {"video/mp4", "\x00\x00\x00\x18ftyp", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			// For longer than this test takes.
			o := newFixture(t, func(c *Config) { c.Cache.NegativeTTL = time.Minute }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Content-Type", test.contentType)
				_, _ = io.WriteString(w, test.body)
			})})
			for range 2 {
				_, err := o.Playlist(t.Context(), &Request{Path: "/ad.mp4", MayBeMedia: test.mayBe, Inspect: inspectLive})
				if errors.Is(err, ErrMedia) != test.isMedia || test.isMedia && !errors.Is(err, ErrInvalidPlaylist) {
					t.Errorf("got %v, want media: %t", err, test.isMedia)
				}
			}
			if got := requests.Load(); test.isMedia && got != 1 {
				t.Errorf("%d requests to the origin, want one", got)
			}
		})
	}
}

// TestPlaylist_MayBeMedia_OriginFails has an origin fail that gave a film for a playlist. What is kept of the film is served, and only the
// first viewer waits for an origin that hangs.
func TestPlaylist_MayBeMedia_OriginFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fail  http.HandlerFunc
		waits time.Duration
	}{
		"it answers 5xx": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 0},
		"it has it not":  {http.NotFound, 0},
		"it hangs":       {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, time.Second}, // cache.max_wait_for_fresh
	} {
		for field, want := range map[string]string{"": "\x00film", "bytes=1-3": "fil"} {
			t.Run(name+"/"+field, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var isDown atomic.Bool
					o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
						if isDown.Load() {
							test.fail(w, r)
							return
						}
						w.Header().Set("Content-Type", "video/mp4")
						w.Header().Set("Cache-Control", "max-age=3600")
						http.ServeContent(w, r, "", time.Time{}, strings.NewReader("\x00film"))
					}}), nil, "a")
					r := &Request{Path: "/ad.mp4", MayBeMedia: true, Inspect: inspectLive}
					var waited time.Duration
					for range 10 {
						began := time.Now()
						if _, err := o.Playlist(t.Context(), r); !errors.Is(err, ErrMedia) {
							t.Fatalf("down: %t: %v, want media", isDown.Load(), err)
						}
						if s, body := mustMedia(t, o, Request{Path: "/ad.mp4", Range: field}); body != want || s.Stale {
							t.Errorf("down: %t: %q, stale: %t", isDown.Load(), body, s.Stale)
						}
						waited += time.Since(began)
						if !isDown.Swap(true) {
							time.Sleep(5 * time.Minute)
						}
						time.Sleep(800 * time.Millisecond)
					}
					if waited != test.waits {
						t.Errorf("waited %v in all, want %v", waited, test.waits)
					}
					if stale := o.Stats().Stale; stale != 0 {
						t.Errorf("%d responses are counted as stale, want none", stale)
					}
					asPlaylist := *r
					asPlaylist.MayBeMedia = false
					if _, err := o.Playlist(t.Context(), &asPlaylist); err == nil || errors.Is(err, ErrMedia) {
						t.Errorf("as what must be a playlist: got %v, want why the origin failed", err)
					}
				})
			})
		}
	}
}

// TestPlaylist_MayBeMedia_SlateBefore has an origin fail that gave a slate for a moment, and the playlist since. That is what is served.
func TestPlaylist_MayBeMedia_SlateBefore(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]http.HandlerFunc{
		"it answers 5xx":               func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"it says that there is none":   http.NotFound,
		"it takes longer than we wait": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var serve http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "video/mp2t")
					_, _ = io.WriteString(w, "G@slate")
				}
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					serve(w, r)
				}}), nil, "a")
				r := Request{Path: "/live", MayBeMedia: true, Inspect: inspectLive}
				if _, err := o.Playlist(t.Context(), &r); !errors.Is(err, ErrMedia) {
					t.Fatalf("got %v, want media", err)
				}
				mustMedia(t, o, Request{Path: "/live", FreshFor: 2 * time.Second})
				time.Sleep(5 * time.Second)
				serve = respondWith("#EXTM3U\n")
				want := mustPlaylist(t, o, r)
				time.Sleep(5 * time.Second)
				serve = fail
				if got := mustPlaylist(t, o, r); got.Object != want.Object || !got.Stale {
					t.Errorf("got %q, stale: %t, want the playlist", got.Body, got.Stale)
				}
			})
		})
	}
}

// TestPlaylist_MayBeMedia_DeltaUpdates has a player take delta updates of a playlist until no whole copy is stored any more. Then comes a slate.
func TestPlaylist_MayBeMedia_DeltaUpdates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var serve http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				_, _ = io.WriteString(w, "#EXTM3U\n")
				return
			}
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n"+r.URL.RawQuery)
		}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			serve(w, r)
		}}), nil, "a")
		r := Request{Path: "/live", MayBeMedia: true, Inspect: func(body []byte) (Inspection, error) {
			if !strings.HasPrefix(string(body), "#EXTM3U\n") {
				return Inspection{}, errors.New("none")
			}
			return inspectLive(body)
		}}
		mustPlaylist(t, o, r)
		reload := func(n int) error {
			r.Directives = fmt.Sprintf("_HLS_msn=%d&_HLS_skip=YES", n)
			_, err := o.Playlist(t.Context(), &r)
			return err
		}
		for n := range 60 {
			time.Sleep(2 * time.Second)
			if err := reload(n); err != nil {
				t.Fatal(err)
			}
		}
		serve = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "video/mp2t")
			_, _ = io.WriteString(w, "G@slate")
		}
		time.Sleep(time.Second)
		for n := range 2 {
			if err := reload(60 + n); !errors.Is(err, ErrInvalidPlaylist) || errors.Is(err, ErrMedia) {
				t.Errorf("a reload: got %v, want ErrInvalidPlaylist and not ErrMedia", err)
			}
		}
		r.Directives = ""
		if _, err := o.Playlist(t.Context(), &r); !errors.Is(err, ErrInvalidPlaylist) || errors.Is(err, ErrMedia) {
			t.Errorf("without directives: got %v, want ErrInvalidPlaylist and not ErrMedia", err)
		}
	})
}

// TestPlaylist_LateReload_CopyExpires has the copy expire that a late reload might get, of an origin that takes a moment, or fails in the end
// after another request has brought a newer copy.
func TestPlaylist_LateReload_CopyExpires(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age   time.Duration // of the copy when the reload begins
		delay time.Duration
		fails bool
		want  string
	}{
		"the origin takes a moment":         {18*time.Second - 10*time.Millisecond, 100 * time.Millisecond, false, "#EXTM3U\n3"},
		"it fails, and there is a newer":    {4 * time.Second, 5 * time.Second, true, "#EXTM3U\n2"},
		"it fails, and there was none then": {30 * time.Second, 5 * time.Second, true, "#EXTM3U\n2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				body := "#EXTM3U\n1"
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					if r.URL.RawQuery == "" {
						_, _ = io.WriteString(w, body)
						return
					}
					time.Sleep(test.delay)
					if test.fails {
						w.WriteHeader(http.StatusBadGateway)
						return
					}
					_, _ = io.WriteString(w, "#EXTM3U\n3")
				}}), nil, "a")
				mustPlaylist(t, o, reloadRequest())
				time.Sleep(test.age)
				if test.fails {
					time.AfterFunc(time.Second, func() {
						body = "#EXTM3U\n2"
						mustPlaylist(t, o, reloadRequest())
					})
				}
				r := reloadRequest()
				r.Directives, r.IsLate = "_HLS_msn=1", true
				if p := mustPlaylist(t, o, r); string(p.Body) != test.want {
					t.Errorf("got %q, want %q", p.Body, test.want)
				}
			})
		})
	}
}

// TestPlaylist_ReloadFails_ServesPlain has an origin fail reloads with directives. While there is a copy of the playlist without them, no
// viewer gets a 404, and none but a 5xx for what comes next. The origin is asked once a second.
func TestPlaylist_ReloadFails_ServesPlain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		isLate bool
		// serves reports that viewers get the copy, and most is how many requests the origin gets then.
		serves bool
		most   int
	}{
		"late, 5xx":          {http.StatusServiceUnavailable, true, true, 6},
		"late, 404":          {http.StatusNotFound, true, true, 6},
		"late, gone":         {http.StatusGone, true, false, 6},
		"what is next, 404":  {http.StatusNotFound, false, true, 6},
		"what is next, 5xx":  {http.StatusServiceUnavailable, false, false, 500},
		"what is next, gone": {http.StatusGone, false, false, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					if r.URL.RawQuery == "" {
						_, _ = io.WriteString(w, "#EXTM3U\n1")
						return
					}
					asked.Add(1)
					w.WriteHeader(test.status)
				}}), nil, "a")
				mustPlaylist(t, o, reloadRequest())
				sleep(4 * time.Second)
				reload := reloadRequest()
				reload.Directives, reload.IsLate = "_HLS_msn=1", test.isLate
				for i := range 500 { // five seconds of a hundred viewers
					p, err := o.Playlist(t.Context(), &reload)
					if test.serves != (err == nil && p.Stale && string(p.Body) == "#EXTM3U\n1") || err != nil && !isStatus(err, test.status) {
						t.Fatalf("viewer %d: got %v, want the copy: %t", i, err, test.serves)
					}
					sleep(10 * time.Millisecond)
				}
				if got := int(asked.Load()); got > test.most || got < 5 {
					t.Errorf("the origin was asked %d times, want at most %d", got, test.most)
				}
				if p := mustPlaylist(t, o, reloadRequest()); p.Stale {
					t.Error("without directives: got a stale copy, which the origin did not fail")
				}
				sleep(20 * time.Second)
				if _, err := o.Playlist(t.Context(), &reload); !isStatus(err, test.status) {
					t.Errorf("when the copy has expired: got %v, want status %d", err, test.status)
				}
			})
		})
	}
}

// TestPlaylist_MayBeMedia_Reload has a server send a slate to a reload. That there was a playlist is known from a request without directives.
func TestPlaylist_MayBeMedia_Reload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				_, _ = io.WriteString(w, "#EXTM3U\n")
				return
			}
			w.Header().Set("Content-Type", "video/mp2t")
			_, _ = io.WriteString(w, "G@")
		}}), nil, "a")
		r := Request{Path: "/live", MayBeMedia: true, Inspect: func(body []byte) (Inspection, error) {
			if string(body) != "#EXTM3U\n" {
				return Inspection{}, errors.New("none")
			}
			return inspectLive(body)
		}}
		want := mustPlaylist(t, o, r)
		r.Directives, r.IsLate = "_HLS_msn=1", true
		if got := mustPlaylist(t, o, r); got.Object != want.Object || !got.Stale {
			t.Errorf("got %q, stale: %t, want the playlist", got.Body, got.Stale)
		}
	})
}

// TestPlaylist_MayBeMedia_Stale has an origin that gave a playlist answer with other bytes. Those who play it get its last version.
func TestPlaylist_MayBeMedia_Stale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var body atomic.Pointer[string]
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "video/mp4")
			_, _ = io.WriteString(w, *body.Load())
		}}), nil, "a")
		playlist, film := "#EXTM3U\n", "\x00film"
		inspect := func(body []byte) (Inspection, error) {
			if string(body) != playlist {
				return Inspection{}, errors.New("none")
			}
			return Inspection{Fresh: time.Second, Stale: time.Hour}, nil
		}
		for _, is := range []*string{&playlist, &film} {
			body.Store(is)
			got := mustPlaylist(t, o, Request{Path: "/live", MayBeMedia: true, Inspect: inspect})
			if string(got.Body) != playlist {
				t.Errorf("got %q, want the playlist", got.Body)
			}
			sleep(2 * time.Second)
		}
	})
}

// TestPlaylist_MayBeMedia_AfterNothing has a server write a playlist with the type of a video anew, so that it is empty for a moment.
func TestPlaylist_MayBeMedia_AfterNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var body string
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "video/mp4")
			_, _ = io.WriteString(w, body)
		}}), nil, "a")
		r := Request{Path: "/live", MayBeMedia: true, Inspect: func(body []byte) (Inspection, error) {
			if len(body) == 0 {
				return Inspection{}, io.ErrUnexpectedEOF
			}
			return inspectLive(body)
		}}
		if _, err := o.Playlist(t.Context(), &r); !errors.Is(err, ErrInvalidPlaylist) || errors.Is(err, ErrMedia) {
			t.Errorf("got %v, want ErrInvalidPlaylist and not ErrMedia", err)
		}
		sleep(time.Second)
		body = "#EXTM3U\n"
		if got := mustPlaylist(t, o, r); string(got.Body) != body {
			t.Errorf("got %q, want %q", got.Body, body)
		}
	})
}

// TestPlaylist_MaxHeldForViewer has viewers reload playlists that they choose. What another viewer began they may wait for.
func TestPlaylist_MaxHeldForViewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("_HLS_msn") {
				<-time.After(time.Second)
			}
			_, _ = io.WriteString(w, r.URL.RequestURI())
		}}), nil, "a")
		var all sync.WaitGroup
		for _, test := range []struct {
			viewer      byte
			path, query string
			isHeld      bool
		}{
			{1, "/a.m3u8", "r=1", true},
			{1, "//a.m3u8", "r=2", true},
			{1, "/b.m3u8", "", false},
			{1, "/a.m3u8", "r=1", true},
			{2, "/b.m3u8", "", true},
			{1, "/b.m3u8", "", true},
			{0, "/c.m3u8", "", true},
			{0, "/d.m3u8", "", true},
			{0, "/e.m3u8", "", true},
		} {
			all.Go(func() {
				r := Request{
					Path: test.path, Query: test.query, Directives: "_HLS_msn=1", MaxHeldForViewer: 2, Viewer: backends.SessionID{test.viewer},
					Inspect: inspectLive,
				}
				got := mustPlaylist(t, o, r)
				if isHeld := strings.Contains(string(got.Body), "_HLS_msn"); isHeld != test.isHeld {
					t.Errorf("viewer %d, %s?%s: got %s, want it held: %t", test.viewer, test.path, test.query, got.Body, test.isHeld)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if len(o.held)+len(o.heldFor)+len(o.heldAt) != 0 {
			t.Errorf("counted as held in the end: %v, %v, %v", o.held, o.heldFor, o.heldAt)
		}
	})
}

// TestPlaylist_MaxHeld_RequestedWithoutDirectives has an origin hold as many reloads of a playlist as it may. Further ones are answered at
// once, those of other playlists are held, and there is room again when one ends.
func TestPlaylist_MaxHeld_RequestedWithoutDirectives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query().Get("_HLS_msn"); q != "" {
				<-time.After(time.Duration(len(q)) * time.Second)
			}
			_, _ = io.WriteString(w, "for "+r.URL.RawQuery)
		}}), nil, "a")
		var held sync.WaitGroup
		want := func(path, directives string, maxHeld int, body string) {
			t.Helper()
			r := Request{Path: path, Directives: directives, MaxHeld: maxHeld, Inspect: inspectLive}
			if got := mustPlaylist(t, o, r); string(got.Body) != body {
				t.Errorf("%s?%s of %d: got %q, want %q", path, directives, maxHeld, got.Body, body)
			}
		}
		for _, one := range []string{"_HLS_msn=1", "_HLS_msn=2", "_HLS_msn=33"} {
			held.Go(func() { want("/a.m3u8", one, 3, "for "+one) })
		}
		synctest.Wait()
		began := time.Now()
		want("/a.m3u8", "_HLS_msn=4", 3, "for ")
		want("/a.m3u8", "_HLS_msn=4", 2, "for ")
		if waited := time.Since(began); waited != 0 {
			t.Errorf("what the origin must not hold was answered after %v", waited)
		}
		for _, other := range []struct {
			path, directives string
			maxHeld          int
		}{{"/a.m3u8", "_HLS_msn=2", 3}, {"/b.m3u8", "_HLS_msn=4", 3}, {"/a.m3u8", "_HLS_msn=5", 4}, {"/a.m3u8", "_HLS_msn=6", 0}} {
			held.Go(func() { want(other.path, other.directives, other.maxHeld, "for "+other.directives) })
			synctest.Wait()
		}
		sleep(1500 * time.Millisecond) // only one is held by now
		want("/a.m3u8", "_HLS_msn=77", 2, "for _HLS_msn=77")
		held.Wait()
		if len(o.held)+len(o.heldFor)+len(o.heldAt) != 0 {
			t.Errorf("counted as held in the end: %v, %v, %v", o.held, o.heldFor, o.heldAt)
		}
	})
}

func TestPlaylist_BlockingReload_HasOwnTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{hold: 15 * time.Second}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		held := Request{Path: "/live.m3u8", Directives: "_HLS_msn=9", Inspect: inspectLive}
		mustPlaylist(t, o, held) // longer than the timeout of an ordinary request
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		held.Directives = "_HLS_msn=10"
		_, err := o.Playlist(t.Context(), new(held))
		if err == nil || !strings.Contains(err.Error(), "fetch.blocking_timeout=20s") {
			t.Errorf("got %v, want an error that names fetch.blocking_timeout=20s", err)
		}
		if o.Stats().EjectedAddresses != 0 {
			t.Error("a hold that was asked for set the address aside")
		}
		_, err = o.Playlist(t.Context(), new(reloadRequest()))
		if err == nil || !strings.Contains(err.Error(), "fetch.response_timeout=10s") {
			t.Errorf("ordinary: got %v, want an error that names fetch.response_timeout=10s", err)
		}
	})
}

func TestPlaylist_NoReader_CancelsBlockingReloadOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{hold: 5 * time.Second}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		for active, directives := range []string{"_HLS_msn=9", ""} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := o.Playlist(ctx, &Request{Path: "/live.m3u8", Directives: directives, Inspect: inspectLive})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q: got %v, want the viewer's own deadline", directives, err)
			}
			synctest.Wait()
			if got := o.Stats().ActiveFetches; got != active {
				t.Errorf("%q: %d active fetches, want %d", directives, got, active)
			}
			sleep(5 * time.Second)
		}
		asked := p.requestCount()
		mustPlaylist(t, o, reloadRequest())
		if p.requestCount() != asked {
			t.Error("what the ordinary one fetched was not stored")
		}
	})
}

func TestPlaylist_Source(t *testing.T) {
	t.Parallel()
	edge := serve(t, respondWith("edge"))
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/live.m3u8":
			http.Redirect(w, r, "/edge/7/live%2Fx.m3u8?s=1", http.StatusFound)
		case "/v1/away.m3u8":
			http.Redirect(w, r, edge+"/a/live.m3u8?sid=2", http.StatusFound)
		}
	})
	o := newFixture(t, nil, []string{url + "/v1?key=secret"}, allowLoopback(edge))
	for name, test := range map[string]struct {
		request Request
		want    string
		kind    upstream.Kind
	}{
		"as requested":                {Request{Path: "/other.m3u8", Query: "q=1"}, url + "/v1/other.m3u8?q=1", upstream.Own},
		"redirected on the same host": {Request{Path: "/live.m3u8"}, url + "/edge/7/live%2Fx.m3u8?s=1", upstream.Own},
		"redirected to an edge":       {Request{Path: "/away.m3u8"}, edge + "/a/live.m3u8?sid=2", upstream.Listed},
		"of an edge":                  {Request{Base: edge, Path: "/b/x.m3u8", Query: "sid=2"}, edge + "/b/x.m3u8?sid=2", upstream.Listed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := mustPlaylist(t, o, test.request).Source; got.URL() != test.want || got.Kind != test.kind {
				t.Errorf("got %s of kind %d, want %s of kind %d", got.URL(), got.Kind, test.want, test.kind)
			}
		})
	}
}

// TestPlaylist_Source_OfAFallback: relative URIs of a fallback with another path begin at that path. One with the same path is
// taken for the preferred address, so that a failover changes no URI.
func TestPlaylist_Source_OfAFallback(t *testing.T) {
	t.Parallel()
	fallback := serve(t, respondWith("fallback"))
	for path, wantFallback := range map[string]bool{"/same": false, "/other": true} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			preferred := "http://127.0.0.1:1/same"
			o := newFixture(t, nil, []string{preferred, fallback + path})
			want := preferred
			if wantFallback {
				want = fallback + path
			}
			if got := mustPlaylist(t, o, Request{Path: "/live.m3u8"}).Source.URL(); got != want+"/live.m3u8" {
				t.Errorf("got %s, want %s/live.m3u8", got, want)
			}
		})
	}
}

func TestPlaylist_TooLarge_Refused(t *testing.T) {
	t.Parallel()
	for name, declare := range map[string]bool{"declared": true, "not declared": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, func(c *Config) { c.Fetch.MaxPlaylistSize = 64 * setting.KiB }, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if declare {
					w.Header().Set("Content-Length", "70000")
				}
				_, _ = io.WriteString(w, strings.Repeat("#", 70000))
			})})
			_, err := o.Playlist(t.Context(), new(reloadRequest()))
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "fetch.max_playlist_size=64KiB") {
				t.Errorf("got %v, want ErrTooLarge naming fetch.max_playlist_size=64KiB", err)
			}
		})
	}
}

func TestPlaylist_InspectPanics_ReturnsError(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(http.ResponseWriter, *http.Request) {})})
	_, err := o.Playlist(t.Context(), &Request{Path: "/live.m3u8", Inspect: func([]byte) (Inspection, error) { panic("bad playlist") }})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "bad playlist") {
		t.Errorf("got %v, want an UnreachableError that says so", err)
	}
	mustPlaylist(t, o, reloadRequest())
}
