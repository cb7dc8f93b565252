package limits

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"usher/actors/session"
)

// shardCount is how many locks the users are spread over, so that streams of different users seldom contend.
const shardCount = 64

// Memory counts the streams of one node's users. Its methods never fail. It is safe for concurrent use.
type Memory struct {
	// OnExceeded, if not nil, is called when a user begins to exceed the limit, so that the user's streams are reported at
	// once. It is called without a lock, and must be set before the first call.
	OnExceeded func(user string)

	methods
	rules rules
	// start is the origin of the clock, so that it never goes back.
	start  time.Time
	seed   maphash.Seed
	shards [shardCount]shard
}

// shard is some of the users, with their streams and when those expire.
type shard struct {
	mu    sync.Mutex
	users expiring[streamSet]
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	m := &Memory{rules: rulesInMillis(r), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].users = make(expiring[streamSet])
	}
	m.methods.apply = m.applyReports
	return m
}

func (m *Memory) applyReports(_ context.Context, user string, reports []report) (session.LimitResult, error) {
	now := time.Now()
	got := m.shards[maphash.String(m.seed, user)%shardCount].apply(user, reports, now, now.Sub(m.start).Milliseconds()+1, &m.rules)
	if got.isExceeded && m.OnExceeded != nil {
		m.OnExceeded(user)
	}
	return got.LimitResult, nil
}

// apply takes the time on two clocks: ms is the limits' own, which is never 0.
func (s *shard) apply(user string, reports []report, now time.Time, ms int64, r *rules) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, got := s.users[user].value.apply(reports, ms, r)
	s.users.set(user, set, now, got.ttl)
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
	if ttl <= 0 {
		delete(x, key)
		return
	}
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
