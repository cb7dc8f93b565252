package httpbackend_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// rawServer hands each connection to a function that speaks for the backend and may stop it. It returns the backend's URL.
func rawServer(t *testing.T, serve func(conn net.Conn, requests *bufio.Reader, stop func())) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn), func() { _ = listener.Close() })
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// readRequest reads one request, and reports whether there was one.
func readRequest(requests *bufio.Reader) bool {
	r, err := http.ReadRequest(requests)
	if err == nil {
		_ = r.Body.Close()
	}
	return err == nil
}

const bareAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// TestClient_Do_DeadConnectionReused_NotSent has the backend stop while a connection to it is kept. The request is written
// to that connection, which is dead, and again to a new one, which is refused: the backend never got it.
func TestClient_Do_DeadConnectionReused_NotSent(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	url := rawServer(t, func(conn net.Conn, requests *bufio.Reader, stop func()) {
		if !readRequest(requests) {
			return
		}
		_, _ = conn.Write([]byte(bareAnswer))
		if readRequest(requests) {
			stop() // the second request finds no server, and its connection breaks
			close(stopped)
		}
	})
	c := newClient(t, url, nil)
	if _, err := c.Do(t.Context(), httpbackend.Call{}); err != nil {
		t.Fatalf("the first call: %v", err)
	}
	_, err := c.Do(t.Context(), httpbackend.Call{})
	<-stopped
	if f := backends.AsFailure(err); f == nil || !f.IsConnect() {
		t.Errorf("got %v, want a failure to connect", err)
	}
}

// TestClient_Do_DroppedWithoutAByte_WasSent has the backend close a new connection once it has read the request.
func TestClient_Do_DroppedWithoutAByte_WasSent(t *testing.T) {
	t.Parallel()
	url := rawServer(t, func(_ net.Conn, requests *bufio.Reader, _ func()) { readRequest(requests) })
	_, err := newClient(t, url, nil).Do(t.Context(), httpbackend.Call{})
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTransport || f.IsConnect() {
		t.Errorf("got %v, want a failure of kind transport after the request was sent", err)
	}
}

// TestClient_Do_RedirectToNowhere_WasSent has the backend, whose redirects are followed, send the call to a closed port:
// a backend that answers is no backend that cannot be connected to.
func TestClient_Do_RedirectToNowhere_WasSent(t *testing.T) {
	t.Parallel()
	nowhere := startServer(t, nil)
	if err := nowhere.SetMode(backendtest.Refuse()); err != nil {
		t.Fatalf("set the middleware: %v", err)
	}
	url := rawServer(t, func(conn net.Conn, requests *bufio.Reader, _ func()) {
		readRequest(requests)
		_, _ = conn.Write([]byte("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + nowhere.URL() + "/\r\n\r\n"))
	})
	c := newClient(t, url, func(cfg *httpbackend.Config) { cfg.Preset = httpbackend.PresetAuthProxy })
	_, err := c.Do(t.Context(), httpbackend.Call{})
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTransport || f.IsConnect() {
		t.Errorf("got %v, want a failure of kind transport after the request was sent", err)
	}
}
