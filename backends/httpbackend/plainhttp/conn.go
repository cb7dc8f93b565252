package plainhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/backends/socket"
)

// bufferSize holds a usual answer, so that one system call reads it. An idle connection keeps at most as much for its next request.
const bufferSize = 4 << 10

// conn is a connection. It belongs to one call at a time, except for abort.
type conn struct {
	net.Conn
	transport *Transport
	reader    *bufio.Reader // reads through conn
	request   bytes.Buffer
	isReused  bool
	kept      time.Time // when it became idle

	headerLeft int64 // bytes; negative: not reading a header
	hasRead    bool  // a byte of the answer

	unsent   []byte // of the request
	hasBegun bool   // the call has begun to send the request
	sendErr  error  // of sending it

	raw        syscall.RawConn       // nil: reads and writes go through net.Conn
	onReadable func(fd uintptr) bool // the callback of raw, which is made once
	in         []byte                // where the callback reads to
	numRead    int                   // bytes that it has read
	readErr    error                 // of reading

	ctx    context.Context
	trace  *httptrace.ClientTrace
	detach func() bool // makes the connection independent of ctx

	mu        sync.Mutex
	isAborted bool
}

func newConn(t *Transport, dialed net.Conn) *conn {
	c := &conn{Conn: dialed, transport: t}
	c.reader = bufio.NewReaderSize(c, bufferSize)
	if s, ok := dialed.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	c.onReadable = c.readNow
	return c
}

// Read reads from the connection, and fails once a header is too large.
func (c *conn) Read(p []byte) (int, error) {
	if c.headerLeft == 0 {
		return 0, errHeaderSize
	}
	if c.headerLeft > 0 && int64(len(p)) > c.headerLeft {
		p = p[:c.headerLeft]
	}
	n, err := c.receive(p)
	c.hasRead = c.hasRead || n > 0
	if c.headerLeft > 0 {
		c.headerLeft -= int64(n)
	}
	return n, err
}

// receive sends what is left of the request, and reads what comes then.
func (c *conn) receive(p []byte) (int, error) {
	if c.raw == nil {
		if !c.hasBegun {
			c.begin()
			c.sendRest()
		}
		return c.Conn.Read(p)
	}
	c.in, c.numRead, c.readErr = p, 0, nil
	err := c.raw.Read(c.onReadable)
	c.in = nil
	switch {
	case c.numRead > 0:
		return c.numRead, nil
	case c.readErr != nil:
		return 0, c.readErr
	case err != nil:
		return 0, err
	default:
		return 0, io.EOF
	}
}

// readNow reads without waiting, and sends the request once nothing more can be read. It reports whether there is something to return.
// Data that a kept connection has before that is no answer to this call.
func (c *conn) readNow(fd uintptr) bool {
	if c.hasBegun || c.isReused {
		n, errno := socket.Read(fd, c.in)
		switch {
		case errno == unix.EAGAIN:
		case !c.hasBegun:
			c.readErr = errStale
			return true
		case errno != 0:
			c.readErr = &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", errno)}
			return true
		default:
			c.numRead = n
			return true
		}
	}
	if c.hasBegun {
		return false
	}
	c.begin()
	n, _ := socket.Write(fd, c.unsent) // an error comes again
	c.unsent = c.unsent[max(n, 0):]
	c.sendRest() // may wait, because a read does not lock writers out
	// What came on a new connection before this read wakes nobody: the poller has told of it already.
	return !c.isReused && c.readNow(fd)
}

// begin tells the trace that the request is sent on this connection.
func (c *conn) begin() {
	c.hasBegun = true
	if c.trace != nil && c.trace.GotConn != nil {
		c.trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: c.isReused})
	}
}

// sendRest sends what is left of the request. The connection may have an answer even if that fails.
func (c *conn) sendRest() {
	if len(c.unsent) > 0 {
		_, c.sendErr = c.Write(c.unsent)
	}
	c.unsent = nil
}

// call writes the request, and reads the answer's header.
func (c *conn) call(r *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	ctx := r.Context()
	c.ctx, c.trace, c.hasRead, c.headerLeft = ctx, trace, false, c.transport.options.MaxHeaderSize
	c.detach = context.AfterFunc(ctx, c.abort)
	c.request.Reset()
	if err := r.Write(&c.request); err != nil {
		return nil, err
	}
	c.unsent, c.hasBegun, c.sendErr = c.request.Bytes(), false, nil
	c.setReadDeadline(c.transport.options.HeaderTimeout)
	resp, err := c.readHeader(r)
	switch {
	case err != nil && c.sendErr != nil:
		return nil, causeOf(ctx, c.sendErr)
	case err != nil:
		return nil, causeOf(ctx, err)
	}
	c.headerLeft = -1
	c.setReadDeadline(0)
	isKept := c.sendErr == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if resp.Body == http.NoBody {
		c.end(isKept)
		return resp, nil
	}
	resp.Body = &Body{from: resp.Body, conn: c, isKept: isKept}
	return resp, nil
}

// readHeader reads the header of the answer, after those of informational ones.
func (c *conn) readHeader(r *http.Request) (*http.Response, error) {
	if _, err := c.reader.Peek(1); err != nil {
		return nil, err
	}
	if c.trace != nil && c.trace.GotFirstResponseByte != nil {
		c.trace.GotFirstResponseByte()
	}
	for range maxInformational + 1 {
		resp, err := http.ReadResponse(c.reader, r)
		if err != nil {
			return nil, err
		}
		if code := resp.StatusCode; code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, errInformational
}

// setReadDeadline lets reading take so long; zero: without end. It never takes an abort back.
func (c *conn) setReadDeadline(timeout time.Duration) {
	if c.transport.options.HeaderTimeout == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isAborted {
		return
	}
	var at time.Time
	if timeout > 0 {
		at = time.Now().Add(timeout)
	}
	_ = c.SetReadDeadline(at) // a connection that cannot take it fails when it is read
}

// abort makes what the call waits for fail.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isAborted = true
	_ = c.SetDeadline(time.Unix(1, 0))
}

func (c *conn) wasAborted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isAborted
}

// isRepeatable reports whether a failed call may be made again: the server had closed the kept connection.
func (c *conn) isRepeatable(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return c.isReused && !c.hasRead && c.ctx.Err() == nil && !(ok && timeout.Timeout())
}

// end ends the call, and keeps the connection if it can serve another one.
func (c *conn) end(isKept bool) {
	if !c.detach() || !isKept || c.wasAborted() || c.reader.Buffered() > 0 {
		c.close()
		return
	}
	c.ctx, c.trace, c.detach = nil, nil, nil
	c.isReused = true
	if c.request.Cap() > bufferSize {
		c.request = bytes.Buffer{}
	}
	c.transport.idle.keep(c, time.Now())
}

func (c *conn) close() {
	if c.detach != nil {
		c.detach()
	}
	_ = c.Conn.Close()
}
