package viewer

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"usher/bench/pace"
	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/viewer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a network in memory, so that time can be fake. It is a server's listener.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	sources map[netip.Addr]bool
	dialled map[string]int
	// open counts connections, most is their largest number.
	open, most int
}

// countedConn is a connection of the network.
type countedConn struct {
	net.Conn

	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func newNetwork() *network {
	return &network{conns: make(chan net.Conn), done: make(chan struct{}), sources: map[netip.Addr]bool{}, dialled: map[string]int{}}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

func (n *network) dial(ctx context.Context, source netip.Addr, address string) (net.Conn, error) {
	n.mu.Lock()
	n.sources[source] = true
	n.dialled[address]++
	n.mu.Unlock()
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		n.count(1)
		return &countedConn{client, sync.OnceFunc(func() { n.count(-1) })}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) count(more int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += more
	n.most = max(n.most, n.open)
}

// play runs viewers against a handler for some seconds of fake time, and returns what was measured.
func play(t *testing.T, c Config, length time.Duration, handler http.Handler) result.Measurement {
	t.Helper()
	m, _ := playOn(t, c, length, handler)
	return m
}

func playOn(t *testing.T, c Config, length time.Duration, handler http.Handler) (result.Measurement, *network) {
	t.Helper()
	n := newNetwork()
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(n) }() // ends with the network
	defer func() { _ = server.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := record.New(time.Now())
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(ctx, c, r, wire.Config{Dial: n.dial})
	e.sleep = time.Sleep
	over := make(chan error)
	go func() { over <- e.run(ctx) }()
	const before = 500 * time.Microsecond // so that what is due at the very end is not sent
	for left := length - before; left > 0; left -= time.Second {
		time.Sleep(min(left, time.Second)) // of the bubble's time
		r.Tick(time.Now())
	}
	cancel()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if open := e.client.Connections(); open != 0 {
		t.Errorf("%d connections are open when the run is over", open)
	}
	return r.Finish(time.Now()), n
}

// oneTarget returns viewers of one server who start at once.
func oneTarget(viewers int) Config {
	c := DefaultConfig()
	c.Targets, c.Viewers, c.Pace = []string{"http://tv"}, viewers, pace.AtOnce(viewers)
	return c
}
