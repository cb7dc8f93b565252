package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves each connection by a function, which gets it after the head of a request was read.
func serve(t *testing.T, answer func(c *net.TCPConn, head string)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveConn(c, answer)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-over })
	return l.Addr().String()
}

func serveConn(c net.Conn, answer func(c *net.TCPConn, head string)) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		answer(c.(*net.TCPConn), head.String())
	}
}

func write(text string) func(*net.TCPConn, string) {
	return func(c *net.TCPConn, _ string) {
		_, _ = io.WriteString(c, text) // the client may be gone
		if !strings.Contains(text, "200 OK\r\nContent-Length: 2\r\n\r\nok") {
			_ = c.Close()
		}
	}
}

// do sends a request for /a?b to an address.
func do(t *testing.T, config Config, origin Origin, change func(*Exchange)) *Exchange {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	client := NewClient(ctx, config)
	x := NewExchange()
	x.Target, x.Header, x.KeepBody, x.Timeout = []byte("/a?b"), []byte("User-Agent: test\r\n"), true, time.Minute
	if change != nil {
		change(x)
	}
	conn := client.NewConn(&origin, netip.Addr{})
	conn.Do(x)
	cancel()
	client.Close()
	if n := client.Connections(); n != 0 {
		t.Errorf("%d connections are open after Close", n)
	}
	return x
}

func at(address string) Origin { return Origin{Host: "tv", Address: address} }

func TestConn_Do_NamesFailures(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\n"
	long := strings.Repeat("0123456789abcdef", 200_000)
	tests := map[string]struct {
		answer func(*net.TCPConn, string)
		status int
		body   string
		want   string
	}{
		"a complete answer":          {write(head + "Content-Length: 2\r\n\r\nok"), 200, "ok", ""},
		"chunks with a trailer":      {write(head + "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nA: b\r\n\r\n"), 200, "ok", ""},
		"a body until the close":     {write(head + "\r\nok"), 200, "ok", ""},
		"an answer after another":    {write("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + head + "Content-Length: 2\r\n\r\nok"), 200, "ok", ""},
		"no content":                 {write("HTTP/1.1 204 No Content\r\n\r\n"), 204, "", ""},
		"an unavailable server":      {write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), 503, "", "status 503"},
		"a denial":                   {write("HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx"), 403, "x", "status 403"},
		"a status of nobody's":       {write("HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n"), 599, "", "status 599"},
		"a long body":                {write(head + "Content-Length: 3200000\r\n\r\n" + long), 200, long, ""},
		"a long body cut short":      {write(head + "Content-Length: 3200001\r\n\r\n" + long), 200, long, BrokenBody},
		"a body cut short":           {write(head + "Content-Length: 9\r\n\r\nok"), 200, "ok", BrokenBody},
		"chunks cut short":           {write(head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), 200, "ok", BrokenBody},
		"chunks that are none":       {write(head + "Transfer-Encoding: chunked\r\n\r\nx\r\nok\r\n"), 200, "", BrokenBody},
		"a trailer cut short":        {write(head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b"), 200, "ok", BrokenBody},
		"a head cut short":           {write("HTTP/1.1 200 OK\r\nContent-"), 0, "", Reset},
		"no answer":                  {write(""), 0, "", Reset},
		"no HTTP":                    {write("SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), 0, "", BadAnswer},
		"a length that is no number": {write(head + "Content-Length: x\r\n\r\n"), 0, "", BadAnswer},
		"a head that is too long":    {write(head + "X: " + strings.Repeat("x", readBuffer) + "\r\n\r\n"), 0, "", BadAnswer},
		"a reset":                    {func(c *net.TCPConn, _ string) { _ = c.SetLinger(0); _ = c.Close() }, 0, "", Reset},
		"a reset within the body": {func(c *net.TCPConn, _ string) {
			_, _ = io.WriteString(c, head+"Content-Length: 9\r\n\r\n")
			_ = c.SetLinger(0)
			_ = c.Close()
		}, 0, "", "*"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, keep := range []bool{true, false} {
				x := do(t, Config{}, at(serve(t, test.answer)), func(x *Exchange) { x.KeepBody = keep })
				if test.want == "*" { // the reset may overtake the head
					if got := x.FailureText(); got != BrokenBody && got != Reset {
						t.Errorf("failure %q, want a broken body or a reset", got)
					}
					continue
				}
				if got := x.FailureText(); got != test.want || x.Status != test.status && test.status != 0 || x.Bytes != len(test.body) {
					t.Errorf("failure %q, status %d, %d bytes; want %q, %d, %d", got, x.Status, x.Bytes, test.want, test.status, len(test.body))
				}
				if keep && string(x.Body) != test.body {
					t.Errorf("body of %d bytes, want %.20q", len(x.Body), test.body)
				}
			}
		})
	}
}

// TestConn_Do_TimeoutWithinLongBody has a server that stops within a body that is not kept.
func TestConn_Do_TimeoutWithinLongBody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	address := serve(t, func(c *net.TCPConn, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 500_000))
		<-release
	})
	x := do(t, Config{}, at(address), func(x *Exchange) { x.KeepBody, x.Timeout = false, 3*time.Second })
	close(release)
	if x.Failure != Timeout || x.Bytes == 0 || x.Bytes > 500_000 {
		t.Errorf("failure %q after %d bytes; want %q after some", x.Failure, x.Bytes, Timeout)
	}
}

func TestConn_Do_Refused(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	for _, http2 := range []bool{false, true} {
		x := do(t, Config{HTTP2: http2}, at(address), nil)
		if x.Failure != Refused || !x.FirstByte.IsZero() || x.End.Before(x.Sent) {
			t.Errorf("HTTP/2 %v: failure %q, first byte %v; want %q, none", http2, x.Failure, x.FirstByte, Refused)
		}
	}
}

func TestConn_Do_Request(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 2)
	address := serve(t, func(c *net.TCPConn, head string) {
		heads <- head
		_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")
	})
	x := do(t, Config{}, at(address), func(x *Exchange) { x.Offset, x.Length = 10, 5 })
	const want = "GET /a?b HTTP/1.1\r\nHost: tv\r\nUser-Agent: test\r\nRange: bytes=10-14\r\n\r\n"
	if got := <-heads; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if x.Failure != "" || string(x.Location) != "/b" {
		t.Errorf("failure %q, location %q; want none, /b", x.Failure, x.Location)
	}
	do(t, Config{}, at(address), func(x *Exchange) { x.Post, x.Host = []byte("body"), "other" })
	if got := <-heads; got != "POST /a?b HTTP/1.1\r\nHost: other\r\nUser-Agent: test\r\nContent-Length: 4\r\n\r\n" {
		t.Errorf("sent %q", got)
	}
}

// TestConn_Do_Times has a server that is slow with its first byte, and slower with the last one.
func TestConn_Do_Times(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers sync.WaitGroup
		defer servers.Wait()
		dial := func(context.Context, netip.Addr, string) (net.Conn, error) {
			client, server := net.Pipe()
			servers.Go(func() {
				_, _ = http.ReadRequest(bufio.NewReader(server)) // the test's own
				time.Sleep(300 * time.Millisecond)               // of the bubble's time
				_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
				time.Sleep(200 * time.Millisecond)
				_, _ = io.WriteString(server, "k")
			})
			return client, nil
		}
		x := do(t, Config{Dial: dial}, at(""), nil)
		if first, end := x.FirstByte.Sub(x.Sent), x.End.Sub(x.Sent); x.Failure != "" || first != 300*time.Millisecond || end != 500*time.Millisecond {
			t.Errorf("failure %q, first byte after %v, end after %v; want none, 300ms, 500ms", x.Failure, first, end)
		}
		x = do(t, Config{Dial: dial}, at(""), func(x *Exchange) { x.Timeout = 400 * time.Millisecond })
		if end := x.End.Sub(x.Sent); x.Failure != Timeout || x.FirstByte.IsZero() || end != 400*time.Millisecond {
			t.Errorf("failure %q, first byte %v, end after %v; want %q within the body after 400ms", x.Failure, x.FirstByte, end, Timeout)
		}
		x = do(t, Config{Dial: dial}, at(""), func(x *Exchange) { x.Timeout = 100 * time.Millisecond })
		if end := x.End.Sub(x.Sent); x.Failure != Timeout || !x.FirstByte.IsZero() || end != 100*time.Millisecond {
			t.Errorf("failure %q, first byte %v, end after %v; want %q before it after 100ms", x.Failure, x.FirstByte, end, Timeout)
		}
	})
}

// TestConn_Do_Connections counts connections: one is used as long as the server keeps it.
func TestConn_Do_Connections(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	dial := func(ctx context.Context, source netip.Addr, address string) (net.Conn, error) {
		opened.Add(1)
		return dialTCP(ctx, source, address)
	}
	answers := make(chan string, 8)
	closed := make(chan struct{}, 8)
	address := serve(t, func(c *net.TCPConn, _ string) {
		text, isLast := strings.CutSuffix(<-answers, "!")
		_, _ = io.WriteString(c, text)
		if isLast {
			_ = c.Close()
			closed <- struct{}{}
		}
	})
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	origin := at(address)
	client := NewClient(t.Context(), Config{Dial: dial})
	defer client.Close()
	conn := client.NewConn(&origin, netip.Addr{})
	x := NewExchange()
	x.Target, x.Timeout = []byte("/"), time.Minute
	for i, step := range []struct {
		answer string
		opened int64
	}{
		{ok, 1}, {ok, 1}, {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok!", 1}, {ok, 2}, {ok + "!", 2}, {ok, 3}, {ok + "more", 3}, {ok, 4},
	} {
		answers <- step.answer
		conn.Do(x)
		if x.Failure != "" || opened.Load() != step.opened {
			t.Fatalf("step %d: failure %q, %d connections; want none, %d", i, x.Failure, opened.Load(), step.opened)
		}
		if strings.HasSuffix(step.answer, "!") {
			<-closed
			conn.used = time.Time{} // as if long idle
		}
		if strings.HasSuffix(step.answer, "more") { // or the bytes are read with the answer
			conn.used = time.Time{}
		}
	}
	if n := client.Connections(); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
}

// TestConn_Do_Source connects from an address of the loopback network.
func TestConn_Do_Source(t *testing.T) {
	t.Parallel()
	from := make(chan string, 1)
	address := serve(t, func(c *net.TCPConn, _ string) {
		from <- c.RemoteAddr().String()
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	origin := at(address)
	client := NewClient(t.Context(), Config{})
	defer client.Close()
	conn := client.NewConn(&origin, netip.MustParseAddr("127.3.2.1"))
	x := NewExchange()
	x.Target, x.Timeout = []byte("/"), time.Minute
	conn.Do(x)
	if got := <-from; !strings.HasPrefix(got, "127.3.2.1:") || x.Failure != "" {
		t.Errorf("connected from %s, failure %q; want 127.3.2.1, none", got, x.Failure)
	}
	if !conn.Is(&origin, netip.MustParseAddr("127.3.2.1")) || conn.Is(&origin, netip.Addr{}) {
		t.Error("Is does not tell sources apart")
	}
}

// TestClient_Close ends an exchange that waits.
func TestClient_Close(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		asked, over := make(chan struct{}), make(chan struct{})
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			select {
			case <-r.Context().Done():
			case <-over:
			}
		}))
		server.Config.Protocols = bothProtocols()
		server.Start()
		ctx, cancel := context.WithCancel(t.Context())
		client := NewClient(ctx, Config{HTTP2: http2})
		origin := at(server.Listener.Addr().String())
		x := NewExchange()
		x.Target, x.Timeout = []byte("/"), time.Hour
		done := make(chan struct{})
		conn := client.NewConn(&origin, netip.Addr{})
		go func() { conn.Do(x); close(done) }()
		<-asked
		cancel()
		client.Close()
		<-done
		if x.Failure == "" || !client.IsClosed() {
			t.Errorf("HTTP/2 %v: failure %q, closed %v", http2, x.Failure, client.IsClosed())
		}
		conn.Do(x)
		if x.Failure == "" || client.Connections() != 0 {
			t.Errorf("HTTP/2 %v: an exchange after the end: failure %q, %d connections", http2, x.Failure, client.Connections())
		}
		close(over)
		server.Close()
	}
}

func bothProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

func TestConn_Do_HTTP2AndTLS(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a":
			w.Header().Set("Got", r.Header.Get("User-Agent")+r.Header.Get("Range")+r.Host)
			_, _ = io.WriteString(w, r.Proto)
		case "/move":
			http.Redirect(w, r, "/a", http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "ok")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	type want struct{ failure, body string }
	for _, isTLS := range []bool{false, true} {
		for _, http2 := range []bool{false, true} {
			server := httptest.NewUnstartedServer(handler)
			server.Config.Protocols = bothProtocols()
			server.EnableHTTP2 = true
			config := Config{HTTP2: http2}
			if isTLS {
				server.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(server.Certificate())
				config.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
			} else {
				server.Start()
			}
			origin := Origin{IsTLS: isTLS, Host: "example.com", Address: server.Listener.Addr().String()}
			proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
			for path, want := range map[string]want{
				"/a": {"", proto}, "/move": {"status 302", ""}, "/cut": {BrokenBody, "ok"}, "/abort": {Reset, ""}, "/x": {"status 503", ""},
			} {
				x := do(t, config, origin, func(x *Exchange) { x.Target = []byte(path) })
				if got := x.FailureText(); got != want.failure || path != "/move" && string(x.Body) != want.body {
					t.Errorf("%s, TLS %v: %s: failure %q, body %q; want %q, %q", proto, isTLS, path, got, x.Body, want.failure, want.body)
				}
				if x.FirstByte.IsZero() != (path == "/abort") {
					t.Errorf("%s, TLS %v: %s: first byte %v", proto, isTLS, path, x.FirstByte)
				}
			}
			x := do(t, config, origin, func(x *Exchange) { x.Target, x.Timeout = []byte("/hang"), 50*time.Millisecond })
			if x.Failure != Timeout {
				t.Errorf("%s, TLS %v: hanging: failure %q, want %q", proto, isTLS, x.Failure, Timeout)
			}
			if isTLS {
				if x := do(t, Config{HTTP2: http2}, origin, nil); x.Failure != BadTLS {
					t.Errorf("%s: an unknown authority: failure %q, want %q", proto, x.Failure, BadTLS)
				}
			}
			server.Close()
		}
	}
}

// cannedConn is a connection to a server that answers each request with one text, without an allocation.
type cannedConn struct {
	net.Conn

	answer string
}

func (cannedConn) Write(b []byte) (int, error)  { return len(b), nil }
func (c cannedConn) Read(b []byte) (int, error) { return copy(b, c.answer), nil }
func (cannedConn) SetDeadline(time.Time) error  { return nil }
func (cannedConn) Close() error                 { return nil }

func TestConn_Do_AllocatesNothing(t *testing.T) {
	dial := func(context.Context, netip.Addr, string) (net.Conn, error) {
		return cannedConn{answer: "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"}, nil
	}
	origin := at("tv:80")
	client := NewClient(t.Context(), Config{Dial: dial})
	defer client.Close()
	conn := client.NewConn(&origin, netip.Addr{})
	for _, keep := range []bool{false, true} {
		x := NewExchange()
		x.Target, x.KeepBody, x.Timeout = []byte("/"), keep, time.Minute
		conn.Do(x)
		if got := testing.AllocsPerRun(100, func() { conn.Do(x) }); got != 0 || x.Failure != "" {
			t.Errorf("%v allocations, failure %q", got, x.Failure)
		}
	}
}

// FuzzExchange_Read reads any bytes as an answer: it ends, counts no more than there is, and names what is wrong.
func FuzzExchange_Read(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\n\r\nbody"), true)
	f.Fuzz(func(t *testing.T, answer []byte, keep bool) {
		x := NewExchange()
		x.KeepBody = keep
		isReusable := x.read(strings.NewReader(string(answer)))
		if x.Bytes > len(answer) || len(x.Body) > x.Bytes || isReusable && x.Failure != "" {
			t.Errorf("%d bytes, %d of them kept, of %d; reusable %v, failure %q", x.Bytes, len(x.Body), len(answer), isReusable, x.Failure)
		}
		if x.Failure == "" && x.Status < 200 {
			t.Errorf("status %d without a failure", x.Status)
		}
	})
}
