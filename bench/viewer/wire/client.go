package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Dial opens a TCP connection from a source address, which may be the zero value.
type Dial func(ctx context.Context, source netip.Addr, address string) (net.Conn, error)

// Config configures a [Client].
type Config struct {
	// TLS is used with https; nil is the default. Without a session cache every handshake is a full one, as that of a new viewer.
	TLS *tls.Config
	// HTTP2 speaks HTTP/2 alone, with http by prior knowledge.
	HTTP2 bool
	// Dial replaces the dialler in tests; nil dials TCP.
	Dial Dial
}

// Client opens connections, and closes them all when its context ends. It is safe for concurrent use.
type Client struct {
	ctx    context.Context
	config Config
	h2     *http.Transport

	mu   sync.Mutex
	open map[*Conn]struct{}
	// nothing is where discarders do not write to.
	nothing []byte
}

// NewClient returns a client that lives as long as ctx.
func NewClient(ctx context.Context, config Config) *Client {
	c := &Client{ctx: ctx, config: config, open: map[*Conn]struct{}{}, nothing: make([]byte, 1<<20)}
	if c.config.Dial == nil {
		c.config.Dial = dialTCP
	}
	if c.config.TLS == nil {
		c.config.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.HTTP2 {
		c.h2 = c.transport()
	}
	return c
}

func dialTCP(ctx context.Context, source netip.Addr, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1} // no probes of a million idle connections
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		d.ControlContext = bindWithoutPort
	}
	return d.DialContext(ctx, "tcp", address)
}

// Close closes all connections, so that exchanges in progress end. Those in progress do not open another one once ctx is done.
func (c *Client) Close() {
	c.mu.Lock()
	all := make([]*Conn, 0, len(c.open))
	for conn := range c.open {
		all = append(all, conn)
	}
	clear(c.open)
	c.mu.Unlock()
	for _, conn := range all {
		conn.interrupt()
	}
}

// Context returns the context in which the client lives.
func (c *Client) Context() context.Context { return c.ctx }

// IsClosed reports whether the client's context has ended.
func (c *Client) IsClosed() bool { return c.ctx.Err() != nil }

// Connections returns how many connections are open.
func (c *Client) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Origin is a server.
type Origin struct {
	IsTLS bool
	// Host is the Host field, Address the host and port to connect to.
	Host, Address string
}

// Conn is a connection to an origin that opens when it is first needed, and again when it has ended. One exchange at a time uses
// it.
type Conn struct {
	client *Client
	origin *Origin
	source netip.Addr

	mu sync.Mutex // guards the links below against interrupt
	h1 net.Conn
	h2 *http.ClientConn

	discarder *discarder

	// used is when the last exchange ended.
	used time.Time
}

// NewConn returns a connection from a source address, which may be the zero value. It is not open yet.
func (c *Client) NewConn(origin *Origin, source netip.Addr) *Conn {
	return &Conn{client: c, origin: origin, source: source}
}

// Is reports whether the connection is to that origin from that address.
func (c *Conn) Is(origin *Origin, source netip.Addr) bool {
	return c.origin == origin && c.source == source
}

// Do sends the request of an exchange and reads the answer.
func (c *Conn) Do(x *Exchange) {
	x.begin()
	defer func() { c.used = x.ended() }()
	deadline := x.Sent.Add(x.Timeout)
	if c.client.config.HTTP2 {
		c.doHTTP2(x, deadline)
		return
	}
	if c.h1 != nil && c.hasEnded(x.Sent) {
		c.Close()
	}
	if c.h1 == nil {
		if x.Failure = c.connect(deadline); x.Failure != "" {
			return
		}
	}
	x.discarder = c.discarder
	_ = c.h1.SetDeadline(deadline) // fails on a closed connection only, as writing does
	if err := x.write(c.h1, cmp.Or(x.Host, c.origin.Host)); err != nil {
		x.Failure = failure(err, Reset)
	} else if x.read(c.h1) {
		return
	}
	c.Close()
}

func (x *Exchange) ended() time.Time {
	x.End = time.Now()
	return x.End
}

// connect opens the connection. It returns what was wrong.
func (c *Conn) connect(deadline time.Time) (failed string) {
	ctx, cancel := context.WithDeadline(c.client.ctx, deadline)
	defer cancel()
	conn, err := c.client.config.Dial(ctx, c.source, c.origin.Address)
	if err != nil {
		return failure(err, Unreachable)
	}
	if c.origin.IsTLS {
		secure := tls.Client(conn, c.tlsConfig())
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return failure(err, BadTLS)
		}
		conn = secure
	}
	c.discarder = newDiscarder(conn, c.client.nothing)
	c.mu.Lock()
	c.h1 = conn
	c.mu.Unlock()
	c.register()
	return ""
}

func (c *Conn) tlsConfig() *tls.Config {
	config := c.client.config.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = hostOf(c.origin.Host)
	}
	return config
}

func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}

// register makes the client know an open connection. One that was opened after the client's end is closed at once.
func (c *Conn) register() {
	c.client.mu.Lock()
	c.client.open[c] = struct{}{}
	c.client.mu.Unlock()
	if c.client.ctx.Err() != nil {
		c.interrupt()
	}
}

// Close closes the connection. The next exchange opens another.
func (c *Conn) Close() {
	c.interrupt()
	c.mu.Lock()
	wasOpen := c.h1 != nil || c.h2 != nil
	c.h1, c.h2 = nil, nil
	c.mu.Unlock()
	if wasOpen {
		c.client.mu.Lock()
		delete(c.client.open, c)
		c.client.mu.Unlock()
	}
}

// interrupt ends an exchange in progress.
func (c *Conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.h1 != nil {
		_ = c.h1.Close()
	}
	if c.h2 != nil {
		_ = c.h2.Close()
	}
}

// underlying returns the connection below TLS.
func underlying(c net.Conn) net.Conn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c
}
