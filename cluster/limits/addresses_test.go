package limits

import (
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/cluster/redistest"
)

func addressOf(ticket string, i, most int) session.StreamEntry {
	return session.StreamEntry{
		User: ticket, Session: idOf(i), Group: idOf(99), LastSeen: time.Now(), IsPlaying: true, MaxStreams: most, ZapTimeout: time.Minute,
	}
}

// testAddresses has addresses use tickets on several nodes.
func testAddresses(t *testing.T, nodes ...methods) {
	calls := 0
	join := func(e session.StreamEntry, root *session.StreamEntry) bool {
		t.Helper()
		calls++
		isAllowed, err := nodes[calls%len(nodes)].JoinAddress(t.Context(), e, root)
		if err != nil {
			t.Fatal(err)
		}
		return isAllowed
	}
	root := addressOf("a", 0, 3)
	for i := 1; i <= 4; i++ {
		if got, want := join(addressOf("a", i, 3), &root), i <= 2; got != want {
			t.Errorf("address %d beside the ticket's own: joins %v, want %v", i, got, want)
		}
	}
	other := addressOf("a", 5, 3)
	other.IsIPv6 = true
	if !join(other, &root) {
		t.Error("an IPv6 address beside one of IPv4 counts")
	}
	if !join(addressOf("a", 1, 3), &root) {
		t.Error("an address that plays may not go on")
	}
	if err := nodes[0].LeaveAddress(t.Context(), "a", idOf(2)); err != nil {
		t.Fatal(err)
	}
	if !join(addressOf("a", 3, 3), &root) {
		t.Error("an address that left still counts")
	}
	if !join(addressOf("b", 4, 3), nil) {
		t.Error("addresses of one ticket count for another")
	}
	lost := addressOf("a", 6, 3)
	if err := nodes[0].RenewAddresses(t.Context(), []session.StreamEntry{lost}); err != nil {
		t.Fatal(err)
	}
	if !join(lost, &root) {
		t.Error("an address that the store had lost does not count")
	}
}

func TestMemory_Addresses(t *testing.T) {
	t.Parallel()
	testAddresses(t, NewMemory(testRules(session.EvictOldest)).methods)
}

func TestRedis_Addresses(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t))
	testAddresses(t, newRedis(t, client, session.EvictOldest).methods, newRedis(t, client, session.EvictOldest).methods)
}

func TestRedis_Addresses_RedisDown_CountedOnTheNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server)
	l := NewRedis(client, newCipher(t), NewMemory(testRules(session.EvictOldest)), slog.New(slog.DiscardHandler))
	server.Signal(syscall.SIGKILL)
	testAddresses(t, l.methods)
}

func TestMemory_Addresses_IdleOnesAreFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(testRules(session.EvictOldest))
		join := func(i int) bool {
			isAllowed, _ := m.JoinAddress(t.Context(), addressOf("a", i, 1), nil)
			return isAllowed
		}
		if !join(1) || join(2) {
			t.Fatal("the limit of 1 does not hold")
		}
		time.Sleep(61 * time.Second)
		_ = m.RenewAddresses(t.Context(), []session.StreamEntry{func() session.StreamEntry {
			e := addressOf("a", 1, 1)
			e.LastSeen = e.LastSeen.Add(-61 * time.Second)
			return e
		}()})
		if !join(2) || join(1) {
			t.Error("the address that was idle for a minute keeps its place")
		}
	})
}

// TestStreamSet_Addresses_NeverBeyondTheLimit has addresses join, leave and fall silent in any order.
func TestStreamSet_Addresses_NeverBeyondTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 4).Draw(t, "max")
		l := &pureLimiter{rules: addressRules(testRules(session.EvictOldest))}
		now, seen := int64(testStart), map[int]int64{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += rapid.Int64Range(0, 20_000).Draw(t, "passes")
			i := rapid.IntRange(0, 9).Draw(t, "address")
			p := plays(i, 0, most).of(99).zapsAfter(time.Minute)
			p.isIPv6, p.isJoin = i >= 5, true
			if rapid.IntRange(0, 5).Draw(t, "leaves") == 0 {
				l.apply(now, report{isLeaving: true, id: p.id})
				delete(seen, i)
				continue
			}
			if l.apply(now, p).States[0] == active {
				seen[i] = now
			} else if delete(seen, i); len(seen) == 0 {
				t.Fatal("the only address is refused")
			}
			families := [2]int{}
			for other, at := range seen {
				if now-at <= 60_000 {
					families[other/5]++
				}
			}
			if max(families[0], families[1]) > most {
				t.Fatalf("%v addresses of each family use the ticket, want %d at most", families, most)
			}
		}
	})
}
