package admission

import (
	"sync/atomic"
	"time"
)

const (
	// knownFor is how long a viewer is known after they were allowed: a match is every week.
	knownFor = 8 * 24 * time.Hour
	// renewAfter is how old what is known becomes before it is renewed, and told to other nodes again.
	renewAfter = 24 * time.Hour
	// setSize is how many slots one key may be in. They are one cache line.
	setSize = 8
	// hourBits of a slot are when the viewer was allowed last, in hours, and the rest is the key's. They overflow in years.
	hourBits = 16
)

// Known remembers, by keys that are keyed hashes, the viewers who were allowed before. It never grows: in a full set of slots the
// key that was allowed longest ago makes room. A key takes a word. It is safe for concurrent use.
type Known struct {
	slots   []atomic.Uint64 // 0: free
	evicted atomic.Uint64
}

// NewKnown returns a memory for at least that many keys.
func NewKnown(keys int) *Known {
	slots := setSize
	for slots < keys+keys/2 { // or sets would be full before that
		slots *= 2
	}
	return &Known{slots: make([]atomic.Uint64, slots)}
}

// set returns the slots in which the key may be.
func (k *Known) set(key uint64) []atomic.Uint64 {
	first := key % uint64(len(k.slots)/setSize) * setSize
	return k.slots[first : first+setSize]
}

// find returns the slot of the key, and when it was allowed; nil: it is not known.
func (k *Known) find(key uint64) (at *atomic.Uint64, value, hour uint64) {
	set := k.set(key)
	for i := range set {
		if v := set[i].Load(); v>>hourBits == key>>hourBits && v != 0 {
			return &set[i], v, v & (1<<hourBits - 1)
		}
	}
	return nil, 0, 0
}

// hourOf returns the hour of a time as slots have it.
func hourOf(t time.Time) uint64 { return uint64(t.Unix()/3600) & (1<<hourBits - 1) }

// age returns how long before now an hour was. An hour that is to come, by another node's clock, is now.
func age(hour uint64, now time.Time) time.Duration {
	return time.Duration(max(0, int16(hourOf(now)-hour))) * time.Hour
}

// Has reports whether the viewer was allowed lately.
func (k *Known) Has(key uint64, now time.Time) bool {
	at, _, hour := k.find(key)
	return at != nil && age(hour, now) <= knownFor
}

// Add remembers that the viewer was allowed at that time. It reports whether that is news to other nodes.
func (k *Known) Add(key uint64, allowed, now time.Time) (isNews bool) {
	value := key&^(1<<hourBits-1) | hourOf(allowed)
	if at, before, hour := k.find(key); at != nil {
		if age(hour, now)-age(hourOf(allowed), now) < renewAfter {
			return false
		}
		return at.CompareAndSwap(before, value) // or another caller has renewed it
	}
	set := k.set(key)
	oldest, oldestAge := 0, time.Duration(-1)
	for i := range set {
		i = (i + int(key>>hourBits%setSize)) % setSize // of several that are as old, not always the same one makes room
		v := set[i].Load()
		if v == 0 && set[i].CompareAndSwap(0, value) {
			return true
		}
		if a := age(v&(1<<hourBits-1), now); a > oldestAge {
			oldest, oldestAge = i, a
		}
	}
	if oldestAge <= knownFor {
		k.evicted.Add(1)
	}
	set[oldest].Store(value)
	return true
}

// Forget makes the viewer a stranger, because they were denied.
func (k *Known) Forget(key uint64) {
	if at, value, _ := k.find(key); at != nil {
		at.CompareAndSwap(value, 0)
	}
}

// Evicted returns how many viewers were forgotten to make room for others.
func (k *Known) Evicted() uint64 { return k.evicted.Load() }
