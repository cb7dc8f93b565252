package soak

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends/backendtest"
	"usher/bench/soak/netns"
)

// world is the servers of a run.
type world struct {
	config  Config
	folder  string
	secret  string // which the nodes share
	network *netns.Network
	hosts   map[string]*netns.Host
	nodes   []*node
	watched []*watched // by the nodes' order
	redis   *server
	nginx   *server
	portals map[string]*backendtest.Server
	closers []func()
	ledger  *ledger
	playing atomic.Int64 // players who have begun

	linksMu sync.Mutex
	// links are what faults do to links, by the names of their hosts and the fault.
	links map[[2]string]map[string]netns.Link
}

// build starts the servers. What it returns is the caller's to close, with an error too.
func build(ctx context.Context, c Config) (w *world, err error) {
	w = &world{
		config: c, secret: rand.Text(), hosts: map[string]*netns.Host{}, portals: map[string]*backendtest.Server{},
		links: map[[2]string]map[string]netns.Link{},
	}
	if w.folder, err = os.MkdirTemp("", "usher-soak-"); err != nil {
		return w, err
	}
	if w.network, err = netns.New(); err != nil {
		return w, err
	}
	for _, name := range []string{"viewers", "node1", "node2", "node3", "redis", "portal1", "portal2", "origin", "collector", "dns"} {
		if w.hosts[name], err = w.network.Add(ctx, name); err != nil {
			return w, err
		}
	}
	for _, start := range []func(context.Context) error{w.startDNS, w.startPortals, w.startCollector, w.startOrigin, w.startRedis, w.startNodes} {
		if err := start(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

// startDNS starts the DNS server, which the nodes ask for all others.
func (w *world) startDNS(ctx context.Context) error {
	addresses := map[string]netip.Addr{}
	for name, h := range w.hosts {
		addresses[name] = h.Address
	}
	end, err := serveDNS(ctx, w.hosts["dns"], addresses)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, end)
	resolver := filepath.Join(w.folder, "resolv.conf")
	text := fmt.Sprintf("nameserver %s\noptions timeout:1 attempts:2\n", w.hosts["dns"].Address)
	if err := os.WriteFile(resolver, []byte(text), 0o644); err != nil {
		return err
	}
	for number := range nodeCount {
		if err := w.hosts[nodeName(number)].Run(ctx, "mount", "--bind", resolver, "/etc/resolv.conf"); err != nil {
			return err
		}
	}
	return nil
}

// badToken begins the token of a viewer whom the middlewares deny.
const badToken = "bad-"

func (w *world) startPortals(context.Context) error {
	for _, name := range []string{"portal1", "portal2"} {
		p := backendtest.New(backendtest.Config{Address: ":8000", Lookup: func(token string) (backendtest.User, bool) {
			return backendtest.User{ID: token}, !strings.HasPrefix(token, badToken)
		}})
		if err := w.hosts[name].Do(p.Start); err != nil {
			return err
		}
		w.portals[name] = p
		w.closers = append(w.closers, p.Close)
	}
	return nil
}

// startCollector starts what takes traces and session records, and keeps none.
func (w *world) startCollector(ctx context.Context) error {
	l, err := w.hosts["collector"].Listen(ctx, ":8000")
	if err != nil {
		return err
	}
	w.serve(l, http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusOK) }))
	return nil
}

func (w *world) serve(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }() // closers end it
	w.closers = append(w.closers, func() { _ = s.Close() })
}

func (w *world) startOrigin(ctx context.Context) (err error) {
	folder := filepath.Join(w.folder, "nginx")
	p := newPackager(filepath.Join(folder, "www"))
	if err := p.write(ctx); err != nil {
		return err
	}
	for _, open := range []string{w.folder, folder} { // nginx's workers are another user's, as they should
		if err := os.Chmod(open, 0o755); err != nil {
			return err
		}
	}
	packaging, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { p.run(packaging) })
	w.closers = append(w.closers, func() {
		cancel()
		running.Wait()
	})
	if w.nginx, err = newNginx(ctx, w.hosts["origin"], folder); err != nil {
		return err
	}
	return w.nginx.start(ctx)
}

func (w *world) startRedis(ctx context.Context) error {
	h := w.hosts["redis"]
	w.redis = &server{host: h, command: func() *exec.Cmd {
		return h.Command(ctx, "redis-server", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no",
			"--dir", w.folder)
	}, serves: func(ctx context.Context) error {
		c, err := h.Dial(ctx, "tcp", "127.0.0.1:6379")
		if err == nil {
			err = c.Close()
		}
		return err
	}}
	return w.redis.start(ctx)
}

func (w *world) startNodes(ctx context.Context) error {
	for number := range nodeCount {
		n, err := w.newNode(ctx, w.hosts[nodeName(number)])
		if err != nil {
			return err
		}
		w.nodes, w.watched = append(w.nodes, n), append(w.watched, &watched{heard: map[string]hearing{}})
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.host.Name == name {
			return n
		}
	}
	return nil
}

// server returns the process in a host.
func (w *world) server(name string) *server {
	switch name {
	case "redis":
		return w.redis
	case "origin":
		return w.nginx
	}
	return w.node(name).server
}

// checkDeaths breaks a promise for each server that ended although nobody killed it.
func (w *world) checkDeaths() error {
	var errs []error
	for _, name := range []string{"node1", "node2", "node3", "redis", "origin"} {
		fault := ""
		if output, hasDied := w.server(name).died(); hasDied {
			fault = fmt.Sprintf("%s: %s", name, output)
			errs = append(errs, errors.New(fault))
		}
		w.ledger.check(nodesLive, fault)
	}
	return errors.Join(errs...)
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.close()
	}
	for _, s := range []*server{w.redis, w.nginx} {
		if s != nil {
			s.close()
		}
	}
	for _, end := range w.closers {
		end()
	}
	if w.network != nil {
		w.network.Close()
	}
	if w.folder != "" {
		_ = os.RemoveAll(w.folder)
	}
}
