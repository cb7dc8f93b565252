package cluster

import (
	"sync/atomic"
	"time"
)

// redisClock tells Redis' time without asking for it. Nodes' own clocks need not agree: this one goes by what Redis said
// last and by what passed since. It is safe for concurrent use; its zero value knows nothing.
type redisClock struct{ reading atomic.Pointer[reading] }

type reading struct {
	ms int64
	at time.Time
}

// set notes what Redis said, between asking it and now.
func (c *redisClock) set(ms int64, asked time.Time) {
	c.reading.Store(&reading{ms: ms, at: asked.Add(time.Since(asked) / 2)})
}

// now is Redis' time in milliseconds, if it was ever heard.
func (c *redisClock) now() (ms int64, known bool) {
	r := c.reading.Load()
	if r == nil {
		return 0, false
	}
	return r.ms + time.Since(r.at).Milliseconds(), true
}

// age is for how long something stands at its place; zero if that cannot be told.
func (c *redisClock) age(p place) time.Duration {
	now, known := c.now()
	if !known || p.ms == 0 {
		return 0
	}
	return max(0, time.Duration(now-int64(p.ms))*time.Millisecond)
}
