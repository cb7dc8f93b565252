package redistest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Cluster is a Redis Cluster of one master, which clients reach through a proxy.
type Cluster struct {
	*Server
	// Address is where the proxy listens.
	Address string

	intercept atomic.Pointer[func(request string) (reply string, isTaken bool)]
}

// Intercept has f see each request before the server does. If f takes a request, the client gets the reply in the server's place.
// With an empty reply the server runs the request, and the connection breaks before the client has an answer.
func (c *Cluster) Intercept(f func(request string) (reply string, isTaken bool)) {
	c.intercept.Store(&f)
}

// StartCluster starts a Redis Cluster that has all hash slots. It ends with the test.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	c := &Cluster{Address: listener.Addr().String()}
	// It has no address of this host, and so no bus, whose port another server might use.
	c.Server = Start(t, append([]string{
		"--cluster-enabled", "yes", "--bind", "-192.0.2.1", "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", port,
	}, args...)...)
	var conns sync.WaitGroup
	conns.Go(func() { c.accept(t.Context(), listener, &conns) })
	t.Cleanup(func() { // t's context has ended by then
		_ = listener.Close()
		conns.Wait()
	})
	if err := c.Client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "the cluster is up", func() bool {
		return strings.Contains(c.Client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	return c
}

// accept serves connections until the listener is closed. They end with ctx.
func (c *Cluster) accept(ctx context.Context, listener net.Listener, conns *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer func() { _ = client.Close() }()
			server, err := new(net.Dialer).DialContext(ctx, "unix", c.Socket)
			if err != nil {
				return
			}
			defer func() { _ = server.Close() }()
			stop := context.AfterFunc(ctx, func() { _ = client.Close() })
			defer stop()
			conns.Go(func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			})
			c.forward(client, server)
		})
	}
}

// forward sends the client's requests to the server until one of the connections breaks.
func (c *Cluster) forward(client, server net.Conn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if f := c.intercept.Load(); f != nil {
			reply, isTaken := (*f)(string(buffer[:n]))
			if isTaken && reply == "" {
				_ = client.Close()
			}
			if isTaken && reply != "" {
				_, _ = fmt.Fprint(client, reply)
				continue
			}
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}
