package chain

import (
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

// maxRemembered bounds the memory of one backend's blame to about a megabyte. A flood from more addresses than that in one
// window is counted without being remembered.
const maxRemembered = 8192

// sweepInterval bounds how often a full memory is searched for what is old, so that a flood does not pay for it each time.
const sweepInterval = time.Second

// failureDedup remembers which addresses have lately been met by a failure that their own requests may have caused, so that
// one viewer cannot open a breaker alone. It slides over time and survives the breaker's own changes: the viewer whose
// request failed the last try does not fail the next one too.
type failureDedup struct {
	window time.Duration

	mu    sync.Mutex
	lastSeen  map[netip.Prefix]time.Time
	lastSweep time.Time
}

func newFailureDedup(window time.Duration) *failureDedup {
	return &failureDedup{window: window, lastSeen: make(map[netip.Prefix]time.Time)}
}

// isFirst reports whether the address has not been blamed within the window before now, and blames it.
func (b *failureDedup) isFirst(address netip.Addr, now time.Time) bool {
	household := backends.SubscriberPrefix(address)
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.lastSeen[household]; ok && now.Sub(last) < b.window {
		return false
	}
	if len(b.lastSeen) >= maxRemembered && now.Sub(b.lastSweep) >= sweepInterval {
		b.dropExpired(now)
	}
	if len(b.lastSeen) < maxRemembered {
		b.lastSeen[household] = now
	}
	return true
}

// dropExpired drops what is older than the window.
func (b *failureDedup) dropExpired(now time.Time) {
	b.lastSweep = now
	for household, last := range b.lastSeen {
		if now.Sub(last) >= b.window {
			delete(b.lastSeen, household)
		}
	}
}
