package front

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/gateway"
	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

func TestServer_StreamsBeforeTheOriginEnds(t *testing.T) {
	eachFront(t, testStreamsBeforeTheOriginEnds)
}

func testStreamsBeforeTheOriginEnds(t *testing.T, f frontKind) {
	t.Parallel()
	for name, length := range map[string]int{"of known length": 10, "of unknown length": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestServer(t, f, nil)
			release := make(chan struct{})
			g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
				if length >= 0 {
					w.Header().Set("Content-Length", fmt.Sprint(length))
				}
				_, _ = io.WriteString(w, "first")
				_ = http.NewResponseController(w).Flush()
				<-release
				_, _ = io.WriteString(w, "later")
			}
			resp, err := g.client.Get(g.url + "/~" + g.ticket + "/play/a001/part-1.mp4")
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
			waitFor(t, "ten bytes are counted", func() bool { return g.table.all()[0].sent.Load() == 10 })
		})
	}
}

func TestServer_TruncatedBody_AbortsTransfer(t *testing.T) {
	eachFront(t, testTruncatedBodyAbortsTransfer)
}

func testTruncatedBodyAbortsTransfer(t *testing.T, f frontKind) {
	t.Parallel()
	for name, length := range map[string]string{"of known length": "100", "of unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestServer(t, f, nil)
			release := make(chan struct{})
			g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
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
			resp, err := g.client.Get(g.url + "/~" + g.ticket + "/play/a001/seg-17.ts")
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

func TestServer_CountsBytes(t *testing.T) { eachFront(t, testCountsBytes) }

func testCountsBytes(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, nil)
	ticket := g.ticket
	s := g.table.all()[0]
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
	if s.seen.Load() != 1+7 {
		t.Errorf("seen %d times, want once for the ticket and 7 times", s.seen.Load())
	}
	waitFor(t, "all requests have ended", func() bool { return s.inFlight.Load() == 0 })
	if got := time.Duration(s.target.Load()); got != 6*time.Second {
		t.Errorf("target duration: got %v, want 6s", got)
	}
}

// TestServer_RequestInFlight_UntilSent has an origin that is slow.
func TestServer_RequestInFlight_UntilSent(t *testing.T) { eachFront(t, testRequestInFlightUntilSent) }

func testRequestInFlightUntilSent(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, nil)
	ticket := g.ticket
	s, release := g.table.all()[0], make(chan struct{})
	waitFor(t, "the first request has ended", func() bool { return s.inFlight.Load() == 0 })
	g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) { <-release }
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

func TestServer_RangesAndConditions(t *testing.T) { eachFront(t, testRangesAndConditions) }

func testRangesAndConditions(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, nil)
	g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Age", "7")
		w.Header().Set("Set-Cookie", "origin=1")
		w.Header().Set("Server", "Astra")
		_, _ = io.WriteString(w, segment)
	}
	path := "/~" + g.ticket + "/play/a001/seg-17.ts"
	wantAge := func(age string) {
		t.Helper()
		if n, err := strconv.Atoi(age); err != nil || n < 7 {
			t.Errorf("Age: got %q, want at least the origin's 7", age)
		}
	}
	wantAge(g.want(t, 200, path).header.Get("Age"))
	// The object is in the cache a moment after the client has its last byte. Until then a part, each another one here, is
	// fetched by itself.
	asked, last := 0, 0
	waitFor(t, "the cache answers", func() bool {
		asked, last = len(g.upstream.RequestURIs()), last+1
		g.want(t, 206, path, fmt.Sprintf("Range: bytes=1-%d", last))
		return len(g.upstream.RequestURIs()) == asked
	})
	got := g.want(t, 206, path, "Range: bytes=4-14")
	if got.body != segment[4:15] || got.header.Get("Content-Range") != fmt.Sprintf("bytes 4-14/%d", len(segment)) {
		t.Errorf("part: got %q, %q", got.body, got.header.Get("Content-Range"))
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "Etag": `"v1"`, "Cache-Control": "private, max-age=60",
		"Accept-Ranges": "bytes", "Set-Cookie": "", "Server": "", "Content-Length": "11",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.header.Get(name), want)
		}
	}
	wantAge(got.header.Get("Age"))
	g.want(t, 416, path, "Range: bytes=1000-")
	if got := g.want(t, 304, path, `If-None-Match: "v1"`); got.body != "" || got.header.Get("Content-Length") != "" {
		t.Errorf("not modified: got %q, Content-Length %q", got.body, got.header.Get("Content-Length"))
	}
	if got := g.want(t, 200, path, "Range: bytes=0-1,4-5"); got.body != segment {
		t.Errorf("several ranges: got %q", got.body)
	}
	if n := len(g.upstream.RequestURIs()); n != asked {
		t.Errorf("the origin was asked %d times after the object was cached, want never", n-asked)
	}
}

func TestServer_PlaylistHeaders(t *testing.T) { eachFront(t, testPlaylistHeaders) }

func testPlaylistHeaders(t *testing.T, f frontKind) {
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
			g := newTestServer(t, f, nil)
			g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{given}
				w.Header().Set("Cache-Control", "max-age=3600")
				w.Header().Set("ETag", `"v1"`)
				_, _ = io.WriteString(w, mediaPlaylist)
			}
			h := g.want(t, 200, "/play/a001/index.m3u8?token=1", `If-None-Match: "v1"`).header
			if h.Get("Content-Type") != want || h.Get("Cache-Control") != "no-store" || h.Get("Etag") != "" {
				t.Errorf("header: got %v, want type %s, no-store and no ETag", h, want)
			}
			for path, status := range map[string]int{"/play/a001/index.m3u8?token=1": 200, "/nothing/here": 404} {
				got := g.want(t, status, path)
				if length := got.header.Get("Content-Length"); length != strconv.Itoa(len(got.body)) {
					t.Errorf("%s: Content-Length %q of a body of %d", path, length, len(got.body))
				}
			}
		})
	}
}

func TestServer_MaxRequests_RetryLater(t *testing.T) { eachFront(t, testMaxRequestsRetryLater) }

func testMaxRequestsRetryLater(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, func(c *gateway.Config) { c.Limits.MaxConcurrentRequests = 1 })
	arrived, release := make(chan struct{}), make(chan struct{})
	g.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
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
	waitFor(t, "no request is served", func() bool { return g.core.Serving() == 0 })
	g.want(t, 200, "/play/a001/index.m3u8?token=1")
}

func TestServer_MaxURLSize_Refused(t *testing.T) { eachFront(t, testMaxURLSizeRefused) }

func testMaxURLSizeRefused(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, func(c *gateway.Config) { c.Limits.MaxURLSize = 256 })
	path := "/play/a001/index.m3u8?token="
	g.want(t, 200, path+strings.Repeat("x", 256-len(path)))
	got := g.want(t, 414, path+strings.Repeat("x", 257-len(path)), "Origin: https://tv.example.com")
	if got.body != "the URL is longer than limits.max_url_size=256B\n" || got.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %q, %v", got.body, got.header)
	}
}

func TestServer_SlowRequestBody_HoldsNothing(t *testing.T) {
	eachFront(t, testSlowRequestBodyHoldsNothing)
}

func testSlowRequestBodyHoldsNothing(t *testing.T, f frontKind) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryServer(t, f, nil, func(r *http.Request) (*http.Response, error) {
			return gatewaytest.OriginResponse(r, int64(len(mediaPlaylist)), strings.NewReader(mediaPlaylist)), nil
		})
		conn, err := b.Dial(t.Context(), "", "")
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
		if took := time.Since(start); took > gateway.DefaultConfig().Limits.ReadTimeout+time.Second {
			t.Errorf("the connection was held for %v", took)
		}
	})
}

func TestServer_StalledViewer_Disconnected(t *testing.T) { eachFront(t, testStalledViewerDisconnected) }

func testStalledViewerDisconnected(t *testing.T, f frontKind) {
	t.Parallel()
	const size = 1 << 20
	big := strings.Repeat("x", size)
	for name, length := range map[string]int64{"from memory": size, "as it arrives": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newMemoryServer(t, f, nil, func(r *http.Request) (*http.Response, error) {
					return gatewaytest.OriginResponse(r, length, strings.NewReader(big)), nil
				})
				if length >= 0 { // another request has put it into the cache
					get := b.Client(t)
					resp, err := get.Get("http://tv/~" + b.ticket + "/play/a001/seg-17.ts")
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					synctest.Wait()
				}
				before := b.table.sent()
				conn, err := b.Dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				_, _ = fmt.Fprintf(conn, "GET /~%s/play/a001/seg-17.ts HTTP/1.1\r\nHost: tv\r\n\r\n", b.ticket)
				if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
					t.Fatalf("the first bytes: %v", err)
				}
				for b.core.Serving() > 0 {
					advance(time.Second)
				}
				limits := b.config.Limits
				least, most := limits.WriteTimeout, limits.WriteTimeout+size/(8<<10)*time.Second+2*time.Second
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

func TestServer_ViewerDisconnects_NoResponse(t *testing.T) {
	eachFront(t, testViewerDisconnectsNoResponse)
}

func testViewerDisconnectsNoResponse(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, nil)
	arrived, left := make(chan struct{}), make(chan error, 1)
	g.table.openFunc = func(ctx context.Context, _ session.OpenRequest) (session.Handle, error) {
		close(arrived)
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
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
	waitFor(t, "the request has ended", func() bool { return g.core.Serving() == 0 })
}

func TestServer_ManyViewersConcurrently(t *testing.T) { eachFront(t, testManyViewersConcurrently) }

func testManyViewersConcurrently(t *testing.T, f frontKind) {
	t.Parallel()
	g := newTestServer(t, f, func(c *gateway.Config) {
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
	if n := len(g.table.all()); n < 24 {
		t.Errorf("%d sessions, want at least one a viewer", n)
	}
}

// TestServer_WriteTimeout_OfServingGateway has a gateway of other settings than those of the start serve, as after a reload.
func TestServer_WriteTimeout_OfServingGateway(t *testing.T) {
	eachFront(t, testWriteTimeoutOfServingGateway)
}

func testWriteTimeoutOfServingGateway(t *testing.T, f frontKind) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const atStart, reloaded, size = time.Second, time.Hour, 64 << 10
		c := testConfig("http://origin.example.com")
		c.Limits.WriteTimeout = reloaded
		core, _ := newGateway(t, c, origin.WithTransport(playlistBeside(func(r *http.Request) (*http.Response, error) {
			return gatewaytest.OriginResponse(r, size, strings.NewReader(strings.Repeat("x", size))), nil
		})))
		ticket, l := ticketOf(t, core), gatewaytest.NewListener()
		c.Limits.WriteTimeout = atStart
		run(t, f, c, core, l)
		conn, err := l.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "GET /~%s/play/a001/seg-17.ts HTTP/1.1\r\nHost: tv\r\n\r\n", ticket)
		advance(reloaded / 2) // the viewer reads nothing
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("the answer to a viewer who stalled for %v of %v: %v", reloaded/2, reloaded, err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes arrived, %v; want %d", n, err, size)
		}
	})
}
