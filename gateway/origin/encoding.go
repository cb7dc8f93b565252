package origin

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"
)

// newDecoder returns a reader of the decoded body; encoded reports whether the body has a Content-Encoding.
func newDecoder(encoding string, body io.Reader) (r io.Reader, encoded bool, err error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, false, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(body)
	case "deflate":
		r, err = newInflater(body)
	default:
		err = fmt.Errorf("%w: Content-Encoding %q", errMalformed, encoding)
	}
	if err != nil {
		return nil, true, fmt.Errorf("decode the body: %w", err)
	}
	return r, true, nil
}

// newInflater returns a reader of "deflate", which is zlib by the standard and raw deflate on some servers.
func newInflater(body io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(body)
	start, err := buffered.Peek(2)
	if err != nil {
		return nil, fmt.Errorf("read the start of a deflated body: %w", err)
	}
	const deflateMethod = 8
	if start[0]&0x0f == deflateMethod && (uint(start[0])<<8|uint(start[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}
