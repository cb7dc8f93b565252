package limits

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// shardCount is how many locks the users are spread over, so that streams of different users seldom contend.
const shardCount = 64

// Memory counts the streams of one node's users. Its methods never fail. It is safe for concurrent use.
type Memory struct {
	// OnExceeded, if not nil, is called when a user begins to exceed the limit, so that the user's streams are reported at
	// once. It is called without a lock, and must be set before the first call.
	OnExceeded func(user string)

	rules rules
	// start is the origin of the clock, so that it never goes back.
	start  time.Time
	seed   maphash.Seed
	shards [shardCount]shard
}

type shard struct {
	mu    sync.Mutex
	users map[string]*userStreams
}

type userStreams struct {
	streamSet
	expires int64
}

// NewMemory makes the limits of one node.
func NewMemory(r session.LimitRules) *Memory {
	m := &Memory{rules: rulesInMillis(r), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].users = make(map[string]*userStreams)
	}
	return m
}

// JoinStream adds a stream to those of its user.
func (m *Memory) JoinStream(_ context.Context, e session.StreamEntry) (session.LimitResult, error) {
	return m.apply(true, []session.StreamEntry{e}), nil
}

// RenewStreams reports streams of one user, at least one. Unknown ones join.
func (m *Memory) RenewStreams(_ context.Context, entries []session.StreamEntry) (session.LimitResult, error) {
	return m.apply(false, entries), nil
}

// LeaveStream removes a stream from those of its user.
func (m *Memory) LeaveStream(_ context.Context, user string, id backends.SessionID) error {
	now, s := m.millis(time.Now()), m.shardOf(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[user]; u != nil {
		u.leave(m.rules, id, now)
		if len(u.streams) == 0 {
			delete(s.users, user)
		}
	}
	return nil
}

func (m *Memory) apply(isJoin bool, entries []session.StreamEntry) session.LimitResult {
	now, user := time.Now(), entries[0].User
	reports := make([]report, len(entries))
	for i, e := range entries {
		reports[i] = newReport(isJoin, e, now)
	}
	result, isExceeded := m.shardOf(user).apply(m.rules, user, reports, m.millis(now))
	if isExceeded && m.OnExceeded != nil {
		m.OnExceeded(user)
	}
	return result
}

// millis is the time on the limits' clock. It is never 0, which means never.
func (m *Memory) millis(now time.Time) int64 { return now.Sub(m.start).Milliseconds() + 1 }

func (m *Memory) shardOf(user string) *shard {
	return &m.shards[maphash.String(m.seed, user)%shardCount]
}

func (s *shard) apply(r rules, user string, reports []report, now int64) (session.LimitResult, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireSome(now)
	u := s.users[user]
	if u == nil {
		u = &userStreams{streamSet: *newStreamSet()}
		s.users[user] = u
	}
	u.expires = now + r.userTTL()
	return u.streamSet.apply(r, reports, now)
}

// expireSome looks at a few random users and removes those that expired: more than one call can add, so that the map
// does not grow.
func (s *shard) expireSome(now int64) {
	left := 3
	for user, u := range s.users {
		if u.expires <= now {
			delete(s.users, user)
		}
		if left--; left == 0 {
			return
		}
	}
}
