package chain

import (
	"net/netip"
	"testing"
	"time"
)

// addressNumber returns the address with that number. Each is a subscriber prefix of its own.
func addressNumber(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// newFullDedup returns a failureDedup whose memory is full of failures at now and was searched then.
func newFullDedup(t *testing.T, window time.Duration, now time.Time) *failureDedup {
	t.Helper()
	d := newFailureDedup(window)
	for i := range maxRemembered + 1 {
		d.isFirst(addressNumber(i), now)
	}
	if len(d.lastSeen) != maxRemembered {
		t.Fatalf("got %d remembered, want maxRemembered=%d", len(d.lastSeen), maxRemembered)
	}
	return d
}

func TestFailureDedup_IsFirst_OncePerWindow(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Second
	for after, want := range map[time.Duration]bool{0: false, window - 1: false, window: true, window + 1: true} {
		d, now := newFailureDedup(window), time.Now()
		if !d.isFirst(addressNumber(1), now) {
			t.Error("the first failure is none")
		}
		if got := d.isFirst(addressNumber(1), now.Add(after)); got != want {
			t.Errorf("another failure %s later is the first: %t, want %t", after, got, want)
		}
	}
}

func TestFailureDedup_MemoryIsBounded(t *testing.T) {
	t.Parallel()
	b := newFailureDedup(10 * time.Second)
	now := time.Now()
	for i := range 3 * maxRemembered {
		if !b.isFirst(addressNumber(i), now) {
			t.Fatalf("address %d was recorded before it came", i)
		}
	}
	if len(b.lastSeen) > maxRemembered {
		t.Errorf("got %d remembered, want at most %d", len(b.lastSeen), maxRemembered)
	}
	later := now.Add(11 * time.Second)
	if !b.isFirst(netip.MustParseAddr("192.0.2.1"), later) || b.isFirst(netip.MustParseAddr("192.0.2.1"), later) {
		t.Error("after the window, want a new address counted once")
	}
	if len(b.lastSeen) != 1 {
		t.Errorf("got %d remembered after the window, want the newest only", len(b.lastSeen))
	}
}

// TestFailureDedup_FullMemory_IsSearchedOncePerInterval has every entry expire before the memory may be searched again.
func TestFailureDedup_FullMemory_IsSearchedOncePerInterval(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newFullDedup(t, sweepInterval/2, now)
	d.isFirst(netip.MustParseAddr("192.0.2.1"), now.Add(sweepInterval-1))
	if len(d.lastSeen) != maxRemembered {
		t.Errorf("got %d remembered before sweepInterval, want all %d", len(d.lastSeen), maxRemembered)
	}
	d.isFirst(netip.MustParseAddr("192.0.2.1"), now.Add(sweepInterval))
	if len(d.lastSeen) != 1 {
		t.Errorf("got %d remembered after sweepInterval, want the newest only", len(d.lastSeen))
	}
}

// TestFailureDedup_PartlyFullMemory_IsNotSearched keeps what has expired while there is room.
func TestFailureDedup_PartlyFullMemory_IsNotSearched(t *testing.T) {
	t.Parallel()
	d, now := newFailureDedup(sweepInterval), time.Now()
	d.isFirst(addressNumber(1), now)
	d.isFirst(addressNumber(2), now.Add(sweepInterval))
	if len(d.lastSeen) != 2 {
		t.Errorf("got %d remembered, want both", len(d.lastSeen))
	}
}

func TestFailureDedup_DropExpired_FromTheEndOfTheWindow(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Second
	for after, want := range map[time.Duration]int{window - 1: 1, window: 0} {
		d, now := newFailureDedup(window), time.Now()
		d.isFirst(addressNumber(1), now)
		d.dropExpired(now.Add(after))
		if got := len(d.lastSeen); got != want {
			t.Errorf("got %d remembered after %s, want %d", got, after, want)
		}
	}
}
