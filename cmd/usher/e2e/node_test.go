package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// adminToken is the bearer token of every node's API.
const adminToken = "an operator's token"

// setup holds the settings in which a test's node differs from the others.
type setup struct {
	origin, middleware string // addresses
	// upstream (of the origin), backend, route (the first one), sessions and api (of the admin listener) are further settings of
	// these sections, as YAML in flow style. more holds further top-level lines.
	upstream, backend, route, sessions, api, more string
	// origins and routes are further entries of these sections, a line each.
	origins, routes string
	// isPlain has the node speak no TLS, whatever others do.
	isPlain bool
}

// node is a running `usher serve`.
type node struct {
	*process
	file          string
	public, admin string // addresses, with their schemes
	client        *http.Client
}

// yaml returns the settings file. 127.0.0.1 is a trusted proxy; viewers use other loopback addresses.
func (s setup) yaml(listen, admin string) string {
	return fmt.Sprintf(`
listen: %q
trusted_proxies: [127.0.0.1/32]
identity: { secret: "an identity secret of the test" }
tickets: { keys: [ { id: a, secret: "a ticket secret of the test" } ] }
origins:
  origin: { url: %q, %s }
%s
backends:
  portal: { kind: httprequest, address: %q, %s }
routes:
  - { path: "/play/{channel}/*", origin: origin, backend: portal, %s }
  - { path: "/single/{channel}/*", origin: origin, backend: portal }
  - { path: "/ll/{channel}/*", origin: origin, backend: portal }
%s
sessions: { %s }
admin: { listen: %q, token: %q, %s }
log: { level: debug }
%s
`, listen, s.origin, s.upstream, s.origins, s.middleware+"/check", s.backend, s.route, s.routes, s.sessions, admin, adminToken, s.api, s.more)
}

// startNode runs a node and waits until it is ready.
func startNode(t *testing.T, s setup) *node {
	t.Helper()
	n := newNode(t, s)
	n.start(t)
	return n
}

// newNode writes the settings of a node that does not run yet.
func newNode(t *testing.T, s setup) *node {
	t.Helper()
	listen, admin, scheme := freePort(t), freePort(t), "http://"
	if !s.isPlain {
		var front string
		scheme, front = frontOf(t)
		s.more += "\n" + front
	}
	n := &node{
		public: scheme + listen, admin: "http://" + admin, client: newClient(t, ""),
		file: filepath.Join(t.TempDir(), "usher.yaml"),
	}
	if err := os.WriteFile(n.file, []byte(s.yaml(listen, admin)), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// start starts or restarts the node.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.process = start(t, binary(t), "serve", "--config", n.file)
	n.awaitReady(t)
}

func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, waitTimeout, "the node is ready", func() error {
		if n.ended() {
			t.Fatalf("the node ended by itself:\n%s", n.errs)
		}
		return n.readiness(http.StatusOK)
	})
}

// readiness requests /readyz, and returns an error unless the status is the wanted one.
func (n *node) readiness(want int) error {
	status, _, err := fetch(n.client, n.admin+"/readyz")
	if err == nil && status != want {
		err = fmt.Errorf("readyz: status %d, want %d", status, want)
	}
	return err
}

// api decodes a response of the admin API.
func (n *node) api(t *testing.T, path string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(n.text(t, path)), into); err != nil {
		t.Fatalf("admin API, %s: %v", path, err)
	}
}

// text returns a response of the admin API as it is.
func (n *node) text(t *testing.T, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.admin+"/api/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := n.client.Do(r)
	if err != nil {
		t.Fatalf("call the admin API: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("admin API, %s: %d: %v", path, resp.StatusCode, err)
	}
	return string(body)
}

// breaker returns the state of the backend's breaker.
func (n *node) breaker(t *testing.T) string {
	t.Helper()
	var list struct {
		Backends []struct{ Name, Breaker string }
	}
	n.api(t, "backends", &list)
	if len(list.Backends) != 1 {
		t.Fatalf("backends: %+v, want one", list)
	}
	return list.Backends[0].Breaker
}

// awaitBreaker waits until the breaker is in that state.
func (n *node) awaitBreaker(t *testing.T, want string) {
	t.Helper()
	eventually(t, waitTimeout, "the breaker is "+want, func() error {
		if got := n.breaker(t); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// sessionView is a session as the API shows it.
type sessionView struct {
	ID, Channel, User, Verdict, Source, Address string
	Requests                                    int64
}

// sessions returns the sessions that match a query, for example "source=ticket".
func (n *node) sessions(t *testing.T, query string) []sessionView {
	t.Helper()
	var list struct{ Sessions []sessionView }
	n.api(t, "sessions?limit=1000&"+query, &list)
	return list.Sessions
}

// startMiddleware runs a healthy middleware that allows every token that begins with "good". The token is the user's name.
func startMiddleware(t *testing.T) *backendtest.Server {
	t.Helper()
	m := backendtest.New(backendtest.Config{Address: freePort(t), Record: 100_000, Lookup: isGood})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func isGood(token string) (backendtest.User, bool) {
	return backendtest.User{ID: token, Name: token}, len(token) >= 4 && token[:4] == "good"
}

// setMode changes the middleware's behaviour.
func setMode(t *testing.T, m *backendtest.Server, mode backendtest.Mode) {
	t.Helper()
	if err := m.SetMode(mode); err != nil {
		t.Fatalf("switch the middleware to %s: %v", mode, err)
	}
}

// requestTimeout ends a test's request that hangs.
const requestTimeout = 30 * time.Second

// fetch gets a URL and its whole body.
func fetch(c *http.Client, address string) (status int, body []byte, err error) {
	resp, err := c.Get(address)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
