package actors

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestTicketUse_SharedSession_RemembersAddresses(t *testing.T) {
	t.Parallel()
	type use struct {
		prefix int
		at     int64
		want   bool // it is known already
	}
	cases := map[string][]use{
		"one address many times":            {{1, 100, false}, {1, 100, true}, {1, 159, true}, {1, 219, true}},
		"from Wi-Fi to mobile and back":     {{1, 100, false}, {2, 101, false}, {1, 102, true}, {2, 103, true}},
		"the only one is new after idle":    {{1, 100, false}, {1, 160, true}, {1, 221, false}},
		"one is kept for all of idle time":  {{1, 100, false}, {2, 160, false}, {1, 160, true}},
		"one after the other has gone":      {{1, 100, false}, {2, 200, false}, {3, 300, false}, {4, 400, false}, {4, 401, true}},
		"an address is new after idle time": {{1, 100, false}, {2, 150, false}, {1, 161, false}, {2, 162, true}},
		"addresses at the node's start":     {{7, 0, false}, {8, 0, false}, {7, 1, true}, {8, 1, true}},
	}
	for name, uses := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c ticketUse
			for i, u := range uses {
				got := c.use(prefixOf(u.prefix), u.at, 60)
				if got != u.want {
					t.Errorf("use %d, of address %d at %d: known %v, want %v", i, u.prefix, u.at, got, u.want)
				}
				if !got {
					c.add(addressUse{prefix: prefixOf(u.prefix), id: idOf(u.prefix), at: u.at}, 60)
				}
			}
			if len(c.shared) > 2 {
				t.Errorf("remembers %d addresses, want those in use", len(c.shared))
			}
		})
	}
}

// sharedRequest returns the opening of a session that addresses share, from the address of that number.
func sharedRequest(address int) session.OpenRequest {
	o := openRequest(1)
	o.Request.Address = prefixOf(address).Addr()
	o.AddressID = idOf(1000 + address)
	return o
}

func TestRegistry_Open_SharedSession_BoundsAddresses(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b, store := newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}
		n := newNode(b, store, func(s *setup) { s.Config.MaxAddresses = 3 })
		defer n.closeAndDrain()
		for address := 1; address <= 5; address++ {
			_, err := n.Open(t.Context(), sharedRequest(address))
			if want := address > 3; backends.IsOverload(err) != want {
				t.Errorf("address %d: got %v, want an overload %v", address, err, want)
			}
		}
		s := n.Find(idOf(1))
		if !s.Admit(prefixOf(2), time.Now()) || s.Admit(prefixOf(4), time.Now()) {
			t.Error("the addresses in use are not those that were admitted")
		}
		if got := b.checks.Load(); got != 1 {
			t.Errorf("%d checks, want one decision for all", got)
		}
		time.Sleep(30 * time.Second)
		store.addresses.mu.Lock()
		defer store.addresses.mu.Unlock()
		reported := map[backends.SessionID]bool{}
		for _, e := range store.addresses.renewed {
			reported[e.Session] = true
			if e.User != idOf(1).String() || e.MaxStreams != 3 {
				t.Errorf("reported %+v", e)
			}
		}
		if len(reported) != 3 {
			t.Errorf("heartbeats report %d addresses, want 3", len(reported))
		}
	})
}

func TestSession_Admit_OneAddress(t *testing.T) {
	t.Parallel()
	if s := bareSession(idOf(1)); !s.Admit(prefixOf(1), t0()) || !s.Admit(prefixOf(2), t0()) {
		t.Error("a session that is not shared has addresses to admit")
	}
}

// TestAddressLimit_Warn_Bounded writes one warning for a ticket, and forgets of which it warned when they are too many.
func TestAddressLimit_Warn_Bounded(t *testing.T) {
	t.Parallel()
	var text lockedBuffer
	l := newAddressLimit(core{log: slog.New(slog.NewTextHandler(&text, nil))}, t0())
	warn := func(i int) {
		s := bareSession(idOf(i))
		s.request.Store(openRequest(i).Request)
		s.ticketUse = &ticketUse{root: idOf(i)}
		l.warn(s)
	}
	for i := range maxWarnedTickets - 2 {
		l.warned[idOf(i)] = true
	}
	for step, test := range []struct{ ticket, warnings, remembered int }{
		{0, 0, maxWarnedTickets - 2},
		{100_000, 1, maxWarnedTickets - 1},
		{100_000, 1, maxWarnedTickets - 1},
		{100_001, 2, maxWarnedTickets},
		{100_002, 3, 1},
		{100_000, 4, 2},
	} {
		warn(test.ticket)
		got := strings.Count(text.String(), "ticket used from too many addresses")
		if got != test.warnings || len(l.warned) != test.remembered {
			t.Errorf("step %d: %d warnings, %d tickets remembered; want %d and %d", step, got, len(l.warned), test.warnings, test.remembered)
		}
	}
}

// TestRegistry_Reload_MaxAddresses reports the new bound of tickets that are in use.
func TestRegistry_Reload_MaxAddresses(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := new(fakeCluster)
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, store, func(s *setup) { s.Config.MaxAddresses = 3 })
		defer n.closeAndDrain()
		opened := time.Now()
		n.watch(t, openRequest(1))
		n.keepWatching(t, siblingRequest(2, opened), time.Second, nil)
		c := DefaultConfig()
		c.MaxAddresses = 10
		n.Reload(c, map[string]BackendOptions{"portal": n.options(b, 3*time.Minute)}, insteadOf("x", "y"))()
		n.keepWatching(t, siblingRequest(2, opened), time.Minute, nil)
		store.addresses.mu.Lock()
		defer store.addresses.mu.Unlock()
		if len(store.addresses.renewed) == 0 {
			t.Fatal("no address was renewed")
		}
		for _, e := range store.addresses.renewed {
			if e.MaxStreams != 10 {
				t.Errorf("%d addresses are reported as the bound, want 10", e.MaxStreams)
			}
		}
	})
}

// leavingStore counts the addresses that leave a ticket.
type leavingStore struct {
	*fakeCluster
	leaving atomic.Int32
}

func (s *leavingStore) ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	if entries[0].IsLeaving {
		s.leaving.Add(1)
	}
	return s.fakeCluster.ReportAddresses(ctx, entries...)
}

// TestAddressLimit_OnDecision_Once has the player of a denied sibling retry. The store is told once.
func TestAddressLimit_OnDecision_Once(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &leavingStore{fakeCluster: new(fakeCluster)}
		n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(1)), store.fakeCluster, func(s *setup) {
			s.Cluster, s.rules.TokenLife = store, time.Hour
		})
		defer n.closeAndDrain()
		opened := time.Now()
		n.watch(t, openRequest(1))
		n.watch(t, siblingRequest(2, opened))
		for range 100 {
			if _, err := n.Open(t.Context(), siblingRequest(2, opened.Add(-2*time.Hour))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := store.leaving.Load(); got != 1 {
			t.Errorf("the store was told %d times, want once", got)
		}
	})
}
