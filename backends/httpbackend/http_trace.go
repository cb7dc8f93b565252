package httpbackend

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/backends/setting"
)

// maxTracedBody is how much of an answer's body a TraceEntry holds, in bytes.
const maxTracedBody = 1 << 10

// TraceEntry is one call as it went over the wire, for an operator who looks for a mistake in the settings. Header values
// of the config are hidden, but for those of public headers, and so are signatures, the password and the query values of the configured
// address. The viewer's own query is shown, but not their Authorization. What is hidden is hidden where the answer repeats it, too.
type TraceEntry struct {
	// Backend is the backend's name in the config.
	Backend       string
	Method        string
	URL           string
	RequestHeader http.Header
	// Status, ResponseHeader and ResponseBody are zero if no answer came.
	Status         int
	ResponseHeader http.Header
	// ResponseBody is what arrived of the body's beginning before the decision, or within a moment after the header.
	ResponseBody string
	// Page is what the body of an answer that was taken for a yes looks like, in the words of its alarm; empty: as it should. IsBodyless
	// says that it has none by the contract.
	Page       string
	IsBodyless bool
	// Duration is how long the answer, or the failure, took.
	Duration time.Duration
}

// Trace holds the calls made under one context, in the order in which they began. Safe for concurrent use.
type Trace struct {
	mu      sync.Mutex
	entries []*TraceEntry
	hidden  []redactor // of each entry
}

type traceKey struct{}

// WithTrace returns a context whose HTTP calls are recorded in the Trace.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	trace := new(Trace)
	return context.WithValue(ctx, traceKey{}, trace), trace
}

// Entries returns the calls so far.
func (t *Trace) Entries() []TraceEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := make([]TraceEntry, len(t.entries))
	for i, entry := range t.entries {
		entries[i] = *entry
	}
	return slices.Clip(entries)
}

// Redact hides in a text of an answer, such as a user's name, what is hidden in the calls so far. In words of Usher's it would tell secrets.
func (t *Trace) Redact(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, hidden := range t.hidden {
		text = hidden.redact(text)
	}
	return text
}

// traceRecorder records one call. A nil one records nothing: most calls are not traced.
type traceRecorder struct {
	trace    *Trace
	entry    *TraceEntry
	start    time.Time
	hidden   redactor // hides in the answer what is hidden in the request
	isBroken func(page) bool
}

// startTrace records a call that is about to be made, if its context has a trace.
func (c *Client) startTrace(ctx context.Context, r *http.Request, call Call) *traceRecorder {
	trace, _ := ctx.Value(traceKey{}).(*Trace)
	if trace == nil {
		return nil
	}
	entry := &TraceEntry{
		Backend: c.name, Method: r.Method, URL: c.redactURL(r.URL), RequestHeader: r.Header.Clone(), IsBodyless: call.IsBodyless,
	}
	hidden := c.newRedactor(r.Header)
	for name, values := range entry.RequestHeader {
		_, isConfigured := c.headers[name]
		switch {
		// A viewer's Authorization holds a password in a form that nobody recognises as one.
		case isConfigured && !setting.IsPublicHeader(name), name == "Authorization":
			entry.RequestHeader[name] = []string{setting.Hidden}
		case isConfigured, c.signer.Sets(name):
			entry.RequestHeader[name] = []string{hidden.redact(values[0])}
		}
	}
	trace.mu.Lock()
	defer trace.mu.Unlock()
	trace.entries, trace.hidden = append(trace.entries, entry), append(trace.hidden, hidden)
	return &traceRecorder{trace: trace, entry: entry, start: time.Now(), hidden: hidden, isBroken: c.isBroken}
}

// isEnabled reports whether the call is traced.
func (t *traceRecorder) isEnabled() bool { return t != nil }

// finish records the answer and the beginning of its body. The zero Response: none came.
func (t *traceRecorder) finish(a Response, text []byte) {
	if t == nil {
		return
	}
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	t.entry.Duration, t.entry.Status, t.entry.ResponseHeader = time.Since(t.start), a.Status, a.Header.Clone()
	for _, values := range t.entry.ResponseHeader {
		for i, value := range values {
			values[i] = t.hidden.redact(value)
		}
	}
	body := t.hidden.redact(string(text))
	t.entry.ResponseBody = body[:min(len(body), maxTracedBody)]
}

// noteYes records that the answer allows, and what its body looks like.
func (t *traceRecorder) noteYes(p page) {
	if t == nil || !t.isBroken(p) {
		return
	}
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	t.entry.Page = p.String()
}

// redactURL returns a call's URL with the query values of the configured address hidden. They come first in each query.
func (c *Client) redactURL(u *url.URL) string {
	shown := *u
	if rest, found := strings.CutPrefix(u.RawQuery, c.address.RawQuery); found {
		shown.RawQuery = redactValues(c.address.RawQuery) + rest
	}
	return shown.String()
}

// redactValues hides the values of a raw query, and a parameter without a name as a whole.
func redactValues(query string) string {
	var out strings.Builder
	for len(query) > 0 {
		var parameter, separator string
		parameter, separator, query = nextParameter(query)
		if name, _, named := strings.Cut(parameter, "="); named {
			out.WriteString(name + "=")
		}
		if parameter != "" {
			out.WriteString(setting.Hidden)
		}
		out.WriteString(separator)
	}
	return out.String()
}
