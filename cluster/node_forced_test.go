package cluster

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/backends"
	"usher/cluster/redistest"
)

func describeForced(o backends.ForcedBreaker) string {
	if !o.IsForced {
		return o.Backend + " auto"
	}
	return fmt.Sprintf("%s %s by %s: %s, %v", o.Backend, o.State, o.By, o.Reason, time.Until(o.Until).Round(time.Minute))
}

func (p *peer) forcedOrders() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.forced)
}

// force has a node force a breaker, or end that.
func force(t *testing.T, p *peer, state backends.BreakerState, isForced bool, isReached bool) {
	t.Helper()
	o := backends.ForcedBreaker{
		Backend: "portal", IsForced: isForced, State: state, Until: time.Now().Add(time.Hour), Reason: "upgrade", By: "ops",
	}
	got, err := p.ForceBreaker(t.Context(), o)
	if errors.Is(err, backends.ErrStoreUnavailable) != !isReached || isReached && err != nil || got.Version == 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// wantForced requires the last order on each node.
func wantForced(t *testing.T, want string, peers ...*peer) {
	t.Helper()
	for _, p := range peers {
		redistest.Eventually(t, p.Name()+": "+want, func() bool {
			orders := p.forcedOrders()
			return len(orders) > 0 && orders[len(orders)-1] == want
		})
	}
}

const (
	forcedOpen   = "portal open by ops: upgrade, 1h0m0s"
	forcedClosed = "portal closed by ops: upgrade, 1h0m0s"
	forcedAuto   = "portal auto"
)

// TestNode_ForceBreaker_Survives has every node learn an order, and those that start later, whatever becomes of Redis.
func TestNode_ForceBreaker_Survives(t *testing.T) {
	t.Parallel()
	for name, loss := range map[string]func(t *testing.T, s *redistest.Server, order func(isReached bool)){
		"no loss": func(_ *testing.T, _ *redistest.Server, order func(bool)) { order(true) },
		"flushed after it": func(t *testing.T, s *redistest.Server, order func(bool)) {
			order(true)
			must(t, s.Client.FlushAll(t.Context()).Err())
		},
		"frozen meanwhile": func(_ *testing.T, s *redistest.Server, order func(bool)) {
			s.Signal(syscall.SIGSTOP)
			order(false)
			s.Signal(syscall.SIGCONT)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, peers := startPeers(t, 2)
			loss(t, server, func(isReached bool) { force(t, peers[0], backends.BreakerOpen, true, isReached) })
			wantForced(t, forcedOpen, peers...)
			fresh, stop := startPeer(t, testConfig(server), "fresh", nil)
			wantForced(t, forcedOpen, fresh)
			force(t, peers[1], backends.BreakerClosed, true, true)
			all := append(peers, fresh)
			wantForced(t, forcedClosed, all...)
			force(t, fresh, 0, false, true)
			wantForced(t, forcedAuto, all...)
			must(t, server.Client.FlushAll(t.Context()).Err())
			stop()
			again, _ := startPeer(t, testConfig(server), "again", nil)
			wantForced(t, forcedAuto, again)
			for _, p := range peers {
				if orders := p.forcedOrders(); !slices.Equal(orders, []string{forcedOpen, forcedClosed, forcedAuto}) {
					t.Errorf("%s was given %q, want each order once", p.Name(), orders)
				}
			}
			stored := server.Client.HGetAll(t.Context(), "usher:{all}:forced").Val()
			ttl := server.Client.PTTL(t.Context(), "usher:{all}:forced").Val()
			if len(stored) != 1 || strings.Contains(stored["portal"], "upgrade") || ttl <= 0 || ttl > time.Hour {
				t.Errorf("redis has %q for %v", stored, ttl)
			}
		})
	}
}

// TestNode_ForceBreaker_NotForever forgets an order that has ended, here and in Redis.
func TestNode_ForceBreaker_NotForever(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 1)
	o := backends.ForcedBreaker{Backend: "portal", IsForced: true, Until: time.Now().Add(300 * time.Millisecond)}
	if _, err := peers[0].ForceBreaker(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "redis forgets it", func() bool {
		return server.Client.Exists(t.Context(), "usher:{all}:forced").Val() == 0
	})
	fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
	force(t, peers[0], backends.BreakerOpen, true, true)
	wantForced(t, forcedOpen, fresh)
	if orders := fresh.forcedOrders(); len(orders) != 1 {
		t.Errorf("a new node was given %q, want the one that holds", orders)
	}
}

// TestNode_ForceBreaker_VersionAhead has an order follow one whose version, which the store does not encrypt, was made the highest.
func TestNode_ForceBreaker_VersionAhead(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 2)
	force(t, peers[0], backends.BreakerOpen, true, true)
	wantForced(t, forcedOpen, peers...)
	const key = "usher:{all}:forced"
	_, rest, _ := strings.Cut(server.Client.HGet(t.Context(), key, "portal").Val(), " ")
	must(t, server.Client.HSet(t.Context(), key, "portal", fmt.Sprint(math.MaxInt64, " ", rest)).Err())
	fresh, _ := startPeer(t, testConfig(server), "fresh", nil)
	force(t, fresh, backends.BreakerClosed, true, true)
	wantForced(t, forcedClosed, append(peers, fresh)...)
}

// TestNode_ForceBreaker_Unreadable ignores an order that this node cannot read, and does not overwrite it.
func TestNode_ForceBreaker_Unreadable(t *testing.T) {
	t.Parallel()
	server, peers := startPeers(t, 1)
	until := time.Now().Add(time.Hour).UnixMilli()
	value := fmt.Sprint(until, " ", until, " of another version")
	must(t, server.Client.HSet(t.Context(), "usher:{all}:forced", "portal", value).Err())
	redistest.Eventually(t, "a warning", func() bool { return peers[0].log.Count("order on a breaker unreadable") == 1 })
	if orders := peers[0].forcedOrders(); len(orders) != 0 || server.Client.HGet(t.Context(), "usher:{all}:forced", "portal").Val() != value {
		t.Errorf("was given %q", orders)
	}
}

// TestNode_ForceBreaker_Alone applies an order without other nodes.
func TestNode_ForceBreaker_Alone(t *testing.T) {
	t.Parallel()
	p, _ := startPeer(t, DefaultConfig(), "alone", nil)
	force(t, p, backends.BreakerOpen, true, true)
	wantForced(t, forcedOpen, p)                                                                           // it may begin to run only now
	p.ApplyForced(backends.ForcedBreaker{Backend: "portal", Until: time.Now().Add(time.Hour), Version: 1}) // an older one
	force(t, p, 0, false, true)
	wantForced(t, forcedAuto, p)
	if orders := slices.Compact(p.forcedOrders()); !slices.Equal(orders, []string{forcedOpen, forcedAuto}) {
		t.Errorf("was given %q", orders)
	}
}

// TestNode_ForceBreaker_StateDir restarts a node without others, and one whose Redis has lost everything meanwhile.
func TestNode_ForceBreaker_StateDir(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, config := range map[string]Config{"alone": DefaultConfig(), "redis lost everything": testConfig(server)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, stop := startPeer(t, config, "n", withStateDir(dir))
			force(t, p, backends.BreakerOpen, true, true)
			stop()
			if config.Enabled() {
				must(t, server.Client.FlushAll(t.Context()).Err())
			}
			p, stop = startPeer(t, config, "n", withStateDir(dir))
			wantForced(t, forcedOpen, p)
			force(t, p, 0, false, true)
			stop()
			p, _ = startPeer(t, config, "n", withStateDir(dir))
			wantForced(t, forcedAuto, p)
		})
	}
}
