package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

func TestHandler_StreamsBeforeTheOriginEnds(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]int{"of known length": 10, "of unknown length": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			release := make(chan struct{})
			g.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
				if length >= 0 {
					w.Header().Set("Content-Length", fmt.Sprint(length))
				}
				_, _ = io.WriteString(w, "first")
				_ = http.NewResponseController(w).Flush()
				<-release
				_, _ = io.WriteString(w, "later")
			}
			resp, err := g.client.Get(g.url + "/~" + g.ticket(t, "a001") + "/play/a001/part-1.mp4")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			first := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first" {
				t.Fatalf("first bytes: got %q, %v", first, err)
			}
			close(release)
			rest, err := io.ReadAll(resp.Body)
			if err != nil || string(rest) != "later" || resp.ContentLength != int64(length) {
				t.Errorf("rest: got %q, %v, Content-Length %d", rest, err, resp.ContentLength)
			}
			waitFor(t, "ten bytes are counted", func() bool { return g.table.liveSessions()[0].sent.Load() == 10 })
		})
	}
}

func TestHandler_TruncatedBody_AbortsTransfer(t *testing.T) {
	t.Parallel()
	for name, length := range map[string]string{"of known length": "100", "of unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			release := make(chan struct{})
			g.upstream.answer = func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "half of ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-release:
				case <-r.Context().Done():
				}
				panic(http.ErrAbortHandler)
			}
			resp, err := g.client.Get(g.url + "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, len("half of "))); err != nil {
				t.Fatalf("the first half: %v", err)
			}
			close(release)
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("body: got %q as if it were whole", body)
			}
		})
	}
}

func TestHandler_CountsBytes(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ticket := g.ticket(t, "a001")
	s := g.table.liveSessions()[0]
	for _, step := range []struct {
		method, path string
		fields       []string
		more         int
	}{
		{http.MethodGet, "/play/a001/index.m3u8", nil, len(mediaPlaylist)},
		{http.MethodHead, "/play/a001/index.m3u8", nil, 0},
		{http.MethodGet, "/play/a001/seg-17.ts", nil, len(segment)},
		{http.MethodGet, "/play/a001/seg-17.ts", nil, len(segment)},
		{http.MethodHead, "/play/a001/seg-17.ts", nil, 0},
		{http.MethodGet, "/play/a001/seg-17.ts", []string{"Range: bytes=2-5"}, 4},
		{http.MethodGet, "/play/a001/seg-99.ts", nil, len("the origin does not have this file\n")},
	} {
		before := s.sent.Load()
		g.do(t, step.method, "/~"+ticket+step.path, step.fields...)
		waitFor(t, fmt.Sprintf("%d bytes more after %s %s", step.more, step.method, step.path), func() bool {
			return s.sent.Load() == before+int64(step.more)
		})
	}
	if s.seen.Load() != 7 {
		t.Errorf("seen %d times, want 7", s.seen.Load())
	}
	waitFor(t, "all requests have ended", func() bool { return s.inFlight.Load() == 0 })
	if got := time.Duration(s.target.Load()); got != 6*time.Second {
		t.Errorf("target duration: got %v, want 6s", got)
	}
}

// TestHandler_RequestInFlight_UntilSent has an origin that is slow.
func TestHandler_RequestInFlight_UntilSent(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ticket := g.ticket(t, "a001")
	s, release := g.table.liveSessions()[0], make(chan struct{})
	waitFor(t, "the first request has ended", func() bool { return s.inFlight.Load() == 0 })
	g.upstream.answer = func(w http.ResponseWriter, _ *http.Request) { <-release }
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.do(t, http.MethodGet, "/~"+ticket+"/play/a001/seg-18.ts")
	}()
	waitFor(t, "the request is in flight", func() bool { return s.inFlight.Load() == 1 })
	close(release)
	<-done
	waitFor(t, "the request has ended", func() bool { return s.inFlight.Load() == 0 })
}

func TestHandler_RangesAndConditions(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Age", "7")
		w.Header().Set("Set-Cookie", "origin=1")
		w.Header().Set("Server", "Astra")
		_, _ = io.WriteString(w, segment)
	}
	path := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"
	g.want(t, 200, path)
	got := g.want(t, 206, path, "Range: bytes=4-14")
	if got.body != segment[4:15] || got.header.Get("Content-Range") != fmt.Sprintf("bytes 4-14/%d", len(segment)) {
		t.Errorf("part: got %q, %q", got.body, got.header.Get("Content-Range"))
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "Etag": `"v1"`, "Cache-Control": "max-age=60", "Age": "7",
		"Accept-Ranges": "bytes", "Set-Cookie": "", "Server": "", "Content-Length": "11",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.header.Get(name), want)
		}
	}
	g.want(t, 416, path, "Range: bytes=1000-")
	if got := g.want(t, 304, path, `If-None-Match: "v1"`); got.body != "" || got.header.Get("Content-Length") != "" {
		t.Errorf("not modified: got %q, Content-Length %q", got.body, got.header.Get("Content-Length"))
	}
	if got := g.want(t, 200, path, "Range: bytes=0-1,4-5"); got.body != segment {
		t.Errorf("several ranges: got %q", got.body)
	}
	if n := len(g.upstream.requestURIs()); n != 1 {
		t.Errorf("the origin was asked %d times, want once", n)
	}
}

func TestHandler_MediaContentType(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/a.ts": "video/mp2t", "/a.TS": "video/mp2t", "/a.m4s": "video/mp4", "/a.mp4": "video/mp4", "/a.cmfv": "video/mp4",
		"/a.m4a": "audio/mp4", "/a.cmfa": "audio/mp4", "/a.aac": "audio/aac", "/a.vtt": "text/vtt", "/a.key": "application/octet-stream",
	} {
		if got := mediaContentType("", path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := mediaContentType("video/iso.segment", "/a.ts"); got != "video/iso.segment" {
		t.Errorf("the origin's own: got %s", got)
	}
}

func TestHandler_PlaylistHeaders(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                              playlistType,
		"text/html":                     playlistType,
		"application/x-mpegURL":         "application/x-mpegURL",
		"audio/mpegurl; charset=utf-8":  "audio/mpegurl; charset=utf-8",
		"application/vnd.apple.mpegurl": "application/vnd.apple.mpegurl",
	} {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{given}
				w.Header().Set("Cache-Control", "max-age=3600")
				w.Header().Set("ETag", `"v1"`)
				_, _ = io.WriteString(w, mediaPlaylist)
			}
			h := g.want(t, 200, "/play/a001/index.m3u8?token=1", `If-None-Match: "v1"`).header
			if h.Get("Content-Type") != want || h.Get("Cache-Control") != "no-store" || h.Get("Etag") != "" {
				t.Errorf("header: got %v, want type %s, no-store and no ETag", h, want)
			}
		})
	}
}

func TestHandler_MaxRequests_RetryLater(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Limits.MaxConcurrentRequests = 1 })
	arrived, release := make(chan struct{}), make(chan struct{})
	g.upstream.answer = func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, mediaPlaylist)
	}
	var first sync.WaitGroup
	first.Go(func() { g.want(t, 200, "/play/a001/index.m3u8?token=1") })
	<-arrived
	got := g.want(t, 503, "/play/a001/index.m3u8?token=1", "Origin: https://tv.example.com")
	if got.body != "overloaded: limits.max_concurrent_requests=1 reached\n" || got.header.Get("Retry-After") != "1" ||
		got.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %q, %v", got.body, got.header)
	}
	close(release)
	first.Wait()
	waitFor(t, "no request is served", func() bool { return g.handler.gateway.serving.Load() == 0 })
	g.want(t, 200, "/play/a001/index.m3u8?token=1")
}

func TestHandler_MaxURLSize_Refused(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Limits.MaxURLSize = 256 })
	path := "/play/a001/index.m3u8?token="
	g.want(t, 200, path+strings.Repeat("x", 256-len(path)))
	got := g.want(t, 414, path+strings.Repeat("x", 257-len(path)), "Origin: https://tv.example.com")
	if got.body != "the URL is longer than limits.max_url_size=256B\n" || got.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %q, %v", got.body, got.header)
	}
}

// memoryServer is a handler behind a memoryListener, with an origin without a network, for use within synctest.Test.
type memoryServer struct {
	*memoryListener
	core    *Gateway
	table   *sessionTable
	handler *Handler
	ticket  string
	stop    context.CancelFunc
	ended   chan error
}

func newMemoryServer(t *testing.T, edit func(*Config), o originFunc) *memoryServer {
	t.Helper()
	c := testConfig("http://origin.example.com")
	if edit != nil {
		edit(&c)
	}
	b := &memoryServer{memoryListener: newMemoryListener(), ended: make(chan error, 1)}
	b.core, b.table = newBareGateway(t, c, origin.WithTransport(o))
	b.handler = NewHandler(b.core)
	b.ticket = (&testGateway{Gateway: b.core, table: b.table}).ticket(t, "a001")
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	server := NewServer(c, b.handler, nil, b.core.options.Logger)
	go func() { b.ended <- server.Run(ctx, b.memoryListener) }()
	t.Cleanup(func() {
		stop()
		if err := <-b.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

func TestHandler_SlowRequestBody_HoldsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			return originResponse(r, int64(len(mediaPlaylist)), strings.NewReader(mediaPlaylist)), nil
		})
		conn, err := b.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		_, _ = fmt.Fprint(conn, "GET /play/a001/index.m3u8?token=1 HTTP/1.1\r\nHost: tv\r\nContent-Length: 100\r\n\r\nx")
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("answer: %v, %v", resp, err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Errorf("body: %v", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the answer waited %v for the body", took)
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("connection: got %v, want its end", err)
		}
		if took := time.Since(start); took > DefaultConfig().Limits.ReadTimeout+time.Second {
			t.Errorf("the connection was held for %v", took)
		}
	})
}

func TestHandler_StalledViewer_Disconnected(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	big := strings.Repeat("x", size)
	for name, length := range map[string]int64{"from memory": size, "as it arrives": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
					return originResponse(r, length, strings.NewReader(big)), nil
				})
				if length >= 0 { // another request has put it into the cache
					get := b.client(t)
					resp, err := get.Get("http://tv/~" + b.ticket + "/play/a001/seg-17.ts")
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					synctest.Wait()
				}
				before := b.table.sent()
				conn, err := b.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				_, _ = fmt.Fprintf(conn, "GET /~%s/play/a001/seg-17.ts HTTP/1.1\r\nHost: tv\r\n\r\n", b.ticket)
				if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
					t.Fatalf("the first bytes: %v", err)
				}
				for b.handler.gateway.serving.Load() > 0 {
					advance(time.Second)
				}
				limits := b.core.options.Config.Limits
				least, most := limits.WriteTimeout, limits.WriteTimeout+size/minViewerRate*time.Second+2*time.Second
				if took := time.Since(start); took < least || took > most {
					t.Errorf("cut off after %v, want %v to %v", took, least, most)
				}
				if sent := b.table.sent() - before; sent >= size {
					t.Errorf("%d bytes are counted as sent", sent)
				}
			})
		})
	}
}

func TestHandler_ViewerDisconnects_NoResponse(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	arrived, left := make(chan struct{}), make(chan error, 1)
	g.handler.gateway.options.Sessions = &fakeSessions{
		find: func(backends.SessionID) session.Handle { return nil },
		open: func(ctx context.Context, _ session.OpenRequest) (session.Handle, error) {
			close(arrived)
			<-ctx.Done()
			left <- ctx.Err()
			return nil, ctx.Err()
		},
	}
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/play/a001/index.m3u8?token=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-arrived
		leave()
	}()
	if resp, err := g.client.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("got %d, want nothing", resp.StatusCode)
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the opening heard %v", err)
	}
	waitFor(t, "the request has ended", func() bool { return g.handler.gateway.serving.Load() == 0 })
}

func TestHandler_ManyViewersConcurrently(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) {
		query, none := c.Routes[0], c.Routes[0]
		query.Path, query.OriginPath, query.TicketIn = "/query/{channel}/*", "/play/{channel}/*", hls.TicketInQuery
		none.Path, none.OriginPath, none.TicketIn = "/none/{channel}/*", "/play/{channel}/*", hls.TicketInNone
		c.Routes = append(c.Routes, query, none)
	})
	g.client.Transport = &http.Transport{MaxIdleConnsPerHost: 50}
	defer g.client.CloseIdleConnections()
	var all sync.WaitGroup
	for viewer := range 24 {
		all.Go(func() {
			folder := []string{"/play", "/query", "/none"}[viewer%3]
			for n := range 10 {
				list := g.get(t, fmt.Sprintf("%s/a001/index.m3u8?token=%d&_HLS_msn=%d", folder, viewer, n%3), forwardedFor(fmt.Sprintf("198.51.%d.7", viewer)))
				if list.status != 200 || len(uris(list.body)) != 2 {
					t.Errorf("playlist: got %d %q", list.status, list.body)
					return
				}
				uri := uris(list.body)[0]
				if !strings.HasPrefix(uri, "/") {
					uri = folder + "/a001/" + uri
				}
				if got := g.get(t, uri, forwardedFor(fmt.Sprintf("198.51.%d.7", viewer))); got.status != 200 || got.body != segment {
					t.Errorf("%s: got %d %q", uri, got.status, got.body)
				}
			}
		})
	}
	all.Wait()
	if n := len(g.table.openRequests()); n < 24 {
		t.Errorf("%d open requests, want at least one a viewer", n)
	}
}
