package actors

import (
	"sync"
	"sync/atomic"
)

// addressSet knows from which address prefixes a session was used lately.
type addressSet struct {
	recent   atomic.Uint64 // the prefix that came last
	recentAt atomic.Int64  // when, in seconds since the node's start
	mu       sync.Mutex
	uses     []addressUse
}

type addressUse struct {
	prefix uint64
	at     int64 // in seconds since the node's start
}

// admit notes the prefix and reports whether it is one of the first limit ones within the last idle seconds. Nearly
// every call is the same viewer within the same second, and ends at two atomic reads.
func (c *addressSet) admit(prefix uint64, now, idle int64, limit int) bool {
	if c.recent.Load() == prefix && c.recentAt.Load() == now {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stale := -1
	for i := range c.uses {
		if c.uses[i].prefix == prefix {
			return c.set(i, prefix, now)
		}
		if now-c.uses[i].at > idle {
			stale = i
		}
	}
	switch {
	case stale >= 0:
		return c.set(stale, prefix, now)
	case len(c.uses) < limit:
		c.uses = append(c.uses, addressUse{})
		return c.set(len(c.uses)-1, prefix, now)
	default:
		return false
	}
}

func (c *addressSet) set(i int, prefix uint64, now int64) bool {
	c.uses[i] = addressUse{prefix: prefix, at: now}
	c.recent.Store(prefix)
	c.recentAt.Store(now)
	return true
}
