package limits

import (
	"sync"
	"time"
)

const (
	// sweepInterval is how often expired entries are removed. Each time at least minSwept entries are looked at, and one in
	// sweepShare, so that a million hold the lock for a millisecond or two, and are all looked at within a few minutes.
	sweepInterval = time.Second
	sweepShare    = 32
	minSwept      = 1000
)

// expiring is a map whose entries expire. All but its timer hold its owner's lock.
type expiring[T any] struct {
	lock    sync.Locker
	start   time.Time // the origin of the entries' times
	entries map[string]expiringEntry[T]
	isSwept bool // the timer runs
}

type expiringEntry[T any] struct {
	value   T
	expires time.Duration
}

func newExpiring[T any](lock sync.Locker) expiring[T] {
	return expiring[T]{lock: lock, start: time.Now(), entries: make(map[string]expiringEntry[T])}
}

// get returns the entry, or the zero value.
func (x *expiring[T]) get(key string) T { return x.entries[key].value }

// set sets an entry for that long.
func (x *expiring[T]) set(key string, value T, ttl time.Duration) {
	x.entries[key] = expiringEntry[T]{value, time.Since(x.start) + ttl}
	if !x.isSwept {
		x.isSwept = true
		time.AfterFunc(sweepInterval, x.sweep)
	}
}

// sweep removes what has expired of some entries: a map is read from a random place. It ends with the last entry, and what they
// took is free then.
func (x *expiring[T]) sweep() {
	x.lock.Lock()
	defer x.lock.Unlock()
	now, left := time.Since(x.start), max(minSwept, len(x.entries)/sweepShare)
	for key, e := range x.entries {
		if e.expires <= now {
			delete(x.entries, key)
		}
		if left--; left == 0 {
			break
		}
	}
	if x.isSwept = len(x.entries) > 0; x.isSwept {
		time.AfterFunc(sweepInterval, x.sweep)
	} else {
		x.entries = make(map[string]expiringEntry[T])
	}
}
