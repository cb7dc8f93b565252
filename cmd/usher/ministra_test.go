package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/backendtest"
	"usher/bench/stage"
	"usher/cmd/usher/config"
	"usher/gateway"
)

// Ministra forgets a token five seconds after it issues it, and lets an allowing answer hold for ten hours. A second check
// with the same token is denied. Players keep using the address that they were given.
const (
	ministraTokenLife = 5 * time.Second
	ministraToken     = "5d41402abc4b2a76b9719d911017c592"
)

// portal is a Ministra on a real port. It uses the fake time of the test's bubble.
type portal struct {
	*backendtest.Server
	now, issued atomic.Int64 // in nanoseconds
}

func startPortal(t *testing.T, headers bool) *portal {
	t.Helper()
	p := &portal{Server: middleware(t)}
	p.SetDialect(func(w http.ResponseWriter, r *http.Request, _ backendtest.User, _ bool) {
		w.Header().Set("Connection", "close") // a goroutine that waits for the network stops the bubble's time
		age := time.Duration(p.now.Load() - p.issued.Load())
		if r.URL.Path != "/stalker_portal/server/api/chk_flussonic_tmp_link.php" ||
			r.URL.Query().Get("token") != ministraToken || age > ministraTokenLife {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if headers {
			for name, value := range map[string]string{
				"X-AuthDuration": "36000", "X-Unique": "true", "X-Max-Sessions": "10", "X-UserId": "7",
			} {
				w.Header().Set(name, value)
			}
		}
	})
	return p
}

// ministraNode is a node without listeners in a bubble of fake time, and its viewer.
type ministraNode struct {
	node   *node
	portal *portal
	path   string // the playlist's
	query  string
}

// newMinistraNode makes a node. more holds further settings of its route.
func newMinistraNode(t *testing.T, p *portal, origin string, more ...string) *ministraNode {
	t.Helper()
	backend := fmt.Sprintf("{ kind: ministra, address: %q }", p.URL()+"/stalker_portal")
	n := newBubbleNode(t, origin, backend, strings.Join(more, ""))
	p.issued.Store(time.Now().UnixNano())
	return &ministraNode{node: n, portal: p, path: "/single/a001/index.m3u8", query: "token=" + ministraToken}
}

// newBubbleNode makes a node without listeners in a bubble of fake time, with that backend and further settings of its route.
func newBubbleNode(t *testing.T, origin, backend, route string) *node {
	t.Helper()
	s := defaultSettings()
	text := fmt.Sprintf(`
identity: { secret: "0123456789abcdef" }
tickets: { keys: [ { id: a, secret: "0123456789abcdef" } ] }
origins: { stage: { url: %q } }
backends: { portal: %s }
routes: [ { path: "/single/{channel}/*", origin: stage, backend: portal, required: [ token ], %s } ]
cors: { allowed_origins: [ "https://tv.example.com" ] }
`, origin, backend, route)
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		t.Fatal(err)
	}
	n, err := newNode(s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range n.current.Load().chains {
		go func() { _ = c.Run(t.Context()) }()
	}
	t.Cleanup(n.close)
	return n
}

// get passes a request of the viewer's to the gateway.
func (l *ministraNode) get(t *testing.T, path, query string) (status int, body string) {
	t.Helper()
	l.portal.now.Store(time.Now().UnixNano())
	var a gateway.Response
	v := gateway.Request{
		Method: http.MethodGet, Scheme: "http", Host: "tv.example.com", Path: path, Query: query,
		Peer: netip.MustParseAddr("192.0.2.7"), Header: http.Header{"User-Agent": {"MAG200"}},
	}
	if err := l.node.current.Load().gateway.Serve(t.Context(), &v, &a); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	if a.Stream != nil {
		_ = a.Stream.Close()
	}
	return a.Status, string(a.Body)
}

// watch plays for that time. In each step it fetches the playlist with the old token, and the newest segment with its
// ticket.
func (l *ministraNode) watch(t *testing.T, by, step time.Duration) {
	t.Helper()
	for end := time.Now().Add(by); time.Now().Before(end); <-time.After(step) {
		status, playlist := l.get(t, l.path, l.query)
		if status != http.StatusOK {
			t.Fatalf("after %v the playlist is %d %q", time.Since(time.Unix(0, l.portal.issued.Load())), status, playlist)
		}
		lines := strings.Fields(playlist)
		segment := lines[len(lines)-1]
		if status, why := l.get(t, segment, ""); status != http.StatusOK {
			t.Fatalf("the segment %s is %d %.100q", segment, status, why)
		}
	}
}

// startOrigin starts an origin that closes the connection after each response.
func startOrigin(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Hook: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			next.ServeHTTP(w, r)
		})
	}}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestNode_Ministra_OneCallPerSession covers portals with and without headers.
func TestNode_Ministra_OneCallPerSession(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string]bool{"with headers": true, "of 2014, without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, origin := startPortal(t, headers), startOrigin(t)
			synctest.Test(t, func(t *testing.T) {
				l := newMinistraNode(t, p, origin)
				l.watch(t, 10*time.Minute, 6*time.Second)
				if got := p.Calls(); got != 1 {
					t.Fatalf("%d calls of the portal in ten minutes, want one", got)
				}
				l.watch(t, 10*time.Hour, 50*time.Second) // longer than the answer is valid
				if got := p.Calls(); got != 1 {
					t.Errorf("%d calls of the portal in ten hours, want one", got)
				}
				if status, _ := l.get(t, l.path, "token=unknown"); status != http.StatusForbidden {
					t.Errorf("a viewer with an unknown token gets %d, want 403", status)
				}
			})
		})
	}
}

// TestNode_Ministra_AdmittedInOutage_PlaysOn opens a session in an outage. When the portal is back, it has forgotten the token.
func TestNode_Ministra_AdmittedInOutage_PlaysOn(t *testing.T) {
	t.Parallel()
	p, origin := startPortal(t, true), startOrigin(t)
	if err := p.SetMode(backendtest.Reset()); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newMinistraNode(t, p, origin)
		l.watch(t, time.Minute, 6*time.Second)
		if err := p.SetMode(backendtest.Healthy()); err != nil {
			t.Fatal(err)
		}
		l.watch(t, time.Hour, 6*time.Second)
		if got := p.Calls(); got != 1 { // the one that failed
			t.Errorf("%d calls of the portal, the last with a token that it has forgotten; want one", got)
		}
	})
}

// TestNode_OnFailureDeny_ValidDecisionHolds refuses, in an outage, viewers without a valid decision: new ones at once, and one
// who watches when their decision expires. A viewer whose token has outlived its life is not refused for the outage.
func TestNode_OnFailureDeny_ValidDecisionHolds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tokenLife string
		want      int // after the decision has expired
	}{
		"a token without an end": {"0s", http.StatusForbidden},
		"a spent token":          {"5s", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, origin := middleware(t), startOrigin(t)
			m.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
				w.Header().Set("Connection", "close")
			})
			synctest.Test(t, func(t *testing.T) {
				backend := fmt.Sprintf("{ kind: httprequest, address: %q, on_failure: deny, validity: 3m, token_life: %s }", m.URL(), tc.tokenLife)
				l := &ministraNode{node: newBubbleNode(t, origin, backend, ""), portal: &portal{Server: m}, path: "/single/a001/index.m3u8"}
				want := func(status int, query string) {
					t.Helper()
					if got, why := l.get(t, l.path, query); got != status {
						t.Errorf("%s at %v: %d %.100q, want %d", query, time.Now(), got, why, status)
					}
				}
				want(http.StatusOK, "token=watching")
				setMode(t, m, backendtest.Reset())
				want(http.StatusForbidden, "token=new")
				for range 5 {
					<-time.After(30 * time.Second)
					want(http.StatusOK, "token=watching")
				}
				<-time.After(40 * time.Second)
				want(tc.want, "token=watching")
				setMode(t, m, backendtest.Healthy())
				for range 6 {
					<-time.After(10 * time.Second)
					_, _ = l.get(t, l.path, "token=watching")
				}
				want(http.StatusOK, "token=watching")
				want(http.StatusOK, "token=new")
			})
		})
	}
}

func setMode(t *testing.T, m *backendtest.Server, mode backendtest.Mode) {
	t.Helper()
	if err := m.SetMode(mode); err != nil {
		t.Fatal(err)
	}
}
