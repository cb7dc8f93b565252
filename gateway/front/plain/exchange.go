package plain

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"runtime"
	"strconv"
	"strings"
	"time"

	"usher/gateway"
	"usher/gateway/origin"
)

const (
	// inSize is how much of a request is read at once; players send some 300 bytes.
	inSize = 2 << 10
	// outSize is how large a response is that is copied behind its header, so that it takes one write of one buffer.
	outSize = 4 << 10
)

// Exchange is a request and its response, with the buffers for both. It is valid until the handler returns.
type Exchange struct {
	conn       *conn
	in         []byte
	start, end int // of what has arrived and is not read
	out        []byte
	gateway    *gateway.Gateway // answers the request
	request    gateway.Request
	response   gateway.Response
	body       body
	isAborted  bool // the connection ends at once
	number     uint32
}

func (s *Server) newExchange() any {
	return &Exchange{in: make([]byte, inSize), out: make([]byte, 0, outSize), number: s.numExchanges.Add(1)}
}

// Number tells the exchanges of a server that are in use at the same time apart. They are pooled, so that one of them is mostly used by
// one processor.
func (x *Exchange) Number() uint32 { return x.number }

func (x *Exchange) buffered() int { return x.end - x.start }

// empty forgets the request, and a buffer that an unusual one made large.
func (x *Exchange) empty() {
	x.conn, x.start, x.end, x.isAborted = nil, 0, 0, false
	x.gateway, x.request, x.body = nil, gateway.Request{}, body{}
	if len(x.in) > inSize {
		x.in = make([]byte, inSize)
	}
	if cap(x.out) > outSize {
		x.out = make([]byte, 0, outSize)
	}
}

// makeRoom makes room for more bytes of a head.
func (x *Exchange) makeRoom() {
	if x.end < len(x.in) {
		return
	}
	in := x.in
	if x.buffered() > len(in)/2 {
		in = make([]byte, 2*len(in))
	}
	x.end = copy(in, x.in[x.start:x.end])
	x.in, x.start = in, 0
}

// answer serves the request whose head has arrived. It reports whether the connection may serve another one.
func (c *conn) answer() bool {
	x, h := c.exchange, &c.head
	x.request = gateway.Request{
		Method: h.method, Scheme: c.scheme, Host: h.host, Path: h.path, Query: h.query, Peer: c.peer, Header: &h.fields,
	}
	hasBody := h.framing.contentLength != 0
	if hasBody {
		x.body.begin(x)
		x.request.Body = &x.body
	}
	c.isLast = c.server.options.IsDraining != nil && c.server.options.IsDraining()
	c.server.options.Handler.Serve(x)
	switch {
	case x.isAborted:
		if !h.isHTTP11 && c.own != nil {
			c.own.Reset() // the end of the connection can be that of the body
		}
		return false
	case hasBody:
		c.linger()
		return false
	case !c.isKeptAlive():
		if x.buffered() > 0 { // or the client may lose the response
			c.linger()
		}
		return false
	}
	return true
}

// isKeptAlive reports whether the connection may serve another request. After a body it does not: what follows would be taken for a
// request, whatever the client meant.
func (c *conn) isKeptAlive() bool {
	return c.head.keepsAlive() && c.head.framing.contentLength == 0 && !c.isLast && !c.server.isDraining.Load()
}

// Answer answers by a gateway.
func (x *Exchange) Answer(g *gateway.Gateway) {
	c := x.conn
	x.gateway = g
	if c.context == nil {
		c.context = &requestContext{conn: c}
	}
	defer func() {
		x.response.Reset()
		isUnused := c.context.end()
		c.stopWatch()
		if isUnused {
			return
		}
		c.context = nil
		// A request that uses its context has waited, mostly for an opening. Those whose answers have come go before the next request of
		// this connection, which may have arrived: a third off the p99 of openings, by wrk with 64 connections.
		runtime.Gosched()
	}()
	if err := g.Serve(c.context, &x.request, &x.response); err != nil {
		x.isAborted = true // there is nobody to answer
		return
	}
	if x.response.Stream != nil {
		defer func() { _ = x.response.Stream.Close() }()
	}
	x.send()
}

// send writes the response.
func (x *Exchange) send() {
	resp := &x.response
	out, isChunked := x.appendHead(x.out[:0])
	x.out = out
	isBare := x.request.Method == http.MethodHead || !resp.HasBody()
	switch {
	case isBare:
		x.write(out)
	case resp.Stream != nil:
		x.relay(resp.Stream, isChunked)
		x.conn.lastResponse = time.Now()
	case len(out)+len(resp.Body) <= cap(out):
		resp.Sent(x.write(append(out, resp.Body...)) - int64(len(out)))
	default:
		resp.Sent(x.write(out, resp.Body) - int64(len(out)))
	}
}

// write sends the parts. It returns how many bytes were sent. If that is not all, the connection ends.
func (x *Exchange) write(parts ...[]byte) int64 {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	n, err := x.conn.write(x.gateway.TimeToWrite(size), parts...)
	x.isAborted = x.isAborted || err != nil
	return int64(n)
}

// relay sends the body as it arrives. The header goes out before it waits for the origin, so that the viewer gets a part while the
// origin still produces it.
func (x *Exchange) relay(from *origin.Stream, isChunked bool) {
	pending := x.out
	for !x.isAborted {
		if len(pending) > 0 && !from.IsReady() {
			x.write(pending)
			pending = pending[:0]
		}
		data, err := from.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			x.gateway.StreamBroken(err, &x.response)
			x.isAborted = true // so that the viewer sees a broken transfer instead of a short body
			return
		}
		if err != nil {
			if isChunked {
				pending = append(pending, "0\r\n\r\n"...)
			}
			if len(pending) > 0 {
				x.write(pending)
			}
			return
		}
		if len(data) == 0 {
			continue
		}
		var after []byte
		if isChunked {
			pending = append(strconv.AppendInt(pending, int64(len(data)), 16), "\r\n"...)
			after = x.conn.server.newline
		}
		sent := x.write(pending, data, after) - int64(len(pending))
		x.response.Sent(max(0, min(sent, int64(len(data)))))
		pending = pending[:0]
	}
}

// appendHead appends the response's line and header, and reports whether the body is sent in chunks.
func (x *Exchange) appendHead(out []byte) (_ []byte, isChunked bool) {
	resp, c := &x.response, x.conn
	out = append(out, "HTTP/1.1 "...)
	if !c.head.isHTTP11 {
		out[len(out)-2] = '0'
	}
	out = appendStatus(out, resp.Status)
	hasLength := false
	for _, f := range resp.Fields() {
		hasLength = hasLength || f.Name == "Content-Length"
		out = append(append(out, f.Name...), ": "...)
		out = append(appendValue(out, f.Value), "\r\n"...)
	}
	if !hasLength {
		switch {
		case resp.StatesLength(x.request.Method):
			out = append(strconv.AppendInt(append(out, "Content-Length: "...), int64(len(resp.Body)), 10), "\r\n"...)
		case resp.Stream != nil && resp.HasBody() && c.head.isHTTP11: // else the body ends with the connection
			isChunked = true
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
		}
	}
	c.lastResponse = time.Now()
	out = append(c.server.appendDate(append(out, "Date: "...), c.lastResponse), "\r\n"...)
	if !c.isKeptAlive() {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...), isChunked
}

func appendStatus(out []byte, status int) []byte {
	out = append(strconv.AppendInt(out, int64(status), 10), ' ')
	return append(append(out, http.StatusText(status)...), "\r\n"...)
}

// appendValue appends a field's value. A line in it would be a field of its own, or the end of the header.
func appendValue(out []byte, value string) []byte {
	if strings.IndexByte(value, '\n') < 0 && strings.IndexByte(value, '\r') < 0 {
		return append(out, value...)
	}
	return append(out, strings.NewReplacer("\n", " ", "\r", " ").Replace(value)...)
}

// body is a request's body.
type body struct {
	exchange *Exchange
	decoded  io.Reader // of what is left of it
	isBegun  bool
}

// begin makes it the body of the exchange's request.
func (b *body) begin(x *Exchange) {
	*b = body{exchange: x}
	if n := x.conn.head.framing.contentLength; n >= 0 {
		b.decoded = io.LimitReader((*arrived)(x), n)
	} else {
		b.decoded = httputil.NewChunkedReader((*arrived)(x))
	}
}

// Read reads the body. Before the first byte it asks for it, if the client waits for that.
func (b *body) Read(p []byte) (int, error) {
	c := b.exchange.conn
	if !b.isBegun {
		b.isBegun = true
		c.setReadDeadline(time.Now().Add(c.server.options.ReadTimeout))
		if c.head.framing.isContinue && c.head.isHTTP11 {
			b.exchange.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
	}
	n, err := b.decoded.Read(p)
	if errors.Is(err, io.EOF) && b.isShort() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// isShort reports whether a body of known length ended early.
func (b *body) isShort() bool {
	limited, isLimited := b.decoded.(*io.LimitedReader)
	return isLimited && limited.N > 0
}

// arrived reads what has arrived behind a request's head, and then what arrives.
type arrived Exchange

// Read reads some of it.
func (a *arrived) Read(p []byte) (int, error) {
	if a.start < a.end {
		n := copy(p, a.in[a.start:a.end])
		a.start += n
		return n, nil
	}
	return a.conn.Conn.Read(p)
}
