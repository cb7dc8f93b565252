package httpbackend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"usher/backends"
)

// nameServer is a DNS server that resolves every name to the same IPv4 addresses, in their order.
type nameServer struct {
	conn      net.PacketConn
	addresses atomic.Pointer[[]netip.Addr]
	name      atomic.Pointer[string] // that was asked for last
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	var listen net.ListenConfig
	conn, err := listen.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return s
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer, err := s.answer(packet[:n]); err == nil {
			_, _ = s.conn.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) answer(packet []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}
	m.Additionals = nil
	name := q.Name.String()
	s.name.Store(&name)
	if q.Type == dnsmessage.TypeA {
		for _, address := range *s.addresses.Load() {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 3600},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return m.Pack()
}

func (s *nameServer) set(texts ...string) {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	s.addresses.Store(&all)
}

func (s *nameServer) asked() string { return *s.name.Load() }

// resolver returns a resolver that asks this server alone.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// TestNewClient_NameBeyondASCII calls a host whose name is written in its own script, with and without TLS.
func TestNewClient_NameBeyondASCII(t *testing.T) {
	t.Parallel()
	dns := startNameServer(t)
	dns.set("127.0.0.2")
	port, _ := startAt(t, "127.0.0.2:0", "found")
	cfg := DefaultConfig()
	cfg.Address = "http://пример.example:" + port + "/check"
	c, err := NewClient("portal", cfg, Deps{Resolver: dns.resolver()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if got := answeredBy(t, c); got != "found" {
		t.Errorf("answered by %q", got)
	}
	if want := "http://xn--e1afmkfd.example:" + port + "/check"; dns.asked() != "xn--e1afmkfd.example." || c.DisplayAddress() != want {
		t.Errorf("asked for %q, address %q; want %q", dns.asked(), c.DisplayAddress(), want)
	}
	cfg.Address = "http://при\u2028мер.example/"
	if _, err := NewClient("portal", cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "address: ") {
		t.Errorf("a name that cannot be one: %v", err)
	}
}

// TestClient_Do_FirstAddressIsDead has a name of two servers, of which the first takes no connection and refuses none: each call is
// answered by the other.
func TestClient_Do_FirstAddressIsDead(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"127.0.0.4", "127.0.0.5"}, {"127.0.0.5", "127.0.0.4"}} {
		dns := startNameServer(t)
		dns.set(order...)
		port, _ := startAt(t, "127.0.0.5:0", "alive")
		startFull(t, "127.0.0.4", port)
		cfg := DefaultConfig()
		cfg.Address = "http://portal.example.com:" + port + "/check"
		c, err := NewClient("portal", cfg, Deps{Resolver: dns.resolver()})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := answeredBy(t, c); got != "alive" {
				t.Errorf("answered by %q", got)
			}
			c.pool.close() // another connection
		}
		c.Close()
	}
}

// startFull listens at a port whose queue of connections is full, so that the kernel drops further ones, as a firewall does.
func startFull(t *testing.T, address, port string) {
	t.Helper()
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: number, Addr: netip.MustParseAddr(address).As4()}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	d := net.Dialer{Timeout: time.Second / 10}
	for range 100 {
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(address, port))
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not fill")
}

// startAt starts a middleware at an address. Port 0 is a free one.
func startAt(t *testing.T, address, name string) (port string, server *http.Server) {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("hang") == name {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Session-Name", name)
		_, _ = w.Write([]byte("allowed")) // a call has its connection until it has read this
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, server
}

// startTwo starts two middlewares at one port of two addresses, and a client whose name for them leads to the first.
func startTwo(t *testing.T, change func(*Config)) (c *Client, dns *nameServer, old *http.Server) {
	t.Helper()
	dns = startNameServer(t)
	dns.set("127.0.0.2")
	port, old := startAt(t, "127.0.0.2:0", "old")
	startAt(t, "127.0.0.3:"+port, "new")
	cfg := DefaultConfig()
	cfg.Address = "http://portal.example.com:" + port + "/check"
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient("portal", cfg, Deps{Resolver: dns.resolver()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, dns, old
}

// answeredBy returns which of the two answered.
func answeredBy(t *testing.T, c *Client) string {
	t.Helper()
	d, err := c.Decide(t.Context(), Call{})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return d.User
}

// TestClient_Do_AddressChangesInDNS has the old server live on. Calls are made without a pause, so that the connection to
// it would be kept for ever.
func TestClient_Do_AddressChangesInDNS(t *testing.T) {
	t.Parallel()
	c, dns, _ := startTwo(t, func(cfg *Config) { cfg.MaxConnectionAge = 50 * time.Millisecond })
	if got := answeredBy(t, c); got != "old" {
		t.Fatalf("before the change %q answers", got)
	}
	dns.set("127.0.0.3")
	for deadline := time.Now().Add(30 * time.Second); answeredBy(t, c) != "new"; {
		if time.Now().After(deadline) {
			t.Fatal("the old server still answers")
		}
	}
	for range 100 {
		if got := answeredBy(t, c); got != "new" {
			t.Fatalf("%q answers after the new one has", got)
		}
	}
}

// TestClient_Do_OldServerEnds_NoCallFails has kept connections to a server that ends after its name has moved.
func TestClient_Do_OldServerEnds_NoCallFails(t *testing.T) {
	t.Parallel()
	c, dns, old := startTwo(t, nil)
	if got := answeredBy(t, c); got != "old" {
		t.Fatalf("before the change %q answers", got)
	}
	dns.set("127.0.0.3")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got := answeredBy(t, c); got != "new" {
			t.Errorf("%q answers", got)
		}
	}
}

// TestClient_Do_OldServerHangs_OneCallFails has several kept connections to a server that answers no more, as behind a
// network that is down.
func TestClient_Do_OldServerHangs_OneCallFails(t *testing.T) {
	t.Parallel()
	c, dns, _ := startTwo(t, func(cfg *Config) { cfg.MaxConnectionAge = time.Hour })
	c.keepConnections(t, 3)
	c.pool.mu.Lock()
	c.pool.since = c.pool.since.Add(-minPoolAge)
	c.pool.mu.Unlock()
	dns.set("127.0.0.3")
	decide := func(timeout time.Duration) (backends.Decision, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return c.Decide(ctx, Call{Query: "hang=old"})
	}
	if _, err := decide(100 * time.Millisecond); !isKind(err, backends.FailureTimeout) {
		t.Fatalf("got %v, want a timeout", err)
	}
	for range 10 {
		d, err := decide(30 * time.Second)
		if err != nil || d.User != "new" {
			t.Fatalf("got %q and %v, want the new server's answer", d.User, err)
		}
	}
}

// keepConnections makes so many calls at once that as many connections are kept.
func (c *Client) keepConnections(t *testing.T, n int) {
	t.Helper()
	all := make([]*exchange, n)
	for i := range all {
		x, err := c.exchange(c.request(t.Context(), Call{}))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = x
	}
	for _, x := range all {
		if _, err := x.readBody(maxPage); err != nil {
			t.Fatal(err)
		}
	}
}

func isKind(err error, kind backends.FailureKind) bool {
	f := backends.AsFailure(err)
	return f != nil && f.Kind == kind
}

func TestConnectionPool_Transport_Replaced(t *testing.T) {
	t.Parallel()
	opened := 0
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := newConnectionPool(func() *transport { opened++; return newTransport(DefaultConfig(), nil, 1) }, time.Minute, start)
	for _, step := range []struct {
		name  string
		call  func(now time.Time)
		after time.Duration
		want  int
	}{
		{"young", func(now time.Time) { p.transport(now) }, time.Minute - 1, 1},
		{"old", func(now time.Time) { p.transport(now) }, time.Minute, 2},
		{"a failure at once", p.onFailure, time.Minute + minPoolAge - 1, 2},
		{"a failure later", p.onFailure, time.Minute + minPoolAge, 3},
		{"many failures", p.onFailure, time.Minute + minPoolAge, 3},
		{"young again", func(now time.Time) { p.transport(now) }, 2*time.Minute + minPoolAge - 1, 3},
		{"old again", func(now time.Time) { p.transport(now) }, 2*time.Minute + minPoolAge, 4},
	} {
		if step.call(start.Add(step.after)); opened != step.want {
			t.Errorf("%s: %d transports, want %d", step.name, opened, step.want)
		}
	}
}

// TestClient_Do_RedirectIntoPrivateNetwork has a middleware, at 127.0.0.1, lead to addresses by their names and by
// themselves. A viewer may have it do so.
func TestClient_Do_RedirectIntoPrivateNetwork(t *testing.T) {
	t.Parallel()
	dns := startNameServer(t)
	for name, tt := range map[string]struct {
		host, resolved string
		allowed        []netip.Prefix
		own            string // where the middleware is; empty: as it is
		want           string // of the error; empty: followed
	}{
		"its own network":                {"127.0.0.2", "", nil, "", ""},
		"a name in its own network":      {"portal.example.com", "127.0.0.2", nil, "", ""},
		"from the internet":              {"127.0.0.2", "", nil, "203.0.113.7", "127.0.0.2"},
		"from the internet, by a name":   {"portal.example.com", "127.0.0.2", nil, "203.0.113.7", "127.0.0.2"},
		"from the internet, allowed":     {"127.0.0.2", "", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "203.0.113.7", ""},
		"from a private network":         {"127.0.0.2", "", nil, "10.0.0.7", "127.0.0.2"},
		"what a cloud tells its machine": {"169.254.169.254", "", nil, "", "169.254.169.254"},
		"the same by a name":             {"portal.example.com", "169.254.169.254", nil, "", "169.254.169.254"},
		"the same in IPv6":               {"[::ffff:169.254.169.254]", "", nil, "", "169.254.169.254"},
		"another network is allowed":     {"169.254.169.254", "", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "", "169.254.169.254"},
	} {
		if tt.resolved != "" {
			dns.set(tt.resolved)
		}
		port, _ := startAt(t, "127.0.0.2:0", "target")
		redirecting := http.NewServeMux()
		redirecting.Handle("/check", http.RedirectHandler("http://"+tt.host+":"+port+"/", http.StatusFound))
		address := startHandler(t, redirecting)
		cfg := DefaultConfig()
		cfg.Address, cfg.Redirects, cfg.AllowedNetworks = address+"/check", RedirectsFollow, tt.allowed
		c, err := NewClient("portal", cfg, Deps{Resolver: dns.resolver()})
		if err != nil {
			t.Fatal(err)
		}
		if tt.own != "" { // the connection is kept, so that no dial overwrites it
			c.keepConnections(t, 1)
			own := netip.MustParseAddr(tt.own)
			c.dialer.own.Store(&own)
		}
		d, err := c.Decide(t.Context(), Call{})
		c.Close()
		if tt.want == "" {
			if err != nil || d.User != "target" {
				t.Errorf("%s: got %q and %v, want it followed", name, d.User, err)
			}
			continue
		}
		refused, ok := errors.AsType[*refusedAddressError](err)
		if !ok || !isKind(err, backends.FailureMalformed) || refused.address.Unmap().String() != tt.want ||
			!strings.Contains(err.Error(), "allowed_networks") {
			t.Errorf("%s: got %q and %v, want %s refused", name, d.User, err, tt.want)
		}
	}
}

func startHandler(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return fmt.Sprintf("http://%s", listener.Addr())
}
