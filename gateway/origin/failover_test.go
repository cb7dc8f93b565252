package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/upstream"
)

func respondWith(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
}

func TestOrigin_AddressFails_TriesNext(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	tests := map[string]struct {
		first   http.HandlerFunc
		absent  bool // nothing listens
		waits   time.Duration
		ejected bool
		avoided bool // for the channel alone
		isFinal bool // the first response is final
	}{
		"it refuses connections":      {absent: true, ejected: true},
		"it does not answer a dial":   {waits: 2 * time.Second, ejected: true},
		"it takes requests and hangs": {first: hang, waits: 10 * time.Second, avoided: true},
		"it breaks off":               {first: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, avoided: true},
		"it answers 5xx":              {first: status(503)},
		"it says that there is none":  {first: status(404), isFinal: true},
		"it says that we may not":     {first: status(403), isFinal: true},
		"it answers what makes no sense": {first: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "?")
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hosts := map[string]http.HandlerFunc{"a": test.first, "b": respondWith("second")}
				if test.absent {
					delete(hosts, "a")
				}
				n := newNetwork(t, hosts)
				o := newNetworkFixture(t, n, nil, "a", "b")
				began := time.Now()
				_, body, err := fetchMedia(t, o, Request{Path: "/1.ts"})
				if test.isFinal != (err != nil) || (!test.isFinal && body != "second") {
					t.Fatalf("got %q, %v", body, err)
				}
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("the first viewer waited %v, want %v", waited, test.waits)
				}
				if test.isFinal {
					return
				}
				if got := o.Stats().EjectedAddresses == 1; got != test.ejected {
					t.Errorf("ejected: got %v, want %v", got, test.ejected)
				}
				// The address delays the next viewer of the channel no more.
				began, dials := time.Now(), n.dialled("a")
				mustMedia(t, o, Request{Path: "/2.ts"})
				if waited := time.Since(began); (test.ejected || test.avoided) && (waited != 0 || n.dialled("a") != dials) {
					t.Errorf("the second viewer waited %v, %d dials more", waited, n.dialled("a")-dials)
				}
			})
		})
	}
}

// TestOrigin_BodyBreaksBeforeItTells_TriesNext has one address break off a body of which no viewer has received anything.
func TestOrigin_BodyBreaksBeforeItTells_TriesNext(t *testing.T) {
	t.Parallel()
	file := strings.Repeat("the file", 100)
	for name, begun := range map[string]string{"at once": "", "after blanks": "\n\n", "within the first line": "#EXT"} {
		for field, want := range map[string]string{"": file, "bytes=0-99": file[:100], "bytes=100-199": file[100:200]} {
			if begun != "" && field == "bytes=100-199" {
				continue // of which every byte tells
			}
			t.Run(name+"/"+field, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var isUp atomic.Bool
					breaksOff := func(w http.ResponseWriter, r *http.Request) {
						if isUp.Load() {
							http.ServeContent(w, r, "1.ts", time.Time{}, strings.NewReader(file))
							return
						}
						w.Header().Set("Content-Type", "video/mp2t")
						w.Header().Set("Content-Length", strconv.Itoa(len(want)))
						if field != "" {
							w.Header().Set("Content-Range", strings.Replace(field, "=", " ", 1)+"/"+strconv.Itoa(len(file)))
							w.WriteHeader(http.StatusPartialContent)
						}
						_, _ = io.WriteString(w, begun)
						_ = http.NewResponseController(w).Flush()
						panic(http.ErrAbortHandler)
					}
					serves := func(w http.ResponseWriter, r *http.Request) {
						http.ServeContent(w, r, "1.ts", time.Time{}, strings.NewReader(file))
					}
					n := newNetwork(t, map[string]http.HandlerFunc{"a": breaksOff, "b": serves})
					r := Request{Path: "/1.ts", Range: field, FreshFor: time.Second}
					o := newNetworkFixture(t, n, nil, "a", "b")
					if _, got := mustMedia(t, o, r); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
					if inFlight := o.cache.Stats().InFlight; inFlight != 0 {
						t.Errorf("%d bytes are in flight", inFlight)
					}
					alone := newNetworkFixture(t, n, nil, "a")
					if _, _, err := fetchMedia(t, alone, r); err == nil {
						t.Error("without another address: got no error")
					}
					isUp.Store(true)
					mustMedia(t, alone, r)
					isUp.Store(false)
					sleep(2 * time.Second)
					if s, got := mustMedia(t, alone, r); got != want || !s.Stale {
						t.Errorf("with a stale copy: got %q, stale: %t", got, s.Stale)
					}
				})
			})
		}
	}
}

// TestOrigin_BodyDoesNotCome_Avoided has one address send headers and no body. The channel is fetched from the next one then, alone.
func TestOrigin_BodyDoesNotCome_Avoided(t *testing.T) {
	t.Parallel()
	media := func(t *testing.T, o fixture, channel string, n int) string {
		_, body := mustMedia(t, o, Request{Path: fmt.Sprintf("/%s/%d.ts", channel, n), Channel: channel})
		return body
	}
	playlist := func(directives string, isLate bool) func(*testing.T, fixture, string, int) string {
		return func(t *testing.T, o fixture, channel string, n int) string {
			r := Request{Path: fmt.Sprintf("/%s/%d.m3u8", channel, n), Channel: channel, Directives: directives, IsLate: isLate, Inspect: inspectLive}
			return string(mustPlaylist(t, o, r).Body)
		}
	}
	for name, test := range map[string]struct {
		get      func(t *testing.T, o fixture, channel string, n int) string
		redirect bool
		waits    time.Duration // the first viewer
		avoided  bool
	}{
		"media":                           {media, false, 10 * time.Second, true}, // fetch.idle_timeout
		"playlists":                       {playlist("", false), false, 10 * time.Second, true},
		"late reloads":                    {playlist("_HLS_msn=1", true), false, 10 * time.Second, true},
		"reloads that it holds":           {playlist("_HLS_msn=1", false), false, 20 * time.Second, false},
		"media of a host it redirects to": {media, true, 10 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hangs := func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "video/mp2t")
					w.Header().Set("Content-Length", "100")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}
				n := newNetwork(t, map[string]http.HandlerFunc{"b": respondWith("second"), "a": func(w http.ResponseWriter, r *http.Request) {
					switch {
					case !strings.HasPrefix(r.URL.Path, "/broken/"):
						_, _ = io.WriteString(w, "first")
					case test.redirect:
						http.Redirect(w, r, "http://edge"+r.URL.Path, http.StatusFound)
					default:
						hangs(w, r)
					}
				}, "edge": hangs})
				o := newFixture(t, nil, []string{"http://a", "http://b"}, WithTransport(newTransport(DefaultConfig().Fetch, n.dial, n.dial)),
					WithUpstream(upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "edge"}}}))
				for i := range 4 {
					began := time.Now()
					if got := test.get(t, o, "broken", i); got != "second" {
						t.Errorf("request %d: got %q", i, got)
					}
					want := test.waits
					if i > 0 && test.avoided {
						want = 0
					}
					if waited := time.Since(began); waited != want {
						t.Errorf("request %d: waited %v, want %v", i, waited, want)
					}
					if got := test.get(t, o, "other", i); got != "first" {
						t.Errorf("another channel: got it from the %s, want the first", got)
					}
				}
				if got := o.Stats().EjectedAddresses; got != 0 {
					t.Errorf("ejected: got %d addresses, want none", got)
				}
			})
		})
	}
}

// TestOrigin_BodyOfErrorDoesNotCome_TriesNext has one address send the headers of a 503 alone.
func TestOrigin_BodyOfErrorDoesNotCome_TriesNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, map[string]http.HandlerFunc{"b": respondWith("second"), "a": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}})
		o := newNetworkFixture(t, n, nil, "a", "b")
		began := time.Now()
		if _, got := mustMedia(t, o, Request{Path: "/1.ts"}); got != "second" {
			t.Errorf("media: got %q", got)
		}
		if got := mustPlaylist(t, o, reloadRequest()); string(got.Body) != "second" {
			t.Errorf("playlist: got %q", got.Body)
		}
		if waited := time.Since(began); waited != 2*drainTimeout {
			t.Errorf("waited %v, want %v for each", waited, drainTimeout)
		}
	})
}

func TestOrigin_RecoveredAddress_PreferredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		n := newNetwork(t, map[string]http.HandlerFunc{"b": respondWith("second"), "a": func(w http.ResponseWriter, _ *http.Request) {
			if broken.Load() {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "first")
		}})
		o := newNetworkFixture(t, n, nil, "a", "b")
		if _, body := mustMedia(t, o, Request{Path: "/1.ts"}); body != "second" {
			t.Fatalf("while it is broken: got %q", body)
		}
		broken.Store(false)
		sleep(3 * time.Second) // fetch.eject_for
		if _, body := mustMedia(t, o, Request{Path: "/2.ts"}); body != "first" {
			t.Errorf("afterwards: got %q", body)
		}
		if got := o.Stats().EjectedAddresses; got != 0 {
			t.Errorf("ejected: got %d, want 0", got)
		}
	})
}

func TestOrigin_AllEjected_TriesAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, map[string]http.HandlerFunc{})
		o := newNetworkFixture(t, n, nil, "a", "b")
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

// TestOrigin_ChannelFails_OthersStay checks that one channel that hangs or resets does not move the others to the fallback,
// whether or not they were requested meanwhile.
func TestOrigin_ChannelFails_OthersStay(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]http.HandlerFunc{
		"resets": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t, map[string]http.HandlerFunc{"b": respondWith("second"), "a": func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/broken/") {
						fail(w, r)
						return
					}
					_, _ = io.WriteString(w, "first")
				}})
				o := newNetworkFixture(t, n, nil, "a", "b")
				for round := range 3 {
					for _, channel := range []string{"broken", "c1", "c2", "c3", "c4", "c5", "c6", "c7"} {
						r := Request{Path: fmt.Sprintf("/%s/%d.m3u8", channel, round), Channel: channel}
						want := map[bool]string{true: "second", false: "first"}[channel == "broken"]
						if got := mustPlaylist(t, o, r); string(got.Body) != want {
							t.Errorf("round %d, channel %s: got it from the %s, want the %s", round, channel, got.Body, want)
						}
					}
				}
				if got := o.Stats().EjectedAddresses; got != 0 {
					t.Errorf("ejected: got %d addresses, want none", got)
				}
			})
		})
	}
}

func TestOrigin_SeveralChannelsFail_Ejected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		n := newNetwork(t, map[string]http.HandlerFunc{"b": respondWith("second"), "a": func(w http.ResponseWriter, _ *http.Request) {
			if broken.Load() {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "first")
		}})
		o := newNetworkFixture(t, n, nil, "a", "b")
		get := func(channel, want string) {
			t.Helper()
			if _, body := mustMedia(t, o, Request{Path: fmt.Sprintf("/%s/%d.ts", channel, o.Stats().Fetches), Channel: channel}); body != want {
				t.Errorf("channel %s: got it from the %s, want the %s", channel, body, want)
			}
		}
		ejected := func(want int) {
			t.Helper()
			if got := o.Stats().EjectedAddresses; got != want {
				t.Errorf("ejected: got %d addresses, want %d", got, want)
			}
		}
		for _, channel := range []string{"c1", "c2", "c1", "c2"} {
			get(channel, "second")
		}
		ejected(0)
		get("c3", "second")
		ejected(1)
		dials := n.dialled("a")
		get("c4", "second") // without a try at the first
		if got := n.dialled("a"); got != dials {
			t.Errorf("%d dials of an ejected address", got-dials)
		}
		broken.Store(false)
		sleep(3 * time.Second) // fetch.eject_for
		get("c1", "first")
		broken.Store(true)
		get("c2", "second")
		get("c3", "second")
		ejected(0) // the first has responded meanwhile
	})
}

func TestOrigin_FallbackOn404(t *testing.T) {
	t.Parallel()
	for name, enabled := range map[string]bool{"on request": true, "by default": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var isBack atomic.Bool
				n := newNetwork(t, map[string]http.HandlerFunc{
					"a": func(w http.ResponseWriter, r *http.Request) {
						if strings.HasPrefix(r.URL.Path, "/moved/") && !isBack.Load() || strings.HasSuffix(r.URL.Path, "/none.ts") {
							http.NotFound(w, r)
							return
						}
						_, _ = io.WriteString(w, "first")
					},
					"b": func(w http.ResponseWriter, r *http.Request) {
						if strings.HasSuffix(r.URL.Path, "/none.ts") {
							http.NotFound(w, r)
							return
						}
						_, _ = io.WriteString(w, "second")
					},
				})
				o := newNetworkFixture(t, n, nil, "a", "b")
				o.upstream.FallbackOn404 = enabled
				get := func(path string) string {
					channel, _, _ := strings.Cut(path, "/")
					_, body, err := fetchMedia(t, o, Request{Path: "/" + path, Channel: channel})
					if status, ok := errors.AsType[*StatusError](err); ok {
						return fmt.Sprint(status.Status)
					}
					return body
				}
				moved := map[bool]string{true: "second", false: "404"}[enabled]
				for _, step := range []struct{ path, want string }{
					{"moved/1.ts", moved}, {"here/1.ts", "first"}, {"moved/none.ts", "404"}, {"here/none.ts", "404"}, {"here/2.ts", "first"},
				} {
					if got := get(step.path); got != step.want {
						t.Errorf("%s: got %s, want %s", step.path, got, step.want)
					}
				}
				isBack.Store(true)
				if got, want := get("moved/2.ts"), map[bool]string{true: "second", false: "first"}[enabled]; got != want {
					t.Errorf("within fetch.eject_for: got %s, want %s", got, want)
				}
				sleep(3 * time.Second)
				if got := get("moved/3.ts"); got != "first" {
					t.Errorf("afterwards: got %s, want the first", got)
				}
			})
		})
	}
}

func TestOrigin_AllEjected_ServesStaleAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &playlistOrigin{}
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": p.ServeHTTP}), nil, "a")
		one, other := reloadRequest(), reloadRequest()
		other.Path = "/other.m3u8"
		mustPlaylist(t, o, one)
		mustPlaylist(t, o, other)
		p.set(func(p *playlistOrigin) { p.hold = time.Hour })
		sleep(4 * time.Second)
		mustPlaylist(t, o, one)
		sleep(10 * time.Second) // its refresh has failed meanwhile
		began := time.Now()
		if got := mustPlaylist(t, o, other); !got.Stale || time.Since(began) != 0 {
			t.Errorf("another playlist: stale %v after %v, want it at once", got.Stale, time.Since(began))
		}
	})
}

// TestOrigin_Failover_RealSockets fails over from a closed port to an open one.
func TestOrigin_Failover_RealSockets(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(respondWith("dead"))
	dead.Close()
	o := newFixture(t, nil, []string{dead.URL, serve(t, respondWith("second"))})
	if _, body := mustMedia(t, o, Request{Path: "/1.ts"}); body != "second" {
		t.Errorf("media: got %q", body)
	}
	if got := mustPlaylist(t, o, reloadRequest()); string(got.Body) != "second" {
		t.Errorf("playlist: got %q", got.Body)
	}
	if s := o.Stats(); s.Failovers != 1 || s.EjectedAddresses != 1 {
		t.Errorf("got %d failovers, %d ejected; want one each", s.Failovers, s.EjectedAddresses)
	}
}
