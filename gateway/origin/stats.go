package origin

import "sync/atomic"

type counters struct {
	fetches, coalesced, revalidated, stale, failovers, failures, passed, bytes atomic.Uint64
}

// Stats counts what an origin was asked and how it went, since it was made.
type Stats struct {
	// Fetches is the requests sent to the origin, retries at other addresses included. Coalesced is the viewers who
	// joined a fetch that another had begun. Revalidated is the fetches answered by "not modified".
	Fetches, Coalesced, Revalidated uint64
	// Stale is the answers given from an expired copy because the origin failed.
	Stale uint64
	// Failovers is the fetches that went on to another address; Failures those that no address answered usably.
	Failovers, Failures uint64
	// Passed is the bodies that went through without being stored, too large or forbidden.
	Passed uint64
	// Bytes is what the origin sent in bodies, decoded.
	Bytes uint64
	// Flights is how many fetches are under way; Down how many addresses are set aside.
	Flights, Down int
}

// Stats reads the counters.
func (o *Origin) Stats() Stats {
	s := Stats{
		Fetches:     o.count.fetches.Load(),
		Coalesced:   o.count.coalesced.Load(),
		Revalidated: o.count.revalidated.Load(),
		Stale:       o.count.stale.Load(),
		Failovers:   o.count.failovers.Load(),
		Failures:    o.count.failures.Load(),
		Passed:      o.count.passed.Load(),
		Bytes:       o.count.bytes.Load(),
	}
	now := o.cache.now()
	for _, t := range o.targets {
		if t.isDown(now) {
			s.Down++
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Flights = len(o.flights)
	return s
}
