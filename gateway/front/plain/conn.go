package plain

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/backends/socket"
	"usher/gateway/listener"
)

// The states of a connection.
const (
	isIdle   int32 = iota // it waits for a request
	isActive              // it serves one
	isClosed              // the server has closed it
)

// conn is a connection. Its goroutine serves one request after the other.
type conn struct {
	net.Conn
	server *Server
	own    *listener.Conn  // nil: of another listener
	raw    syscall.RawConn // nil: reads and writes go through net.Conn
	state  atomic.Int32
	isLast bool // the connection ends with the present request
	// mayBlock says whether a write waits; it is for the callbacks of raw.
	mayBlock bool
	head     head
	peer     netip.Addr // of the viewer; valid once a byte has arrived
	scheme   string

	// exchange has the buffers. It is nil while the connection waits for a request, so that an idle one has none.
	exchange *Exchange
	// idleUntil is the read deadline; zero: none that is known.
	idleUntil time.Time
	// lastResponse is when the last response was sent. The clock is read once for each.
	lastResponse time.Time
	context      *requestContext

	// What follows is for the callbacks of raw, which are made once.
	onReadable, onWritable func(fd uintptr) bool
	numRead, numWritten    int
	ioErr                  error
	unsent                 [socket.MaxParts][]byte

	watch *watch // nil: nobody watches or will
}

func newConn(s *Server, inner net.Conn) *conn {
	c := &conn{Conn: inner, server: s, own: listener.Of(inner)}
	if c.own != nil {
		if below := c.own.TCP(); below != nil {
			c.raw, _ = below.SyscallConn() // an error means that reads and writes go through net.Conn
		}
	}
	c.onReadable, c.onWritable = c.readNow, c.writeNow
	return c
}

// serve serves requests until the connection ends.
func (c *conn) serve() {
	defer c.server.remove(c)
	defer func() {
		if cause := recover(); cause != nil {
			c.server.options.Logger.Error("request panicked, its connection is closed",
				slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
		}
		_ = c.Close()
	}()
	for c.receive() {
		if !c.answer() {
			break
		}
	}
}

// receive waits for the next request's head. It reports whether there is one to serve.
func (c *conn) receive() bool {
	if (c.exchange == nil || c.exchange.buffered() == 0) && !c.waitForRequest() {
		return false
	}
	for isFirst := true; ; isFirst = false {
		isWhole, refused := c.takeHead()
		if refused != nil {
			c.refuse(refused)
			return false
		}
		if isWhole {
			return true
		}
		if isFirst {
			c.setReadDeadline(time.Now().Add(c.server.options.ReadTimeout))
		}
		c.exchange.makeRoom()
		if err := c.fill(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.refuse(&refusal{http.StatusRequestTimeout, "the header did not arrive within limits.read_timeout"})
			}
			return false
		}
	}
}

// takeHead parses the head if it has arrived, and reports whether it has.
func (c *conn) takeHead() (isWhole bool, err *refusal) {
	x, most := c.exchange, c.server.options.MaxHeadSize
	arrived := x.in[x.start:x.end]
	end := headEnd(arrived)
	switch {
	case end > most, end == 0 && len(arrived) >= most:
		return false, &refusal{http.StatusRequestHeaderFieldsTooLarge, "the header is longer than limits.max_header_size"}
	case end == 0:
		return false, checkArrived(arrived)
	}
	x.start += end
	return true, c.head.parse(arrived[:end])
}

// waitForRequest waits for the first bytes of a request. It reports whether they came.
func (c *conn) waitForRequest() bool {
	if c.peer.IsValid() {
		if c.own != nil {
			c.own.SetIdle(c.lastResponse)
		}
		if c.server.isDraining.Load() || !c.state.CompareAndSwap(isActive, isIdle) {
			return false
		}
		c.extendIdle(c.server.options.IdleTimeout)
	} else {
		c.setReadDeadline(time.Now().Add(c.server.options.ReadTimeout))
	}
	if c.exchange != nil {
		c.release()
	}
	c.head.forgetLarge()
	if err := c.fill(); err != nil || !c.state.CompareAndSwap(isIdle, isActive) {
		return false
	}
	if c.own != nil {
		c.own.SetActive()
	}
	if !c.peer.IsValid() {
		c.identify()
	}
	return true
}

// identify learns who is at the other end, which a PROXY header may have told.
func (c *conn) identify() {
	c.scheme = "http"
	if c.own != nil && c.own.IsTLS() {
		c.scheme = "https"
	}
	c.peer = netip.IPv6Unspecified() // so that it is valid, also of a connection without addresses
	if a, isTCP := c.RemoteAddr().(*net.TCPAddr); isTCP {
		c.peer = a.AddrPort().Addr().Unmap()
	}
}

// extendIdle lets the connection be silent for up to d since its last response. A deadline that is far enough away is left as it is,
// because setting one costs more than reading a request: a connection is closed after at least seven eighths of d.
func (c *conn) extendIdle(d time.Duration) {
	if left := c.idleUntil.Sub(c.lastResponse); left < d-d/8 || left > d {
		c.setReadDeadline(c.lastResponse.Add(d))
	}
}

func (c *conn) setReadDeadline(at time.Time) {
	c.idleUntil = at
	_ = c.SetReadDeadline(at) // on a closed connection the next read fails
}

// fill reads what has arrived into the buffer, of which it takes one if there is none.
func (c *conn) fill() error {
	c.numRead, c.ioErr = 0, nil
	var err error
	if c.raw != nil {
		err = c.raw.Read(c.onReadable)
	} else {
		x := c.buffers()
		c.numRead, err = c.Conn.Read(x.in[x.end:])
	}
	switch {
	case c.numRead > 0:
		c.exchange.end += c.numRead
		return nil
	case c.ioErr != nil:
		return c.ioErr
	case err != nil:
		return err
	default:
		return io.EOF
	}
}

// readNow reads without waiting. It reports whether the connection was readable. While it is not, an empty buffer is given back.
func (c *conn) readNow(fd uintptr) bool {
	x := c.buffers()
	n, errno := socket.Read(fd, x.in[x.end:])
	switch errno {
	case 0:
		c.numRead = n
	case unix.EAGAIN:
		if x.buffered() == 0 {
			c.release()
		}
		return false
	default:
		c.ioErr = errno
	}
	return true
}

// buffers returns the connection's buffers, and takes some if it has none.
func (c *conn) buffers() *Exchange {
	if c.exchange == nil {
		c.exchange, _ = c.server.exchanges.Get().(*Exchange)
		c.exchange.conn = c
	}
	return c.exchange
}

// release gives the buffers back.
func (c *conn) release() {
	x := c.exchange
	c.exchange = nil
	x.empty()
	c.server.exchanges.Put(x)
}

// write sends the parts, in one go if the connection takes them. limit is how long a viewer may take to receive them. It returns
// how many bytes were sent.
func (c *conn) write(limit time.Duration, parts ...[]byte) (sent int, err error) {
	copy(c.unsent[:], parts)
	defer func() { c.unsent = [socket.MaxParts][]byte{} }()
	if c.raw == nil {
		_ = c.SetWriteDeadline(time.Now().Add(limit))
		for _, p := range c.unsent {
			if len(p) == 0 {
				continue
			}
			n, err := c.Conn.Write(p)
			if sent += n; err != nil {
				return sent, err
			}
		}
		c.lastResponse = time.Now()
		return sent, nil
	}
	c.numWritten, c.mayBlock = 0, false
	if err := c.writeRest(); err != nil || !c.hasUnsent() {
		return c.numWritten, err
	}
	// Only a viewer who does not read as fast as we write costs a deadline.
	_ = c.SetWriteDeadline(time.Now().Add(limit))
	c.mayBlock = true
	err = c.writeRest()
	_ = c.SetWriteDeadline(time.Time{})
	c.lastResponse = time.Now()
	return c.numWritten, err
}

func (c *conn) writeRest() error {
	c.ioErr = nil
	if err := c.raw.Write(c.onWritable); err != nil {
		return err
	}
	return c.ioErr
}

func (c *conn) hasUnsent() bool { return len(c.unsent[0])+len(c.unsent[1])+len(c.unsent[2]) > 0 }

// writeNow writes what the connection takes. It reports whether that is all, or nobody may wait for more.
func (c *conn) writeNow(fd uintptr) bool {
	for c.hasUnsent() {
		n, errno := socket.WriteParts(fd, &c.unsent)
		switch errno {
		case 0:
		case unix.EAGAIN:
			return !c.mayBlock
		default:
			c.ioErr = errno
			return true
		}
		c.numWritten += n
		for i, p := range c.unsent {
			k := min(n, len(p))
			c.unsent[i], n = p[k:], n-k
		}
	}
	return true
}

// refuse answers a request that is not served. The connection ends.
func (c *conn) refuse(r *refusal) {
	text := http.StatusText(r.status)
	out := append(c.buffers().out[:0], "HTTP/1.1 "...)
	out = appendStatus(out, r.status)
	out = append(out, "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"...)
	out = append(append(append(out, text...), ": "...), r.why...)
	if _, err := c.write(c.server.options.ReadTimeout, append(out, '\n')); err == nil {
		c.linger()
	}
}

const (
	// lingerTime and lingerSize bound what is read of a client whose connection ends, so that it gets the last response before
	// it learns that nobody reads what it still sends.
	lingerTime = 500 * time.Millisecond
	lingerSize = 256 << 10
)

// linger ends the connection towards the client, and waits for it to do the same.
func (c *conn) linger() {
	var half any = c.Conn
	if c.own != nil && c.own.TCP() != nil {
		half = c.own.TCP()
	}
	if closer, canClose := half.(interface{ CloseWrite() error }); canClose {
		_ = closer.CloseWrite()
	}
	c.setReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.Conn, lingerSize)
}
