package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"usher/gateway/gatewaytest"
	"usher/gateway/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is an origin with its cache.
type fixture struct {
	*Origin
	cache *Cache
}

// newFixture returns an origin that fetches from urls; change may be nil.
func newFixture(t testing.TB, change func(*Config), urls []string, opts ...Option) fixture {
	t.Helper()
	c := DefaultConfig()
	if change != nil {
		change(&c)
	}
	if err := c.Validate(); err != nil {
		t.Fatalf("config: %v", err)
	}
	log := slog.New(slog.DiscardHandler)
	cache, err := NewCache(c.Cache, log)
	if err != nil {
		t.Fatalf("NewCache: %v", err)
	}
	t.Cleanup(cache.Close)
	parsed := make([]*url.URL, len(urls))
	for i, u := range urls {
		if parsed[i], err = url.Parse(u); err != nil {
			t.Fatalf("url: %v", err)
		}
	}
	o, err := New("test", parsed, cache, c, log, opts...)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(o.Close)
	return fixture{o, cache}
}

// serve starts an HTTP origin on a real socket.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// allowLoopback allows redirects to servers on this machine.
func allowLoopback(servers ...string) Option {
	c := upstream.Config{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, s := range servers {
		_, host, _ := strings.Cut(s, "://")
		c.RedirectHosts = append(c.RedirectHosts, upstream.RedirectHost{Host: host})
	}
	return WithUpstream(c)
}

// waitUntil waits until a condition holds.
func waitUntil(t *testing.T, what string, fact func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; !fact(); i++ {
		if i > 20_000 {
			t.Fatalf("condition not reached: %s", what)
		}
		<-tick.C
	}
}

// fetchMedia reads a media object to its end and waits for the end of its fetch, if there is one, because a body of known
// length is read before it is stored.
func fetchMedia(t testing.TB, o fixture, r Request) (Stream, string, error) {
	t.Helper()
	s, err := o.Media(context.Background(), r)
	if err != nil {
		return s, "", err
	}
	defer s.Close()
	live := s.reader
	body, err := io.ReadAll(&s)
	if live != nil && err == nil {
		<-live.fetch.done
	}
	return s, string(body), err
}

func mustMedia(t testing.TB, o fixture, r Request) (Stream, string) {
	t.Helper()
	s, body, err := fetchMedia(t, o, r)
	if err != nil {
		t.Fatalf("Media(%s): %v", r.Path, err)
	}
	return s, body
}

// randomBody returns a body without repetition, so that a wrong offset is visible.
func randomBody(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

func requireSameBytes(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("body: got %d bytes, want %d; equal up to %d", len(got), len(want), commonPrefix(got, want))
	}
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// sleep advances the fake time.
func sleep(d time.Duration) { <-time.After(d) }

// network is a set of HTTP origins without sockets, by host name, for use in a synctest bubble.
type network struct {
	mu      sync.Mutex
	servers map[string]*gatewaytest.Listener
	dials   map[string]int
}

// newNetwork serves each handler at its host name in the map. A host with a nil handler never responds to a dial; an
// unknown host refuses the connection.
func newNetwork(t *testing.T, handlers map[string]http.HandlerFunc) *network {
	n := &network{servers: map[string]*gatewaytest.Listener{}, dials: map[string]int{}}
	for host, h := range handlers {
		l := gatewaytest.NewListener()
		n.servers[host] = l
		if h == nil {
			continue
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); synctest.Wait() })
	}
	return n
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	n.mu.Lock()
	n.dials[host]++
	server, isKnown := n.servers[host]
	n.mu.Unlock()
	if !isKnown {
		return nil, fmt.Errorf("dial %s: connection refused", host)
	}
	return server.Dial(ctx, "", address)
}

func (n *network) dialled(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[host]
}

// newNetworkFixture returns a fixture on the network. It uses the origin's own transport with another dial function.
func newNetworkFixture(t *testing.T, n *network, change func(*Config), hosts ...string) fixture {
	t.Helper()
	urls := make([]string, len(hosts))
	for i, h := range hosts {
		urls[i] = "http://" + h
	}
	c := DefaultConfig()
	if change != nil {
		change(&c)
	}
	return newFixture(t, change, urls, WithTransport(newTransport(c.Fetch, n.dial, n.dial)))
}
