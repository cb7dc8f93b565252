package httpbackend

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// sentTrace records whether a call's request was sent. Its hooks run in goroutines of net/http too.
type sentTrace struct {
	isSent     atomic.Bool
	hasAnswers atomic.Bool // of an earlier hop, where redirects are followed
}

type sentTraceKey struct{}

// withSentTrace returns a context whose call records whether its request was sent.
func withSentTrace(ctx context.Context) context.Context {
	t := new(sentTrace)
	return httptrace.WithClientTrace(context.WithValue(ctx, sentTraceKey{}, t), &httptrace.ClientTrace{
		// net/http repeats a request whose kept connection turned out to be dead. What was written to it was not read.
		GetConn:              func(string) { t.isSent.Store(t.hasAnswers.Load()) },
		GotConn:              func(httptrace.GotConnInfo) { t.isSent.Store(true) },
		GotFirstResponseByte: func() { t.hasAnswers.Store(true) },
	})
}

// wasSent reports whether the call of that context had a connection, TLS included: from then on the request's own bytes
// may have caused what follows. A context without a trace counts as sent, since nothing shows the contrary.
func wasSent(ctx context.Context) bool {
	t, ok := ctx.Value(sentTraceKey{}).(*sentTrace)
	return !ok || t.isSent.Load()
}
