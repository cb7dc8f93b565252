package strict

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoad_CountsWhatFails serves in ways that break some requests, and knows how many.
func TestLoad_CountsWhatFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind Kind
		// serve answers the n-th request, from 1, over a connection that it may close.
		serve  func(w http.ResponseWriter, n int64)
		secure bool
		// fails is whether every third request fails; says is of the message.
		fails bool
		says  string
	}{
		"all served":                       {kind: Kept, serve: serve},
		"all served, by TLS":               {kind: Kept, serve: serve, secure: true},
		"all served, a connection each":    {kind: Each, serve: serve},
		"all served by HTTP/2":             {kind: HTTP2, serve: serve, secure: true},
		"the server closes after some":     {kind: Kept, serve: everyThird(func(w http.ResponseWriter) { w.Header().Set("Connection", "close"); serve(w, 0) })},
		"HTTP/2 goes away after some":      {kind: HTTP2, secure: true, serve: everyThird(func(w http.ResponseWriter) { w.Header().Set("Connection", "close"); serve(w, 0) })},
		"some unanswered":                  {kind: Kept, serve: everyThird(abort), fails: true, says: "response: "},
		"some unanswered, by TLS":          {kind: Kept, serve: everyThird(abort), secure: true, fails: true, says: "response: "},
		"some unanswered, connection each": {kind: Each, serve: everyThird(abort), fails: true, says: "response: "},
		"some unanswered by HTTP/2":        {kind: HTTP2, serve: everyThird(abort), secure: true, fails: true, says: "INTERNAL_ERROR"},
		"some cut off":                     {kind: Kept, serve: everyThird(cut), fails: true, says: "body: "},
		"some refused":                     {kind: Kept, serve: everyThird(func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }), fails: true, says: "503"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.serve(w, requests.Add(1)) }))
			server.Config.ErrorLog = nil
			o := Options{Kind: test.kind, Clients: 1, Timeout: time.Minute}
			if test.secure {
				server.EnableHTTP2 = true
				server.StartTLS()
				pool := x509.NewCertPool()
				pool.AddCert(server.Certificate())
				o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
			} else {
				server.Start()
			}
			defer server.Close()
			o.URL = server.URL + "/"
			load, err := Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			await(t, load, 30)
			got := load.Stop()
			want := int64(0)
			if test.fails {
				want = got.Requests / 3
			}
			if got.Failed != want || got.Requests != requests.Load() || want > 0 && !strings.Contains(got.Failures[0], test.says) {
				t.Errorf("%v; want %d failed of %d with %q", got, want, requests.Load(), test.says)
			}
		})
	}
}

// await waits until so many requests have ended.
func await(t *testing.T, load *Load, requests int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for load.Requests() < requests {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("only %d requests", load.Requests())
		}
	}
}

func serve(w http.ResponseWriter, _ int64) { _, _ = io.WriteString(w, "served") }

func everyThird(f func(http.ResponseWriter)) func(http.ResponseWriter, int64) {
	return func(w http.ResponseWriter, n int64) {
		if n%3 == 0 {
			f(w)
			return
		}
		serve(w, n)
	}
}

func abort(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func cut(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "half")
	_ = http.NewResponseController(w).Flush() // or nothing is sent
	panic(http.ErrAbortHandler)
}

// TestLoad_RefusedConnection_Fails requests from a port at which nobody listens.
func TestLoad_RefusedConnection_Fails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	load, err := Start(t.Context(), Options{URL: "http://" + listener.Addr().String() + "/", Kind: Kept, Clients: 1, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	await(t, load, 3)
	if got := load.Stop(); got.Failed != got.Requests || !strings.Contains(got.Failures[0], "refused") {
		t.Errorf("%v; want all to fail", got)
	}
}
