package rig

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"usher/backends/backendtest"
	"usher/bench/attack"
	"usher/bench/peers"
	"usher/bench/process"
	"usher/bench/stage"
)

// Usher is the name of the server that is no peer.
const Usher = "usher"

// Options say which servers a rig has.
type Options struct {
	// Server is Usher or the name of a peer.
	Server string
	// Binary is the path of the program usher.
	Binary string
	Nodes  int
	// Redis starts redis-server, which the nodes share.
	Redis bool
	// Collector starts a collector of traces, which gets those of all openings and re-checks.
	Collector bool
	// TLS has the nodes speak TLS to viewers, and so HTTP/2 too.
	TLS bool
	// Balancer puts a balancer of connections before the nodes.
	Balancer bool
	// Latency is the middleware's.
	Latency time.Duration
	// Validity is how long an answer of the middleware holds.
	Validity time.Duration
	// Segment is the length of a segment, and SegmentSize its least size in bytes; 0: as the media is.
	Segment     time.Duration
	SegmentSize int
	// Sessions is for how many sessions there is room.
	Sessions int
	// OnFailure is the outage policy, and RecheckRate the backend's recheck_rate.
	OnFailure   string
	RecheckRate int
	// Settings are merged into a node's settings file.
	Settings map[string]any
	// Attacker is the command that attacks, see [attack.Attack.RunBy]. Empty: this process does, whose viewers then wait for it.
	Attacker []string
}

// Rig is running servers. Its methods are safe for concurrent use, except Close.
type Rig struct {
	// Middleware is nil if the operator runs it.
	Middleware *backendtest.Server
	Nodes      []*Node
	// TLS is what viewers know the nodes by; nil: they speak no TLS.
	TLS *tls.Config

	options   Options
	secret    string // which the nodes share
	folder    string
	origin    *http.Server
	fault     atomic.Pointer[originFault]
	fetches   atomic.Int64 // requests to the origin
	redis     *redis
	collector *backendtest.Server
	peer      *peers.Peer
	balancer  *balancer
	external  *External
	sampler   sampler
	attack    atomic.Pointer[attack.Attack] // the last one; nil: none yet
}

// BadToken begins the token of a viewer whom the middleware denies.
const BadToken = "bad-"

// Start starts the servers, and waits until they serve.
func Start(ctx context.Context, o Options) (_ *Rig, err error) {
	g := &Rig{options: o, secret: rand.Text()}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.folder, err = os.MkdirTemp("", "usher-rig-"); err != nil {
		return nil, err
	}
	if err := g.startMiddleware("127.0.0.1:0"); err != nil {
		return nil, err
	}
	origin, err := g.startOrigin(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if o.Server != Usher && o.Server != "" {
		g.peer, err = peers.Start(ctx, o.Server, peers.Options{Origin: origin, Auth: g.Middleware.URL() + "/auth", AuthTTL: o.Validity})
		return g, err
	}
	if o.Redis {
		if g.redis, err = startRedis(ctx, g.folder); err != nil {
			return nil, err
		}
	}
	if err := g.startCollector(); err != nil {
		return nil, err
	}
	if err := g.startNodes(ctx, origin); err != nil {
		return nil, err
	}
	if o.Balancer {
		g.balancer, err = startBalancer(ctx, g.Nodes)
	}
	return g, err
}

func (g *Rig) startMiddleware(address string) error {
	g.Middleware = backendtest.New(backendtest.Config{
		Address: address, // nothing is recorded
		Lookup: func(token string) (backendtest.User, bool) {
			return backendtest.User{}, !strings.HasPrefix(token, BadToken)
		},
	})
	if err := g.Middleware.Start(); err != nil {
		return err
	}
	return g.Middleware.SetMode(g.healthy())
}

// healthy is the middleware's mode without a fault.
func (g *Rig) healthy() backendtest.Mode {
	if g.options.Latency > 0 {
		return backendtest.Slow(g.options.Latency)
	}
	return backendtest.Healthy()
}

func (g *Rig) startOrigin(ctx context.Context, address string) (url string, err error) {
	config := stage.Config{SegmentDuration: g.options.Segment, StuffTo: g.options.SegmentSize, Hook: g.breakOrigin}
	if err := config.Validate(); err != nil {
		return "", err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("start the origin: %w", err)
	}
	g.origin = &http.Server{Handler: stage.NewOrigin(config), ReadHeaderTimeout: time.Minute}
	go func() { _ = g.origin.Serve(listener) }() // Close ends it
	return "http://" + listener.Addr().String(), nil
}

func (g *Rig) startNodes(ctx context.Context, origin string) error {
	for i := range max(1, g.options.Nodes) {
		n, err := newNode(g, fmt.Sprintf("node%d", i+1), origin)
		g.Nodes = append(g.Nodes, n)
		if err != nil {
			return err
		}
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// URLs returns the addresses that viewers use.
func (g *Rig) URLs() []string {
	switch {
	case g.external != nil:
		return g.external.URLs
	case g.peer != nil:
		return []string{g.peer.URL}
	case g.balancer != nil:
		return []string{g.balancer.url}
	}
	var all []string
	for _, n := range g.Nodes {
		all = append(all, n.Public)
	}
	return all
}

// AuthPath returns where edges ask; empty: they cannot.
func (g *Rig) AuthPath() string {
	switch {
	case g.external != nil:
		return g.external.AuthPath
	case g.peer != nil:
		return strings.TrimPrefix(g.peer.AuthURL, g.peer.URL)
	}
	return nodeAuthPath
}

// Close ends all servers.
func (g *Rig) Close() {
	if g.balancer != nil {
		g.balancer.close()
	}
	for _, n := range g.Nodes {
		n.close()
	}
	if g.peer != nil {
		_ = g.peer.Close() // its folder is temporary
	}
	if g.redis != nil {
		g.redis.close()
	}
	if g.origin != nil {
		_ = g.origin.Close()
	}
	if g.Middleware != nil {
		g.Middleware.Close()
	}
	if g.collector != nil {
		g.collector.Close()
	}
	if g.folder != "" {
		_ = os.RemoveAll(g.folder)
	}
}

const (
	startTimeout = 30 * time.Second
	pollTimeout  = time.Second
	pollInterval = 20 * time.Millisecond
)

// poll waits until a server serves.
func poll(ctx context.Context, p *process.Process, name string, serves func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := serves()
		if err == nil {
			return nil
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("%s ended: %s", name, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %w: %s", name, err, p.Output())
		case <-time.After(pollInterval):
		}
	}
}
