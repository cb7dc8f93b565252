package limits

import (
	"context"
	"sync"
	"time"

	"usher/actors/session"
)

// Memory counts the streams of one node's users, and the addresses of its tickets. It is safe for concurrent use.
type Memory struct {
	// OnExceeded, if not nil, is called when a user begins to exceed the limit, so that the user's streams are reported at
	// once. It is called without a lock, and must be set before the first call.
	OnExceeded         func(user string)
	streams, addresses memorySets
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	sets := func(r rules) memorySets {
		return memorySets{rules: r, start: time.Now(), sets: make(expiring[streamSet])}
	}
	return &Memory{streams: sets(rules{LimitRules: r}), addresses: sets(rules{LimitRules: r, isBound: true})}
}

// ReportStreams reports streams of one user, at least one.
func (m *Memory) ReportStreams(_ context.Context, entries ...session.StreamEntry) session.LimitResult {
	got := m.streams.apply(entries[0].User, newReports(entries))
	if got.isExceeded && m.OnExceeded != nil {
		m.OnExceeded(entries[0].User)
	}
	return got.LimitResult
}

// ReportAddresses reports addresses that use one ticket, at least one. The entries' user is the ticket.
func (m *Memory) ReportAddresses(_ context.Context, entries ...session.StreamEntry) session.LimitResult {
	return m.addresses.apply(entries[0].User, newReports(entries)).LimitResult
}

// memorySets keeps sets of streams.
type memorySets struct {
	rules rules
	// start is the origin of the clock, so that it never goes back.
	start time.Time
	mu    sync.Mutex
	sets  expiring[streamSet]
}

func (m *memorySets) apply(name string, reports []report) result {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	set, got := m.sets[name].value.applyReports(reports, now.Sub(m.start).Milliseconds()+1, 0, &m.rules) // 0 is no time
	m.sets.set(name, set, now, got.ttl)
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
	x[key] = expiringEntry[T]{value, now.Add(ttl)}
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
