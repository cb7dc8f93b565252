package wire

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
)

var errTooLong = errors.New("the body is longer than a playlist can be")

// Content lengths as fasthttp reports them where there is no length.
const (
	isChunked  = -1
	untilClose = -2
)

// readBody reads the body of an answer whose head was read.
func (x *Exchange) readBody() error {
	switch length := x.head.ContentLength(); {
	case x.Status == http.StatusNoContent || x.Status == http.StatusNotModified:
		return nil
	case length == isChunked:
		return x.readChunks()
	case length == untilClose:
		return x.copyBody(x.in)
	case x.KeepBody:
		return x.keep(length)
	default:
		return x.discard(length)
	}
}

// discard reads a body of known length and drops it.
func (x *Exchange) discard(length int) error {
	first := length
	if x.discarder != nil {
		first = min(length, x.in.Buffered())
	}
	n, err := x.in.Discard(first)
	if x.Bytes = n; err != nil || n == length {
		return err
	}
	n, err = x.discarder.discard(length - n)
	x.Bytes += n
	return err
}

// keep reads a body of known length.
func (x *Exchange) keep(length int) error {
	if length > MaxBody {
		return errTooLong
	}
	if cap(x.Body) < length {
		x.Body = make([]byte, length)
	}
	x.Body = x.Body[:length]
	n, err := io.ReadFull(x.in, x.Body)
	x.Bytes, x.Body = n, x.Body[:n]
	return err
}

// readChunks reads a chunked body with its trailer.
func (x *Exchange) readChunks() error {
	if err := x.copyBody(httputil.NewChunkedReader(x.in)); err != nil {
		return err
	}
	for { // the trailer, up to an empty line
		line, err := x.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= len("\r\n") {
			return nil
		}
	}
}

// copyBody reads a body to its end.
func (x *Exchange) copyBody(body io.Reader) error {
	if !x.KeepBody {
		n, err := io.Copy(io.Discard, body)
		x.Bytes = int(n)
		return err
	}
	for {
		if len(x.Body) == cap(x.Body) {
			x.Body = append(x.Body, 0)[:len(x.Body)]
		}
		n, err := body.Read(x.Body[len(x.Body):cap(x.Body)])
		x.Body = x.Body[:len(x.Body)+n]
		x.Bytes = len(x.Body)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(x.Body) > MaxBody:
			return errTooLong
		}
	}
}
