package origin

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func says(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
}

func TestTheNextAddressIsAskedIfOneFails(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	tests := map[string]struct {
		first    http.HandlerFunc
		absent   bool // nobody listens
		waits    time.Duration
		setAside bool
		settled  bool // the first one's word is final
	}{
		"it refuses connections":      {absent: true, setAside: true},
		"it does not answer a dial":   {waits: 2 * time.Second, setAside: true},
		"it takes requests and hangs": {first: hang, waits: 10 * time.Second, setAside: true},
		"it breaks off":               {first: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, setAside: true},
		"it answers 5xx":              {first: status(503)},
		"it says that there is none":  {first: status(404), settled: true},
		"it says that we may not":     {first: status(403), settled: true},
		"it answers what makes no sense": {first: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "?")
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hosts := map[string]http.HandlerFunc{"a": test.first, "b": says("second")}
				if test.absent {
					delete(hosts, "a")
				}
				n := newNetwork(t, hosts)
				o := bubbled(t, n, nil, "a", "b")
				began := time.Now()
				_, body, err := fetchMedia(t, o, Request{Path: "/1.ts"})
				if test.settled != (err != nil) || (!test.settled && body != "second") {
					t.Fatalf("got %q, %v", body, err)
				}
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("the first viewer waited %v, want %v", waited, test.waits)
				}
				if test.settled {
					return
				}
				if got := o.Stats().Down == 1; got != test.setAside {
					t.Errorf("set aside: got %v, want %v", got, test.setAside)
				}
				// After that it is off the viewer's clock.
				began, dials := time.Now(), n.dialled("a")
				mustMedia(t, o, Request{Path: "/2.ts"})
				if waited := time.Since(began); test.setAside && (waited != 0 || n.dialled("a") != dials) {
					t.Errorf("the second viewer waited %v, %d dials more", waited, n.dialled("a")-dials)
				}
			})
		})
	}
}

func TestAnAddressThatIsBackIsPreferredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		n := newNetwork(t, map[string]http.HandlerFunc{"b": says("second"), "a": func(w http.ResponseWriter, _ *http.Request) {
			if broken.Load() {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "first")
		}})
		o := bubbled(t, n, nil, "a", "b")
		if _, body := mustMedia(t, o, Request{Path: "/1.ts"}); body != "second" {
			t.Fatalf("while it is broken: got %q", body)
		}
		broken.Store(false)
		pass(3 * time.Second) // fetch.eject_for
		if _, body := mustMedia(t, o, Request{Path: "/2.ts"}); body != "first" {
			t.Errorf("afterwards: got %q", body)
		}
		if got := o.Stats().Down; got != 0 {
			t.Errorf("set aside: got %d, want 0", got)
		}
	})
}

func TestAllAddressesAreAskedWhenAllAreSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, map[string]http.HandlerFunc{})
		o := bubbled(t, n, nil, "a", "b")
		for i, path := range []string{"/1.ts", "/2.ts"} {
			_, _, err := fetchMedia(t, o, Request{Path: path, Query: "token=secret"})
			var unreachable *UnreachableError
			if !errors.As(err, &unreachable) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), `"test"`) {
				t.Errorf("got %v, want an UnreachableError that names the origin and no query", err)
			}
			if n.dialled("a") != i+1 || n.dialled("b") != i+1 {
				t.Errorf("dials: got %d and %d, want %d each", n.dialled("a"), n.dialled("b"), i+1)
			}
		}
	})
}

// One slow channel must not move all the others to the backup.
func TestAnAddressThatAnswersOthersIsNotSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, map[string]http.HandlerFunc{"b": says("second"), "a": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow.ts" {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "first")
		}})
		o := bubbled(t, n, nil, "a", "b")
		slow := make(chan string)
		go func() {
			_, body, _ := fetchMedia(t, o, Request{Path: "/slow.ts"})
			slow <- body
		}()
		pass(5 * time.Second)
		mustMedia(t, o, Request{Path: "/1.ts"})
		if body := <-slow; body != "second" {
			t.Errorf("the slow one: got %q, want it from the second address", body)
		}
		if _, body := mustMedia(t, o, Request{Path: "/2.ts"}); body != "first" {
			t.Errorf("another: got %q, want it from the first address", body)
		}
	})
}

func TestAStaleCopyIsGivenAtOnceWhenEveryAddressIsSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := bubbled(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		one, other := reload(), reload()
		other.Path = "/other.m3u8"
		mustPlaylist(t, o, one)
		mustPlaylist(t, o, other)
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		pass(4 * time.Second)
		mustPlaylist(t, o, one)
		pass(10 * time.Second) // its refresh has failed meanwhile
		began := time.Now()
		if got := mustPlaylist(t, o, other); !got.Stale || time.Since(began) != 0 {
			t.Errorf("another playlist: stale %v after %v, want it at once", got.Stale, time.Since(began))
		}
	})
}

// The same over real sockets: a port that nobody listens on, and one that does.
func TestFailoverOverRealSockets(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(says("dead"))
	dead.Close()
	o := newFixture(t, nil, []string{dead.URL, serve(t, says("second"))})
	if _, body := mustMedia(t, o, Request{Path: "/1.ts"}); body != "second" {
		t.Errorf("media: got %q", body)
	}
	if got := mustPlaylist(t, o, reload()); string(got.Body) != "second" {
		t.Errorf("playlist: got %q", got.Body)
	}
	if s := o.Stats(); s.Failovers != 1 || s.Down != 1 {
		t.Errorf("got %d failovers, %d set aside; want one each", s.Failovers, s.Down)
	}
}
