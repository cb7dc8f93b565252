package cluster

import "time"

// clockSlack is by how much a server's clock may differ from what we take it to be before a call counts as late. Nodes
// hear of it with every answer, so it covers what clocks drift between two of them.
const clockSlack = time.Second

// slotClocks are the clocks of the servers that sessions lie on. Those of a Redis Cluster need not agree, and which one
// has a slot changes: neighbouring slots are taken to lie on one server, and every answer sets the clock anew.
type slotClocks struct {
	slack   time.Duration
	several bool // else there is one server, so one clock
	clocks  [clusterLanes]redisClock
}

func (c *slotClocks) of(key string) *redisClock {
	if !c.several {
		return &c.clocks[0]
	}
	return &c.clocks[int(slotOf(key))*clusterLanes/slots]
}

// latest is by when a call that is sent now is to be run, by the server's clock; 0 if that is not known.
func (c *redisClock) latest(slack time.Duration) int64 {
	now, known := c.now()
	if !known {
		return 0
	}
	return now + slack.Milliseconds()
}
