package actors

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// addressSet keeps the subscriber prefixes from which a session was used lately. It is safe for concurrent use.
type addressSet struct {
	recent   atomic.Pointer[netip.Prefix] // the newest prefix
	recentAt atomic.Int64                 // when it was used, in seconds since the node's start
	mu       sync.Mutex
	uses     []addressUse
}

type addressUse struct {
	prefix netip.Prefix
	at     int64 // the last use, in seconds since the node's start
}

// admit records the prefix, and reports whether it is one of the first limit prefixes within the last idle seconds. Most
// calls come from the same prefix within the same second, and cost two atomic reads.
func (a *addressSet) admit(prefix netip.Prefix, now, idle int64, limit int) bool {
	if r := a.recent.Load(); r != nil && *r == prefix && a.recentAt.Load() == now {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	stale := -1
	for i := range a.uses {
		if a.uses[i].prefix == prefix {
			return a.record(i, prefix, now)
		}
		if now-a.uses[i].at > idle {
			stale = i
		}
	}
	switch {
	case stale >= 0:
		return a.record(stale, prefix, now)
	case len(a.uses) < limit:
		a.uses = append(a.uses, addressUse{})
		return a.record(len(a.uses)-1, prefix, now)
	default:
		return false
	}
}

func (a *addressSet) record(i int, prefix netip.Prefix, now int64) bool {
	a.uses[i] = addressUse{prefix: prefix, at: now}
	if r := a.recent.Load(); r == nil || *r != prefix {
		newest := prefix // a parameter whose address is taken would be allocated in each call
		a.recent.Store(&newest)
	}
	a.recentAt.Store(now)
	return true
}
