package origin

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// contentCodings returns the codings that a body has, in the order in which they were applied. Content-Encoding often holds
// what is no coding of the body, such as aws-chunked (of its upload) or a charset: that is ignored.
func contentCodings(h http.Header) (codings []string, err error) {
	for _, field := range h.Values("Content-Encoding") {
		for text := range strings.SplitSeq(field, ",") {
			switch coding := strings.ToLower(strings.TrimSpace(text)); coding {
			case "gzip", "x-gzip", "deflate":
				codings = append(codings, coding)
			case "br", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "zstd": // all others that are registered
				return nil, fmt.Errorf("%w: Content-Encoding %q, which was not requested", errMalformed, coding)
			}
		}
	}
	if len(codings) > maxCodings {
		return nil, fmt.Errorf("%w: more than %d codings in Content-Encoding", errMalformed, maxCodings)
	}
	return codings, nil
}

// maxCodings bounds how often a body is decoded.
const maxCodings = 2

// newDecoder returns a reader of the decoded body.
func newDecoder(codings []string, body io.Reader) (io.Reader, error) {
	for _, coding := range slices.Backward(codings) {
		var err error
		if coding == "deflate" {
			body, err = newInflater(body)
		} else {
			body, err = gzip.NewReader(body)
		}
		if err != nil {
			return nil, fmt.Errorf("decode the body: %w", err)
		}
	}
	return body, nil
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
