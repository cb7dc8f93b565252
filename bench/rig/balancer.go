package rig

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// balancer passes each connection to the next node that is ready.
type balancer struct {
	url      string
	nodes    []*balanced
	listener net.Listener
	next     atomic.Uint64
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// balanced is a node as the balancer sees it.
type balanced struct {
	node    *Node
	address string
	isReady atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// The readiness checks, as operators set them: a node that does not answer two in a row is left.
const (
	checkInterval = 200 * time.Millisecond
	checkTimeout  = 500 * time.Millisecond
	checkFailures = 2
)

func startBalancer(ctx context.Context, nodes []*Node) (*balancer, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	scheme, _, _ := strings.Cut(nodes[0].Public, ":") // what passes is theirs, TLS too
	b := &balancer{url: scheme + "://" + listener.Addr().String(), listener: listener, cancel: cancel}
	for _, n := range nodes {
		one := &balanced{node: n, address: n.ports[0].Address, conns: map[net.Conn]bool{}}
		one.isReady.Store(true)
		b.nodes = append(b.nodes, one)
		b.running.Go(func() { one.check(ctx) })
	}
	b.running.Go(func() { b.accept(ctx) })
	return b, nil
}

func (b *balancer) accept(ctx context.Context) {
	for {
		viewer, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.pass(ctx, viewer) })
	}
}

// pass copies a connection's bytes until either side ends.
func (b *balancer) pass(ctx context.Context, viewer net.Conn) {
	defer func() { _ = viewer.Close() }()
	one, server := b.dial(ctx)
	if server == nil {
		return
	}
	defer func() { _ = server.Close() }()
	one.keep(server, true)
	defer one.keep(server, false)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(server, viewer)
		_ = server.Close()
	})
	_, _ = io.Copy(viewer, server)
	_ = viewer.Close()
	copying.Wait()
}

// dial connects to the next node that is ready, else to any that accepts.
func (b *balancer) dial(ctx context.Context) (*balanced, net.Conn) {
	dialer := net.Dialer{Timeout: checkTimeout}
	first := b.next.Add(1)
	for _, wantReady := range []bool{true, false} {
		for i := range b.nodes {
			one := b.nodes[(first+uint64(i))%uint64(len(b.nodes))]
			if one.isReady.Load() != wantReady {
				continue
			}
			if c, err := dialer.DialContext(ctx, "tcp", one.address); err == nil {
				return one, c
			}
		}
	}
	return nil, nil
}

func (o *balanced) keep(c net.Conn, isOpen bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if isOpen {
		o.conns[c] = true
	} else {
		delete(o.conns, c)
	}
}

// check looks whether the node is ready until ctx ends. It cuts the connections of one that does not answer; one that answers that
// it is not ready ends them itself.
func (o *balanced) check(ctx context.Context) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		checkContext, cancel := context.WithTimeout(ctx, checkTimeout)
		_, status, err := get(checkContext, o.node.Admin+"/readyz", "")
		cancel()
		if err == nil {
			failures = 0
			o.isReady.Store(status == 200)
			continue
		}
		if failures++; failures >= checkFailures {
			o.isReady.Store(false)
			o.cut()
		}
	}
}

func (o *balanced) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		_ = c.Close()
	}
}

func (b *balancer) close() {
	b.cancel()
	_ = b.listener.Close()
	b.running.Wait()
}
