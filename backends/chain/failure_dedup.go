package chain

import (
	"net/netip"
	"sync"
	"time"

	"usher/backends"
)

// maxBlamed bounds the memory of one backend's blame to about a megabyte. A flood from more addresses than that in one
// window is counted without being remembered.
const maxBlamed = 8192

// sweepEvery bounds how often a full memory is searched for what is old, so that a flood does not pay for it each time.
const sweepEvery = time.Second

// blame remembers which addresses have lately been met by a failure that their own requests may have caused, so that
// one viewer cannot open a breaker alone. It slides over time and survives the breaker's own changes: the viewer whose
// request failed the last try does not fail the next one too.
type blame struct {
	window time.Duration

	mu    sync.Mutex
	seen  map[netip.Prefix]time.Time
	swept time.Time
}

func newBlame(window time.Duration) *blame {
	return &blame{window: window, seen: make(map[netip.Prefix]time.Time)}
}

// first reports whether the address has not been blamed within the window before now, and blames it.
func (b *blame) first(address netip.Addr, now time.Time) bool {
	household := backends.SubscriberPrefix(address)
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.seen[household]; ok && now.Sub(last) < b.window {
		return false
	}
	if len(b.seen) >= maxBlamed && now.Sub(b.swept) >= sweepEvery {
		b.forget(now)
	}
	if len(b.seen) < maxBlamed {
		b.seen[household] = now
	}
	return true
}

// forget drops what is older than the window.
func (b *blame) forget(now time.Time) {
	b.swept = now
	for household, last := range b.seen {
		if now.Sub(last) >= b.window {
			delete(b.seen, household)
		}
	}
}
