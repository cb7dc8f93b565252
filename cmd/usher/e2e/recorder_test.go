package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// exchange is one request through the recorder and what came of it.
type exchange struct {
	method string
	path   string // escaped, as the viewer sent it
	query  string
	// status is 0 if the viewer left before there was one, or nothing came.
	status int
	// whole says that the body came to its end; size and sum are those of what came.
	whole bool
	size  int64
	sum   string // SHA-256, in hex
	// ranged says that the viewer asked for a range, if only for all of it.
	ranged bool
	// original is the sum of what the origin had at that time, if the recorder can know.
	original string
	// forwarded is the X-Forwarded-For that the node got.
	forwarded string
}

// served reports whether the viewer got what it requested. Players request ranges, even for a whole body.
func (e exchange) served() bool {
	return e.status == http.StatusOK || e.ranged && e.status == http.StatusPartialContent
}

// String is the exchange in messages.
func (e exchange) String() string {
	return fmt.Sprintf("%s %s?%s: %d, %d bytes, whole %t", e.method, e.path, e.query, e.status, e.size, e.whole)
}

// recorder is a reverse proxy in front of a node that writes down every exchange. While the node is down it holds the
// requests and tries again, as a balancer with a single node does.
type recorder struct {
	url string
	// original, if not nil, is the SHA-256 of what the origin has at a path without ticket. It is fixed before the server
	// starts, since no request of another process orders a later write before the handler's read.
	original func(path string) string

	mu        sync.Mutex
	exchanges []exchange
	retries   int
}

// startRecorder runs a recorder before the node at the address target.
func startRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	return startComparingRecorder(t, target, nil)
}

// startComparingRecorder runs a recorder that also notes what the origin has, if original is not nil.
func startComparingRecorder(t *testing.T, target string, original func(path string) string) *recorder {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &recorder{original: original}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"] // it adds to what came, as nginx does
			r.SetXForwarded()
		},
		Transport:      retrying{c, transport},
		FlushInterval:  -1,
		ModifyResponse: c.observe,
		ErrorHandler:   c.failed,
		ErrorLog:       log.New(io.Discard, "", 0), // viewers who leave
	}
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ErrorLog = proxy.ErrorLog
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections() // so that nothing is waited for that a node holds on purpose
		server.Close()
		transport.CloseIdleConnections()
	})
	c.url = server.URL
	return c
}

// retrying tries again while nobody answers.
type retrying struct {
	recorder *recorder
	next     http.RoundTripper
}

// retryPause is how soon a node that does not answer is tried again.
const retryPause = 50 * time.Millisecond

// RoundTrip sends the request, more than once if it must be.
func (r retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	deadline := time.Now().Add(requestTimeout)
	for {
		resp, err := r.next.RoundTrip(request)
		if err == nil || !isAway(err) || time.Now().After(deadline) {
			return resp, err
		}
		r.recorder.mu.Lock()
		r.recorder.retries++
		r.recorder.mu.Unlock()
		select {
		case <-request.Context().Done():
			return nil, err
		case <-time.After(retryPause):
		}
	}
}

// isAway reports whether the node was not there, or went away before it had answered.
func isAway(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || strings.Contains(err.Error(), "server closed idle connection")
}

// observe writes the exchange down when its body has been passed on.
func (c *recorder) observe(resp *http.Response) error {
	resp.Body = &observed{ReadCloser: resp.Body, sum: sha256.New(), recorder: c, exchange: begun(resp.Request, resp.StatusCode)}
	return nil
}

func begun(r *http.Request, status int) exchange {
	return exchange{
		method: r.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery, status: status,
		ranged: r.Header.Get("Range") != "", forwarded: strings.Join(r.Header.Values("X-Forwarded-For"), ", "),
	}
}

// failed answers when there is no answer to pass on. A viewer who left is no failure.
func (c *recorder) failed(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusBadGateway
	if errors.Is(err, context.Canceled) {
		status = 0
	}
	c.add(begun(r, status))
	w.WriteHeader(http.StatusBadGateway)
}

func (c *recorder) add(e exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exchanges = append(c.exchanges, e)
}

// observed is a body on its way.
type observed struct {
	io.ReadCloser
	sum      hash.Hash
	recorder *recorder
	exchange exchange
	once     sync.Once
}

// Read passes a piece on.
func (o *observed) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	o.sum.Write(p[:n])
	o.exchange.size += int64(n)
	if errors.Is(err, io.EOF) {
		o.exchange.whole = true
		o.write() // before the viewer has the end of it
	}
	return n, err
}

// Close ends the body.
func (o *observed) Close() error {
	o.write()
	return o.ReadCloser.Close()
}

func (o *observed) write() {
	o.once.Do(func() {
		o.exchange.sum = hex.EncodeToString(o.sum.Sum(nil))
		if o.recorder.original != nil {
			_, path := splitTicket(o.exchange.path)
			o.exchange.original = o.recorder.original(path)
		}
		o.recorder.add(o.exchange)
	})
}

// list is what was written down so far, oldest first, of what want lets through; nil lets all.
func (c *recorder) list(want func(exchange) bool) []exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.exchanges)
	if want == nil {
		return all
	}
	return slices.DeleteFunc(all, func(e exchange) bool { return !want(e) })
}

// downtime is how often a request had to be tried again.
func (c *recorder) downtime() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retries
}

// splitTicket takes the ticket off the front of a path; there may be none.
func splitTicket(path string) (ticket, rest string) {
	after, found := strings.CutPrefix(path, "/~")
	if !found {
		return "", path
	}
	ticket, rest, _ = strings.Cut(after, "/")
	return ticket, "/" + rest
}

// isPlaylist reports whether a path is a playlist's.
func isPlaylist(path string) bool { return strings.HasSuffix(path, ".m3u8") }

// channelOf is the channel of a path with or without ticket.
func channelOf(path string) string {
	_, rest := splitTicket(path)
	parts := strings.Split(rest, "/")
	if len(parts) < 4 {
		return ""
	}
	return parts[2]
}
