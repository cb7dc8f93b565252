package actors

import (
	"sync"
	"sync/atomic"
)

// crowd knows from which address prefixes a session was used lately.
type crowd struct {
	recent atomic.Uint64 // the prefix that came last
	at     atomic.Int64  // when, in seconds since the node's start
	mu     sync.Mutex
	seen   []sighting
}

type sighting struct {
	prefix uint64
	at     int64 // in seconds since the node's start
}

// admit notes the prefix and reports whether it is one of the first limit ones within the last idle seconds. Nearly
// every call is the same viewer within the same second, and ends at two atomic reads.
func (c *crowd) admit(prefix uint64, now, idle int64, limit int) bool {
	if c.recent.Load() == prefix && c.at.Load() == now {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stale := -1
	for i := range c.seen {
		if c.seen[i].prefix == prefix {
			return c.note(i, prefix, now)
		}
		if now-c.seen[i].at > idle {
			stale = i
		}
	}
	switch {
	case stale >= 0:
		return c.note(stale, prefix, now)
	case len(c.seen) < limit:
		c.seen = append(c.seen, sighting{})
		return c.note(len(c.seen)-1, prefix, now)
	default:
		return false
	}
}

func (c *crowd) note(i int, prefix uint64, now int64) bool {
	c.seen[i] = sighting{prefix: prefix, at: now}
	c.recent.Store(prefix)
	c.at.Store(now)
	return true
}
