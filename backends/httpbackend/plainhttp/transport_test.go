package plainhttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"usher/backends/httpbackend/plainhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers over pipes in memory, so that a bubble's time can pass. It counts its connections.
type server struct {
	dials, open atomic.Int64
	// answer answers the nth request of a connection, from 0, and reports whether another one is read.
	answer func(w net.Conn, n int) bool
}

func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.dials.Add(1)
	s.open.Add(1)
	go func() {
		defer s.open.Add(-1)
		defer ours.Close()
		requests := bufio.NewReader(ours)
		for n := 0; ; n++ {
			if _, err := http.ReadRequest(requests); err != nil || !s.answer(ours, n) {
				return
			}
		}
	}()
	return theirs, nil
}

func (s *server) transport(t *testing.T) *plainhttp.Transport {
	t.Helper()
	transport := plainhttp.New(plainhttp.Options{
		Dial: s.dial, MaxIdle: 2, IdleTimeout: time.Minute, HeaderTimeout: 5 * time.Second, MaxHeaderSize: 1 << 10,
	})
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func request(ctx context.Context) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://portal.example.com/check?token=1", nil)
	if err != nil {
		panic(err)
	}
	return r
}

// get makes a call, and returns the answer's body.
func get(ctx context.Context, t http.RoundTripper) (status int, text string, err error) {
	resp, err := t.RoundTrip(request(ctx))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// write answers with a text as it stands.
func write(text string) func(net.Conn, int) bool {
	return func(w net.Conn, _ int) bool {
		_, err := io.WriteString(w, text)
		return err == nil
	}
}

const (
	bare = "HTTP/1.1 204 No Content\r\n\r\n"
	full = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// TestTransport_RoundTrip_ConnectionKept has each kind of answer twice. It says how many connections that takes.
func TestTransport_RoundTrip_ConnectionKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		status int
		text   string
		dials  int64
	}{
		"without a body":              {bare, 204, "", 1},
		"an empty body":               {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, "", 1},
		"a body":                      {full, 200, "ok", 1},
		"chunked":                     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", 1},
		"a trailer":                   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", 200, "ok", 1},
		"after informational answers": {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + full, 200, "ok", 1},
		"connection: close":           {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", 2},
		"HTTP/1.0":                    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", 2},
		"HTTP/1.0 with keep-alive":    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok", 1},
		"another protocol":            {"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: write(c.answer)}
				transport := s.transport(t)
				for range 2 {
					status, text, err := get(t.Context(), transport)
					if err != nil || status != c.status || text != c.text {
						t.Fatalf("got %d %q %v, want %d %q", status, text, err, c.status, c.text)
					}
				}
				if n := s.dials.Load(); n != c.dials {
					t.Errorf("%d connections, want %d", n, c.dials)
				}
			})
		})
	}
}

// overSockets returns a transport to a server on loopback, and the number of its connections: what has arrived can be seen on a socket
// alone. The connections stay open until the test ends. Calls begin after beforeCall.
func overSockets(t *testing.T, serve func(net.Conn), beforeCall ...func(net.Conn) error) (*plainhttp.Transport, *atomic.Int64) {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dials := new(atomic.Int64)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			serve(conn)
			defer conn.Close()
		}
	})
	transport := plainhttp.New(plainhttp.Options{
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, listener.Addr().String())
			for _, before := range beforeCall {
				err = errors.Join(err, before(conn))
			}
			return conn, err
		}, MaxIdle: 1, MaxHeaderSize: 1 << 10,
	})
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		listener.Close()
		serving.Wait()
	})
	return transport, dials
}

// TestTransport_RoundTrip_AnswerToNothing has a server send a second answer that nobody asked for: a yes that the next
// viewer's call must not take.
func TestTransport_RoundTrip_AnswerToNothing(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]func(net.Conn){
		"at once": func(w net.Conn) { _, _ = io.WriteString(w, bare+full) },
		"later": func(w net.Conn) {
			_, _ = io.WriteString(w, bare)
			_, _ = io.WriteString(w, full)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan struct{}, 2)
			transport, dials := overSockets(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					second(conn)
					sent <- struct{}{}
				}
			})
			for range 2 {
				status, _, err := get(t.Context(), transport)
				if err != nil || status != http.StatusNoContent {
					t.Fatalf("got %d %v, want 204: each call has an answer of its own", status, err)
				}
				<-sent
			}
			if n := dials.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// TestTransport_RoundTrip_KeptConnectionEnded has the server close connections that wait for a call. No call is begun on those, so that
// nobody takes it for one that was sent.
func TestTransport_RoundTrip_KeptConnectionEnded(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 2)
	transport, dials := overSockets(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, bare)
			conn.Close()
			closed <- struct{}{}
		}
	})
	var reused []bool
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) },
	})
	for range 2 {
		if status, _, err := get(ctx, transport); err != nil || status != http.StatusNoContent {
			t.Fatalf("got %d %v, want 204", status, err)
		}
		<-closed
	}
	if n := dials.Load(); n != 2 || !slices.Equal(reused, []bool{false, false}) {
		t.Errorf("%d connections, calls began on reused ones as %v, want two new ones", n, reused)
	}
}

// arrived returns once something has come to the new connection, and the poller has told of it. start makes the server send that.
func arrived(conn net.Conn, start func()) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	isWoken := false
	return raw.Read(func(uintptr) bool {
		if isWoken {
			return true
		}
		isWoken = true
		start()
		return false
	})
}

// TestTransport_RoundTrip_ArrivedBefore has a server end a connection, or answer, before the call on it begins.
func TestTransport_RoundTrip_ArrivedBefore(t *testing.T) {
	t.Parallel()
	const refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	for name, c := range map[string]struct {
		serve  func(*net.TCPConn)
		status int // 0: the call fails
	}{
		"reset":  {func(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }, 0},
		"closed": {func(c *net.TCPConn) { _ = c.Close() }, 0},
		"answer": {func(c *net.TCPConn) { _, _ = io.WriteString(c, refusal) }, http.StatusServiceUnavailable},
		"answer, then closed": {func(c *net.TCPConn) {
			_, _ = io.WriteString(c, refusal)
			_ = c.CloseWrite()
		}, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isOpen := make(chan struct{})
			transport, dials := overSockets(t, func(conn net.Conn) {
				<-isOpen
				c.serve(conn.(*net.TCPConn))
			}, func(conn net.Conn) error { return arrived(conn, func() { close(isOpen) }) })
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // a lost answer never comes
			defer cancel()
			status, _, err := get(ctx, transport)
			if status != c.status || (err == nil) != (c.status > 0) || ctx.Err() != nil || dials.Load() != 1 {
				t.Errorf("got %d %v on %d connections, want %d on one", status, err, dials.Load(), c.status)
			}
		})
	}
}

// TestTransport_RoundTrip_LongRequest has a request that no connection takes at once.
func TestTransport_RoundTrip_LongRequest(t *testing.T) {
	t.Parallel()
	const size = 6 << 20
	got := make(chan int, 2)
	transport, dials := overSockets(t, func(conn net.Conn) {
		requests := bufio.NewReader(conn)
		for range 2 {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			got <- len(r.Header.Get("Token"))
			_, _ = io.WriteString(conn, full)
		}
	})
	for range 2 { // on a new connection, and on a kept one
		r := request(t.Context())
		r.Header = http.Header{"Token": {strings.Repeat("t", size)}}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(text) != "ok" {
			t.Errorf("got %q %v, want ok", text, err)
		}
		if n := <-got; n != size {
			t.Errorf("%d bytes of the header arrived, want %d", n, size)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
}

// TestTransport_RoundTrip_ServerCloses has the server close connections between and during calls.
func TestTransport_RoundTrip_ServerCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(w net.Conn, n int) bool { return n == 0 && write(bare)(w, n) }} // reads the second, and closes
		transport := s.transport(t)
		var reused []bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { reused = append(reused, i.Reused) },
		})
		for range 2 {
			if _, _, err := get(ctx, transport); err != nil {
				t.Fatalf("got %v, want the call repeated on a new connection", err)
			}
		}
		if len(reused) != 3 || reused[0] || !reused[1] || reused[2] {
			t.Errorf("connections were reused as %v, want new, kept, new", reused)
		}
		s.answer = func(net.Conn, int) bool { return false }
		transport.CloseIdleConnections()
		if _, _, err := get(ctx, transport); !errors.Is(err, io.EOF) || s.dials.Load() != 3 {
			t.Errorf("got %v and %d connections, want the end of a new connection, and no further one", err, s.dials.Load())
		}
	})
}

// TestTransport_RoundTrip_Bounds has answers that take too long or are too large.
func TestTransport_RoundTrip_Bounds(t *testing.T) {
	t.Parallel()
	silent := func(w net.Conn, _ int) bool {
		_, _ = w.Read(make([]byte, 1)) // until the client closes
		return false
	}
	cause := errors.New("the viewer left")
	for name, c := range map[string]struct {
		answer func(net.Conn, int) bool
		after  time.Duration // until the call is canceled
		want   error
	}{
		"no answer":           {silent, time.Hour, os.ErrDeadlineExceeded},
		"canceled before":     {silent, time.Second, cause},
		"half a header":       {func(w net.Conn, n int) bool { write("HTTP/1.1 200")(w, n); return silent(w, n) }, time.Hour, os.ErrDeadlineExceeded},
		"canceled in a body":  {func(w net.Conn, n int) bool { write(full[:len(full)-1])(w, n); return silent(w, n) }, time.Minute, cause},
		"a body that is cut":  {func(w net.Conn, n int) bool { write(full[:len(full)-1])(w, n); return false }, time.Hour, io.ErrUnexpectedEOF},
		"a header that never": {func(w net.Conn, n int) bool { return write("HTTP/1.1 200 OK\r\nA: "+strings.Repeat("a", 2<<10))(w, n) }, time.Hour, nil},
		"too many of 1xx":     {write(strings.Repeat("HTTP/1.1 103 \r\n\r\n", 7)), time.Hour, nil},
		"not HTTP":            {write("hello\r\n\r\n"), time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: c.answer}
				transport := s.transport(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				time.AfterFunc(c.after, func() { cancel(cause) })
				_, _, err := get(ctx, transport)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if synctest.Wait(); s.open.Load() != 0 || s.dials.Load() != 1 {
					t.Errorf("%d connections open of %d, want the one closed", s.open.Load(), s.dials.Load())
				}
			})
		})
	}
}

// TestTransport_RoundTrip_BodyClosedEarly has the connection closed, without a wait for the rest.
func TestTransport_RoundTrip_BodyClosedEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(w net.Conn, n int) bool {
			write("HTTP/1.1 200 OK\r\n\r\nbegin")(w, n)
			_, _ = w.Read(make([]byte, 1))
			return false
		}}
		resp, err := s.transport(t).RoundTrip(request(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if synctest.Wait(); s.open.Load() != 0 || time.Since(begin) != 0 {
			t.Errorf("%d connections open after %s, want none at once", s.open.Load(), time.Since(begin))
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
			t.Error("the closed body can be read")
		}
	})
}

// TestTransport_CloseIdleConnections has connections idle and in use.
func TestTransport_CloseIdleConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: write(full)}
		transport := s.transport(t)
		open := func(n int64) {
			t.Helper()
			if synctest.Wait(); s.open.Load() != n {
				t.Fatalf("%d connections open, want %d", s.open.Load(), n)
			}
		}
		var bodies []io.ReadCloser
		for range 4 {
			resp, err := transport.RoundTrip(request(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, resp.Body)
		}
		finish := func(b io.ReadCloser) {
			_, _ = io.Copy(io.Discard, b)
			_ = b.Close()
		}
		open(4)
		for _, b := range bodies[:3] {
			finish(b)
		}
		open(3) // two are kept, one is in use
		time.Sleep(time.Minute)
		open(1) // not used for the timeout
		transport.CloseIdleConnections()
		finish(bodies[3])
		open(0) // closed after its call
		for range 2 {
			if _, _, err := get(t.Context(), transport); err != nil {
				t.Fatal(err)
			}
		}
		if open(1); s.dials.Load() != 5 {
			t.Errorf("%d connections were made, want the fifth kept again", s.dials.Load())
		}
		time.Sleep(30 * time.Second)
		if _, _, err := get(t.Context(), transport); err != nil {
			t.Fatal(err)
		}
		time.Sleep(45 * time.Second)
		open(1) // used since
	})
}

// TestBody_Lifetime reads an answer whose second byte comes after five seconds, while its call is ended in one way or another after one.
func TestBody_Lifetime(t *testing.T) {
	t.Parallel()
	type ending struct {
		body   *plainhttp.Body
		cancel context.CancelFunc
	}
	for name, test := range map[string]struct {
		end   func(e ending)
		text  string
		dials int64 // of two calls
	}{
		"not at all":                          {func(ending) {}, "ok", 1},
		"by its context":                      {func(e ending) { e.cancel() }, "o", 2},
		"by its context, which it has left":   {func(e ending) { e.body.Detach(); e.cancel() }, "ok", 1},
		"after it has left its context":       {func(e ending) { e.body.Detach(); e.body.Abort() }, "o", 2},
		"at once":                             {func(e ending) { e.body.Abort() }, "o", 2},
		"when it has been ended by a context": {func(e ending) { e.cancel(); synctest.Wait(); e.body.Detach() }, "o", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: func(w net.Conn, _ int) bool {
					_, err := io.WriteString(w, strings.TrimSuffix(full, "k"))
					time.Sleep(5 * time.Second)
					_, err2 := io.WriteString(w, "k")
					return err == nil && err2 == nil
				}}
				transport := s.transport(t)
				defer transport.CloseIdleConnections()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				resp, err := transport.RoundTrip(request(ctx))
				if err != nil {
					t.Fatal(err)
				}
				body := resp.Body.(*plainhttp.Body)
				time.AfterFunc(time.Second, func() { test.end(ending{body, cancel}) })
				text, err := io.ReadAll(body)
				if string(text) != test.text || (err == nil) != (test.text == "ok") {
					t.Errorf("read %q, %v; want %q", text, err, test.text)
				}
				body.Abort() // it is over: the next call has the connection
				if _, text, err := get(t.Context(), transport); text != "ok" || err != nil {
					t.Errorf("the next call: %q, %v", text, err)
				}
				if got := s.dials.Load(); got != test.dials {
					t.Errorf("%d connections for two calls, want %d", got, test.dials)
				}
			})
		})
	}
}

// FuzzTransport_RoundTrip gives raw answers to this transport and to net/http's: both read the same status and body from it, or
// both fail.
func FuzzTransport_RoundTrip(f *testing.F) {
	for _, answer := range []string{
		bare, full, "HTTP/1.1 103 \r\n\r\n" + full, "HTTP/1.0 200 OK\r\n\r\nall until the end", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "\r\n", "HTTP/1.1 99 \r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		dial := func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer ours.Close()
				if _, err := http.ReadRequest(bufio.NewReader(ours)); err == nil {
					_, _ = ours.Write(answer)
				}
			}()
			return theirs, nil
		}
		own := plainhttp.New(plainhttp.Options{Dial: dial, MaxHeaderSize: 4 << 10})
		reference := &http.Transport{
			DialContext: dial, MaxResponseHeaderBytes: 4 << 10, DisableCompression: true, DisableKeepAlives: true,
		}
		status, text, err := get(t.Context(), own)
		wantStatus, wantText, wantErr := get(t.Context(), reference)
		if status != wantStatus || (err == nil) != (wantErr == nil) || err == nil && text != wantText {
			t.Errorf("%q:\ngot  %d %q %v\nwant %d %q %v", answer, status, text, err, wantStatus, wantText, wantErr)
		}
	})
}

// BenchmarkTransport_RoundTrip compares a call with one of net/http's transport, over loopback.
func BenchmarkTransport_RoundTrip(b *testing.B) {
	var listen net.ListenConfig
	listener, err := listen.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() { // as cheap as a server can be
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for buffer := make([]byte, 4<<10); ; {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
					_, _ = io.WriteString(conn, full)
				}
			}()
		}
	}()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, listener.Addr().String())
	}
	for name, transport := range map[string]interface {
		http.RoundTripper
		CloseIdleConnections()
	}{
		"plainhttp": plainhttp.New(plainhttp.Options{Dial: dial, MaxIdle: 1, HeaderTimeout: time.Minute, MaxHeaderSize: 4 << 10}),
		"net-http":  &http.Transport{DialContext: dial, ResponseHeaderTimeout: time.Minute, DisableCompression: true},
	} {
		b.Run(name, func(b *testing.B) {
			defer transport.CloseIdleConnections()
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := get(b.Context(), transport); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
