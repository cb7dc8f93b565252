package front

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/gateway"
	"usher/gateway/gatewaytest"
)

// status gets a URL and returns the status and the body.
func status(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: read the body: %v", url, err)
	}
	return resp.StatusCode, string(body)
}

func TestServer_Run_DrainsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived, release := make(chan struct{}), make(chan struct{})
		listener := gatewaytest.NewListener()
		c := gateway.DefaultConfig()
		s := NewServer(c, Handlers{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(arrived)
				<-release
			}
			_, _ = io.WriteString(w, "served")
		})}, nil, slog.New(slog.DiscardHandler))
		if s.Ready() {
			t.Error("ready before it runs")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, listener) }()
		synctest.Wait()
		if !s.Ready() {
			t.Error("not ready while it runs")
		}
		slow := make(chan string, 1)
		client := listener.Client(t)
		go func() {
			_, body := status(t, client, "http://tv/slow")
			slow <- body
		}()
		<-arrived
		start := time.Now()
		stop()
		synctest.Wait()
		if s.Ready() {
			t.Error("ready while it leaves")
		}
		for time.Since(start) < c.Drain.ReadinessDelay-time.Second { // balancers still send requests
			if code, body := status(t, client, "http://tv/"); code != 200 || body != "served" {
				t.Errorf("%v into the delay: got %d %q", time.Since(start), code, body)
			}
			advance(time.Second)
		}
		advance(c.Drain.Timeout / 2)
		if _, err := listener.Dial(t.Context(), "", ""); err == nil {
			t.Error("a new connection is taken after the delay")
		}
		select {
		case err := <-ended:
			t.Fatalf("left a request in flight behind: %v", err)
		default:
		}
		close(release)
		if body := <-slow; body != "served" {
			t.Errorf("the request in flight got %q", body)
		}
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if s.Ready() {
			t.Error("ready after the end")
		}
	})
}

func TestServer_Run_DrainTimeoutCancelsRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived, gone := make(chan struct{}), make(chan struct{})
		listener := gatewaytest.NewListener()
		c := gateway.DefaultConfig()
		var log bytes.Buffer
		s := NewServer(c, Handlers{HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(arrived)
			<-gone // even after its context ended
		})}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, listener) }()
		client := listener.Client(t)
		failed := make(chan error, 1)
		go func() {
			resp, err := client.Get("http://tv/")
			if err == nil {
				resp.Body.Close()
			}
			failed <- err
		}()
		<-arrived
		start := time.Now()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(start); took < c.Drain.ReadinessDelay+c.Drain.Timeout || took > c.Drain.ReadinessDelay+c.Drain.Timeout+time.Second {
			t.Errorf("left after %v, want delay and timeout", took)
		}
		if err := <-failed; err == nil {
			t.Error("the viewer was answered")
		}
		if !strings.Contains(log.String(), "drain.timeout exceeded") || !strings.Contains(log.String(), "timeout=30s") {
			t.Errorf("the log does not name the setting:\n%s", log.String())
		}
		close(gone)
	})
}

// TestServer_Run_DrainTimeout_RetryLater drains while a viewer waits for the origin: an empty 200 would end playback.
func TestServer_Run_DrainTimeout_RetryLater(t *testing.T) { eachFront(t, testDrainTimeoutRetryLater) }

func testDrainTimeoutRetryLater(t *testing.T, f frontKind) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived := make(chan struct{})
		shortDrain := func(c *gateway.Config) { c.Drain = gateway.DrainConfig{Timeout: time.Second} }
		b := newMemoryServer(t, f, shortDrain, func(r *http.Request) (*http.Response, error) {
			close(arrived)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		type answer struct {
			Code                int
			Body, Wait, Readers string
		}
		got := make(chan answer, 1)
		client := b.Client(t)
		go func() {
			r, _ := http.NewRequest(http.MethodGet, "http://tv/~"+b.ticket+"/play/a001/seg-17.ts", nil)
			r.Header.Set("Origin", "https://tv.example.com")
			resp, err := client.Do(r)
			if err != nil {
				got <- answer{Body: err.Error()}
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			h := resp.Header
			got <- answer{resp.StatusCode, string(body), h.Get("Retry-After"), h.Get("Access-Control-Allow-Origin")}
		}()
		<-arrived
		b.stop()
		if diff := cmp.Diff(answer{503, "the node is draining; try again\n", "1", "*"}, <-got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	})
}

// brokenListener is a listener that cannot accept.
type brokenListener struct {
	net.Listener
	closed bool
}

func (*brokenListener) Accept() (net.Conn, error) { return nil, errors.New("too many open files") }
func (l *brokenListener) Close() error            { l.closed = true; return nil }
func (*brokenListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestServer_Run_ListenerFails_NamesSetting(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit func(*gateway.Config)
		want string
	}{
		"it cannot accept": {func(*gateway.Config) {}, "serve listen=:8080: too many open files"},
		"no certificate": {
			func(c *gateway.Config) {
				c.TLS = gateway.TLSConfig{CertFile: "/nowhere/cert.pem", KeyFile: "/nowhere/key.pem"}
			},
			"tls.cert_file: open /nowhere/cert.pem: no such file or directory",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, l := gateway.DefaultConfig(), &brokenListener{}
			tc.edit(&c)
			s := NewServer(c, Handlers{HTTP: http.NotFoundHandler()}, nil, slog.New(slog.DiscardHandler))
			if err := s.Run(t.Context(), l); err == nil || err.Error() != tc.want {
				t.Errorf("Run: got %v, want %s", err, tc.want)
			}
			if !l.closed || s.Ready() {
				t.Errorf("listener closed %v, ready %v; want closed and not ready", l.closed, s.Ready())
			}
		})
	}
}

// authority issues certificates for "tv".
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue writes a certificate of that serial number and its key, with that modification time.
func (a *authority) issue(t *testing.T, files gateway.TLSConfig, serial int64, changed time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"tv"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		files.CertFile: {Type: "CERTIFICATE", Bytes: der}, files.KeyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		writeFile(t, path, pem.EncodeToMemory(block), changed)
	}
}

func writeFile(t *testing.T, path string, data []byte, changed time.Time) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, changed, changed); err != nil {
		t.Fatal(err)
	}
}

// newTLSMemoryServer makes a memoryServer with TLS and a certificate of serial number 1, and a client for HTTP/2.
func newTLSMemoryServer(t *testing.T, edit func(*gateway.Config), o gatewaytest.OriginFunc) (*memoryServer, *authority, *http.Client) {
	t.Helper()
	a, dir := newAuthority(t), t.TempDir()
	files := gateway.TLSConfig{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	a.issue(t, files, 1, time.Unix(1000, 0))
	b := newMemoryServer(t, plainFront, func(c *gateway.Config) {
		c.TLS = files
		if edit != nil {
			edit(c)
		}
	}, o)
	client := &http.Client{Transport: &http.Transport{
		DialContext: b.Dial, TLSClientConfig: &tls.Config{RootCAs: a.pool, ServerName: "tv"}, ForceAttemptHTTP2: true,
	}}
	t.Cleanup(client.CloseIdleConnections)
	return b, a, client
}

func TestServer_Run_HTTP2AndCertificateReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, a, client := newTLSMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			return gatewaytest.OriginResponse(r, int64(len(segment)), strings.NewReader(segment)), nil
		})
		files := b.config.TLS
		serial := func() int64 {
			t.Helper()
			defer client.CloseIdleConnections()
			resp, err := client.Get("https://tv/~" + b.ticket + "/play/a001/seg-17.ts")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != segment || resp.ProtoMajor != 2 {
				t.Fatalf("got %s %d %q, %v", resp.Proto, resp.StatusCode, body, err)
			}
			return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
		}
		for i, step := range []struct {
			change func()
			want   int64
		}{
			{func() {}, 1},
			{func() { a.issue(t, files, 2, time.Unix(2000, 0)) }, 2},
			{func() { writeFile(t, files.KeyFile, []byte("half a k"), time.Unix(3000, 0)) }, 2},
			{func() { writeFile(t, files.CertFile, []byte("half a c"), time.Unix(3000, 0)) }, 2},
			{func() { a.issue(t, files, 4, time.Unix(4000, 0)) }, 4},
			{func() { _ = os.Remove(files.CertFile) }, 4},
		} {
			step.change()
			advance(setting.TLSReloadInterval)
			if got := serial(); got != step.want {
				t.Errorf("step %d: certificate %d, want %d", i, got, step.want)
			}
		}
	})
}

// TestServer_Run_WaitForOriginIsNoStall has the origin pause for longer than limits.write_timeout.
func TestServer_Run_WaitForOriginIsNoStall(t *testing.T) { eachFront(t, testWaitForOriginIsNoStall) }

func testWaitForOriginIsNoStall(t *testing.T, f frontKind) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slow := func(r *http.Request) (*http.Response, error) {
					in, out := io.Pipe()
					go func() {
						for _, part := range []string{"first ", "second ", "third"} {
							advance(5 * time.Second)
							_, _ = io.WriteString(out, part)
						}
						_ = out.Close()
					}()
					return gatewaytest.OriginResponse(r, -1, in), nil
				}
				edit := func(c *gateway.Config) { c.Limits.WriteTimeout = time.Second }
				var b *memoryServer
				var client *http.Client
				if scheme == "https" {
					b, _, client = newTLSMemoryServer(t, edit, slow)
				} else {
					b = newMemoryServer(t, f, edit, slow)
					client = b.Client(t)
				}
				if code, body := status(t, client, scheme+"://tv/~"+b.ticket+"/play/a001/part.mp4"); code != 200 || body != "first second third" {
					t.Errorf("got %d %q", code, body)
				}
			})
		})
	}
}

func TestServer_Run_OldTLSRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, client := newTLSMemoryServer(t, nil, nil)
		transport, _ := client.Transport.(*http.Transport)
		transport.TLSClientConfig.MinVersion, transport.TLSClientConfig.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if resp, err := client.Get("https://tv/"); err == nil {
			resp.Body.Close()
			t.Errorf("TLS 1.1 is spoken: %d", resp.StatusCode)
		}
	})
}

// TestServer_SetTrustedProxies_ExemptsFromConnectionLimit trusts a load balancer while the server runs. Its connections, all of one
// address, are then more than one address may have.
func TestServer_SetTrustedProxies_ExemptsFromConnectionLimit(t *testing.T) {
	t.Parallel()
	c := gateway.DefaultConfig()
	c.Drain.ReadinessDelay, c.Limits.Connections.MaxConnectionsPerAddress = 0, 1
	s := NewServer(c, Handlers{HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })},
		nil, slog.New(slog.DiscardHandler))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listener) }()
	s.SetTrustedProxies([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	var connections []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		connections = append(connections, conn)
	}
	for range 2 {
		for i, conn := range connections {
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: tv\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
