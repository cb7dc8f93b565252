package origin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"usher/backends"
	"usher/backends/setting"
)

func TestMedia_ConcurrentMisses_ShareOneFetch(t *testing.T) {
	t.Parallel()
	want := randomBody(600_000)
	half := len(want) / 2
	for name, length := range map[string]bool{"of known length": true, "of unknown length": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			confirmed := make(chan struct{})
			o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				if length {
					w.Header().Set("Content-Length", strconv.Itoa(len(want)))
				}
				_, _ = w.Write(want[:half])
				w.(http.Flusher).Flush()
				<-confirmed
				_, _ = w.Write(want[half:])
			})})

			const viewers = 20
			var halfway, done sync.WaitGroup
			halfway.Add(viewers)
			read := func(atHalf func()) {
				defer done.Done()
				s, err := o.Media(context.Background(), Request{Path: "/seg.ts"})
				if err != nil {
					t.Errorf("Media: %v", err)
					atHalf()
					return
				}
				defer s.Close()
				got := make([]byte, half)
				_, err = io.ReadFull(&s, got)
				atHalf()
				if err != nil {
					t.Errorf("read the first half: %v", err)
				}
				rest, err := io.ReadAll(&s)
				if err != nil {
					t.Errorf("read the second half: %v", err)
				}
				requireSameBytes(t, append(got, rest...), want)
			}
			done.Add(viewers)
			for range viewers {
				go read(halfway.Done)
			}
			halfway.Wait()
			// A viewer who joins now receives the first half as well, before the origin continues.
			done.Add(1)
			go read(func() { close(confirmed) })
			done.Wait()
			if got := requests.Load(); got != 1 {
				t.Errorf("origin requests: got %d, want 1", got)
			}
			if got := o.Stats().Coalesced; got != viewers {
				t.Errorf("coalesced: got %d, want %d", got, viewers)
			}
			waitUntil(t, "it is stored", func() bool { return o.Stats().ActiveFetches == 0 })
			s, _ := mustMedia(t, o, Request{Path: "/seg.ts"})
			if _, ok := s.Object(); !ok {
				t.Error("afterwards: not in memory")
			}
		})
	}
}

func TestMedia_StreamsBeforeOriginHasFinished(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first,")
		w.(http.Flusher).Flush()
		<-seen
		_, _ = io.WriteString(w, "second")
	})})
	gateway := serve(t, func(w http.ResponseWriter, r *http.Request) {
		s, err := o.Media(r.Context(), Request{Path: r.URL.Path})
		if err != nil {
			t.Errorf("Media: %v", err)
			return
		}
		defer s.Close()
		if _, err := s.WriteTo(w); err != nil {
			t.Errorf("WriteTo: %v", err)
		}
	})
	resp := httpGet(t, gateway+"/part.m4s")
	first := make([]byte, len("first,"))
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatalf("read through the gateway: %v", err)
	}
	close(seen)
	rest, err := io.ReadAll(resp.Body)
	if got := string(first) + string(rest); err != nil || got != "first,second" {
		t.Errorf("body: got %q, %v", got, err)
	}
}

func httpGet(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("GET: %v", err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// newStallingOrigin returns an origin that sends `sent` bytes of 100,000, then waits for release or the connection's end.
func newStallingOrigin(t *testing.T, sent int) (o fixture, hungUp, goOn chan struct{}) {
	hungUp, goOn = make(chan struct{}), make(chan struct{})
	body := randomBody(100_000)
	forever := func(c *Config) { c.Fetch.IdleTimeout = time.Hour } // so that nothing else ends the fetch
	o = newFixture(t, forever, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:sent])
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
			_, _ = w.Write(body[sent:])
		case <-r.Context().Done():
			close(hungUp)
		}
	})})
	return o, hungUp, goOn
}

func TestMedia_ReaderLeaves_OthersContinue(t *testing.T) {
	t.Parallel()
	o, _, goOn := newStallingOrigin(t, 10)
	ctx, leave := context.WithCancel(t.Context())
	var streams [2]Stream
	for i, ctx := range []context.Context{ctx, t.Context()} {
		var err error
		if streams[i], err = o.Media(ctx, Request{Path: "/seg.ts"}); err != nil {
			t.Fatalf("Media: %v", err)
		}
		defer streams[i].Close()
		if _, err = streams[i].Next(); err != nil {
			t.Fatalf("first bytes: %v", err)
		}
	}
	leave()
	if _, err := streams[0].Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("reader that left: got %v, want its own context's error", err)
	}
	_ = streams[0].Close()
	close(goOn)
	rest, err := io.ReadAll(&streams[1])
	if err != nil {
		t.Errorf("the one who stayed: %v", err)
	}
	requireSameBytes(t, rest, randomBody(100_000)[10:])
}

func TestMedia_LastReaderLeaves_CancelsFetch(t *testing.T) {
	t.Parallel()
	o, hungUp, _ := newStallingOrigin(t, 10)
	s, err := o.Media(t.Context(), Request{Path: "/seg.ts"})
	if err != nil {
		t.Fatalf("Media: %v", err)
	}
	_ = s.Close()
	_ = s.Close() // a second Close is harmless
	<-hungUp
	waitUntil(t, "no fetch is active", func() bool { return o.Stats().ActiveFetches == 0 })
	if got := o.cache.Stats().InFlight; got != 0 {
		t.Errorf("bytes in flight: got %d, want 0", got)
	}
}

func TestMedia_LastReaderLeavesAfterHalf_FinishesFetch(t *testing.T) {
	t.Parallel()
	o, _, goOn := newStallingOrigin(t, 50_000)
	s, err := o.Media(t.Context(), Request{Path: "/seg.ts"})
	if err != nil {
		t.Fatalf("Media: %v", err)
	}
	if _, err := io.ReadFull(&s, make([]byte, 50_000)); err != nil {
		t.Fatalf("read half: %v", err)
	}
	_ = s.Close()
	close(goOn)
	waitUntil(t, "the object is stored", func() bool { return o.cache.Stats().Entries == 1 })
	_, body := mustMedia(t, o, Request{Path: "/seg.ts"})
	requireSameBytes(t, []byte(body), randomBody(100_000))
	if got := o.Stats().Fetches; got != 1 {
		t.Errorf("fetches: got %d, want 1", got)
	}
}

func TestMedia_ContextEnds_ReturnsItsError(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	o := newFixture(t, nil, []string{serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-asked; leave() }()
	if _, err := o.Media(ctx, Request{Path: "/hint.m4s"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestMedia_NoStore_SharedButNotStored(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	release := make(chan struct{})
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", "no-store")
		<-release
		_, _ = io.WriteString(w, "key")
	})})
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			if _, body, err := fetchMedia(t, o, Request{Path: "/key"}); body != "key" || err != nil {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
	waitUntil(t, "two have joined", func() bool { return o.Stats().Coalesced == 2 })
	close(release)
	done.Wait()
	mustMedia(t, o, Request{Path: "/key"})
	if got := requests.Load(); got != 2 {
		t.Errorf("origin requests: got %d, want 2", got)
	}
}

func TestMedia_Error_SharedButNotCached(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	release := make(chan struct{}, 2)
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	})})
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() { requireStatus(t, o, "/seg.ts", 500) })
	}
	waitUntil(t, "two have joined", func() bool { return o.Stats().Coalesced == 2 })
	release <- struct{}{}
	done.Wait()
	release <- struct{}{}
	requireStatus(t, o, "/seg.ts", 500)
	if got := requests.Load(); got != 2 {
		t.Errorf("origin requests: got %d, want 2", got)
	}
}

func requireStatus(t *testing.T, o fixture, path string, want int) {
	t.Helper()
	_, _, err := fetchMedia(t, o, Request{Path: path})
	var status *StatusError
	if !errors.As(err, &status) || status.Status != want {
		t.Errorf("%s: got %v, want status %d", path, err, want)
	}
}

func TestMedia_Head_SendsGet(t *testing.T) {
	t.Parallel()
	var methods sync.Map
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		methods.Store(r.Method, true)
		w.Header().Set("Content-Type", "video/mp2t")
		_, _ = io.WriteString(w, "segment")
	})})
	check := func(state string) {
		s, body := mustMedia(t, o, Request{Path: "/seg.ts", Head: true, Range: "bytes=0-1"})
		if s.Status != 200 || s.ContentLength != 7 || body != "" || s.ContentType != "video/mp2t" {
			t.Errorf("%s: got %d, length %d, body %q, type %q", state, s.Status, s.ContentLength, body, s.ContentType)
		}
	}
	check("miss")
	mustMedia(t, o, Request{Path: "/seg.ts"})
	check("hit")
	if _, ok := methods.Load(http.MethodHead); ok {
		t.Error("the origin was sent a HEAD")
	}
}

func TestMedia_RequestHoldsNothingOfViewer(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	o := newFixture(t, nil, []string{serve(t, func(_ http.ResponseWriter, r *http.Request) { got <- r }) + "/base?operator=1"})
	mustMedia(t, o, Request{Path: "/a%2Fb/seg.ts", Query: "x=%41&y", Range: "bytes=5-9", IfRange: `"v"`, IfNoneMatch: `"w"`})
	r := <-got
	if want := "/base/a%2Fb/seg.ts?operator=1&x=%41&y"; r.RequestURI != want {
		t.Errorf("asked for %s, want %s", r.RequestURI, want)
	}
	want := http.Header{"User-Agent": {"usher"}, "Accept-Encoding": {"identity"}, "Range": {"bytes=5-9"}}
	if len(r.Header) != len(want) {
		t.Errorf("header: got %v, want %v", r.Header, want)
	}
	for name := range want {
		if r.Header.Get(name) != want.Get(name) {
			t.Errorf("%s: got %q, want %q", name, r.Header.Get(name), want.Get(name))
		}
	}
}

func TestMedia_UnsafePath_Refused(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })})
	for _, path := range []string{"", "seg.ts", "/../x", "/a/%2e%2E/x", "/a/./x", "/%zz", "/a%2f..%2fb", `/a\..\b`, "/%00"} {
		if _, _, err := fetchMedia(t, o, Request{Path: path}); !errors.Is(err, ErrPath) {
			t.Errorf("%q: got %v, want ErrPath", path, err)
		}
	}
}

func TestOrigin_BeyondMaxWaiting_Overload(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}, 2), make(chan struct{})
	o := newFixture(t, func(c *Config) { c.Fetch.MaxConns, c.Fetch.MaxWaiting = 1, 0 },
		[]string{serve(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-release })})
	var done sync.WaitGroup
	done.Go(func() { mustMedia(t, o, Request{Path: "/1.ts"}) })
	<-asked
	_, _, err := fetchMedia(t, o, Request{Path: "/2.ts"})
	var overload *backends.Overload
	if !errors.As(err, &overload) || overload.Setting != "fetch.max_waiting" {
		t.Errorf("second fetch: got %v, want an overload of fetch.max_waiting", err)
	}
	// Playlists have separate connections.
	done.Go(func() {
		if _, err := o.Playlist(t.Context(), &Request{Path: "/live.m3u8"}); err != nil {
			t.Errorf("playlist: %v", err)
		}
	})
	<-asked
	close(release)
	done.Wait()
}

func TestOriginClose_EndsFetches(t *testing.T) {
	t.Parallel()
	o, hungUp, _ := newStallingOrigin(t, 10)
	s, err := o.Media(t.Context(), Request{Path: "/seg.ts"})
	if err != nil {
		t.Fatalf("Media: %v", err)
	}
	defer s.Close()
	if _, err := s.Next(); err != nil {
		t.Fatalf("first bytes: %v", err)
	}
	o.Close()
	<-hungUp
	if _, err := s.Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("reader: got %v, want ErrClosed", err)
	}
	if _, err := o.Media(t.Context(), Request{Path: "/other.ts"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}

func TestMedia_BrokenBody_ReturnsError(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	})})
	_, _, err := fetchMedia(t, o, Request{Path: "/seg.ts"})
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want an UnreachableError with an unexpected end", err)
	}
	if got := o.cache.Stats().Entries; got != 0 {
		t.Errorf("stored %d objects, want none", got)
	}
}

func TestCache_StoredBytesWithinMaxSize(t *testing.T) {
	t.Parallel()
	o := newFixture(t, func(c *Config) { c.Cache.MaxSize, c.Cache.MaxObjectSize = 2*setting.MiB, setting.MiB },
		[]string{serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "seg.ts", time.Time{}, newSeeker(100_000))
		})})
	for i := range 100 {
		mustMedia(t, o, Request{Path: "/" + strconv.Itoa(i) + ".ts"})
	}
	o.cache.entries.CleanUp()
	if s := o.cache.Stats(); s.Stored > int64(2*setting.MiB) || s.Entries < 10 || s.InFlight != 0 {
		t.Errorf("stored %d bytes in %d entries, %d in flight; want at most 2 MiB in more than 10, none", s.Stored, s.Entries, s.InFlight)
	}
}

// TestCache_Full_KeepsLiveEdge checks that old popular segments do not displace new ones: segments of a live channel are
// popular for seconds only.
func TestCache_Full_KeepsLiveEdge(t *testing.T) {
	t.Parallel()
	cache, err := NewCache(CacheConfig{MaxSize: 4 * setting.MiB, MaxObjectSize: setting.MiB}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	const segments, viewers = 1000, 30
	fetches, body := 0, make([]byte, 20_000)
	for i := range segments {
		k := cacheKey{path: strconv.Itoa(i), media: true}
		for range viewers {
			if cache.getFresh(k) == nil {
				fetches++
				e := &entry{object: &Object{Body: body}, retention: 24 * time.Hour}
				e.freshUntil.Store(math.MaxInt64)
				cache.store(k, e)
			}
		}
	}
	if fetches > segments*11/10 {
		t.Errorf("%d fetches for %d segments read %d times each: want one each or little more", fetches, segments, viewers)
	}
}

func TestOrigin_Redirect_ConfiguredHostsOnly(t *testing.T) {
	t.Parallel()
	content := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content") }
	known, unknown := serve(t, content), serve(t, content)
	self := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hops, _ := strconv.Atoi(r.URL.Query().Get("hops"))
		switch {
		case hops > 0:
			http.Redirect(w, r, "/same?hops="+strconv.Itoa(hops-1), http.StatusFound)
		case r.URL.Path == "/known":
			http.Redirect(w, r, known+"/x", http.StatusFound)
		case r.URL.Path == "/unknown":
			http.Redirect(w, r, unknown+"/x", http.StatusFound)
		default:
			content(w, r)
		}
	})
	tests := map[string]struct {
		path, query string
		refused     bool
	}{
		"to the same host":             {path: "/same", query: "hops=1"},
		"three times in a row":         {path: "/same", query: "hops=3"},
		"four times in a row":          {path: "/same", query: "hops=4", refused: true},
		"to another configured origin": {path: "/known"},
		"to an unlisted host":          {path: "/unknown", refused: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newFixture(t, nil, []string{self}, WithOtherOrigins(mustURL(t, known)))
			_, body, err := fetchMedia(t, o, Request{Path: test.path, Query: test.query})
			if test.refused != errors.Is(err, errRedirect) || (!test.refused && body != "content") {
				t.Errorf("got %q, %v; want refused: %v", body, err, test.refused)
			}
			if o.Stats().EjectedAddresses != 0 {
				t.Error("a redirect set the address aside")
			}
		})
	}
}

func TestRequest_StringsMayBeReused(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })})
	buffer := []byte("/1.ts")
	mustMedia(t, o, Request{Path: unsafe.String(&buffer[0], len(buffer))})
	copy(buffer, "/2.ts")
	for _, path := range []string{"/1.ts", "/2.ts"} {
		if _, body := mustMedia(t, o, Request{Path: path}); body != path {
			t.Errorf("%s: got %s", path, body)
		}
	}
	if got := o.Stats().Fetches; got != 2 {
		t.Errorf("fetches: got %d, want one for each path", got)
	}
}

func TestStreamWriteTo_FlushError_EndsTransfer(t *testing.T) {
	t.Parallel()
	o, _, _ := newStallingOrigin(t, 10)
	s, err := o.Media(t.Context(), Request{Path: "/seg.ts"})
	if err != nil {
		t.Fatalf("Media: %v", err)
	}
	defer s.Close()
	if _, err := s.WriteTo(brokenWriter{httptest.NewRecorder()}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the flush's error", err)
	}
}

type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) FlushError() error { return io.ErrClosedPipe }
