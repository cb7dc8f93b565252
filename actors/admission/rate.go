package admission

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"usher/backends"
)

// cells bounds the memory of a [Rate] by key to 512 kB, however many keys there are.
const cells = 1 << 16

// Rate limits how often something may happen for a key, by the generic cell rate algorithm with one word per cell. It is safe for
// concurrent use.
type Rate struct {
	seed     maphash.Seed
	epoch    time.Time // cells count from it by the monotonic clock, so that a clock set back blocks no key
	interval int64     // nanoseconds between two in the long run
	burst    int64     // nanoseconds of interval that may be saved up
	cells    []atomic.Int64
}

// NewRate returns a rate of one in each interval by key, of which burst may be saved up.
func NewRate(start time.Time, interval time.Duration, burst int) *Rate {
	return newRate(start, interval, burst, cells)
}

// PerSecond returns a rate of so many a second by key.
func PerSecond(start time.Time, n, burst int) *Rate {
	return NewRate(start, time.Second/time.Duration(n), burst)
}

// total returns a rate of so many a second for everybody together.
func total(start time.Time, n, burst int) *Rate {
	return newRate(start, time.Second/time.Duration(n), burst, 1)
}

func newRate(start time.Time, interval time.Duration, burst, cells int) *Rate {
	return &Rate{
		seed: maphash.MakeSeed(), epoch: start, interval: int64(interval), burst: int64(interval) * int64(burst),
		cells: make([]atomic.Int64, cells),
	}
}

// Allow reports whether it may happen once more at now for the key, and counts it.
func Allow[K comparable](r *Rate, key K, now time.Time) bool {
	return r.allow(hashOf(r, key), now, whole)
}

// AllowAddress is [Allow] for the subscriber at the address.
func (r *Rate) AllowAddress(address netip.Addr, now time.Time) bool {
	return Allow(r, backends.SubscriberPrefix(address), now)
}

func hashOf[K comparable](r *Rate, key K) uint64 { return maphash.Comparable(r.seed, key) }

// whole is the share of those who may use all that is saved up, in percent.
const whole = 100

// allow is Allow for the key of that hash, who may use a share of what is saved up, in percent. That is once at least.
func (r *Rate) allow(hash uint64, now time.Time, share int) bool {
	cell := r.cell(hash)
	most := max(r.burst/whole*int64(share)+r.burst%whole*int64(share)/whole, r.interval)
	for {
		at := int64(now.Sub(r.epoch))
		due := cell.Load()
		next := max(due, at) + r.interval
		if next-at > most {
			return false
		}
		if cell.CompareAndSwap(due, next) {
			return true
		}
	}
}

// giveBack takes back what allow has counted.
func (r *Rate) giveBack(hash uint64) { r.cell(hash).Add(-r.interval) }

// isQuiet reports whether everything that was counted for the key of that hash is saved up again.
func (r *Rate) isQuiet(hash uint64, now time.Time) bool {
	return r.cell(hash).Load() <= int64(now.Sub(r.epoch))
}

func (r *Rate) cell(hash uint64) *atomic.Int64 { return &r.cells[hash%uint64(len(r.cells))] }
