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

// exchange is one request through the recorder and its response.
type exchange struct {
	method string
	path   string // escaped, as the viewer sent it
	query  string
	// status is 0 if the viewer left before there was one.
	status int
	// whole reports whether the body was complete; size and sum are those of the received part.
	whole bool
	size  int64
	sum   string // SHA-256, in hex
	// ranged reports whether the viewer requested a range, even of the whole body.
	ranged bool
	// original is the sum of the origin's file at that time, if the recorder can read it.
	original string
	// forwarded is the X-Forwarded-For that the node got.
	forwarded string
}

// served reports whether the viewer got what it requested. Players request ranges, even for a whole body.
func (e exchange) served() bool {
	return e.status == http.StatusOK || e.ranged && e.status == http.StatusPartialContent
}

// String returns the exchange for messages.
func (e exchange) String() string {
	return fmt.Sprintf("%s %s?%s: %d, %d bytes, whole %t", e.method, e.path, e.query, e.status, e.size, e.whole)
}

// recorder is a reverse proxy in front of a node that records every exchange. While the node is down it holds requests and
// retries them, as a balancer with a single node does.
type recorder struct {
	url string
	// original, if not nil, returns the SHA-256 of the origin's file at a path without ticket. It is set before the server
	// starts, because a later write would race with the handler's read.
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

// startComparingRecorder runs a recorder that also records the origin's sum, if original is not nil.
func startComparingRecorder(t *testing.T, target string, original func(path string) string) *recorder {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &recorder{original: original}
	transport := trustAll(&http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true})
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"] // appended to, as by nginx
			r.SetXForwarded()
		},
		Transport:      retrying{c, transport},
		FlushInterval:  -1,
		ModifyResponse: c.observe,
		ErrorHandler:   c.onError,
		ErrorLog:       log.New(io.Discard, "", 0), // viewers who leave
	}
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ErrorLog = proxy.ErrorLog
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections() // a node may hold a response on purpose
		server.Close()
		transport.CloseIdleConnections()
	})
	c.url = server.URL
	return c
}

// retrying is a transport that retries requests while the node is down.
type retrying struct {
	recorder *recorder
	next     http.RoundTripper
}

// retryPause is the time between two attempts.
const retryPause = 50 * time.Millisecond

// RoundTrip sends the request, and again while the node is down.
func (r retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	deadline := time.Now().Add(requestTimeout)
	for {
		resp, err := r.next.RoundTrip(request)
		if err == nil || !isUnreachable(err) || time.Now().After(deadline) {
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

// isUnreachable reports whether the node did not listen, or ended before it responded.
func isUnreachable(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || strings.Contains(err.Error(), "server closed idle connection")
}

// observe records the exchange once its body has been passed on.
func (c *recorder) observe(resp *http.Response) error {
	resp.Body = &observed{ReadCloser: resp.Body, sum: sha256.New(), recorder: c, exchange: newExchange(resp.Request, resp.StatusCode)}
	return nil
}

func newExchange(r *http.Request, status int) exchange {
	return exchange{
		method: r.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery, status: status,
		ranged: r.Header.Get("Range") != "", forwarded: strings.Join(r.Header.Values("X-Forwarded-For"), ", "),
	}
}

// onError responds when the node has not. A viewer who left is no failure.
func (c *recorder) onError(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusBadGateway
	if errors.Is(err, context.Canceled) {
		status = 0
	}
	c.add(newExchange(r, status))
	w.WriteHeader(http.StatusBadGateway)
}

func (c *recorder) add(e exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exchanges = append(c.exchanges, e)
}

// observed is a response body that is passed on.
type observed struct {
	io.ReadCloser
	sum      hash.Hash
	recorder *recorder
	exchange exchange
	once     sync.Once
}

// Read reads a part of the body.
func (o *observed) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	o.sum.Write(p[:n])
	o.exchange.size += int64(n)
	if errors.Is(err, io.EOF) {
		o.exchange.whole = true
		o.write() // before the viewer receives the end
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

// list returns the recorded exchanges for which want is true, oldest first; nil: all.
func (c *recorder) list(want func(exchange) bool) []exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.exchanges)
	if want == nil {
		return all
	}
	return slices.DeleteFunc(all, func(e exchange) bool { return !want(e) })
}

// retryCount returns how often requests were retried.
func (c *recorder) retryCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retries
}

// splitTicket splits a path into the ticket, if any, and the rest.
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

// channelOf returns the channel of a path with or without a ticket.
func channelOf(path string) string {
	_, rest := splitTicket(path)
	parts := strings.Split(rest, "/")
	if len(parts) < 4 {
		return ""
	}
	return parts[2]
}
