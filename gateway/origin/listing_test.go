package origin

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// testTarget is the target duration of the playlists of these tests.
const testTarget = 4 * time.Second

// numbered is an origin whose media are other bytes with each fetch.
type numbered struct {
	fixture
	fetches atomic.Int32
	header  http.Header
	// hold, if not nil, holds the next answer.
	hold atomic.Pointer[chan struct{}]
	// isMissing has the origin answer 404.
	isMissing atomic.Bool
}

func newNumbered(t *testing.T, header http.Header) *numbered {
	n := &numbered{header: header}
	n.fixture = newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
		body, isMissing := fmt.Sprint("fetch ", n.fetches.Add(1)), n.isMissing.Load()
		if hold := n.hold.Swap(nil); hold != nil {
			<-*hold
		}
		if isMissing {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		maps.Copy(w.Header(), n.header)
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/100", len(body)-1))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.WriteString(w, body)
	}}), nil, "a")
	return n
}

// get returns the bytes of a request whose media are fresh for a target duration.
func (n *numbered) get(t *testing.T, r Request) string {
	t.Helper()
	r.FreshFor = testTarget
	_, body := mustMedia(t, n.fixture, r)
	return body
}

func (n *numbered) want(t *testing.T, want string, r Request) {
	t.Helper()
	if got := n.get(t, r); got != want {
		t.Errorf("%s %s: got %q, want %q", r.Path, r.Range, got, want)
	}
}

// media returns a list of segments, each a path and the numbers of its versions.
func media(paths ...any) (all []ListedMedia) {
	for i := 0; i < len(paths); i += 2 {
		path, _ := paths[i].(string)
		number, _ := paths[i+1].(int)
		all = append(all, ListedMedia{Path: path, Version: uint64(number), IsKey: strings.HasSuffix(path, ".key")})
	}
	return all
}

// lists has a playlist list media now.
func (n *numbered) lists(playlist string, all []ListedMedia) { n.listed(playlist, time.Now(), all) }

func (n *numbered) listed(playlist string, fetched time.Time, all []ListedMedia) {
	n.Listed(&Listing{
		Playlist: playlist, Fetched: fetched, TargetDuration: testTarget, FreshFor: 2 * testTarget, Window: 5 * testTarget, Media: all,
	})
}

// TestOrigin_Listed has playlists list /a.ts and others, and counts how often it is fetched.
func TestOrigin_Listed(t *testing.T) {
	t.Parallel()
	segment := Request{Path: "/a.ts"}
	for name, test := range map[string]func(*testing.T, *numbered){
		"fresh as long as it is listed": func(t *testing.T, o *numbered) {
			for range 10 {
				o.lists("p", media("/a.ts", 1))
				o.want(t, "fetch 1", segment)
				sleep(testTarget)
			}
			sleep(testTarget - 1) // two after it was listed last
			o.want(t, "fetch 1", segment)
			sleep(1)
			o.want(t, "fetch 2", segment)
		},
		"no longer than cache.media_ttl": func(t *testing.T, o *numbered) {
			for range 15 {
				o.lists("p", media("/a.ts", 1))
				o.want(t, "fetch 1", segment)
				sleep(testTarget)
			}
			o.want(t, "fetch 2", segment)
		},
		"not fresh as soon as it is other bytes": func(t *testing.T, o *numbered) {
			for i := range 10 {
				o.lists("p", media("/a.ts", i))
				o.want(t, fmt.Sprint("fetch ", i+1), segment)
				o.want(t, fmt.Sprint("fetch ", i+1), segment)
				sleep(testTarget / 4)
			}
		},
		"several times in one playlist": func(t *testing.T, o *numbered) {
			for i := range 10 {
				o.lists("p", media("/a.ts", 4*i, "/b.ts", 4*i+1, "/a.ts", 4*i+4, "/c.ts", 4*i+5))
				o.want(t, "fetch 1", segment)
				sleep(testTarget)
			}
		},
		"under other numbers in another playlist": func(t *testing.T, o *numbered) {
			for range 10 {
				o.lists("p", media("/a.ts", 1))
				o.lists("q", media("/a.ts", 2))
				o.want(t, "fetch 1", segment)
				sleep(testTarget)
			}
		},
		"by another playlist from then on": func(t *testing.T, o *numbered) {
			o.lists("p", media("/a.ts", 1))
			o.want(t, "fetch 1", segment)
			for range 5 { // the window of the first
				o.lists("q", media("/a.ts", 2))
				sleep(testTarget)
			}
			o.lists("q", media("/a.ts", 2))
			o.want(t, "fetch 2", segment)
			sleep(testTarget)
			o.lists("q", media("/a.ts", 3))
			o.want(t, "fetch 3", segment)
		},
		"other bytes before it is listed": func(t *testing.T, o *numbered) {
			o.want(t, "fetch 1", segment)
			sleep(1)
			o.lists("p", media("/b.ts", 1, "/a.ts", 2))
			o.want(t, "fetch 2", segment)
		},
		"listed for long when first seen": func(t *testing.T, o *numbered) {
			o.want(t, "fetch 1", segment)
			for range 5 {
				sleep(testTarget - 1)
				o.lists("p", media("/a.ts", 1, "/b.ts", 2, "/c.ts", 3, "/d.ts", 4))
				o.want(t, "fetch 1", segment)
			}
		},
		"an older version of the playlist, later": func(t *testing.T, o *numbered) {
			before := time.Now()
			sleep(1)
			o.lists("p", media("/a.ts", 2))
			o.want(t, "fetch 1", segment)
			o.listed("p", before, media("/a.ts", 1))
			o.want(t, "fetch 1", segment)
		},
		"a range of it": func(t *testing.T, o *numbered) {
			part := Request{Path: "/a.ts", Range: "bytes=0-6"}
			o.lists("p", media("/a.ts", 1))
			o.want(t, "fetch 1", part)
			o.want(t, "fetch 1", part)
			sleep(1)
			o.lists("p", media("/a.ts", 2))
			o.want(t, "fetch 2", part)
			o.want(t, "fetch 2", part)
		},
		"a key, with the segments' vectors": func(t *testing.T, o *numbered) {
			key := Request{Path: "/a.key"}
			for i := range 4 {
				o.lists("p", media("/a.key", 7, "/s1.ts", i, "/s2.ts", i+1))
				o.want(t, fmt.Sprint("fetch ", i+1), key)
				sleep(testTarget) // it is not kept longer
			}
			o.lists("p", media("/a.key", 7, "/s1.ts", 4, "/a.key", 8, "/s2.ts", 5))
			o.want(t, "fetch 5", key)
			o.lists("p", media("/a.key", 7, "/s1.ts", 4, "/a.key", 8, "/s2.ts", 5))
			o.want(t, "fetch 5", key)
		},
		"missing before it is listed": func(t *testing.T, o *numbered) {
			part := Request{Path: "/a.ts", Range: "bytes=0-6"}
			o.isMissing.Store(true)
			for _, r := range []Request{part, segment, segment} {
				if _, body, err := fetchMedia(t, o.fixture, r); err == nil {
					t.Errorf("got %q, want the origin's 404", body)
				}
			}
			o.isMissing.Store(false)
			sleep(1)
			o.lists("p", media("/b.ts", 1, "/a.ts", 2))
			o.want(t, "fetch 3", part)
			o.want(t, "fetch 4", segment)
		},
		"missing when it is announced": func(t *testing.T, o *numbered) {
			hint := media("/a.ts", 1)
			for i := range 5 {
				for _, r := range []Request{{Path: "/a.ts"}, {Path: "/a.ts", Range: "bytes=0-9"}, {Path: "/a.ts", Version: 9}} {
					o.isMissing.Store(true)
					hint[0].RequestVersion = r.Version
					o.lists("p", hint)
					if _, body, err := fetchMedia(t, o.fixture, r); err == nil {
						t.Errorf("%d: got %q, want the origin's 404", i, body)
					}
					o.isMissing.Store(false)
					sleep(1)
					o.lists("p", hint)
					o.want(t, fmt.Sprint("fetch ", o.fetches.Load()+1), r)
					sleep(10 * testTarget)
				}
			}
		},
		"missing although it is listed": func(t *testing.T, o *numbered) {
			o.lists("p", media("/b.ts", 1, "/a.ts", 2))
			o.isMissing.Store(true)
			for range 5 {
				if _, body, err := fetchMedia(t, o.fixture, segment); err == nil {
					t.Errorf("got %q, want the origin's 404", body)
				}
				o.lists("p", media("/b.ts", 1, "/a.ts", 2))
			}
			o.isMissing.Store(false)
			sleep(DefaultConfig().Cache.NegativeTTL)
			o.want(t, "fetch 2", segment)
		},
		"with a version in its request": func(t *testing.T, o *numbered) {
			first, second := Request{Path: "/a.ts", Version: 1}, Request{Path: "/a.ts", Version: 2}
			o.want(t, "fetch 1", first)
			o.want(t, "fetch 2", second)
			o.want(t, "fetch 1", first)
			list := []ListedMedia{{Path: "/a.ts", Version: 2, RequestVersion: 2}}
			for range 5 {
				sleep(testTarget - 1)
				o.lists("p", list)
				o.want(t, "fetch 2", second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newNumbered(t, nil)) })
		})
	}
}

// TestOrigin_Listed_StatedLifetime: an origin that states a lifetime is believed.
func TestOrigin_Listed_StatedLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, http.Header{"Cache-Control": {"max-age=5"}})
		for i := range 5 {
			o.lists("p", media("/a.ts", i))
			o.want(t, "fetch 1", Request{Path: "/a.ts"})
			sleep(time.Second)
		}
		o.lists("p", media("/a.ts", 4))
		o.want(t, "fetch 2", Request{Path: "/a.ts"})
	})
}

// TestOrigin_Listed_WhileFetched lists other bytes while the old ones are being fetched.
func TestOrigin_Listed_WhileFetched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		hold := make(chan struct{})
		o.hold.Store(&hold)
		o.lists("p", media("/a.ts", 1))
		first := make(chan string, 1)
		go func() { first <- o.get(t, Request{Path: "/a.ts"}) }()
		synctest.Wait()
		sleep(1)
		o.lists("p", media("/a.ts", 2))
		o.want(t, "fetch 2", Request{Path: "/a.ts"})
		close(hold)
		if got := <-first; got != "fetch 1" {
			t.Errorf("who came before got %q", got)
		}
		o.get(t, Request{Path: "/a.ts"})
		o.want(t, fmt.Sprint("fetch ", o.fetches.Load()), Request{Path: "/a.ts"})
	})
}

// TestOrigin_Listed_WhileMissing has the origin answer 404, later, to a request of before it had what is listed.
func TestOrigin_Listed_WhileMissing(t *testing.T) {
	t.Parallel()
	for _, r := range []Request{{Path: "/a.ts"}, {Path: "/a.ts", Range: "bytes=0-6"}} {
		t.Run(r.Range, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newNumbered(t, nil)
				hold := make(chan struct{})
				o.hold.Store(&hold)
				o.isMissing.Store(true)
				first := make(chan error, 1)
				go func() {
					_, _, err := fetchMedia(t, o.fixture, r)
					first <- err
				}()
				synctest.Wait()
				o.isMissing.Store(false)
				sleep(1)
				o.lists("p", media("/a.ts", 1))
				o.want(t, "fetch 2", r)
				close(hold)
				if err := <-first; err == nil {
					t.Error("a viewer of before the listing got no 404")
				}
				o.want(t, "fetch 2", r)
			})
		})
	}
}

// TestOrigin_Listed_Ranges has a playlist list ranges of a file before it is a segment, and of the next file of that name. While it may
// grow nobody gets what was fetched before.
func TestOrigin_Listed_Ranges(t *testing.T) {
	t.Parallel()
	part := func(version uint64) ListedMedia { return ListedMedia{Path: "/a.ts", Version: version, MayGrow: true} }
	whole := ListedMedia{Path: "/a.ts", Version: 1}
	for name, test := range map[string]struct {
		before, after []ListedMedia
		isComplete    bool
		want          string // after the second listing, and two target durations later
	}{
		"parts":                              {[]ListedMedia{part(11)}, []ListedMedia{part(11), part(11)}, false, "fetch 2, fetch 3"},
		"announced, then the segment":        {[]ListedMedia{part(1)}, []ListedMedia{whole}, false, "fetch 2, fetch 2"},
		"announced, then it and its part":    {[]ListedMedia{part(1)}, []ListedMedia{whole, part(2)}, false, "fetch 2, fetch 3"},
		"parts, then the segment":            {[]ListedMedia{part(11)}, []ListedMedia{part(11), whole}, false, "fetch 2, fetch 2"},
		"the segment with and without parts": {[]ListedMedia{part(11), whole}, []ListedMedia{whole}, false, "fetch 1, fetch 1"},
		"parts under a used name":            {[]ListedMedia{whole}, []ListedMedia{part(12)}, false, "fetch 2, fetch 3"},
		"while the segment is listed too":    {[]ListedMedia{whole}, []ListedMedia{whole, part(12)}, false, "fetch 2, fetch 3"},
		"ranges of many numbers":             {[]ListedMedia{part(7), part(11)}, []ListedMedia{part(7), part(12)}, false, "fetch 2, fetch 3"},
		"ranges of a file that is complete":  {[]ListedMedia{part(7)}, []ListedMedia{part(7)}, true, "fetch 2, fetch 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newNumbered(t, nil)
				r := Request{Path: "/a.ts"}
				o.lists("p", test.before)
				o.want(t, "fetch 1", r)
				sleep(time.Second)
				o.Listed(&Listing{
					Playlist: "p", Fetched: time.Now(), TargetDuration: testTarget, FreshFor: 2 * testTarget, Window: 5 * testTarget,
					Media: test.after, IsComplete: test.isComplete,
				})
				got := o.get(t, r)
				sleep(2*testTarget - 1)
				if got += ", " + o.get(t, r); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
}

// TestOrigin_Listed_RangesInAnotherPlaylist has an I-frame playlist list ranges of a segment before the main playlist lists it, and in every
// version afterwards.
func TestOrigin_Listed_RangesInAnotherPlaylist(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		r := Request{Path: "/a.ts"}
		o.lists("i-frames", []ListedMedia{{Path: "/a.ts", Version: 9, MayGrow: true}})
		o.want(t, "fetch 1", r)
		o.want(t, "fetch 2", r)
		for range 5 {
			sleep(1)
			o.lists("main", media("/a.ts", 1))
			o.want(t, "fetch 3", r)
			o.lists("i-frames", []ListedMedia{{Path: "/a.ts", Version: 9, MayGrow: true}})
			o.want(t, "fetch 3", r)
			sleep(testTarget)
		}
	})
}

// TestOrigin_Listed_AnnouncedAndFailing has a playlist list what was fetched when it was announced. It may be the beginning of the file, so
// that the copy serves if the origin fails, and not if it is slow.
func TestOrigin_Listed_AnnouncedAndFailing(t *testing.T) {
	t.Parallel()
	const announcedVersion = 1
	slow := 2 * DefaultConfig().Cache.MaxWaitForFresh
	for name, test := range map[string]struct {
		status  int
		delay   time.Duration
		version int // 0: it is still announced
		want    string
	}{
		"failing":                  {http.StatusServiceUnavailable, 0, 1, "200 beginning"},
		"slow":                     {http.StatusOK, slow, 1, "200 whole"},
		"failing, of other bytes":  {http.StatusServiceUnavailable, 0, 2, "503 "},
		"failing, still announced": {http.StatusServiceUnavailable, 0, 0, "200 beginning"},
		"slow, still announced":    {http.StatusOK, slow, 0, "200 whole"},
		"behind":                   {http.StatusNotFound, 0, 1, "200 beginning"},
		"behind, still announced":  {http.StatusNotFound, 0, 0, "200 beginning"},
		"behind, of other bytes":   {http.StatusNotFound, 0, 2, "404 "},
		"gone":                     {http.StatusGone, 0, 1, "410 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var isListed atomic.Bool
				o := &numbered{}
				o.fixture = newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
					if !isListed.Load() {
						_, _ = io.WriteString(w, "beginning")
						return
					}
					<-time.After(test.delay)
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, "whole")
				}}), nil, "a")
				announced := []ListedMedia{{Path: "/a.ts", Version: announcedVersion, MayGrow: true}}
				o.lists("p", announced)
				o.want(t, "beginning", Request{Path: "/a.ts"})
				sleep(time.Second)
				isListed.Store(true)
				if test.version == 0 {
					o.lists("p", announced)
				} else {
					o.lists("p", media("/a.ts", test.version))
				}
				for range 2 {
					s, body, err := fetchMedia(t, o.fixture, Request{Path: "/a.ts", FreshFor: testTarget})
					got := fmt.Sprintf("%d %s", s.Status, body)
					if status, ok := errors.AsType[*StatusError](err); ok {
						got = fmt.Sprintf("%d %s", status.Status, body)
					}
					if got != test.want {
						t.Errorf("got %s, %v, want %s", got, err, test.want)
					}
				}
				sleep(slow) // the fetch ends
			})
		})
	}
}

// TestOrigin_Listed_SlowOrigin has an origin take longer than cache.max_wait_for_fresh for what has expired.
func TestOrigin_Listed_SlowOrigin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isListed bool
		want     string
	}{
		"listed":     {true, "fetch 1"},
		"not listed": {false, "fetch 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newNumbered(t, nil)
				if test.isListed {
					o.lists("p", media("/a.ts", 1))
				}
				o.want(t, "fetch 1", Request{Path: "/a.ts"})
				sleep(2*testTarget + 1)
				hold := make(chan struct{})
				o.hold.Store(&hold)
				time.AfterFunc(2*DefaultConfig().Cache.MaxWaitForFresh, func() { close(hold) })
				s, err := o.Media(t.Context(), Request{Path: "/a.ts", FreshFor: testTarget})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if body, err := io.ReadAll(&s); string(body) != test.want || err != nil {
					t.Errorf("got %q, %v, want %q", body, err, test.want)
				}
				sleep(time.Second) // the fetch ends
			})
		})
	}
}

// TestOrigin_Listed_OriginFails_NoOldBytes: a viewer gets an error, and no bytes that are known to be other ones.
func TestOrigin_Listed_OriginFails_NoOldBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var isFailing atomic.Bool
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, _ *http.Request) {
			if isFailing.Load() {
				w.WriteHeader(http.StatusBadGateway)
			}
			_, _ = io.WriteString(w, "segment")
		}}), nil, "a")
		n := &numbered{fixture: o}
		r := Request{Path: "/a.ts", FreshFor: testTarget}
		n.lists("p", media("/a.ts", 1))
		mustMedia(t, o, r)
		isFailing.Store(true)
		sleep(testTarget)
		n.lists("p", media("/a.ts", 1))
		sleep(2*testTarget + 1)
		if s, _ := mustMedia(t, o, r); !s.Stale {
			t.Error("an expired copy is not said to be stale")
		}
		n.lists("p", media("/a.ts", 2))
		if _, body, err := fetchMedia(t, o, r); err == nil {
			t.Errorf("got %q, want an error", body)
		}
	})
}

// TestOrigin_Listed_OriginFails_NoOldRange is the same for a range of what is listed, at once and once the origin is asked again.
func TestOrigin_Listed_OriginFails_NoOldRange(t *testing.T) {
	t.Parallel()
	for name, cacheControl := range map[string]string{"no lifetime": "", "a lifetime of the origin's": "max-age=4"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var isFailing atomic.Bool
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					if isFailing.Load() {
						w.WriteHeader(http.StatusBadGateway)
						return
					}
					w.Header().Set("Cache-Control", cacheControl)
					http.ServeContent(w, r, "a.ts", time.Time{}, strings.NewReader("segment"))
				}}), nil, "a")
				n := &numbered{fixture: o}
				r := Request{Path: "/a.ts", Range: "bytes=0-2", FreshFor: testTarget}
				n.lists("p", media("/a.ts", 1))
				mustMedia(t, o, r)
				isFailing.Store(true)
				sleep(testTarget + 1)
				if s, body := mustMedia(t, o, r); !s.Stale || body != "seg" {
					t.Errorf("got %q, stale: %t, want the copy", body, s.Stale)
				}
				n.lists("p", media("/a.ts", 2))
				for range 2 {
					if _, body, err := fetchMedia(t, o, r); (err == nil) == (cacheControl == "") {
						t.Errorf("listed again: got %q, %v", body, err)
					}
					sleep(refreshBackoff)
				}
			})
		})
	}
}

// TestOrigin_Listed_LongPlaylist_FewEntries bounds what a playlist stores that nobody watches.
func TestOrigin_Listed_LongPlaylist_FewEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNumbered(t, nil)
		var all []ListedMedia
		for i := range 5000 {
			all = append(all, media(fmt.Sprintf("/%d.ts", i), i+1)...)
		}
		o.lists("p", all)
		if got := o.cache.Stats().Entries; got > recentSegments {
			t.Errorf("%d entries, want %d at most", got, recentSegments)
		}
	})
}

func FuzzIsPlaylistStart(f *testing.F) {
	for _, s := range []string{"#EXTM3U\n", "\ufeff\r\n #EXTM3U", "#EXTM3U8", "G@", "", "\xef\xbb", strings.Repeat(" ", maxBlank+2)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		isPlaylist, isKnown := isPlaylistStart(body, true)
		if !isKnown {
			t.Fatalf("%q: unknown although it is whole", body)
		}
		for n := range body {
			early, isKnown := isPlaylistStart(body[:n], false)
			if isKnown && early != isPlaylist && len(body) <= maxBlank {
				t.Errorf("%q: %v after %d bytes, %v at the end", body, early, n, isPlaylist)
			}
		}
	})
}
