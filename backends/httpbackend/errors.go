package httpbackend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"usher/backends"
)

// classifyError makes an error of a call a failure. A viewer who left is none; a deadline is one, whichever side set it.
func (c *Client) classifyError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("check backend %q: %w", c.name, context.Canceled)
	}
	switch {
	case isTimeout(err) || ctx.Err() != nil:
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: c.name, WasSent: wasSent(ctx), Err: err}
	case isTransport(err):
		return &backends.Failure{Kind: backends.FailureTransport, Backend: c.name, WasSent: wasSent(ctx), Err: err}
	case errors.Is(err, errTooManyRedirects):
		return c.Malformed(err)
	default: // net/http's own text may quote what the backend sent, and so a token
		return c.Malformed(fmt.Errorf("the answer is not HTTP, or larger than max_response_header_size=%v", c.maxHeader))
	}
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// isTransport reports whether the connection failed, rather than the answer's content. net/http reports a header cut off
// before its colon as malformed; that stays so, since a malformed answer admits no viewer by itself.
func isTransport(err error) bool {
	return hasCause[*net.OpError](err) || hasCause[*net.DNSError](err) || hasCause[syscall.Errno](err) ||
		hasCause[handshakeError](err) || hasCause[tls.RecordHeaderError](err) || hasCause[tls.AlertError](err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// hasCause reports whether an E is among the causes of err.
func hasCause[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
