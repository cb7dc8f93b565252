package gatewaytest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Origin is an origin on a real socket that records its requests. Its fields are set before the requests that they concern.
type Origin struct {
	URL    string
	Files  map[string]string // by path
	Answer http.HandlerFunc  // instead of Files

	mu       sync.Mutex
	requests []*http.Request
}

// NewOrigin starts an origin without files, until the test ends.
func NewOrigin(t testing.TB) *Origin {
	t.Helper()
	o := &Origin{Files: map[string]string{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.URL = server.URL
	return o
}

// ServeHTTP answers a request.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r.Clone(context.WithoutCancel(r.Context())))
	answer, body := o.Answer, o.Files[r.URL.EscapedPath()]
	o.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case body == "":
		http.NotFound(w, r)
	default:
		_, _ = io.WriteString(w, body)
	}
}

// RequestURIs returns the path and query of every request, in order.
func (o *Origin) RequestURIs() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, r := range o.requests {
		all = append(all, r.URL.RequestURI())
	}
	return all
}

// Dump returns all requests as text.
func (o *Origin) Dump() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, r := range o.requests {
		_ = r.Write(&b)
	}
	return b.String()
}

// Reset forgets the requests.
func (o *Origin) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = nil
}

// OriginFunc is an origin without a network, for use within synctest.Test.
type OriginFunc func(*http.Request) (*http.Response, error)

// RoundTrip answers a request.
func (f OriginFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// OriginResponse returns an origin's response with that body. A length of -1 leaves out Content-Length.
func OriginResponse(r *http.Request, length int64, body io.Reader) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/octet-stream"}}, Body: io.NopCloser(body), ContentLength: length,
	}
}
