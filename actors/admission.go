package actors

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// openRateCells bounds the memory of the per-address limit (512 kB), whoever comes from wherever. Addresses that
// share a cell share its rate; with a seed of its own per process nobody can aim at another's cell.
const openRateCells = 1 << 16

// openRate limits how many sessions an address may open: the generic cell rate algorithm, one word a cell.
type openRate struct {
	seed     maphash.Seed
	start    time.Time // cells count from it by the monotonic clock, so that one set back locks nobody out
	interval int64     // nanoseconds between two openings in the long run
	burst    int64     // nanoseconds of interval that may be saved up
	cells    []atomic.Int64
}

func newOpenRate(start time.Time, perSecond, burst int) *openRate {
	interval := int64(time.Second) / int64(perSecond)
	return &openRate{
		seed:     maphash.MakeSeed(),
		start:    start,
		interval: interval,
		burst:    interval * int64(burst),
		cells:    make([]atomic.Int64, openRateCells),
	}
}

// maxStoredDenials is how many denials of strangers a second are stored for other nodes to see: a flood of random tokens must
// not become one of writes. Who is refused beyond that is asked about once a node.
const maxStoredDenials = 200

// denialBudget lets so much through in a second. Its zero value is ready.
type denialBudget struct {
	mu     sync.Mutex
	second time.Time
	count  int
}

func (m *denialBudget) allow(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.second) >= time.Second {
		m.second, m.count = now, 0
	}
	m.count++
	return m.count <= maxStoredDenials
}

// allow reports whether the address may open one more session at now, and counts it.
func (a *openRate) allow(address netip.Addr, now time.Time) bool {
	cell := &a.cells[maphash.Comparable(a.seed, backends.SubscriberPrefix(address))%openRateCells]
	for {
		at := int64(now.Sub(a.start))
		due := cell.Load()
		next := max(due, at) + a.interval
		if next-at > a.burst {
			return false
		}
		if cell.CompareAndSwap(due, next) {
			return true
		}
	}
}
