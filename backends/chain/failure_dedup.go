package chain

import (
	"sync"
	"time"
)

// maxRemembered bounds the memory of one failureDedup to about a megabyte. Failures of more keys than that in one window
// are counted without being remembered.
const maxRemembered = 8192

// sweepInterval bounds how often a full memory is searched for old entries, so that a flood does not pay for a search
// each time.
const sweepInterval = time.Second

// failureDedup remembers who has caused a failure lately: an address, or a session. So one viewer's failures count once.
//
// Its window slides and is independent of the breaker's state: the viewer whose request failed the last probe does not
// fail the next one too.
type failureDedup[K comparable] struct {
	window time.Duration

	mu        sync.Mutex
	lastSeen  map[K]time.Time
	lastSweep time.Time
}

func newFailureDedup[K comparable](window time.Duration) *failureDedup[K] {
	return &failureDedup[K]{window: window, lastSeen: make(map[K]time.Time)}
}

// isFirst reports whether no failure of the key was recorded within the window before now, and records one.
func (d *failureDedup[K]) isFirst(key K, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.lastSeen[key]; ok && now.Sub(last) < d.window {
		return false
	}
	if len(d.lastSeen) >= maxRemembered && now.Sub(d.lastSweep) >= sweepInterval {
		d.dropExpired(now)
	}
	if len(d.lastSeen) < maxRemembered {
		d.lastSeen[key] = now
	}
	return true
}

// dropExpired forgets the keys whose last failure is older than the window.
func (d *failureDedup[K]) dropExpired(now time.Time) {
	d.lastSweep = now
	for key, last := range d.lastSeen {
		if now.Sub(last) >= d.window {
			delete(d.lastSeen, key)
		}
	}
}
