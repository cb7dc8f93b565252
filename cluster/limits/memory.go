package limits

import (
	"context"
	"sync"
	"time"

	"usher/actors/session"
)

// Memory counts the streams of one node's users. Its methods never fail. It is safe for concurrent use.
type Memory struct {
	// OnExceeded, if not nil, is called when a user begins to exceed the limit, so that the user's streams are reported at
	// once. It is called without a lock, and must be set before the first call.
	OnExceeded func(user string)

	methods
	rules rules
	// start is the origin of the clock, so that it never goes back.
	start time.Time

	mu    sync.Mutex
	users expiring[streamSet]
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	m := &Memory{rules: rulesInMillis(r), start: time.Now(), users: make(expiring[streamSet])}
	m.methods.apply = m.applyReports
	return m
}

func (m *Memory) applyReports(_ context.Context, user string, reports []report) (session.LimitResult, error) {
	m.mu.Lock()
	now := time.Now()
	set, got := m.users[user].value.apply(reports, now.Sub(m.start).Milliseconds()+1, &m.rules) // 0 is no time
	m.users.set(user, set, now, got.ttl)
	m.mu.Unlock()
	if got.isExceeded && m.OnExceeded != nil {
		m.OnExceeded(user)
	}
	return got.LimitResult, nil
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
