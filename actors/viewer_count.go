package actors

import "sync"

// viewerCount counts the viewers whose decision is allowed, for backends that ask for it. Its zero value counts none. It is
// safe for concurrent use.
type viewerCount struct {
	mu        sync.Mutex
	byChannel map[string]int
	total     int
}

// add counts a viewer of the channel, or removes one.
func (c *viewerCount) add(channel string, isWatching bool) {
	delta := -1
	if isWatching {
		delta = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byChannel == nil {
		c.byChannel = make(map[string]int)
	}
	c.total += delta
	if c.byChannel[channel] += delta; c.byChannel[channel] == 0 {
		delete(c.byChannel, channel) // viewers choose channel names, so empty ones must not stay
	}
}

// count returns the viewers of the channel, and of all channels.
func (c *viewerCount) count(channel string) (ofChannel, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byChannel[channel], c.total
}
