package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/admin"
	"usher/gateway/gatewaytest"
)

// pipeListener accepts one connection, which runs in the time of a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestNode_ServeAdmin_SlowClient has clients that ask for nothing more, send no body, or read a page for long.
func TestNode_ServeAdmin_SlowClient(t *testing.T) {
	t.Parallel()
	const request = " / HTTP/1.1\r\nHost: node\r\n"
	tests := map[string]struct {
		request string
		handler http.HandlerFunc
		// body is how long the response's body is, and closesWithin when the connection ends afterwards.
		body         int
		closesWithin time.Duration
	}{
		"an idle connection": {"GET" + request + "\r\n", func(http.ResponseWriter, *http.Request) {}, 0, 2 * time.Minute},
		"a body that does not come": {"POST" + request + "Content-Length: 9\r\n\r\n", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
		}, 0, time.Minute},
		"an open page": {"GET" + request + "\r\n", func(w http.ResponseWriter, r *http.Request) {
			for range 60 {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(10 * time.Second):
				}
				c := http.NewResponseController(w)
				_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
				_, _ = io.WriteString(w, ".")
				_ = c.Flush()
			}
		}, 60, 2 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &node{logger: slog.New(slog.DiscardHandler)}
				n.current.Store(&generation{admin: test.handler})
				ctx, stop := context.WithCancel(t.Context())
				client, server := net.Pipe()
				on := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
				on.conns <- server
				ended := make(chan error, 1)
				go func() { ended <- n.serveAdmin(ctx, on) }()
				if _, err := io.Copy(client, strings.NewReader(test.request)); err != nil {
					t.Fatal(err)
				}
				from := bufio.NewReader(client)
				if err := client.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				response, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if err != nil || len(body) != test.body {
					t.Errorf("a body of %d bytes, %v; want %d", len(body), err, test.body)
				}
				begin := time.Now()
				if _, err := from.ReadByte(); !errors.Is(err, io.EOF) || time.Since(begin) > test.closesWithin {
					t.Errorf("the connection ends after %v with %v; want its end within %v", time.Since(begin), err, test.closesWithin)
				}
				stop()
				if err := errors.Join(<-ended, client.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestNode_ServeAdmin_ManyConnections has clients hold connections open without end. Who comes after them is answered.
func TestNode_ServeAdmin_ManyConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &node{logger: slog.New(slog.DiscardHandler), recorder: admin.NewRecorder()}
		n.current.Store(&generation{admin: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
		ctx, stop := context.WithCancel(t.Context())
		on := gatewaytest.NewListener()
		ended := make(chan error, 1)
		go func() { ended <- n.serveAdmin(ctx, on) }()
		var closed atomic.Int32
		for range 5000 {
			c, err := on.Dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = c.Read(make([]byte, 1))
				closed.Add(1)
				_ = c.Close()
			}()
		}
		synctest.Wait()
		if got := closed.Load(); got != 1000 {
			t.Errorf("%d of 5000 connections are closed, want all but 4000", got)
		}
		resp, err := on.Client(t).Get("http://node/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}
