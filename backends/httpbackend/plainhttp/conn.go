package plainhttp

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

// bufferSize holds a usual request, or answer. Longer ones take more than one system call.
const bufferSize = 4 << 10

// conn is a connection. It belongs to one call at a time, except for abort.
type conn struct {
	net.Conn
	transport *Transport
	reader    *bufio.Reader // reads through conn
	writer    *bufio.Writer
	raw       syscall.RawConn // may be nil
	isReused  bool
	kept      time.Time // when it became idle

	headerLeft int64 // bytes; negative: not reading a header
	hasRead    bool  // a byte of the answer

	ctx    context.Context
	detach func() bool // makes the connection independent of ctx

	mu        sync.Mutex
	isAborted bool
}

func newConn(t *Transport, dialed net.Conn) *conn {
	c := &conn{Conn: dialed, transport: t}
	c.reader = bufio.NewReaderSize(c, bufferSize)
	c.writer = bufio.NewWriterSize(dialed, bufferSize)
	if s, ok := dialed.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
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
	n, err := c.Conn.Read(p)
	c.hasRead = c.hasRead || n > 0
	if c.headerLeft > 0 {
		c.headerLeft -= int64(n)
	}
	return n, err
}

// call writes the request, and reads the answer's header.
func (c *conn) call(r *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	ctx := r.Context()
	c.ctx, c.hasRead, c.headerLeft = ctx, false, c.transport.options.MaxHeaderSize
	c.detach = context.AfterFunc(ctx, c.abort)
	err := r.Write(c.writer)
	if err == nil {
		err = c.writer.Flush()
	}
	c.setReadDeadline(c.transport.options.HeaderTimeout)
	resp, readErr := c.readHeader(r, trace) // an answer may have come before the request was written
	switch {
	case readErr != nil && err != nil:
		return nil, causeOf(ctx, err)
	case readErr != nil:
		return nil, causeOf(ctx, readErr)
	}
	c.headerLeft = -1
	c.setReadDeadline(0)
	isKept := err == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if resp.Body == http.NoBody {
		c.end(isKept)
		return resp, nil
	}
	resp.Body = &body{from: resp.Body, conn: c, isKept: isKept}
	return resp, nil
}

// readHeader reads the header of the answer, after those of informational ones.
func (c *conn) readHeader(r *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	if _, err := c.reader.Peek(1); err != nil {
		return nil, err
	}
	if trace != nil && trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
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

// isRepeatable reports whether a failed call may be made again: the server had closed the kept connection.
func (c *conn) isRepeatable(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return c.isReused && !c.hasRead && c.ctx.Err() == nil && !(ok && timeout.Timeout())
}

// end ends the call, and keeps the connection if it can serve another one.
func (c *conn) end(isKept bool) {
	if !c.detach() || !isKept || c.reader.Buffered() > 0 {
		c.close()
		return
	}
	c.ctx, c.detach = nil, nil
	c.isReused = true
	c.transport.idle.keep(c, time.Now())
}

func (c *conn) close() {
	if c.detach != nil {
		c.detach()
	}
	_ = c.Conn.Close()
}
