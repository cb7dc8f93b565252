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
	streams, addresses *memorySets
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	return &Memory{streams: newMemorySets(rules{LimitRules: r}), addresses: newMemorySets(rules{LimitRules: r, isBound: true})}
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

func newMemorySets(r rules) *memorySets {
	m := &memorySets{rules: r, start: time.Now()}
	m.sets = newExpiring[streamSet](&m.mu)
	return m
}

func (m *memorySets) apply(name string, reports []report) result {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, got := m.sets.get(name).applyReports(reports, time.Since(m.start).Milliseconds()+1, 0, &m.rules) // 0 is no time
	m.sets.set(name, set, got.ttl)
	return got
}
