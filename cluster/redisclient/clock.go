package redisclient

import (
	"sync/atomic"
	"time"
)

// Clock estimates the time of a Redis server from its last reply and the time that passed since, so that the clocks of
// nodes need not agree. It is safe for concurrent use; its zero value knows no time.
type Clock struct{ last atomic.Pointer[reading] }

type reading struct {
	ms int64
	at time.Time
}

// Set records the time in ms that the server returned to a call that was sent at that time and has just returned.
func (c *Clock) Set(ms int64, sentAt time.Time) {
	c.last.Store(&reading{ms: ms, at: sentAt.Add(time.Since(sentAt) / 2)})
}

// Now returns the server's time in ms, if a reply had it.
func (c *Clock) Now() (ms int64, known bool) {
	r := c.last.Load()
	if r == nil {
		return 0, false
	}
	return r.ms + time.Since(r.at).Milliseconds(), true
}

// expiry returns the server time in ms by which a call that is sent now must run, or 0 if the server's time is unknown.
func (c *Clock) expiry(tolerance time.Duration) int64 {
	now, known := c.Now()
	if !known {
		return 0
	}
	return now + tolerance.Milliseconds()
}

// clockTolerance is how far a server's clock may be from the estimate before a call counts as late. Every reply sets the
// estimate, so it covers the drift between two replies.
const clockTolerance = time.Second

// serverClocks has a clock for each server that sessions lie on. The clocks of a Redis Cluster need not agree, and hash
// slots move between its servers: neighbouring slots are assumed to lie on one server, and every reply sets the clock
// anew.
type serverClocks struct {
	tolerance time.Duration
	isCluster bool // false: one server, so one clock
	clocks    [clusterQueues]Clock
}

func (c *serverClocks) clockOf(key string) *Clock {
	if !c.isCluster {
		return &c.clocks[0]
	}
	return &c.clocks[int(hashSlot(key))*clusterQueues/hashSlots]
}
