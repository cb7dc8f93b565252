package cluster

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// limitShards is into how many locks the users are spread, so that sessions of different users seldom meet.
const limitShards = 64

// memoryLimits are the limits of a node alone. They are safe for concurrent use.
type memoryLimits struct {
	terms limitTerms
	// start is what the clock counts from, so that it never goes back.
	start time.Time
	seed  maphash.Seed
	// over, if not nil, is told when a user begins to exceed his limit, so that his sessions tell at once how they stand.
	// It is called without a lock, and set before the first call.
	over   func(user string)
	shards [limitShards]limitShard
}

type limitShard struct {
	mu      sync.Mutex
	rosters map[string]*lastingRoster
}

type lastingRoster struct {
	roster
	until int64
}

func newMemoryLimits(rules session.LimitRules) *memoryLimits {
	l := &memoryLimits{terms: termsOf(rules), start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].rosters = make(map[string]*lastingRoster)
	}
	return l
}

// JoinStream asks for a place among the user's sessions. It never fails.
func (l *memoryLimits) JoinStream(_ context.Context, m session.StreamEntry) (session.LimitResult, error) {
	return l.call(true, []session.StreamEntry{m}), nil
}

// RenewStreams keeps the places, or takes some if none are known. It never fails.
func (l *memoryLimits) RenewStreams(_ context.Context, of []session.StreamEntry) (session.LimitResult, error) {
	return l.call(false, of), nil
}

// LeaveStream gives the place back. It never fails.
func (l *memoryLimits) LeaveStream(_ context.Context, user string, id backends.SessionID) error {
	now, shard := l.now(time.Now()), l.shard(user)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if r := shard.rosters[user]; r != nil {
		r.leave(l.terms, id, now)
		if len(r.members) == 0 {
			delete(shard.rosters, user)
		}
	}
	return nil
}

func (l *memoryLimits) call(join bool, of []session.StreamEntry) session.LimitResult {
	clock, user := time.Now(), of[0].User
	calls := make([]limitCall, len(of))
	for i, m := range of {
		calls[i] = callOf(join, m, clock)
	}
	said, exceeded := l.shard(user).call(l.terms, user, calls, l.now(clock))
	if exceeded && l.over != nil {
		l.over(user)
	}
	return said
}

// now is never 0, which means never.
func (l *memoryLimits) now(clock time.Time) int64 { return clock.Sub(l.start).Milliseconds() + 1 }

func (l *memoryLimits) shard(user string) *limitShard {
	return &l.shards[maphash.String(l.seed, user)%limitShards]
}

func (s *limitShard) call(t limitTerms, user string, calls []limitCall, now int64) (session.LimitResult, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	r := s.rosters[user]
	if r == nil {
		r = &lastingRoster{roster: *newRoster()}
		s.rosters[user] = r
	}
	r.until = now + t.keep()
	return r.call(t, calls, now)
}

// forget looks at a few users, whichever, and drops those of whom nothing was heard for long: more than come anew by a
// call, so that the store does not grow.
func (s *limitShard) forget(now int64) {
	looks := 3
	for user, r := range s.rosters {
		if r.until <= now {
			delete(s.rosters, user)
		}
		if looks--; looks == 0 {
			return
		}
	}
}
