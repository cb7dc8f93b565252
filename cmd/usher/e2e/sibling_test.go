package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// The addresses of a viewer, as a trusted proxy forwards them.
const (
	homeAddress   = "203.0.113.7"
	homeIPv6      = "2001:db8:1:2::7"
	mobileAddress = "198.51.100.9"
)

// allowOnly is a middleware that decides by address, as the sample of Cesbo does.
func allowOnly(addresses ...string) backendtest.Dialect {
	return func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
		for _, a := range addresses {
			if r.Header.Get("X-Real-IP") == a {
				w.WriteHeader(http.StatusOK)
				return
			}
		}
		w.WriteHeader(http.StatusForbidden)
	}
}

// addressTransport sends each request through a trusted proxy that forwards the current address.
type addressTransport struct {
	http.RoundTripper
	current func() string
}

func (a addressTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", a.current())
	return a.RoundTripper.RoundTrip(r)
}

// newClientAt returns a client at a forwarded address.
func newClientAt(t *testing.T, current func() string) *http.Client {
	t.Helper()
	c := newClient(t, "")
	c.Transport = addressTransport{c.Transport, current}
	return c
}

// at returns an address that never changes.
func at(address string) func() string { return func() string { return address } }

// wantStatusAt requires a status of a client at a forwarded address.
func wantStatusAt(t *testing.T, address, url string, want int) {
	t.Helper()
	if status, body, err := fetch(newClientAt(t, at(address)), url); err != nil || status != want {
		t.Errorf("%s from %s: got %d %.100q, %v; want %d", url, address, status, body, err, want)
	}
}

// callsAbout counts the calls of the middleware about each session.
func callsAbout(m *backendtest.Server) map[string]int {
	calls := map[string]int{}
	for _, r := range m.Requests() {
		calls[r.Header.Get("X-Session-Id")]++
	}
	return calls
}

// TestNode_NewAddress_DecidedForItself has a middleware that decides by address. One address shows the same token and the
// same ticket as another one.
func TestNode_NewAddress_DecidedForItself(t *testing.T) {
	t.Parallel()
	for name, refusedFirst := range map[string]bool{"allowed first": false, "refused first": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMiddleware(t)
			m.SetDialect(allowOnly(homeAddress))
			n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL()})
			playlist := n.public + "/play/a001/low.m3u8?token=same"
			if refusedFirst {
				wantStatusAt(t, mobileAddress, playlist, http.StatusForbidden)
			}
			segment := segmentAt(t, homeAddress, playlist)
			for range 2 {
				wantStatusAt(t, homeAddress, segment, http.StatusOK)
				wantStatusAt(t, mobileAddress, playlist, http.StatusForbidden)
				wantStatusAt(t, mobileAddress, segment, http.StatusForbidden)
			}
			if got := callsAbout(m); len(got) != 2 || m.Calls() != 2 {
				t.Errorf("calls by session %v, want one for each address", got)
			}
		})
	}
}

// segmentAt opens a playlist at an address, and returns the URL of its last segment.
func segmentAt(t *testing.T, address, playlist string) string {
	t.Helper()
	status, body, err := fetch(newClientAt(t, at(address)), playlist)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s from %s: %d %s %v", playlist, address, status, body, err)
	}
	p, err := readPlaylist(playlist, body)
	if err != nil || len(p.list) == 0 {
		t.Fatalf("%s: %d segments: %v", playlist, len(p.list), err)
	}
	return p.list[len(p.list)-1]
}

// TestCluster_Siblings has one viewer, with a limit of one, play on two nodes from several addresses.
func TestCluster_Siblings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		address  func(request int64) string
		sessions int
	}{
		"from Wi-Fi to mobile and back": {func(i int64) string {
			if i > 12 && i < 40 {
				return mobileAddress
			}
			return homeAddress
		}, 2},
		"with IPv4 and IPv6": {func(i int64) string {
			if i%3 == 0 {
				return homeIPv6
			}
			return homeAddress
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const validity = 10 * time.Second
			c := startCluster(t, 2, clusterSetup{
				redis: startRedis(t).standalone(), backend: fmt.Sprintf("validity: %s", validity),
				sessions: "recheck: { min: 10s, jitter_percent: 0 }, per_user: { grace_period: 4s, zap_timeout: 4s }", idle: time.Minute,
			})
			setStreamLimit(c.middleware, "mover", 1, "good-mover")
			var requests atomic.Int64
			v := newViewer(t, 0, "")
			v.client = newClientAt(t, func() string { return test.address(requests.Add(1)) })
			node := 0
			v.source = c.nodes[node].public + "/play/a001/low.m3u8?token=good-mover"
			began := time.Now()
			stop := startWatching(t, []*viewer{v})
			pause(t, *siblingsFor)
			stop()
			took := time.Since(began)
			wantNoProblems(t, []*viewer{v})
			calls := callsAbout(c.middleware)
			if len(calls) != test.sessions {
				t.Errorf("calls by session %v, want %d sessions", calls, test.sessions)
			}
			for id, n := range calls {
				if most := 1 + int(took/validity); n > most {
					t.Errorf("%d calls about session %s in %s, want %d at most", n, id, took, most)
				}
			}
		})
	}
}

// TestCluster_Siblings_AskedOnceOnAllNodes sends each request of a ticket at two addresses to the next of two nodes.
func TestCluster_Siblings_AskedOnceOnAllNodes(t *testing.T) {
	t.Parallel()
	const validity = 10 * time.Second
	c := startCluster(t, 2, clusterSetup{
		redis: startRedis(t).standalone(), backend: fmt.Sprintf("validity: %s", validity), origin: startWideStage(t, ""),
		sessions: "recheck: { min: 10s, jitter_percent: 0 }", idle: time.Minute,
	})
	segment := segmentAt(t, homeAddress, c.nodes[0].public+"/play/a001/low.m3u8?token=good")
	_, path, _ := strings.Cut(host(segment), "/")
	began := time.Now()
	for i := 0; time.Since(began) < *siblingsFor; i++ {
		for _, address := range []string{homeAddress, mobileAddress} {
			wantStatusAt(t, address, c.nodes[i%2].public+"/"+path, http.StatusOK)
		}
		pause(t, 200*time.Millisecond)
	}
	took := time.Since(began)
	calls := callsAbout(c.middleware)
	for id, n := range calls {
		if most := 1 + int(took/validity); n > most {
			t.Errorf("%d calls about session %s in %s on two nodes, want %d at most", n, id, took, most)
		}
	}
	if len(calls) != 2 {
		t.Errorf("calls by session %v, want the root's and its sibling's", calls)
	}
	t.Logf("cluster: a ticket at two addresses on two nodes for %s: %v calls", took.Round(time.Second), calls)
}

// TestCluster_LeakedLink_OnePlays has twenty addresses show one link of a user with a limit of one.
func TestCluster_LeakedLink_OnePlays(t *testing.T) {
	t.Parallel()
	const addresses = 20
	for _, policy := range []string{"evict-oldest", "reject-new"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 2, clusterSetup{
				redis:    startRedis(t).standalone(),
				sessions: fmt.Sprintf("per_user: { policy: %s, grace_period: 4s, zap_timeout: 4s }", policy),
			})
			setStreamLimit(c.middleware, "leak", 1, "good-leak")
			var viewers []*viewer
			for i := range addresses {
				viewers = append(viewers, c.viewer(t, i, "/play/a001/low.m3u8?token=good-leak"))
			}
			startWatching(t, viewers)
			eventually(t, 2*waitTimeout, "exactly one plays", func() error {
				now, later := c.playing(t, viewers), c.playing(t, viewers)
				if len(now) != 1 || len(later) != 1 || now[0] != later[0] {
					return fmt.Errorf("%v, then %v play", now, later)
				}
				return nil
			})
		})
	}
}

// TestCluster_LeakedTicket_BoundsAddresses has twenty addresses show one ticket on two nodes.
func TestCluster_LeakedTicket_BoundsAddresses(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]string{"check": "", "share": "on_new_address: share"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most, addresses = 6, 20
			c := startCluster(t, 2, clusterSetup{
				redis: startRedis(t).standalone(), route: route, origin: startWideStage(t, ""), idle: time.Minute,
			})
			segment := segmentAt(t, homeAddress, c.nodes[0].public+"/play/a001/low.m3u8?token=good")
			_, path, _ := strings.Cut(host(segment), "/")
			for range 2 { // those that were admitted play on
				served := 0
				for i := range addresses {
					client := newClientAt(t, at(fmt.Sprintf("198.51.100.%d", i)))
					resp, err := client.Get(c.nodes[i%2].public + "/" + path)
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					switch {
					case resp.StatusCode == http.StatusOK:
						served++
					case resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "":
						t.Errorf("address %d: got %d, Retry-After %q", i, resp.StatusCode, resp.Header.Get("Retry-After"))
					}
				}
				if served != most-1 {
					t.Errorf("%d addresses are served beside the ticket's own, want %d", served, most-1)
				}
				wantStatusAt(t, homeAddress, segment, http.StatusOK)
			}
			for _, n := range c.nodes {
				if warnings := strings.Count(n.log(), "ticket used from too many addresses"); warnings != 1 {
					t.Errorf("%s: %d warnings, want one", n.name, warnings)
				}
			}
		})
	}
}

// wantSiblingAtEdge plays with a cookie, moves to an address that the middleware refuses, and to one that it allows.
func wantSiblingAtEdge(t *testing.T, e *edge) {
	t.Helper()
	const home, mobile, stranger = "127.0.20.1", "127.0.20.2", "127.0.20.3"
	e.middleware.SetDialect(allowOnly(home, mobile))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := func(address string) *http.Client {
		c := newClient(t, address)
		c.Jar = jar
		return c
	}
	e.wantStatus(t, browser(home), "/play/ts/index.m3u8?token=same", http.StatusOK)
	before := e.middleware.Calls()
	e.wantStatus(t, browser(mobile), "/play/ts/index.m3u8", http.StatusOK)
	e.wantStatus(t, browser(mobile), "/play/ts/index.m3u8", http.StatusOK)
	e.wantStatus(t, browser(home), "/play/ts/index.m3u8", http.StatusOK)
	if got := e.middleware.Calls() - before; got != 1 {
		t.Errorf("the move costs %d calls of the middleware, want one", got)
	}
	e.wantStatus(t, browser(stranger), "/play/ts/index.m3u8", http.StatusForbidden)
	e.wantStatus(t, browser(stranger), "/play/ts/index.m3u8?token=same", http.StatusForbidden)
	e.wantStatus(t, browser(home), "/play/ts/index.m3u8?token=same", http.StatusOK)
}
