package httpbackend

import (
	"context"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"usher/backends/setting"
)

const (
	// maxTracedBody is how much of an answer's body a TraceEntry holds, in bytes.
	maxTracedBody = 1 << 10
	// minHiddenValue is the length in bytes from which a value of the config is hidden wherever an answer holds it. A shorter one is part
	// of many words, and hidden beside its parameter's name.
	minHiddenValue = 6
)

// TraceEntry is one call as it went over the wire, for an operator who looks for a mistake in the settings. Header values
// of the config are hidden, but for those of public headers, and so are the password and the query values of the configured address. The
// viewer's own query is shown, but not their Authorization. What is hidden is hidden where the answer repeats it, too.
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
	// Duration is how long the answer, or the failure, took.
	Duration time.Duration
}

// Trace holds the calls made under one context, in the order in which they began. Safe for concurrent use.
type Trace struct {
	mu      sync.Mutex
	entries []*TraceEntry
	hidden  []*strings.Replacer // of each entry
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

// Redact hides in a text, such as what a decision says, what is hidden in the calls so far.
func (t *Trace) Redact(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, hidden := range t.hidden {
		text = hidden.Replace(text)
	}
	return text
}

// traceRecorder records one call. The zero value records nothing: most calls are not traced.
type traceRecorder struct {
	trace  *Trace
	entry  *TraceEntry
	start  time.Time
	hidden *strings.Replacer // hides in the answer what is hidden in the request
}

// startTrace records a call that is about to be made, if its context has a trace.
func (c *Client) startTrace(ctx context.Context, r *http.Request) traceRecorder {
	trace, _ := ctx.Value(traceKey{}).(*Trace)
	if trace == nil {
		return traceRecorder{}
	}
	entry := &TraceEntry{Backend: c.name, Method: r.Method, URL: c.redactURL(r.URL), RequestHeader: r.Header.Clone()}
	redactor := c.redactor(r.Header)
	for name, values := range entry.RequestHeader {
		_, isConfigured := c.headers[name]
		switch {
		// A viewer's Authorization holds a password in a form that nobody recognises as one.
		case isConfigured && !setting.IsPublicHeader(name), name == "Authorization", c.signer.Sets(name):
			entry.RequestHeader[name] = []string{setting.Hidden}
		case isConfigured:
			entry.RequestHeader[name] = []string{redactor.Replace(values[0])}
		}
	}
	trace.mu.Lock()
	defer trace.mu.Unlock()
	trace.entries, trace.hidden = append(trace.entries, entry), append(trace.hidden, redactor)
	return traceRecorder{trace: trace, entry: entry, start: time.Now(), hidden: redactor}
}

// isEnabled reports whether the call is traced.
func (t traceRecorder) isEnabled() bool { return t.entry != nil }

// finish records the answer and the beginning of its body. The zero Response: none came.
func (t traceRecorder) finish(a Response, text []byte) {
	if t.entry == nil {
		return
	}
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	t.entry.Duration, t.entry.Status, t.entry.ResponseHeader = time.Since(t.start), a.Status, a.Header.Clone()
	for _, values := range t.entry.ResponseHeader {
		for i, value := range values {
			values[i] = t.hidden.Replace(value)
		}
	}
	body := t.hidden.Replace(string(text))
	t.entry.ResponseBody = body[:min(len(body), maxTracedBody)]
}

// redactor returns what hides the config's secrets and a viewer's Authorization in a text, as sent and in the escapes that an answer may use.
func (c *Client) redactor(sent http.Header) *strings.Replacer {
	shown := map[string]string{} // by what is hidden
	hide := func(name, value string, least int) {
		for _, escaped := range escapedForms(value) {
			if len(escaped) >= least {
				shown[name+escaped] = name + setting.Hidden
			}
		}
	}
	for query := c.address.RawQuery; len(query) > 0; {
		var parameter string
		parameter, _, query = nextParameter(query)
		name, value, isNamed := strings.Cut(parameter, "=")
		if isNamed {
			hide(name+"=", value, 1)
			hide(url.QueryEscape(name+"="), value, 1)
		} else {
			value = name
		}
		hide("", value, minHiddenValue)
	}
	secrets := maps.Clone(c.headers)
	if values := sent["Authorization"]; len(values) > 0 {
		secrets["Authorization"] = values
	}
	for name, values := range secrets {
		if !setting.IsPublicHeader(name) {
			hide("", values[0], minHiddenValue)
		}
		for _, part := range secretParts(name, values[0]) {
			hide("", part, minHiddenValue)
		}
	}
	var pairs []string // longer ones first, since one may begin like another
	for _, secret := range slices.SortedFunc(maps.Keys(shown), func(a, b string) int { return len(b) - len(a) }) {
		pairs = append(pairs, secret, shown[secret])
	}
	return strings.NewReplacer(pairs...)
}

// secretParts returns the parts of a header's value that are secret by themselves: the credentials without their scheme, a password, and
// the values of cookies.
func secretParts(name, value string) (parts []string) {
	scheme, credentials, _ := strings.Cut(value, " ")
	if strings.HasSuffix(strings.ToLower(name), "authorization") || strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Basic") {
		parts = append(parts, strings.TrimSpace(credentials))
	}
	if _, password, isBasic := (&http.Request{Header: http.Header{"Authorization": {value}}}).BasicAuth(); isBasic {
		parts = append(parts, password)
	}
	if strings.EqualFold(name, "Cookie") {
		for cookie := range strings.SplitSeq(value, ";") { // net/http reads none of a line with one that it does not know
			name, value, isNamed := strings.Cut(cookie, "=")
			if !isNamed {
				value = name
			}
			parts = append(parts, strings.Trim(value, " \t\""))
		}
	}
	return parts
}

// escapedForms returns a value of the config as it is, and in the escapes of URLs, JSON and HTML in which an answer may have it.
func escapedForms(value string) []string {
	plain := unescapeLeniently(value)
	forms := []string{value, plain, url.QueryEscape(plain), url.PathEscape(plain)}
	for _, form := range forms[2:] {
		forms = append(forms, regexp.MustCompile(`%..`).ReplaceAllStringFunc(form, strings.ToLower))
	}
	inJavaScript := strings.NewReplacer("&", `\u0026`, "<", `\u003c`, ">", `\u003e`)
	inJava := strings.NewReplacer("&", `\u0026`, "<", `\u003c`, ">", `\u003e`, "=", `\u003d`, "'", `\u0027`)
	inPHP := strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#039;")
	for _, form := range forms {
		quoted, inHTML := strconv.QuoteToASCII(form), html.EscapeString(form)
		quoted = quoted[1 : len(quoted)-1]
		for _, inJSON := range []string{quoted, inJavaScript.Replace(quoted), inJava.Replace(quoted)} {
			forms = append(forms, inJSON, strings.ReplaceAll(inJSON, "/", `\/`))
		}
		forms = append(forms, inHTML, inPHP.Replace(inHTML))
	}
	return forms
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
