package limits

import (
	"context"
	"log/slog"
	"slices"
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

// addressCounter is what [Memory] and [Redis] have in common.
type addressCounter interface {
	ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult
}

// joinAddress reports whether a new address may use its ticket. root is the ticket's own session, nil if that does not play.
func joinAddress(t *testing.T, on addressCounter, e session.StreamEntry, root *session.StreamEntry) bool {
	t.Helper()
	e.IsNew = true
	entries := []session.StreamEntry{e}
	if root != nil {
		entries = append(entries, *root)
		entries[1].IsAssumed = true
		slices.Reverse(entries)
	}
	return on.ReportAddresses(t.Context(), entries...).States[len(entries)-1] == active
}

// testAddresses has addresses use tickets on several nodes.
func testAddresses(t *testing.T, nodes ...addressCounter) {
	calls := 0
	join := func(e session.StreamEntry, root *session.StreamEntry) bool {
		t.Helper()
		calls++
		return joinAddress(t, nodes[calls%len(nodes)], e, root)
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
	nodes[0].ReportAddresses(t.Context(), session.StreamEntry{User: "a", Session: idOf(2), IsLeaving: true})
	if !join(addressOf("a", 3, 3), &root) {
		t.Error("an address that left still counts")
	}
	if !join(addressOf("b", 4, 3), nil) {
		t.Error("addresses of one ticket count for another")
	}
	lost := addressOf("a", 6, 3)
	nodes[0].ReportAddresses(t.Context(), lost)
	if !join(lost, &root) {
		t.Error("an address that the store had lost does not count")
	}
}

func TestMemory_Addresses(t *testing.T) {
	t.Parallel()
	testAddresses(t, NewMemory(testRules(session.EvictOldest)))
}

func TestRedis_Addresses(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t))
	testAddresses(t, newRedis(t, client, session.EvictOldest), newRedis(t, client, session.EvictOldest))
}

func TestRedis_Addresses_RedisDown_CountedOnTheNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server)
	l := NewRedis(client, testRules(session.EvictOldest), slog.New(slog.DiscardHandler))
	server.Signal(syscall.SIGKILL)
	testAddresses(t, l)
}

func TestMemory_Addresses_IdleOnesAreFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(testRules(session.EvictOldest))
		join := func(i int) bool { return joinAddress(t, m, addressOf("a", i, 1), nil) }
		if !join(1) || join(2) {
			t.Fatal("the limit of 1 does not hold")
		}
		time.Sleep(61 * time.Second)
		silent := addressOf("a", 1, 1)
		silent.LastSeen = silent.LastSeen.Add(-61 * time.Second)
		m.ReportAddresses(t.Context(), silent)
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
		l := &pureLimiter{rules: rules{LimitRules: testRules(session.EvictOldest), isBound: true}}
		now, seen := int64(testStart), map[int]int64{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += rapid.Int64Range(0, 20_000).Draw(t, "passes")
			i := rapid.IntRange(0, 9).Draw(t, "address")
			p := plays(i, 0, most).of(99).zapsAfter(time.Minute)
			p.IsIPv6, p.isJoin = i >= 5, true
			if rapid.IntRange(0, 5).Draw(t, "leaves") == 0 {
				l.apply(now, leaves(i))
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
