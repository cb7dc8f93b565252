package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// clusterSetup holds the settings that the nodes of a cluster share. Its parts are YAML in flow style, as in [setup].
type clusterSetup struct {
	origin, middleware string // addresses
	// redis is the section cluster.redis; empty: a single node.
	redis string
	// upstream (of the origin), backend, sessions, cluster and route are further settings of these sections.
	upstream, backend, sessions, cluster, route string
	// more holds further top-level lines.
	more string
	// deadline is redis_timeout; zero: 400 ms, because the default is too short for the race detector on a busy machine.
	deadline time.Duration
	// binary is the path of the nodes' binary; empty: the one with the race detector.
	binary string
	// idle is sessions.idle_timeout; zero: the constant idleTimeout.
	idle time.Duration
	// host is the address that the nodes listen on; empty: 127.0.0.1. netns is their network namespace, if any.
	host, netns string
}

// The nodes' times are seconds where production has minutes.
const (
	heartbeat   = 2 * time.Second
	idleTimeout = 8 * time.Second
)

// yaml returns a node's settings file.
func (s clusterSetup) yaml(name, listen, admin string) string {
	shared := ""
	if s.redis != "" {
		shared = fmt.Sprintf("cluster: { node_name: %s, redis: { %s }, encryption_keys: [ { id: a, secret: \"a secret of the cluster of the test\" } ], heartbeat_interval: %s, session_ttl: %s, redis_timeout: %s, %s }",
			name, s.redis, heartbeat, max(30*time.Minute, 2*s.idle), cmp.Or(s.deadline, 400*time.Millisecond), s.cluster)
	}
	return fmt.Sprintf(`
listen: %q
trusted_proxies: [127.0.0.1/32]
identity: { secret: "an identity secret of the test" }
tickets: { keys: [ { id: a, secret: "a ticket secret of the test" } ] }
origins: { origin: { url: %q, %s } }
backends:
  portal: { kind: httprequest, address: %q, %s }
routes:
  - { path: "/play/{channel}/*", origin: origin, backend: portal, %s }
sessions: { idle_timeout: %s, %s }
admin: { listen: %q, token: %q }
drain: { readiness_delay: 2s, timeout: 10s }
log: { level: debug }
%s
%s
`, listen, s.origin, s.upstream, s.middleware+"/check", s.backend, s.route, cmp.Or(s.idle, idleTimeout), s.sessions, admin, adminToken, shared, s.more)
}

// clusterNode is a node of a cluster. Tests kill and restart it.
type clusterNode struct {
	*node
	name   string
	netns  string
	binary string
	past   []*process
}

// startClusterNode runs a node of that name and waits until it is ready.
func startClusterNode(t *testing.T, s clusterSetup, name string) *clusterNode {
	t.Helper()
	listen, admin := freePort(t), freePort(t)
	if s.host != "" {
		listen, admin = s.host+":"+port(listen), s.host+":"+port(admin)
	}
	scheme, front := frontOf(t)
	s.more += "\n" + front
	m := &clusterNode{
		name: name, netns: s.netns, binary: cmp.Or(s.binary, binary(t)),
		node: &node{
			public: scheme + listen, admin: "http://" + admin, client: newClient(t, ""),
			file: filepath.Join(t.TempDir(), name+".yaml"),
		},
	}
	if err := os.WriteFile(m.file, []byte(s.yaml(name, listen, admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	return m
}

// start starts or restarts the node.
func (m *clusterNode) start(t *testing.T) {
	t.Helper()
	m.startProcess(t)
	m.await(t)
}

// startProcess starts the node's process.
func (m *clusterNode) startProcess(t *testing.T) {
	t.Helper()
	command := []string{m.binary, "serve", "--config", m.file}
	if m.netns != "" {
		command = append([]string{tool(t, "ip", "iproute2"), "netns", "exec", m.netns}, command...)
	}
	m.process = start(t, command[0], command[1:]...)
	m.past = append(m.past, m.process)
}

// await waits until the node is ready.
func (m *clusterNode) await(t *testing.T) {
	t.Helper()
	eventually(t, waitTimeout, m.name+" is ready", func() error {
		if m.ended() {
			t.Fatalf("%s ended by itself:\n%s", m.name, m.errs)
		}
		return m.readiness(http.StatusOK)
	})
}

// log returns the log of the node so far, over all its starts.
func (m *clusterNode) log() string {
	var all strings.Builder
	for _, p := range m.past {
		all.WriteString(p.errs.String())
	}
	return all.String()
}

// call sends a request to the admin API, and decodes the response unless into is nil.
func (m *clusterNode) call(method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(method, m.admin+"/api/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	resp, err := m.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %d %s: %w", method, path, resp.StatusCode, bytes.TrimSpace(answer), err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// kick ends a session on all nodes.
func (m *clusterNode) kick(id string) error {
	return m.call(http.MethodPost, "sessions/"+id+"/kick", map[string]string{"duration": "5m", "reason": "test"}, nil)
}

// ban refuses a user on all nodes, and returns the ban's id.
func (m *clusterNode) ban(user string) (id string, err error) {
	var ban struct{ ID string }
	err = m.call(http.MethodPost, "bans", map[string]string{"user": user, "duration": "1h", "reason": "test"}, &ban)
	if err == nil && ban.ID == "" {
		err = fmt.Errorf("the ban of %s has no id", user)
	}
	return ban.ID, err
}

// isRedisDown reports whether the node's metrics say that Redis is unavailable.
func (m *clusterNode) isRedisDown() (bool, error) {
	status, body, err := fetch(m.client, m.admin+"/metrics")
	if err != nil || status != http.StatusOK {
		return false, fmt.Errorf("metrics of %s: %d, %w", m.name, status, err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, "usher_redis_up"); ok {
			return strings.TrimSpace(value[strings.LastIndexByte(value, ' ')+1:]) == "0", nil
		}
	}
	return false, fmt.Errorf("metrics of %s: no usher_redis_up", m.name)
}

// awaitRedisDown waits until Redis is unavailable to every node, or available to every node.
func awaitRedisDown(t *testing.T, nodes []*clusterNode, want bool) {
	t.Helper()
	for _, m := range nodes {
		eventually(t, waitTimeout, fmt.Sprintf("redis unavailable is %t on %s", want, m.name), func() error {
			got, err := m.isRedisDown()
			if err == nil && got != want {
				err = fmt.Errorf("it is %t", got)
			}
			return err
		})
	}
}

// cluster is nodes that share a Redis, and a balancer that sends each request to the next node.
type cluster struct {
	nodes      []*clusterNode
	middleware *backendtest.Server
	url        string       // the balancer's
	setup      clusterSetup // all nodes have it
	*witness
}

// startCluster runs that many nodes behind HAProxy. It starts a middleware, and an origin if the setup has none.
func startCluster(t *testing.T, count int, s clusterSetup) *cluster {
	t.Helper()
	c := &cluster{middleware: startMiddleware(t), witness: new(witness)}
	s.middleware = c.middleware.URL()
	if s.origin == "" {
		s.origin = startStage(t, nil)
	}
	c.setup = s
	for i := range count {
		c.nodes = append(c.nodes, startClusterNode(t, s, fmt.Sprintf("n%d", i+1)))
	}
	c.url = startBalancer(t, c.nodes)
	return c
}

// answeredBy is the header with which the balancer names the node that answered. The balancer's own responses have none.
const answeredBy = "X-Answered-By"

// startBalancer runs HAProxy in front of the nodes, as operators do. It sends each request to the next node, checks
// readiness five times a second, and sends a request again if its node does not answer. It never retries a node's response:
// viewers must see every refusal.
func startBalancer(t *testing.T, nodes []*clusterNode) string {
	t.Helper()
	listen, file := freePort(t), filepath.Join(t.TempDir(), "haproxy.cfg")
	config := `
defaults
	mode http
	maxconn 4000
	timeout connect 1s
	timeout client 30s
	timeout server 30s
	timeout queue 5s
	timeout check 2s
	option redispatch 1
	retries 5
	retry-on conn-failure empty-response response-timeout 0rtt-rejected
listen usher
	bind ` + listen + `
	balance roundrobin
	option forwardfor
	option httpchk GET /readyz
	default-server check inter 200ms fastinter 50ms fall 2 rise 1
	http-response set-header ` + answeredBy + ` %s
`
	for _, m := range nodes {
		config += fmt.Sprintf("\tserver %s %s port %s", m.name, host(m.public), port(host(m.admin)))
		if strings.HasPrefix(m.public, "https:") {
			config += " ssl verify none"
		}
		config += "\n"
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := start(t, tool(t, "haproxy", "haproxy"), "-db", "-f", file)
	client := newClient(t, "")
	eventually(t, waitTimeout, "HAProxy answers", func() error {
		if haproxy.ended() {
			t.Fatalf("HAProxy ended: %s", haproxy.errs)
		}
		status, _, err := fetch(client, "http://"+listen+"/")
		if err == nil && status != http.StatusNotFound {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return "http://" + listen
}

// watch starts that many viewers behind the balancer, each with their own token: good-0, good-1 and so on.
func (c *cluster) watch(t *testing.T, count int) (viewers []*viewer, stop func()) {
	t.Helper()
	viewers = c.viewers(t, count, false)
	return viewers, startWatching(t, viewers)
}

// viewers returns viewers with a token each, from an address each or from one.
func (c *cluster) viewers(t *testing.T, count int, isOneAddress bool) (viewers []*viewer) {
	t.Helper()
	for i := range count {
		address := i
		if isOneAddress {
			address = 0
		}
		viewers = append(viewers, c.viewer(t, address, fmt.Sprintf("/play/a%03d/low.m3u8?token=good-%d", i%20, i)))
	}
	return viewers
}

// viewer returns a viewer behind the balancer whose responses the witness records.
func (c *cluster) viewer(t *testing.T, number int, path string) *viewer {
	t.Helper()
	v := newViewer(t, number, c.url+path)
	v.client.Transport = c.wrap(v.client.Transport)
	return v
}
