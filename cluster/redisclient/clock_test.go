package redisclient

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestClock_Now estimates the server's time from the middle of the last call.
func TestClock_Now(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		if _, known := c.Now(); known {
			t.Error("the time is known without a reply")
		}
		sentAt := time.Now()
		time.Sleep(40 * time.Millisecond)
		c.Set(10_000, sentAt)
		time.Sleep(time.Second)
		if got, known := c.Now(); got != 11_020 || !known {
			t.Errorf("got %d, %t; want 11020", got, known)
		}
		if got := c.expiry(100 * time.Millisecond); got != 11_120 {
			t.Errorf("a call expires at %d, want 11120", got)
		}
	})
}

// TestServerClocks_ClockOf has one clock for one server, and else one for each part of the hash slots.
func TestServerClocks_ClockOf(t *testing.T) {
	t.Parallel()
	var one, several serverClocks
	several.isCluster = true
	used := map[*Clock]int{}
	for i := range 1000 {
		key := "usher:session:{" + strconv.Itoa(i) + "}"
		if one.clockOf(key) != &one.clocks[0] {
			t.Fatalf("%s: one server has several clocks", key)
		}
		c := several.clockOf(key)
		used[c]++
		if want := &several.clocks[int(hashSlot(key))/(hashSlots/clusterQueues)]; c != want {
			t.Fatalf("%s, of slot %d: another clock than its neighbours'", key, hashSlot(key))
		}
	}
	if len(used) != clusterQueues {
		t.Errorf("%d clocks are used, want %d", len(used), clusterQueues)
	}
}
