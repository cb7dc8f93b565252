package plainhttp

import (
	"slices"
	"sync"
	"time"
)

// idleConns are the connections that no call uses. The one that was used last is used first, so that those beyond the need grow
// old. Safe for concurrent use.
type idleConns struct {
	most    int
	timeout time.Duration

	mu        sync.Mutex
	conns     []*conn // by the time when they became idle
	isClosing bool    // until the next call
	timer     *time.Timer
}

// take returns a connection, or nil if there is none.
func (i *idleConns) take(now time.Time) *conn {
	for {
		c := i.pop()
		if c == nil || i.timeout == 0 || now.Sub(c.kept) < i.timeout {
			return c
		}
		c.close()
	}
}

func (i *idleConns) pop() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.isClosing = false
	last := len(i.conns) - 1
	if last < 0 {
		return nil
	}
	c := i.conns[last]
	i.conns[last] = nil
	i.conns = i.conns[:last]
	return c
}

// keep keeps a connection, or closes it beyond the bound.
func (i *idleConns) keep(c *conn, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.isClosing || len(i.conns) >= i.most {
		c.close()
		return
	}
	c.kept = now
	i.conns = append(i.conns, c)
	if i.timeout > 0 && i.timer == nil {
		i.timer = time.AfterFunc(i.timeout, i.expire)
	}
}

// expire closes the connections that were not used for the timeout, and looks again when the next one is due.
func (i *idleConns) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	expired := 0
	for expired < len(i.conns) && now.Sub(i.conns[expired].kept) >= i.timeout {
		i.conns[expired].close()
		expired++
	}
	i.conns = slices.Delete(i.conns, 0, expired)
	if i.timer = nil; len(i.conns) > 0 {
		i.timer = time.AfterFunc(i.timeout-now.Sub(i.conns[0].kept), i.expire)
	}
}

func (i *idleConns) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.conns {
		c.close()
	}
	i.conns, i.isClosing = nil, true
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
}
