package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway"
	"usher/gateway/edge"
	"usher/gateway/gatewaytest"
)

// TestServer_MaxConnections_IdleMakesRoom fills a bound with connections, first idle ones and then some that wait for their response.
func TestServer_MaxConnections_IdleMakesRoom(t *testing.T) {
	eachFront(t, testMaxConnectionsIdleMakesRoom)
}

func testMaxConnectionsIdleMakesRoom(t *testing.T, f frontKind) {
	t.Parallel()
	const most = 3
	for name, edit := range map[string]func(*gateway.Config){
		"of the node": func(c *gateway.Config) { c.Limits.Connections.MaxConnections = most },
		"of an address": func(c *gateway.Config) {
			c.Limits.Connections.MaxConnectionsPerAddress, c.TrustedProxies = most, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, f, edit)
			waiting, release := make(chan struct{}), make(chan struct{})
			s.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
				waiting <- struct{}{}
				<-release
				_, _ = io.WriteString(w, segment)
			}
			var idle []net.Conn
			for range most {
				conn, in := s.dialRaw(t, "GET /nowhere HTTP/1.1\r\nHost: tv\r\n\r\n")
				if _, err := http.ReadResponse(in, nil); err != nil {
					t.Fatalf("below the bound: %v", err)
				}
				idle = append(idle, conn)
			}
			var busy []<-chan bool
			for n := range most {
				ask := fmt.Sprintf("GET /~%s/play/a001/seg-%d.ts HTTP/1.1\r\nHost: tv\r\n\r\n", s.ticket, n)
				waitFor(t, "an idle connection makes room", func() bool { // it is idle a moment after its response
					_, in := s.dialRaw(t, ask)
					answered := make(chan bool, 1)
					go func() { answered <- isAnswered(in) }()
					select {
					case <-waiting:
						busy = append(busy, answered)
						return true
					case <-answered:
						return false
					}
				})
			}
			for i, conn := range idle {
				_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
				if rest, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("idle connection %d got %q %v, want that it made room", i, rest, err)
				}
			}
			if _, in := s.dialRaw(t, "GET /nowhere HTTP/1.1\r\nHost: tv\r\n\r\n"); isAnswered(in) {
				t.Error("a connection beyond the bound is served while all others wait")
			}
			close(release)
			for i, answered := range busy {
				if !<-answered {
					t.Errorf("busy connection %d was ended for another one", i)
				}
			}
		})
	}
}

// isAnswered reads a response, and reports whether there is a whole one.
func isAnswered(in *bufio.Reader) bool {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return err == nil
}

// TestServer_ProxyProtocol has viewers come through a balancer that tells of them before their requests.
func TestServer_ProxyProtocol(t *testing.T) { eachFront(t, testProxyProtocol) }

func testProxyProtocol(t *testing.T, f frontKind) {
	t.Parallel()
	const viewer = "192.0.2.7"
	const (
		version1 = "PROXY TCP4 " + viewer + " 192.0.2.1 4711 80\r\n"
		// The signature, the version with the command, and TCP by IPv4; the length is that of the addresses, the ports and what follows.
		signature = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00"
		addresses = "\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x00\x50"
		version2  = signature + "\x0c" + addresses
		// By TLS: type and length, the client's flags, the result of its verification, and the version.
		byTLS = signature + "\x1e" + addresses + "\x20\x00\x0f\x01\x00\x00\x00\x00\x21\x00\x07TLSv1.3"
	)
	listed := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for name, test := range map[string]struct {
		from            []netip.Prefix
		first           string
		status          int // 0: the connection ends
		address, scheme string
	}{
		"version 1":                    {listed, version1, 200, viewer, "http"},
		"version 2":                    {listed, version2, 200, viewer, "http"},
		"version 2, with TLS":          {listed, byTLS, 200, viewer, "https"},
		"none":                         {listed, "", 200, "127.0.0.1", "http"},
		"a broken one":                 {listed, "PROXY TCP4 somebody\r\n", 0, "", ""},
		"two of them":                  {listed, version1 + version1, 400, "", ""},
		"a network that is not listed": {nil, version1, 400, "", ""},
		"a part of one":                {listed, "PROXY TCP4", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, f, func(c *gateway.Config) {
				c.ProxyProtocol.From, c.TrustedProxies, c.Limits.ReadTimeout = test.from, nil, time.Second
			})
			before := len(s.table.all())
			request := "GET /play/a001/index.m3u8?token=1 HTTP/1.1\r\nHost: tv\r\n\r\n"
			if !strings.HasSuffix(test.first, "\n") && strings.HasPrefix(test.first, "PROXY") {
				request = ""
			}
			_, in := s.dialRaw(t, test.first+request)
			status := 0
			if resp, err := http.ReadResponse(in, nil); err == nil {
				status = resp.StatusCode
				resp.Body.Close()
			}
			if status != test.status {
				t.Fatalf("got %d, want %d", status, test.status)
			}
			opened := s.table.all()[before:]
			if test.address == "" {
				if len(opened) != 0 {
					t.Errorf("a session of %s was opened", opened[0].request.Address)
				}
				return
			}
			if r := opened[0].request; r.Address.String() != test.address || r.Scheme != test.scheme {
				t.Errorf("the viewer is at %s by %s, want %s by %s", r.Address, r.Scheme, test.address, test.scheme)
			}
		})
	}
}

// TestServer_RequestBody sends bodies that are read: an edge asks with one about a publisher.
func TestServer_RequestBody(t *testing.T) { eachFront(t, testRequestBody) }

func testRequestBody(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, func(c *gateway.Config) {
		c.Limits.ReadTimeout = time.Second
		c.Routes = append(c.Routes, gateway.RouteConfig{Path: "/auth", Backend: "b", Edge: &edge.Config{
			Dialect: edge.Flussonic, Networks: c.TrustedProxies, PublishBackend: "b", ExtraLifetime: time.Minute,
		}})
	})
	const (
		body = `{"name":"a001","ip":"192.0.2.7","token":"1"}`
		post = "POST /auth HTTP/1.1\r\nHost: tv\r\n"
	)
	length, half := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)), body[:len(body)/2]
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for name, test := range map[string]struct {
		text   string
		asks   bool // for the body
		status int
	}{
		"of a length":               {post + length + body, false, 200},
		"of a length, HTTP/1.0":     {"POST /auth HTTP/1.0\r\n" + length + body, false, 200},
		"in chunks":                 {post + chunked + chunk(half) + chunk(body[len(half):]) + "0\r\n\r\n", false, 200},
		"in chunks, with a trailer": {post + "Trailer: X-A\r\n" + chunked + chunk(body) + "0\r\nX-A: b\r\n\r\n", false, 200},
		"asked for":                 {post + "Expect: 100-continue\r\n" + length, true, 200},
		"too short":                 {post + length + half, false, 403},
		"too short, in chunks":      {post + chunked + chunk(half), false, 403},
		"with a broken chunk":       {post + chunked + "zz\r\n" + body, false, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, in := s.dialRaw(t, test.text)
			resp, err := http.ReadResponse(in, nil)
			if test.asks {
				if err != nil || resp.StatusCode != http.StatusContinue {
					t.Fatalf("got %v, %v; want to be asked for the body", resp, err)
				}
				resp.Body.Close()
				_, _ = io.WriteString(conn, body)
				resp, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("got %d, want %d", resp.StatusCode, test.status)
			}
		})
	}
}

// TestServer_HTTP10_UnknownLength streams a body whose length nobody knows to a viewer who knows no chunks.
func TestServer_HTTP10_UnknownLength(t *testing.T) { eachFront(t, testHTTP10UnknownLength) }

func testHTTP10UnknownLength(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, nil)
	s.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
		for i := range segment {
			_, _ = io.WriteString(w, segment[i:i+1])
			_ = http.NewResponseController(w).Flush()
		}
	}
	_, in := s.dialRaw(t, "GET /~"+s.ticket+"/play/a001/seg-17.ts HTTP/1.0\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != segment || resp.ContentLength >= 0 && resp.ContentLength != int64(len(segment)) || len(resp.TransferEncoding) != 0 {
		t.Errorf("got %q, %v, length %d, coding %v; want the segment until the connection's end", body, err, resp.ContentLength, resp.TransferEncoding)
	}
}

// TestServer_HeadOfStream asks for the header of a body whose length nobody knows. It is not empty.
func TestServer_HeadOfStream(t *testing.T) { eachFront(t, testHeadOfStream) }

func testHeadOfStream(t *testing.T, f frontKind) {
	t.Parallel()
	s := newTestServer(t, f, nil)
	release := make(chan struct{})
	s.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, segment)
		_ = http.NewResponseController(w).Flush()
		<-release
	}
	defer close(release)
	_, in := s.dialRaw(t, "HEAD /~"+s.ticket+"/play/a001/seg-17.ts HTTP/1.1\r\nHost: tv\r\n\r\n")
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodHead})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength >= 0 {
		t.Errorf("got %d and length %d, want 200 and none", resp.StatusCode, resp.ContentLength)
	}
}

// TestServer_HTTP10_TruncatedBody has an origin break off a body whose length nobody knows. A viewer by HTTP/1.0 has only the end of
// the connection to tell that it is not whole, over TLS too: an alert there says that the end is meant.
func TestServer_HTTP10_TruncatedBody(t *testing.T) { eachFront(t, testHTTP10TruncatedBody) }

func testHTTP10TruncatedBody(t *testing.T, f frontKind) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	files := gateway.TLSConfig{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	a.issue(t, files, 1, time.Unix(1000, 0))
	for name, edit := range map[string]func(*gateway.Config){
		"from the viewer": func(*gateway.Config) {},
		"from a balancer": func(c *gateway.Config) { c.ProxyProtocol.From = c.TrustedProxies },
		"over TLS":        func(c *gateway.Config) { c.TLS = files },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, f, edit)
			release := make(chan struct{})
			s.upstream.Answer = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "half of ")
				_ = http.NewResponseController(w).Flush()
				<-release
				panic(http.ErrAbortHandler)
			}
			conn, _ := s.dialRaw(t, "")
			if name == "over TLS" {
				conn = tls.Client(conn, &tls.Config{RootCAs: a.pool, ServerName: "tv"})
			}
			_, _ = io.WriteString(conn, "GET /~"+s.ticket+"/play/a001/seg-17.ts HTTP/1.0\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, len("half of "))); err != nil {
				t.Errorf("the first half: %v", err)
			}
			close(release)
			if rest, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("got %q and the end of the body, want an error", rest)
			}
		})
	}
}

// stallingConn is a connection whose client reads so many bytes, and then nothing until isOver is closed.
type stallingConn struct {
	net.Conn

	left   int
	isOver <-chan struct{}
}

// Read reads what is left, and then waits.
func (c *stallingConn) Read(b []byte) (int, error) {
	if c.left == 0 {
		<-c.isOver
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// TestServer_StalledConnection_HTTP2 has a client of HTTP/2 whose windows are large stop reading its connection.
func TestServer_StalledConnection_HTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		big := strings.Repeat("x", 1<<20)
		b, _, client := newTLSMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			return gatewaytest.OriginResponse(r, int64(len(big)), strings.NewReader(big)), nil
		})
		isOver := make(chan struct{})
		defer close(isOver)
		transport, _ := client.Transport.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := b.Dial(ctx, network, address)
			return &stallingConn{Conn: conn, left: 64 << 10, isOver: isOver}, err
		}
		resp, err := client.Get("https://tv/~" + b.ticket + "/play/a001/seg-17.ts")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		advance(b.config.Limits.WriteTimeout - time.Second)
		if n := b.core.Serving(); n != 1 || resp.ProtoMajor != 2 {
			t.Fatalf("%d requests are served by %s within limits.write_timeout, want 1 by HTTP/2", n, resp.Proto)
		}
		advance(10 * time.Second) // TLS takes 5s to tell a client that does not read of the end
		if n := b.core.Serving(); n != 0 {
			t.Errorf("%d requests are served 9s after limits.write_timeout", n)
		}
	})
}
