package front

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/gateway"
	"usher/gateway/gatewaytest"
)

// dialRaw connects to the server and sends some bytes.
func (s *testServer) dialRaw(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// rawAnswers returns the statuses of all responses on a connection, and whether the server ended it after them. The client sends no
// more after a last request, by which it sees whether the connection is still served.
func (s *testServer) rawAnswers(t *testing.T, text string) (statuses []int, isClosed bool) {
	t.Helper()
	const last = "OPTIONS /play/a001/last HTTP/1.1\r\nHost: tv\r\nConnection: close\r\n\r\n"
	_, in := s.dialRaw(t, text+last)
	for {
		method := http.MethodGet
		if strings.HasPrefix(text, "HEAD") {
			method = http.MethodHead
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body) // of a request that was not read to its end, the body may be lost
		resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
	}
	if n := len(statuses); n > 0 && statuses[n-1] == http.StatusNoContent {
		return statuses[:n-1], false
	}
	return statuses, true
}

// TestServer_RawRequests sends requests byte for byte. A request that may be read in two ways is refused, and its connection ends.
func TestServer_RawRequests(t *testing.T) { eachFront(t, testRawRequests) }

func testRawRequests(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, nil)
	const path = "/play/a001/index.m3u8?token=1"
	get := func(fields ...string) string {
		text := "GET " + path + " HTTP/1.1\r\n"
		for _, field := range fields {
			text += field + "\r\n"
		}
		return text + "\r\n"
	}
	const stays, ends = false, true
	// onlyPlain are those that net/http accepts although another server may read them otherwise.
	for name, test := range map[string]struct {
		text      string
		status    int
		isClosed  bool
		onlyPlain bool
	}{
		"a usual one":                 {get("Host: tv"), 200, stays, false},
		"HTTP/1.0":                    {"GET " + path + " HTTP/1.0\r\n\r\n", 200, ends, false},
		"HTTP/1.0 that would stay":    {"GET " + path + " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, ends, false},
		"that closes":                 {get("Host: tv", "Connection: close"), 200, ends, false},
		"that closes, among others":   {get("Host: tv", "Connection: te, Close"), 200, ends, false},
		"of absolute form":            {"GET http://tv" + path + " HTTP/1.1\r\nHost: other\r\n\r\n", 200, stays, false},
		"HEAD":                        {"HEAD " + path + " HTTP/1.1\r\nHost: tv\r\n\r\n", 200, stays, false},
		"a body":                      {get("Host: tv", "Content-Length: 5") + "hello", 200, ends, false},
		"a body in chunks":            {get("Host: tv", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", 200, ends, false},
		"a body with a trailer":       {get("Host: tv", "Transfer-Encoding: chunked", "Trailer: X-A") + "0\r\nX-A: b\r\n\r\n", 200, ends, false},
		"a length of zero":            {get("Host: tv", "Content-Length: 0"), 200, stays, false},
		"a path with dots":            {"GET /play/a001/../index.m3u8 HTTP/1.1\r\nHost: tv\r\n\r\n", 400, stays, false},
		"a broken escape":             {"GET /play/%zz HTTP/1.1\r\nHost: tv\r\n\r\n", 400, ends, false},
		"no Host":                     {get(), 400, ends, false},
		"two Hosts":                   {get("Host: tv", "Host: tv"), 400, ends, false},
		"a Host with a user":          {get("Host: u@tv"), 400, ends, false},
		"a Host with a space":         {get("Host: t v"), 400, ends, false},
		"a name with a space":         {get("Host: tv", "X-A : b"), 400, ends, false},
		"a field without a colon":     {get("Host: tv", "X-A"), 400, ends, false},
		"a NUL in a value":            {get("Host: tv", "X-A: b\x00"), 400, ends, false},
		"a length with a sign":        {get("Host: tv", "Content-Length: +5") + "hello", 400, ends, false},
		"a negative length":           {get("Host: tv", "Content-Length: -5"), 400, ends, false},
		"two lengths":                 {get("Host: tv", "Content-Length: 5", "Content-Length: 6") + "hello", 400, ends, false},
		"another coding":              {get("Host: tv", "Transfer-Encoding: gzip"), 501, ends, false},
		"identity":                    {get("Host: tv", "Transfer-Encoding: identity"), 501, ends, false},
		"a coding and chunked":        {get("Host: tv", "Transfer-Encoding: gzip, chunked"), 501, ends, false},
		"HTTP/2.0":                    {"GET " + path + " HTTP/2.0\r\nHost: tv\r\n\r\n", 505, ends, false},
		"a broken version":            {"GET " + path + " HTTP/1.1x\r\nHost: tv\r\n\r\n", 400, ends, true},
		"a word too many":             {"GET " + path + " x HTTP/1.1\r\nHost: tv\r\n\r\n", 400, ends, false},
		"an empty line first":         {"\r\n" + get("Host: tv"), 400, ends, false},
		"another expectation":         {get("Host: tv", "Expect: nothing"), 417, ends, false},
		"TLS":                         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ends, false},
		"HTTP/1.2":                    {"GET " + path + " HTTP/1.2\r\nHost: tv\r\n\r\n", 505, ends, true},
		"bare LF":                     {strings.ReplaceAll(get("Host: tv"), "\r\n", "\n"), 400, ends, true},
		"bare LF between fields":      {"GET " + path + " HTTP/1.1\r\nHost: tv\nX-A: b\r\n\r\n", 400, ends, true},
		"a folded field":              {get("Host: tv", "X-A: b", " c"), 400, ends, true},
		"a folded first field":        {get(" X-A: b", "Host: tv"), 400, ends, true},
		"two equal lengths":           {get("Host: tv", "Content-Length: 5", "Content-Length: 5") + "hello", 400, ends, true},
		"a length and chunks":         {get("Host: tv", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", 400, ends, true},
		"chunks in HTTP/1.0":          {"GET " + path + " HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ends, true},
		"a request behind a body":     {get("Host: tv", "Content-Length: 5") + "hello" + get("Host: tv"), 200, ends, false},
		"a header that is too large":  {get("Host: tv", "X-A: "+strings.Repeat("x", 64<<10)), 431, ends, false},
		"too many fields":             {get(append([]string{"Host: tv"}, strings.Split(strings.Repeat("X-A: b\n", 200)+"X-A: b", "\n")...)...), 431, ends, true},
		"an escaped path":             {"GET /play/a001/s%C3%A9g.ts HTTP/1.1\r\nHost: tv\r\n\r\n", 403, stays, false},
		"a path with foreign letters": {"GET /play/a001/s\xc3\xa9g.ts HTTP/1.1\r\nHost: tv\r\n\r\n", 403, stays, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.onlyPlain && f != plainFront {
				return
			}
			statuses, isClosed := s.rawAnswers(t, test.text)
			if len(statuses) != 1 || statuses[0] != test.status || isClosed != test.isClosed {
				t.Errorf("got %v, closed %v; want %d, closed %v", statuses, isClosed, test.status, test.isClosed)
			}
		})
	}
}

// TestServer_Pipelined sends requests before the responses, in one piece and byte by byte.
func TestServer_Pipelined(t *testing.T) { eachFront(t, testPipelined) }

func testPipelined(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, nil)
	text := ""
	for n := range 20 {
		text += fmt.Sprintf("GET /~%s/play/a001/%s HTTP/1.1\r\nHost: tv\r\nX-N: %d\r\n\r\n", s.ticket, []string{"seg-17.ts", "index.m3u8"}[n%2], n/4)
	}
	statuses, isClosed := s.rawAnswers(t, text)
	if len(statuses) != 20 || isClosed {
		t.Errorf("got %v, closed %v; want 20 answers", statuses, isClosed)
	}
	conn, in := s.dialRaw(t, "")
	go func() {
		for i := range text {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
		}
	}()
	for n := range 20 {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("response %d: %v", n, err)
		}
		body, err := io.ReadAll(resp.Body)
		if want := []string{segment, "#EXTM3U"}[n%2]; err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), want) {
			t.Errorf("response %d: got %d %q, %v", n, resp.StatusCode, body, err)
		}
		resp.Body.Close()
	}
}

// TestServer_ManyRequests_ConnectionServed sends requests one after the other, of a length of which the buffer for them is a multiple,
// on a socket and on a connection that is none.
func TestServer_ManyRequests_ConnectionServed(t *testing.T) {
	eachFront(t, testManyRequestsConnectionServed)
}

func testManyRequestsConnectionServed(t *testing.T, f frontKind) {
	t.Parallel()
	request := "OPTIONS /play/a001/index.m3u8 HTTP/1.1\r\nHost: tv\r\nX-Filler: "
	request += strings.Repeat("x", 256-len(request)-len("\r\n\r\n")) + "\r\n\r\n"
	exchange := func(t *testing.T, conn net.Conn) {
		in := bufio.NewReader(conn)
		for n := range 40 {
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatalf("request %d: %v", n, err)
			}
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Fatalf("request %d: got %v, %v", n, resp, err)
			}
			resp.Body.Close()
		}
	}
	t.Run("a socket", func(t *testing.T) {
		conn, _ := newTestServer(t, f, nil).dialRaw(t, "")
		exchange(t, conn)
	})
	t.Run("no socket", func(t *testing.T) {
		b := newMemoryServer(t, f, nil, func(r *http.Request) (*http.Response, error) {
			return gatewaytest.OriginResponse(r, int64(len(mediaPlaylist)), strings.NewReader(mediaPlaylist)), nil
		})
		conn, err := b.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		exchange(t, conn)
	})
}

// TestServer_WaitingViewer_NextRequestKept has a viewer send the next request while the first one waits, before the server looks whether
// they are still there and after.
func TestServer_WaitingViewer_NextRequestKept(t *testing.T) {
	eachFront(t, func(t *testing.T, f frontKind) {
		t.Parallel()
		for name, waits := range map[string]time.Duration{"not long": 0, "long": time.Second} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { testWaitingViewerNextRequestKept(t, f, waits) })
			})
		}
	})
}

func testWaitingViewerNextRequestKept(t *testing.T, f frontKind, waits time.Duration) {
	s := newMemoryServer(t, f, nil, func(r *http.Request) (*http.Response, error) {
		return gatewaytest.OriginResponse(r, int64(len(mediaPlaylist)), strings.NewReader(mediaPlaylist)), nil
	})
	arrived, release := make(chan struct{}), make(chan struct{})
	s.table.openFunc = func(ctx context.Context, _ session.OpenRequest) (session.Handle, error) {
		done := ctx.Done()
		close(arrived)
		select {
		case <-release:
			return nil, errors.New("closed")
		case <-done:
			return nil, ctx.Err()
		}
	}
	conn, err := s.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET /play/a001/index.m3u8?token=2 HTTP/1.1\r\nHost: tv\r\n\r\n")
		<-arrived
		time.Sleep(waits)
		_, _ = io.WriteString(conn, "OPTIONS /play/a001/index.m3u8 HTTP/1.1\r\nHost: tv\r\n\r\n")
	}()
	time.Sleep(2 * waits)
	synctest.Wait()
	close(release)
	in := bufio.NewReader(conn)
	for _, want := range []int{http.StatusServiceUnavailable, http.StatusNoContent} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("got %v, %v; want %d", resp, err, want)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// TestServer_IdleConnection_Closed has connections that send nothing, half a head, and nothing after a response.
func TestServer_IdleConnection_Closed(t *testing.T) { eachFront(t, testIdleConnectionClosed) }

func testIdleConnectionClosed(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, func(c *gateway.Config) { c.Limits.ReadTimeout, c.Limits.IdleTimeout = time.Second, time.Second })
	for name, text := range map[string]string{
		"nothing": "", "half a head": "GET / HTTP/1.1\r\nHos", "one request": "GET /nowhere HTTP/1.1\r\nHost: tv\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, in := s.dialRaw(t, text)
			if _, err := io.Copy(io.Discard, in); err != nil {
				t.Errorf("got %v, want the connection's end", err)
			}
		})
	}
}

// TestServer_Panic_EndsConnectionAlone has a request panic.
func TestServer_Panic_EndsConnectionAlone(t *testing.T) { eachFront(t, testPanicEndsConnectionAlone) }

func testPanicEndsConnectionAlone(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, nil)
	s.table.openFunc = func(context.Context, session.OpenRequest) (session.Handle, error) { panic("BUG: a test's") }
	_, in := s.dialRaw(t, "GET /play/a001/index.m3u8?token=2 HTTP/1.1\r\nHost: tv\r\n\r\n")
	if n, err := io.Copy(io.Discard, in); err != nil || n != 0 {
		t.Errorf("got %d bytes, %v; want the connection's end", n, err)
	}
	s.want(t, 200, "/~"+s.ticket+"/play/a001/seg-17.ts")
	waitFor(t, "the panicked request counts no more", func() bool { return s.core.Serving() == 0 })
}

// TestServer_DeviceFields_InHeader tells devices apart by a field that neither the settings nor the viewer write by its canonical name.
func TestServer_DeviceFields_InHeader(t *testing.T) {
	t.Parallel()
	eachFront(t, func(t *testing.T, f frontKind) {
		s := newTestServer(t, f, func(c *gateway.Config) { c.Routes[0].DeviceFields = []string{"X-serial-ID"} })
		seen := map[string]bool{"": true}
		for i, field := range []string{"x-SERIAL-id: 77", "X-Serial-Id: 78"} {
			s.want(t, http.StatusOK, fmt.Sprintf("/play/a001/index.m3u8?token=%d", i), field)
			all := s.table.all()
			device := all[len(all)-1].request.Device
			if seen[device] {
				t.Errorf("%q: got the device %q, want another one", field, device)
			}
			seen[device] = true
		}
	})
}
