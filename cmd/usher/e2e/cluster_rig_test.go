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

// clusterSetup is what the nodes of a cluster have in common. Its parts are YAML in flow style, as in [setup].
type clusterSetup struct {
	origin, middleware string // addresses
	// redis is the section cluster.redis; empty: a node alone.
	redis string
	// backend, sessions and cluster are further pairs of these sections, route of the route.
	backend, sessions, cluster, route string
	// more is further lines of the top level.
	more string
	// deadline is redis_timeout. Zero is 400 ms: with the race detector and a busy machine the default is too short.
	deadline time.Duration
	// binary is the one that the nodes run; empty: the one with the race detector.
	binary string
	// idle is the silence after which a viewer is gone; zero is IdleTimeout.
	idle time.Duration
	// host is where the nodes listen; empty is 127.0.0.1. netns is the network namespace they live in, if any.
	host, netns string
}

// Times of the nodes under test: what takes a minute in production takes seconds.
const (
	heartbeat   = 2 * time.Second
	idleTimeout = 8 * time.Second
)

// yaml is a node's settings file.
func (s clusterSetup) yaml(name, listen, admin string) string {
	shared := ""
	if s.redis != "" {
		shared = fmt.Sprintf("cluster: { node_name: %s, redis: { %s }, encryption_keys: [ { id: a, secret: \"a secret of the cluster of the test\" } ], heartbeat_interval: %s, redis_timeout: %s, %s }",
			name, s.redis, heartbeat, cmp.Or(s.deadline, 400*time.Millisecond), s.cluster)
	}
	return fmt.Sprintf(`
listen: %q
trusted_proxies: [127.0.0.1/32]
identity: { secret: "an identity secret of the test" }
tickets: { keys: [ { id: a, secret: "a ticket secret of the test" } ] }
origins: { origin: { url: %q } }
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
`, listen, s.origin, s.middleware+"/check", s.backend, s.route, cmp.Or(s.idle, idleTimeout), s.sessions, admin, adminToken, shared, s.more)
}

// member is a node of a cluster. It may be killed and started again.
type member struct {
	*node
	name   string
	netns  string
	binary string
	past   []*process
}

// startMember runs a node of that name and waits until it is ready.
func startMember(t *testing.T, s clusterSetup, name string) *member {
	t.Helper()
	listen, admin := freePort(t), freePort(t)
	if s.host != "" {
		listen, admin = s.host+":"+port(listen), s.host+":"+port(admin)
	}
	m := &member{
		name: name, netns: s.netns, binary: cmp.Or(s.binary, binary(t)),
		node: &node{
			public: "http://" + listen, admin: "http://" + admin, client: newClient(t, ""),
			file: filepath.Join(t.TempDir(), name+".yaml"),
		},
	}
	if err := os.WriteFile(m.file, []byte(s.yaml(name, listen, admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	return m
}

// start starts the node, also again after it has ended.
func (m *member) start(t *testing.T) {
	t.Helper()
	m.begin(t)
	m.await(t)
}

// begin starts the node's process.
func (m *member) begin(t *testing.T) {
	t.Helper()
	command := []string{m.binary, "serve", "--config", m.file}
	if m.netns != "" {
		command = append([]string{tool(t, "ip", "iproute2"), "netns", "exec", m.netns}, command...)
	}
	m.process = start(t, command[0], command[1:]...)
	m.past = append(m.past, m.process)
}

// await waits until the node is ready.
func (m *member) await(t *testing.T) {
	t.Helper()
	eventually(t, patience, m.name+" is ready", func() error {
		if m.ended() {
			t.Fatalf("%s ended by itself:\n%s", m.name, m.errs)
		}
		return m.readiness(http.StatusOK)
	})
}

// log is all that the node has written so far, over all its starts.
func (m *member) log() string {
	var all strings.Builder
	for _, p := range m.past {
		all.WriteString(p.errs.String())
	}
	return all.String()
}

// tell sends the admin API a question that changes something, and reads the answer into the value, if that is not nil.
func (m *member) tell(method, path string, body, into any) error {
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
func (m *member) kick(id string) error {
	return m.tell(http.MethodPost, "sessions/"+id+"/kick", map[string]string{"duration": "5m", "reason": "test"}, nil)
}

// ban refuses a user on all nodes, and returns the ban's id.
func (m *member) ban(user string) (id string, err error) {
	var ban struct{ ID string }
	err = m.tell(http.MethodPost, "bans", map[string]string{"user": user, "duration": "1h", "reason": "test"}, &ban)
	if err == nil && ban.ID == "" {
		err = fmt.Errorf("the ban of %s has no id", user)
	}
	return ban.ID, err
}

// isAway reports whether Redis is unavailable to the node, by its metrics.
func (m *member) isAway() (bool, error) {
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

// awaitAway waits until Redis is unavailable to every node, or available to every node.
func awaitAway(t *testing.T, nodes []*member, want bool) {
	t.Helper()
	for _, m := range nodes {
		eventually(t, patience, fmt.Sprintf("away is %t on %s", want, m.name), func() error {
			got, err := m.isAway()
			if err == nil && got != want {
				err = fmt.Errorf("it is %t", got)
			}
			return err
		})
	}
}

// cluster is nodes that share a Redis, and a balancer in front that sends each request to another one.
type cluster struct {
	nodes      []*member
	middleware *backendtest.Server
	url        string       // the balancer's
	setup      clusterSetup // all nodes have it
	*witness
}

// startCluster runs so many nodes behind HAProxy. What the setup lacks of origin and middleware is started.
func startCluster(t *testing.T, count int, s clusterSetup) *cluster {
	t.Helper()
	c := &cluster{middleware: startMiddleware(t), witness: new(witness)}
	s.middleware = c.middleware.URL()
	if s.origin == "" {
		s.origin = startStage(t, nil)
	}
	c.setup = s
	for i := range count {
		c.nodes = append(c.nodes, startMember(t, s, fmt.Sprintf("n%d", i+1)))
	}
	c.url = startBalancer(t, c.nodes)
	return c
}

// answeredBy is the header in which the balancer says which node an answer is from. Its own answers have none.
const answeredBy = "X-Answered-By"

// startBalancer runs HAProxy in front of nodes, as operators do: the next node for each request, readiness asked for five
// times a second, and a request whose node is gone sent to another one. What a node answers is never retried: a viewer is
// to see every refusal.
func startBalancer(t *testing.T, nodes []*member) string {
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
		config += fmt.Sprintf("\tserver %s %s port %s\n", m.name, host(m.public), port(host(m.admin)))
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := start(t, tool(t, "haproxy", "haproxy"), "-db", "-f", file)
	client := newClient(t, "")
	eventually(t, patience, "HAProxy answers", func() error {
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

// watch starts that many viewers behind the balancer, each with its own token: good-0, good-1 and so on.
func (c *cluster) watch(t *testing.T, count int) (viewers []*viewer, stop func()) {
	t.Helper()
	viewers = c.viewers(t, count, false)
	return viewers, audience(t, viewers)
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
	v.client.Transport = c.of(v.client.Transport)
	return v
}
