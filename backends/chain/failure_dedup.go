package chain

import (
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

// maxRemembered bounds the memory of one backend's failureDedup to about a megabyte. Failures from more addresses than
// that in one window are counted without being remembered.
const maxRemembered = 8192

// sweepInterval bounds how often a full memory is searched for old entries, so that a flood does not pay for a search
// each time.
const sweepInterval = time.Second

// failureDedup remembers which addresses have caused a failure lately, so that one viewer cannot open a breaker alone.
//
// Its window slides and is independent of the breaker's state: the viewer whose request failed the last probe does not
// fail the next one too.
type failureDedup struct {
	window time.Duration

	mu        sync.Mutex
	lastSeen  map[netip.Prefix]time.Time
	lastSweep time.Time
}

func newFailureDedup(window time.Duration) *failureDedup {
	return &failureDedup{window: window, lastSeen: make(map[netip.Prefix]time.Time)}
}

// isFirst reports whether no failure of the address was recorded within the window before now, and records one.
func (d *failureDedup) isFirst(address netip.Addr, now time.Time) bool {
	prefix := backends.SubscriberPrefix(address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.lastSeen[prefix]; ok && now.Sub(last) < d.window {
		return false
	}
	if len(d.lastSeen) >= maxRemembered && now.Sub(d.lastSweep) >= sweepInterval {
		d.dropExpired(now)
	}
	if len(d.lastSeen) < maxRemembered {
		d.lastSeen[prefix] = now
	}
	return true
}

// dropExpired forgets the addresses whose last failure is older than the window.
func (d *failureDedup) dropExpired(now time.Time) {
	d.lastSweep = now
	for prefix, last := range d.lastSeen {
		if now.Sub(last) >= d.window {
			delete(d.lastSeen, prefix)
		}
	}
}
