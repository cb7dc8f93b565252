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

// decoder reads a body without its Content-Encoding; encoded says that there was one.
func decoder(encoding string, body io.Reader) (r io.Reader, encoded bool, err error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, false, nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(body)
	case "deflate":
		r, err = inflater(body)
	default:
		err = fmt.Errorf("%w: Content-Encoding %q", errMalformed, encoding)
	}
	if err != nil {
		return nil, true, fmt.Errorf("decode the body: %w", err)
	}
	return r, true, nil
}

// inflater reads "deflate", which is zlib by the standard and raw deflate by some servers.
func inflater(body io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(body)
	start, err := buffered.Peek(2)
	if err != nil {
		return nil, fmt.Errorf("read the head of a deflated body: %w", err)
	}
	const deflateMethod = 8
	if start[0]&0x0f == deflateMethod && (uint(start[0])<<8|uint(start[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}
