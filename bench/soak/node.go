package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"usher/bench/soak/clock"
	"usher/bench/soak/netns"
)

// Ports of a node.
const (
	publicPort = ":8080"
	adminURL   = "http://127.0.0.1:8081"
	publicURL  = "http://127.0.0.1" + publicPort
)

// answerDeadline is the backends' answer_deadline, which a viewer waits at most.
const answerDeadline = "1s"

// nodeSettings are those of a node. Times are short, so that a run of a minute has all of them. Viewers share an address, and
// tell their own as a balancer does.
const nodeSettings = `listen: ":8080"
trusted_proxies: [ 127.0.0.0/8, 10.77.0.0/24 ]
identity: { secret: %[2]q }
tickets: { keys: [ { id: a, secret: %[2]q } ] }
admin: { listen: "127.0.0.1:8081", token: %[2]q }
origins: { nginx: { url: "http://origin.soak:8000" } }
backends:
  portal1: &portal { kind: httprequest, address: "http://portal1.soak:8000/check", validity: 20s, on_failure: allow, answer_deadline: %[5]s }
  portal2: { <<: *portal, address: "http://portal2.soak:8000/check" }
routes:
  - { path: "/play/{channel}/*", origin: nginx, backend: portal1 }
  - { path: "/live/{channel}/*", origin: nginx, backend: portal2 }
  - { path: /auth/play, backend: portal1, edge: { dialect: nginx, networks: [ 127.0.0.0/8 ], viewer_path: "/play/{channel}/*" } }
  - { path: /auth/live, backend: portal2, edge: { dialect: nginx, networks: [ 127.0.0.0/8 ], viewer_path: "/live/{channel}/*" } }
sessions: { idle_timeout: 20s, denial_ttl: 5s, recheck: { min: 5s } }
cluster:
  node_name: %[1]s
  redis: { addresses: [ "redis.soak:6379" ] }
  encryption_keys: [ { id: a, secret: %[2]q } ]
  heartbeat_interval: 5s
  state_dir: %[3]q
cache: { max_size: 32MiB, max_object_size: 4MiB }
limits: { idle_timeout: 15s, write_timeout: 10s, read_timeout: 5s }
drain: { readiness_delay: 0s, timeout: 5s }
records:
  log: false
  webhook: { url: "http://collector.soak:8000/records", secret: %[4]q }
  spool: { path: "%[3]s/records.db", max_size: 1MiB }
tracing: { endpoint: "http://collector.soak:8000", protocol: http, sample: 0.1 }
log: { level: info }
`

// node is a node of Usher with a disk and a clock of its own.
type node struct {
	*server
	disk   string // its folder, as the node sees it
	secret string
	clock  clock.File
	client *http.Client
}

// diskSize is that of a node's disk: the least that bans and records fit on.
const diskSize = "8m"

// newNode mounts a node's disk and writes its settings.
func (w *world) newNode(ctx context.Context, h *netns.Host) (*node, error) {
	n := &node{disk: filepath.Join(w.folder, h.Name), secret: w.secret, client: clientOf(h)}
	settings, log := n.disk+".yaml", n.disk+".log"
	if w.config.Logs != "" {
		log = filepath.Join(w.config.Logs, "soak-"+h.Name+".log")
	}
	if err := os.Mkdir(n.disk, 0o700); err != nil {
		return nil, err
	}
	if err := h.Run(ctx, "mount", "-t", "tmpfs", "-o", "mode=0700,size="+diskSize, "soak", n.disk); err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, nodeSettings, h.Name, w.secret, n.disk, w.secret, answerDeadline)
	if w.config.sabotage != nil {
		text = []byte(w.config.sabotage(h.Name, string(text)))
	}
	var err error
	if n.clock, err = clock.Open(n.disk + ".clock"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(settings, text, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return nil, err
	}
	n.server = &server{host: h, command: func() *exec.Cmd {
		c := h.Command(ctx, "sh", "-c", `exec "$0" serve --config "$1" 2>>"$2"`, w.config.Usher, settings, log)
		c.Env = append(os.Environ(), n.clock.Environment())
		return c
	}, serves: func(ctx context.Context) error {
		status, body, err := fetch(ctx, n.client, adminURL+"/readyz", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	}}
	return n, nil
}

// url returns the base URL of the node for viewers.
func (n *node) url() string { return "http://" + n.host.Address.String() + publicPort }

// api sends a request to the node's API, and reads its answer into out, unless that is nil.
func (n *node) api(ctx context.Context, method, path string, in, out any) (status int, err error) {
	var content io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(text)
	}
	header := map[string]string{"Authorization": "Bearer " + n.secret, "Content-Type": "application/json"}
	status, body, err := send(ctx, n.client, method, adminURL+"/api/v1/"+path, header, content)
	if err == nil && out != nil && status < http.StatusMultipleChoices {
		err = json.Unmarshal(body, out)
	}
	return status, err
}

// fill fills the node's disk.
func (n *node) fill() error {
	f, err := os.Create(n.filler())
	if err != nil {
		return err
	}
	block := make([]byte, 1<<12) // a page, the least that fits
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close()
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

func (n *node) empty() error { return os.Remove(n.filler()) }

func (n *node) filler() string { return n.host.Path(n.disk + "/filler") }
