package strict

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is how a client uses connections.
type Kind string

// The kinds of clients.
const (
	// Kept sends its requests over one connection as long as the server allows.
	Kept Kind = "kept"
	// Each opens a connection for each request.
	Each Kind = "each"
	// HTTP2 sends its requests over one connection of HTTP/2, which needs https.
	HTTP2 Kind = "http2"
)

// Options say what is requested.
type Options struct {
	// URL is of http or https.
	URL string
	// TLS is the client's side of https. Nil: the defaults.
	TLS  *tls.Config
	Kind Kind
	// Clients is how many request at the same time.
	Clients int
	// Pause is the longest time between two requests of a client, whose pauses vary.
	Pause time.Duration
	// Timeout bounds a request with its connection.
	Timeout time.Duration
}

// Load is running clients.
type Load struct {
	options  Options
	target   *url.URL
	stop     context.CancelFunc
	running  sync.WaitGroup
	requests atomic.Int64

	mu     sync.Mutex
	result Result
}

// Result is what the clients saw.
type Result struct {
	// Requests are all, of which Failed failed.
	Requests, Failed int64
	// Connections are those that were opened. Those of HTTP/2 are not counted.
	Connections int64
	// Slowest is the longest time of a request that was served.
	Slowest time.Duration
	// Failures are the first ones.
	Failures []string
}

// maxFailures is how many failures are told.
const maxFailures = 10

// String returns one line.
func (r Result) String() string {
	return fmt.Sprintf("%d requests over %d connections, %d failed, the slowest took %v; %q",
		r.Requests, r.Connections, r.Failed, r.Slowest.Round(time.Millisecond), r.Failures)
}

// Start starts clients. They request until Stop, or until ctx ends.
func Start(ctx context.Context, o Options) (*Load, error) {
	target, err := url.Parse(o.URL)
	if err != nil || target.Host == "" || target.Port() == "" {
		return nil, fmt.Errorf("url %q: want http://host:port/path: %w", o.URL, err)
	}
	o.TLS = o.TLS.Clone()
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.TLS.ServerName == "" {
		o.TLS.ServerName = target.Hostname()
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Load{options: o, target: target, stop: stop}
	for range o.Clients {
		l.running.Go(func() { l.run(ctx) })
	}
	return l, nil
}

// Requests returns how many requests have ended so far.
func (l *Load) Requests() int64 { return l.requests.Load() }

// Stop waits for the requests in flight, and returns what the clients saw.
func (l *Load) Stop() Result {
	l.stop()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Requests = l.requests.Load()
	return l.result
}

// run is one client.
func (l *Load) run(ctx context.Context) {
	client, end := l.newClient()
	defer end()
	for ctx.Err() == nil {
		from := time.Now()
		// The context is not ctx, whose end would fail the request.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.options.Timeout)
		err := client(bounded)
		cancel()
		l.count(time.Since(from), err)
		if l.options.Pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(l.options.Pause)):
			}
		}
	}
}

func (l *Load) count(took time.Duration, err error) {
	l.requests.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.result.Slowest = max(l.result.Slowest, took)
		return
	}
	l.result.Failed++
	if len(l.result.Failures) < maxFailures {
		l.result.Failures = append(l.result.Failures, fmt.Sprintf("%s after %v: %v", l.options.Kind, took.Round(time.Millisecond), err))
	}
}

// newClient returns a function that requests once, and one that ends the client.
func (l *Load) newClient() (request func(context.Context) error, end func()) {
	if l.options.Kind == HTTP2 {
		transport := &http.Transport{TLSClientConfig: l.options.TLS.Clone(), ForceAttemptHTTP2: true}
		return func(ctx context.Context) error { return l.get(ctx, transport) }, transport.CloseIdleConnections
	}
	c := &conn{load: l}
	return c.request, c.disconnect
}

// get requests once over HTTP/2.
func (l *Load) get(ctx context.Context, transport *http.Transport) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.options.URL, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.ProtoMajor != 2 {
		return fmt.Errorf("served by %s", resp.Proto)
	}
	return read(resp)
}

// read reads a response to its end.
func read(resp *http.Response) error {
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// conn is a client of HTTP/1.1 and its connection, if it is open.
type conn struct {
	load   *Load
	conn   net.Conn
	reader *bufio.Reader
}

// request requests once.
func (c *conn) request(ctx context.Context) error {
	if c.conn != nil && c.isClosed() {
		c.disconnect()
	}
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	mayKeep, err := c.exchange(ctx)
	if err != nil || !mayKeep || c.load.options.Kind == Each {
		c.disconnect()
	}
	return err
}

// glance is how long a client looks whether its connection has been closed.
const glance = time.Millisecond

// isClosed reports whether the server has closed the connection, as far as the client can see.
func (c *conn) isClosed() bool {
	if c.conn.SetReadDeadline(time.Now().Add(glance)) != nil {
		return true
	}
	_, err := c.reader.Peek(1)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *conn) disconnect() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *conn) connect(ctx context.Context) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.load.target.Host)
	if err != nil {
		return err
	}
	c.conn = raw
	if c.load.target.Scheme == "https" {
		secured := tls.Client(raw, c.load.options.TLS)
		if err := secured.HandshakeContext(ctx); err != nil {
			c.disconnect()
			return fmt.Errorf("handshake: %w", err)
		}
		c.conn = secured
	}
	c.reader = bufio.NewReader(c.conn)
	c.load.mu.Lock()
	c.load.result.Connections++
	c.load.mu.Unlock()
	return nil
}

// exchange sends a request and reads the response. It reports whether the connection may be kept.
func (c *conn) exchange(ctx context.Context) (mayKeep bool, err error) {
	if deadline, isBounded := ctx.Deadline(); isBounded {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return false, err
		}
	}
	last := ""
	if c.load.options.Kind == Each {
		last = "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", c.load.target.RequestURI(), c.load.target.Host, last); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return false, fmt.Errorf("response: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return !resp.Close, read(resp)
}
