package httpbackend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"syscall"

	"usher/backends"
)

// classifyError makes an error of a call a failure. A viewer who left is none; a deadline is one, whichever side set it.
func (c *Client) classifyError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("check backend %q: %w", c.name, context.Canceled)
	}
	if refused, ok := errors.AsType[*refusedAddressError](err); ok {
		return c.Malformed(refused) // a viewer may have caused the redirect, so that it must not admit one
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

// sentTrace records whether a call's request was sent. Its hooks run in goroutines of net/http too.
type sentTrace struct {
	isSent     atomic.Bool
	hasAnswers atomic.Bool // of an earlier hop, where redirects are followed
	isKept     atomic.Bool // the connection had calls before
}

type sentTraceKey struct{}

// withSentTrace returns a context whose call records whether its request was sent.
func withSentTrace(ctx context.Context) context.Context {
	t := new(sentTrace)
	return httptrace.WithClientTrace(context.WithValue(ctx, sentTraceKey{}, t), &httptrace.ClientTrace{
		// net/http repeats a request whose kept connection turned out to be dead. What was written to it was not read.
		GetConn:              func(string) { t.isSent.Store(t.hasAnswers.Load()); t.isKept.Store(false) },
		GotConn:              func(info httptrace.GotConnInfo) { t.isSent.Store(true); t.isKept.Store(info.Reused) },
		GotFirstResponseByte: func() { t.hasAnswers.Store(true) },
	})
}

// wasSent reports whether the call of that context had a connection, TLS included: from then on the request's own bytes
// may have caused what follows. A context without a trace counts as sent, since nothing shows the contrary.
func wasSent(ctx context.Context) bool {
	t, ok := ctx.Value(sentTraceKey{}).(*sentTrace)
	return !ok || t.isSent.Load()
}

// wasKept reports whether the call of that context had a connection that was kept after another call.
func wasKept(ctx context.Context) bool {
	t, ok := ctx.Value(sentTraceKey{}).(*sentTrace)
	return ok && t.isKept.Load()
}

func isMalformed(err error) bool {
	f := backends.AsFailure(err)
	return f == nil || f.Kind == backends.FailureMalformed
}
