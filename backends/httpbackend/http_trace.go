package httpbackend

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/backends"
)

// maxTracedBody is how much of an answer's body an Exchange keeps, in bytes.
const maxTracedBody = 1 << 10

// TraceEntry is one call as it went over the wire, for a person who looks for the mistake. Header values from the config,
// and what the configured address holds of passwords and parameters, are hidden; the viewer's own query is not.
type TraceEntry struct {
	// Backend is the name of the backend that was asked.
	Backend       string
	Method        string
	URL           string
	RequestHeader http.Header
	// Status, Answer and Body, which is its beginning, are zero if no answer came; Took is how long that took either way.
	Status         int
	ResponseHeader http.Header
	ResponseBody   string
	Duration       time.Duration
}

// Trace are the calls made under one context, in the order in which they began. Safe for concurrent use.
type Trace struct {
	mu      sync.Mutex
	entries []*TraceEntry
}

type traceKey struct{}

// WithTrace makes the HTTP calls under the context write down what they send and get.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	all := new(Trace)
	return context.WithValue(ctx, traceKey{}, all), all
}

// Entries is what has been written down so far.
func (e *Trace) Entries() []TraceEntry {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]TraceEntry, len(e.entries))
	for i, x := range e.entries {
		list[i] = *x
	}
	return slices.Clip(list)
}

// traceRecorder writes down one call. The zero value writes nothing, as nobody looks at most.
type traceRecorder struct {
	trace *Trace
	entry *TraceEntry
	start time.Time
}

// startTrace notes a call that is about to be made.
func (c *Client) startTrace(ctx context.Context, r *http.Request) traceRecorder {
	all, _ := ctx.Value(traceKey{}).(*Trace)
	if all == nil {
		return traceRecorder{}
	}
	x := &TraceEntry{Backend: c.name, Method: r.Method, URL: c.redactURL(r.URL), RequestHeader: r.Header.Clone()}
	for name := range c.headers {
		if name != "User-Agent" {
			x.RequestHeader[name] = []string{backends.Hidden}
		}
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.entries = append(all.entries, x)
	return traceRecorder{trace: all, entry: x, start: time.Now()}
}

// isEnabled reports whether somebody will look at the call.
func (o traceRecorder) isEnabled() bool { return o.entry != nil }

// finish notes how the call ended: with an answer, or with the zero value and none.
func (o traceRecorder) finish(a Response) {
	if o.entry == nil {
		return
	}
	o.trace.mu.Lock()
	defer o.trace.mu.Unlock()
	o.entry.Duration, o.entry.Status, o.entry.ResponseHeader = time.Since(o.start), a.Status, a.Header.Clone()
	o.entry.ResponseBody = string(a.Body[:min(len(a.Body), maxTracedBody)])
}

// redactURL is a call's URL without the values in the query of the configured address, with which each call's begins.
func (c *Client) redactURL(u *url.URL) string {
	shown := *u
	if rest, found := strings.CutPrefix(u.RawQuery, c.address.RawQuery); found {
		shown.RawQuery = redactValues(c.address.RawQuery) + rest
	}
	return shown.String()
}

// redactValues hides the values in a raw query, and all of a piece that has no name.
func redactValues(query string) string {
	var out strings.Builder
	for len(query) > 0 {
		var piece, separator string
		piece, separator, query = nextParameter(query)
		if name, _, named := strings.Cut(piece, "="); named {
			out.WriteString(name + "=")
		}
		if piece != "" {
			out.WriteString(backends.Hidden)
		}
		out.WriteString(separator)
	}
	return out.String()
}
