package gatewaytest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Listener is a listener without sockets, for use within synctest.Test. Dial connects to it. It is safe for concurrent use.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewListener makes a listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept returns the next connection that is dialed, or net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial. The connections stay.
func (l *Listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

// Addr returns an address that nobody can dial.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// Dial connects to the listener, whatever the network and address. It waits for Accept.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Client returns an HTTP client that dials the listener.
func (l *Listener) Client(t *testing.T) *http.Client {
	c := &http.Client{Transport: &http.Transport{DialContext: l.Dial}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}
