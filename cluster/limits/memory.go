package limits

import (
	"context"
	"sync"
	"time"

	"usher/actors/session"
)

// Memory counts the streams of one node's users, and the addresses of its tickets. Its methods never fail. It is safe for
// concurrent use.
type Memory struct {
	// OnExceeded, if not nil, is called when a user begins to exceed the limit, so that the user's streams are reported at
	// once. It is called without a lock, and must be set before the first call.
	OnExceeded func(user string)
	methods
	streams, addresses *memoryCounter
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	start := time.Now()
	m := &Memory{streams: newMemoryCounter(rulesInMillis(r), start), addresses: newMemoryCounter(addressRules(r), start)}
	m.methods = methods{apply: m.applyReports, applyAddresses: m.applyAddressReports}
	return m
}

func (m *Memory) applyReports(_ context.Context, user string, reports []report) (session.LimitResult, error) {
	got := m.streams.apply(user, reports)
	if got.isExceeded && m.OnExceeded != nil {
		m.OnExceeded(user)
	}
	return got.LimitResult, nil
}

func (m *Memory) applyAddressReports(_ context.Context, ticket string, reports []report) (session.LimitResult, error) {
	return m.addresses.apply(ticket, reports).LimitResult, nil
}

// memoryCounter keeps sets of streams. It is safe for concurrent use.
type memoryCounter struct {
	rules rules
	// start is the origin of the clock, so that it never goes back.
	start time.Time
	mu    sync.Mutex
	sets  expiring[streamSet]
}

func newMemoryCounter(r rules, start time.Time) *memoryCounter {
	return &memoryCounter{rules: r, start: start, sets: make(expiring[streamSet])}
}

func (c *memoryCounter) apply(name string, reports []report) result {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	set, got := c.sets[name].value.apply(reports, now.Sub(c.start).Milliseconds()+1, &c.rules) // 0 is no time
	c.sets.set(name, set, now, got.ttl)
	return got
}

// expiring is a map whose entries expire.
type expiring[T any] map[string]expiringEntry[T]

type expiringEntry[T any] struct {
	value   T
	expires time.Time
}

// set sets an entry for that long. It looks at a few random entries and removes those that expired: more than one call can
// add, so that the map does not grow.
func (x expiring[T]) set(key string, value T, now time.Time, ttl time.Duration) {
	if x[key] = (expiringEntry[T]{value, now.Add(ttl)}); ttl <= 0 {
		delete(x, key)
	}
	left := 3
	for other, e := range x {
		if !now.Before(e.expires) {
			delete(x, other)
		}
		if left--; left == 0 {
			return
		}
	}
}
