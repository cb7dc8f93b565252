package origin

import (
	"math/rand/v2"
	"sync/atomic"
)

type counters struct {
	hits                                                                              stripedCounter
	fetches, coalesced, revalidated, stale, failovers, failures, passedThrough, bytes atomic.Uint64
}

// Stats holds the counters of an origin since its start, and its current state.
type Stats struct {
	// Hits counts the responses from memory that were fresh, so that no fetch was needed.
	Hits uint64
	// Fetches counts the requests sent to the origin, including retries at other addresses.
	Fetches uint64
	// Coalesced counts the viewers who joined an active fetch.
	Coalesced uint64
	// Revalidated counts the fetches with a 304.
	Revalidated uint64
	// Stale counts the responses from an expired copy because the origin failed.
	Stale uint64
	// Failovers counts the fetches that were retried at another address.
	Failovers uint64
	// Failures counts the fetches without a usable response from any address.
	Failures uint64
	// PassedThrough counts the bodies that were not stored because they are too large or not storable.
	PassedThrough uint64
	// Bytes counts the bytes of the origin's bodies, decoded.
	Bytes uint64
	// ActiveFetches is the number of active fetches.
	ActiveFetches int
	// EjectedAddresses is the number of ejected addresses.
	EjectedAddresses int
}

// Stats returns the counters and the current state.
func (o *Origin) Stats() Stats {
	s := Stats{
		Hits:          o.count.hits.load(),
		Fetches:       o.count.fetches.Load(),
		Coalesced:     o.count.coalesced.Load(),
		Revalidated:   o.count.revalidated.Load(),
		Stale:         o.count.stale.Load(),
		Failovers:     o.count.failovers.Load(),
		Failures:      o.count.failures.Load(),
		PassedThrough: o.count.passedThrough.Load(),
		Bytes:         o.count.bytes.Load(),
	}
	now := o.cache.now()
	for _, addr := range o.addresses {
		if addr.isEjected(now) {
			s.EjectedAddresses++
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.ActiveFetches = len(o.active)
	return s
}

// AddressState is the state of one address of an origin.
type AddressState struct {
	// URL has neither password nor query.
	URL string
	// IsEjected reports that the address is avoided for a while.
	IsEjected bool
}

// Addresses returns the states of the origin's addresses, the preferred one first.
func (o *Origin) Addresses() []AddressState {
	var all []AddressState
	for _, addr := range o.addresses {
		all = append(all, AddressState{shownURL(addr.url), addr.isEjected(o.cache.now())})
	}
	return all
}

// stripes is how many parts a stripedCounter has.
const stripes = 32

// stripedCounter counts what happens with each request. Its parts lie in cache lines of their own, so that processors that count
// at once do not wait for each other. It is safe for concurrent use; its zero value is zero.
type stripedCounter [stripes]struct {
	atomic.Uint64
	_ [128 - 8]byte
}

func (c *stripedCounter) add() { c[rand.Uint32()%stripes].Add(1) } //nolint:gosec // no secret

func (c *stripedCounter) load() (sum uint64) {
	for i := range c {
		sum += c[i].Load()
	}
	return sum
}
