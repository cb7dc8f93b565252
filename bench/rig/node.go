package rig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v4"

	"usher/bench/process"
)

// Node is a node of Usher, a process of its own.
type Node struct {
	Name string
	// Public and Admin are base URLs.
	Public, Admin string

	binary, file string
	ports        []*process.Port

	server
}

// nodeAuthPath is where edges ask a node.
const nodeAuthPath = "/auth/nginx"

// nodeSettings are those of a node. Bounds that would refuse many viewers from few addresses are off.
const nodeSettings = `listen: %q
trusted_proxies: [ 127.0.0.0/8 ]
identity: { secret: %[2]q }
tickets: { keys: [ { id: a, secret: %[2]q } ] }
admin: { listen: %[3]q, token: %[2]q }
origins: { stage: { url: %[4]q } }
backends:
  portal:
    kind: httprequest
    address: %[5]q
    validity: %[6]s
    recheck_rate: %[7]d
    on_failure: %[8]q
    max_in_flight: 1024
    max_waiting: 20000
routes:
  - { path: "/play/{channel}/*", origin: stage, backend: portal }
  - { path: "/single/{channel}/*", origin: stage, backend: portal }
  - path: /auth/nginx
    backend: portal
    edge: { dialect: nginx, networks: [ 127.0.0.0/8 ], viewer_path: "/play/{channel}/*" }
sessions:
  max: %[9]d
  open_rate_per_address: 1000000
  open_burst_per_address: 1000000
  open_rate_per_network: 1000000 # all viewers come from this machine
  open_burst_per_network: 2000000
  open_rate: 1000000
  open_burst: 2000000
  recheck: { min: 1s }
drain: { readiness_delay: 1s, timeout: 10s }
log: { level: error }
`

// newNode reserves a node's ports and writes its settings file. The node is the caller's to close, with an error too.
func newNode(g *Rig, name, origin string) (*Node, error) {
	n := &Node{Name: name, binary: g.options.Binary, file: filepath.Join(g.folder, name+".yaml")}
	for _, base := range []*string{&n.Public, &n.Admin} {
		p, err := process.ReservePort()
		if err != nil {
			return n, err
		}
		n.ports = append(n.ports, p)
		*base = "http://" + p.Address
	}
	text, err := n.settings(g, origin)
	if err != nil {
		return n, err
	}
	return n, os.WriteFile(n.file, text, 0o600)
}

// settings returns the node's settings file.
func (n *Node) settings(g *Rig, origin string) ([]byte, error) {
	o := &g.options
	secret := g.secret
	base := fmt.Sprintf(nodeSettings, n.ports[0].Address, secret, n.ports[1].Address, origin, g.Middleware.URL()+"/check", o.Validity,
		o.RecheckRate, o.OnFailure, max(o.Sessions, 1000))
	settings := map[string]any{}
	if err := yaml.Unmarshal([]byte(base), &settings); err != nil {
		return nil, err
	}
	if g.redis != nil {
		merge(settings, map[string]any{"cluster": map[string]any{
			"node_name": n.Name, "redis": map[string]any{"addresses": []any{g.redis.port.Address}},
			"encryption_keys": []any{map[string]any{"id": "a", "secret": secret}},
		}})
	}
	if g.collector != nil {
		merge(settings, g.tracing())
	}
	if o.TLS {
		files, err := g.useTLS()
		if err != nil {
			return nil, err
		}
		merge(settings, files)
		n.Public = "https://" + n.ports[0].Address
	}
	merge(settings, o.Settings)
	return yaml.Marshal(settings)
}

// merge puts the values of over into m, mappings key by key.
func merge(m, over map[string]any) {
	for key, value := range over {
		inner, isMap := value.(map[string]any)
		old, wasMap := m[key].(map[string]any)
		if isMap && wasMap {
			old = maps.Clone(old)
			merge(old, inner)
			value = old
		}
		m[key] = value
	}
}

// Start starts the node's process, and waits until it is ready.
func (n *Node) Start(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), n.binary, "serve", "--config", n.file)
	p, err := process.Start(cmd)
	if err != nil {
		return err
	}
	n.started(p)
	return poll(ctx, p, n.Name, func() error { return n.isReady(ctx) })
}

var errNotReady = errors.New("not ready")

func (n *Node) isReady(ctx context.Context) error {
	text, status, err := get(ctx, n.Admin+"/readyz", "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%w: %s", errNotReady, strings.TrimSpace(string(text)))
	}
	return err
}

// PID returns the id of the present process.
func (n *Node) PID() int { return n.running().PID() }

// Kill ends the process without warning.
func (n *Node) Kill() {
	p := n.end()
	_ = p.Signal(syscall.SIGKILL) // it has ended
	<-p.Ended()
}

// Restart drains the node, and starts it anew.
func (n *Node) Restart(ctx context.Context) error {
	const drainTimeout = 30 * time.Second
	p := n.end()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("restart %s: %w", n.Name, err)
	}
	select {
	case <-p.Ended():
	case <-time.After(drainTimeout):
		n.Kill()
		return fmt.Errorf("restart %s: it did not end within %v", n.Name, drainTimeout)
	}
	return n.Start(ctx)
}

func (n *Node) close() {
	if p := n.running(); p != nil {
		_ = p.Signal(syscall.SIGKILL) // the run is over: nothing waits for its viewers
		_ = p.Signal(syscall.SIGCONT)
		p.Stop()
	}
	for _, p := range n.ports {
		p.Release()
	}
}
