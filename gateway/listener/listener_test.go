package listener

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server behind a listener. It answers with the viewer's address and scheme, and below /hold not before it is told to.
type served struct {
	*Listener
	address string
	holding chan struct{} // has a value for each request that holds
	idled   chan struct{} // has a value for each connection that became idle
	release chan struct{}

	mu        sync.Mutex
	overloads []string
}

type connKey struct{}

func serve(t *testing.T, edit func(*Options)) *served {
	t.Helper()
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{address: inner.Addr().String(), holding: make(chan struct{}, 100), idled: make(chan struct{}, 100), release: make(chan struct{})}
	o := Options{Limits: DefaultLimits(), HeaderTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler), OnOverload: s.onOverload}
	edit(&o)
	s.Listener = New(inner, o)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ConnState: func(c net.Conn, state http.ConnState) {
			s.ConnState(c, state)
			if state == http.StateIdle {
				s.idled <- struct{}{}
			}
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, Of(c)) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				s.holding <- struct{}{}
				<-s.release
			}
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			if c, _ := r.Context().Value(connKey{}).(*Conn); c.IsTLS() {
				host += " by TLS"
			}
			_, _ = io.WriteString(w, host)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.Listener) }()
	t.Cleanup(func() {
		close(s.release)
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with: %v", err)
		}
	})
	return s
}

func (s *served) onOverload(setting string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overloads = append(s.overloads, setting)
}

// client is one connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (s *served) dial(t *testing.T, first string) client {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, first); err != nil {
		t.Fatal(err)
	}
	return client{c, bufio.NewReader(c)}
}

// get requests a path, and returns the response's body, its status if that is not 200, or "closed".
func (c client) get(path string) string {
	_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: tv\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

func localhost() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

func header(t *testing.T, version byte, edit func(*proxyproto.Header)) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 80})
	if edit != nil {
		edit(h)
	}
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestListener_ProxyProtocol(t *testing.T) {
	t.Parallel()
	viaTLS := func(h *proxyproto.Header) {
		secured := tlvparse.PP2SSL{
			Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
			TLV:    []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")}},
		}
		tlv, err := secured.Marshal()
		if err == nil {
			err = h.SetTLVs([]proxyproto.TLV{tlv})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		from  []netip.Prefix
		first string
		want  string
	}{
		"version 1":                       {localhost(), header(t, 1, nil), "192.0.2.7"},
		"version 2":                       {localhost(), header(t, 2, nil), "192.0.2.7"},
		"version 2, with TLS":             {localhost(), header(t, 2, viaTLS), "192.0.2.7 by TLS"},
		"version 2, the balancer's own":   {localhost(), header(t, 2, func(h *proxyproto.Header) { h.Command = proxyproto.LOCAL }), "127.0.0.1"},
		"version 1, an unknown protocol":  {localhost(), "PROXY UNKNOWN\r\n", "127.0.0.1"},
		"version 1, an IPv6 viewer":       {localhost(), "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", "2001:db8::7"},
		"none":                            {localhost(), "", "127.0.0.1"},
		"a broken one":                    {localhost(), "PROXY TCP4 somebody\r\n", "closed"},
		"too long a one":                  {localhost(), "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "closed"},
		"two of them":                     {localhost(), header(t, 1, nil) + header(t, 1, nil), "400 Bad Request"},
		"of a network that is not listed": {nil, header(t, 1, nil), "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(o *Options) { o.ProxyProtocol.From = test.from })
			if got := s.dial(t, test.first).get("/"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestListener_ProxyHeader_Slow has connections that never send the whole header. Others do not wait for them.
func TestListener_ProxyHeader_Slow(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *Options) { o.ProxyProtocol.From = localhost() })
	for range 20 {
		s.dial(t, "PROXY TCP4")
	}
	if got := s.dial(t, header(t, 1, nil)).get("/"); got != "192.0.2.7" {
		t.Errorf("got %q, want the viewer's address", got)
	}
}

// TestListener_Limits fills a limit with connections, first idle ones and then some that wait for their response.
func TestListener_Limits(t *testing.T) {
	t.Parallel()
	const most = 3
	for name, test := range map[string]struct {
		edit   func(*Options)
		first  func(viewer string) string
		limits string // the setting of the limit
	}{
		"all": {
			edit:   func(o *Options) { o.Limits.MaxConnections = most },
			first:  func(string) string { return "" },
			limits: maxConnections,
		},
		"of an address": {
			edit:   func(o *Options) { o.Limits.MaxConnectionsPerAddress = most },
			first:  func(string) string { return "" },
			limits: maxConnectionsPerAddress,
		},
		"of an IPv6 subscriber behind a balancer": {
			edit: func(o *Options) {
				o.ProxyProtocol.From, o.Limits.MaxConnectionsPerAddress = localhost(), most
			},
			first:  func(viewer string) string { return "PROXY TCP6 2001:db8::" + viewer + " 2001:db8:1::1 4711 80\r\n" },
			limits: maxConnectionsPerAddress,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.edit)
			var idle []client
			for _, viewer := range []string{"1", "2", "3"} {
				c := s.dial(t, test.first(viewer))
				if got := c.get("/"); got == "closed" {
					t.Fatalf("connection %s was closed below the limit", viewer)
				}
				<-s.idled // which is after its response
				idle = append(idle, c)
			}
			var busy []client
			for _, viewer := range []string{"4", "5", "6"} {
				c := s.dial(t, test.first(viewer)+"GET /hold HTTP/1.1\r\nHost: tv\r\n\r\n")
				<-s.holding
				busy = append(busy, c)
			}
			for i, c := range idle { // each is closed beside the request for which it made room
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				if b, err := c.r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("idle connection %d got %q %v, want that it made room", i, b, err)
				}
			}
			if got := s.dial(t, test.first("7")).get("/"); got != "closed" {
				t.Errorf("the one beyond the limit got %q, want that it is closed", got)
			}
			s.release <- struct{}{}
			s.release <- struct{}{}
			s.release <- struct{}{}
			for i, c := range busy {
				if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("busy connection %d: %v", i, err)
				} else {
					resp.Body.Close()
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if diff := cmp.Diff([]string{test.limits, test.limits, test.limits, test.limits}, s.overloads); diff != "" {
				t.Errorf("overloads (-want +got):\n%s", diff)
			}
		})
	}
}

// TestListener_OnePerAddress has one subscriber open a connection after the other, each of which makes the one before it give room.
func TestListener_OnePerAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *Options) { o.Limits.MaxConnectionsPerAddress = 1 })
	var clients []client
	for range 10 {
		c := s.dial(t, "")
		if got := c.get("/"); got != "127.0.0.1" {
			t.Fatalf("connection %d got %q, want an answer", len(clients), got)
		}
		<-s.idled // which is after its response
		clients = append(clients, c)
	}
	s.Listener.mu.Lock()
	open, ofAddress := len(s.Listener.open.conns), len(s.bySource)
	s.Listener.mu.Unlock()
	if open != 1 || ofAddress != 1 {
		t.Errorf("%d connections of %d subscribers are open, want one of one", open, ofAddress)
	}
}

// TestListener_ExemptAddress has a trusted proxy with more connections than one address may have.
func TestListener_ExemptAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *Options) {
		o.Limits.MaxConnectionsPerAddress = 1
		o.IsExempt = netip.MustParsePrefix("127.0.0.0/8").Contains
	})
	for range 5 {
		c := s.dial(t, "")
		defer func() {
			if got := c.get("/"); got != "127.0.0.1" {
				t.Errorf("got %q, want an answer", got)
			}
		}()
	}
}
