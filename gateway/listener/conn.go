package listener

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"usher/backends"
)

// Conn is a connection of a [Listener].
type Conn struct {
	net.Conn
	listener  *Listener
	isProxied bool
	isTLS     bool // once it is admitted
	// idleSince is since when it serves no request, in ns; 0: it serves one.
	idleSince atomic.Int64
	// isGreeted is whether HTTP/2 has begun. hasRequested is whether a request has come.
	isGreeted, hasRequested atomic.Bool
	admitted                sync.Once
	refusal                 error
	closed                  sync.Once

	// The listener's lock guards what follows.
	isClosed bool
	source   netip.Prefix
	isIn     [numPlaces]bool
	index    [numPlaces]int
}

// Of returns the connection of this package, also below TLS, or nil.
func Of(c net.Conn) *Conn {
	if secured, isTLS := c.(*tls.Conn); isTLS {
		c = secured.NetConn()
	}
	own, _ := c.(*Conn)
	return own
}

// Read reads what follows a PROXY header.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.admit(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// RemoteAddr returns the viewer's address, which may have to be read.
func (c *Conn) RemoteAddr() net.Addr {
	_ = c.admit() // whose error Read returns
	return c.Conn.RemoteAddr()
}

// Close closes the connection and forgets it.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.closed.Do(func() {
		c.listener.mu.Lock()
		c.isClosed = true
		c.listener.remove(c)
		c.listener.mu.Unlock()
		err = c.Conn.Close()
	})
	return err
}

// Reset closes the connection so that its client gets an error, and no end that could be meant: neither that of TCP nor, where the
// connection is below TLS, an alert of TLS. What is not sent yet is dropped.
func (c *Conn) Reset() {
	below := c.Conn
	if proxied, isProxied := below.(*proxyproto.Conn); isProxied {
		below = proxied.Raw()
	}
	if tcp, isTCP := below.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0) // fails on a closed connection alone
	}
	_ = c.Close()
}

// TCP returns the connection itself, for those that read and write it without [Conn]. It is nil if a PROXY header may have to be read,
// or if it is none of TCP.
func (c *Conn) TCP() *net.TCPConn {
	below, _ := c.Conn.(*net.TCPConn)
	return below
}

func (c *Conn) closeNow() { _ = c.Close() }

// admit counts the connection for its address once that is known.
func (c *Conn) admit() error {
	c.admitted.Do(func() {
		address, isIP := addressOf(c.Conn) // reads a PROXY header
		c.isTLS = hasTLS(c.Conn)
		exempt := c.listener.options.IsExempt
		if !isIP || exempt != nil && exempt(address) {
			return
		}
		if !c.listener.enterSource(c, backends.SubscriberPrefix(address)) {
			c.refusal = io.EOF // any other error would be answered by 400
		}
	})
	return c.refusal
}

// SetIdle notes that the connection has served its requests at that time.
func (c *Conn) SetIdle(since time.Time) { c.idleSince.Store(since.UnixNano()) }

// SetActive notes that the connection serves a request.
func (c *Conn) SetActive() {
	c.idleSince.Store(0)
	if !c.hasRequested.Load() {
		c.hasRequested.Store(true)
	}
}

// isHTTP2 reports whether a connection, whose handshake is over, serves HTTP/2.
func isHTTP2(c net.Conn) bool {
	secured, isTLS := c.(*tls.Conn)
	return isTLS && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// IsTLS reports whether the load balancer told by the PROXY protocol that the viewer came to it by TLS.
func (c *Conn) IsTLS() bool { return c.isTLS }

// hasTLS reports whether a PROXY header tells of TLS.
func hasTLS(c net.Conn) bool {
	proxied, isProxied := c.(*proxyproto.Conn)
	if !isProxied {
		return false
	}
	header := proxied.ProxyHeader()
	if header == nil {
		return false
	}
	tlvs, err := header.TLVs()
	if err != nil {
		return false
	}
	ssl, found := tlvparse.FindSSL(tlvs)
	return found && ssl.ClientSSL()
}
