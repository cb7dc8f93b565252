package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// What a viewer meets, beside "status 503" and the like.
const (
	// Timeout is no complete answer in time.
	Timeout = "timeout"
	// Refused is a refused connection, Unreachable any other failure to connect, BadTLS a failed handshake.
	Refused     = "refused"
	Unreachable = "unreachable"
	BadTLS      = "tls"
	// Reset is a connection that the server ended before a head arrived.
	Reset = "reset"
	// BadAnswer is a head that is no HTTP.
	BadAnswer = "bad answer"
	// BrokenBody is a body that ended early.
	BrokenBody = "broken body"
	// NoPort and NoFiles are failures of the generator's machine.
	NoPort  = "no local port"
	NoFiles = "no file descriptors"
)

// Failures returns all that a viewer can meet beside a status.
func Failures() []string {
	return []string{Timeout, Refused, Unreachable, BadTLS, Reset, BadAnswer, BrokenBody, NoPort, NoFiles}
}

// Exchange is a request and its answer. It keeps its buffers, so one exchange at a time serves many viewers.
type Exchange struct {
	// Target is the path with the query.
	Target []byte
	// Host is the Host field; empty: the origin's.
	Host string
	// Header are complete header lines beside Host.
	Header []byte
	// Offset and Length are the wanted range of bytes; a Length of zero is the whole.
	Offset, Length int64
	// KeepBody keeps the body in Body, up to MaxBody.
	KeepBody bool
	// Post is the body of a POST; nil sends a GET.
	Post []byte
	// Timeout bounds the exchange, with the connection's opening.
	Timeout time.Duration

	Status int
	// Location is where a redirect points.
	Location []byte
	Body     []byte
	// Bytes are those of the body that arrived.
	Bytes int
	// Sent is when the request began, FirstByte when the answer did (zero: never), End when it was complete.
	Sent, FirstByte, End time.Time
	// Failure is empty if a complete answer arrived, whatever its status.
	Failure string

	out  []byte
	in   *bufio.Reader
	head fasthttp.ResponseHeader
	// discarder is the connection's; nil: none.
	discarder *discarder
}

// readBuffer is the size of a read, and of the longest head.
const readBuffer = 16 << 10

// MaxBody bounds a kept body in bytes. More than that is no playlist.
const MaxBody = 8 << 20

// NewExchange returns an empty exchange.
func NewExchange() *Exchange { return &Exchange{in: bufio.NewReaderSize(nil, readBuffer)} }

// FailureText returns what was wrong with the answer: Failure, or its status if that is not 2xx. Empty: nothing.
func (x *Exchange) FailureText() string {
	if x.Failure == "" && (x.Status < 200 || x.Status > 299) {
		return statusText(x.Status)
	}
	return x.Failure
}

func statusText(status int) string {
	switch status { // the usual ones without an allocation
	case 403:
		return "status 403"
	case 503:
		return "status 503"
	}
	return "status " + strconv.Itoa(status)
}

func (x *Exchange) begin() {
	x.Status, x.Bytes, x.Failure = 0, 0, ""
	x.Location, x.Body = x.Location[:0], x.Body[:0]
	x.Sent, x.FirstByte, x.End = time.Now(), time.Time{}, time.Time{}
}

// write sends the request.
func (x *Exchange) write(c net.Conn, host string) error {
	method := "GET "
	if x.Post != nil {
		method = "POST "
	}
	b := append(append(append(x.out[:0], method...), x.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, host...), "\r\n"...)
	b = append(b, x.Header...)
	if x.Length > 0 {
		b = strconv.AppendInt(append(b, "Range: bytes="...), x.Offset, 10)
		b = strconv.AppendInt(append(b, '-'), x.Offset+x.Length-1, 10)
		b = append(b, "\r\n"...)
	}
	if x.Post != nil {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(x.Post)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(append(b, "\r\n"...), x.Post...)
	x.out = b
	_, err := c.Write(b)
	return err
}

// read reads the answer. It returns whether the connection can be used again.
func (x *Exchange) read(c io.Reader) (isReusable bool) {
	x.in.Reset(c)
	for {
		if _, err := x.in.Peek(1); err != nil {
			x.Failure = failure(err, Reset)
			return false
		}
		if x.FirstByte.IsZero() {
			x.FirstByte = time.Now()
		}
		if err := x.head.Read(x.in); err != nil {
			x.Failure = headFailure(err)
			return false
		}
		x.Status = x.head.StatusCode()
		if x.Status >= 200 {
			break
		}
	}
	if x.Status >= 300 && x.Status < 400 {
		x.Location = append(x.Location, x.head.Peek("Location")...)
	}
	if err := x.readBody(); err != nil {
		x.Failure = failure(err, BrokenBody)
		return false
	}
	return !x.head.ConnectionClose() && x.in.Buffered() == 0
}

func headFailure(err error) string {
	var small *fasthttp.ErrSmallBuffer
	if errors.Is(err, fasthttp.ErrTimeout) {
		return Timeout
	}
	if errors.As(err, &small) || !isConnectionError(err) {
		return BadAnswer
	}
	return failure(err, Reset)
}

func isConnectionError(err error) bool {
	var system syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &system) || isTimeout(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// failure names an error; other is the name of one that is none of its own.
func failure(err error, other string) string {
	switch {
	case isTimeout(err):
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
		return NoPort
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return NoFiles
	}
	return other
}
