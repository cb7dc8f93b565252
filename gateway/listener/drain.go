package listener

import (
	"context"
	"time"
)

const (
	// firstRequestTimeout is how long the drain waits for the first request of a new connection: long enough for a handshake over a
	// slow link, and not for a connection that a browser opens in advance.
	firstRequestTimeout = 5 * time.Second
	// drainPollInterval is how often the drain looks at the connections.
	drainPollInterval = 10 * time.Millisecond
)

// Drain waits until no connection is open, or ctx ends. It closes those that have asked for nothing for silence, and new ones after
// firstRequestTimeout. The listener is closed, and its server answers each request by closing the connection.
func (l *Listener) Drain(ctx context.Context, silence time.Duration) {
	tick := time.NewTicker(drainPollInterval)
	defer tick.Stop()
	for l.closeSilent(time.Now(), silence) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// closeSilent closes the connections that need not be waited for, and returns how many are left.
func (l *Listener) closeSilent(now time.Time, silence time.Duration) (left int) {
	var silent []*Conn
	l.mu.Lock()
	for _, c := range l.open.conns {
		if c.isSilent(now, silence) {
			silent = append(silent, c)
		}
	}
	left = len(l.open.conns) - len(silent)
	l.mu.Unlock()
	for _, c := range silent {
		c.closeNow() // outside of the lock
	}
	return left
}

// isSilent reports whether the connection has asked for nothing for so long that the drain does not wait for it.
func (c *Conn) isSilent(now time.Time, silence time.Duration) bool {
	since := c.idleSince.Load()
	if !c.hasRequested.Load() {
		silence = max(silence, firstRequestTimeout)
	}
	return since != 0 && now.UnixNano()-since >= int64(silence)
}
