package cluster

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// RecordHeartbeats says when sessions were seen.
func (m *Memory) RecordHeartbeats(_ context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error) {
	for _, p := range seen {
		if m.beat(p) {
			unknown = append(unknown, p.ID)
		}
	}
	return unknown, nil
}

func (m *Memory) beat(p session.Heartbeat) (unknown bool) {
	shard := m.shard(p.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	before, known := shard.seen[p.ID]
	if p.LastSeen.After(before) {
		shard.seen[p.ID] = p.LastSeen
	}
	return !known
}

// ExpireIdle closes sessions that nobody has seen for so long, at most so many.
func (m *Memory) ExpireIdle(_ context.Context, idle time.Duration, most int) (over []session.ClosingRecord, err error) {
	now := time.Now()
	for i := range m.shards {
		over = m.sweep(&m.shards[i], now, idle, most, over)
	}
	return over, nil
}

func (m *Memory) sweep(
	shard *memoryShard, now time.Time, idle time.Duration, most int, over []session.ClosingRecord,
) []session.ClosingRecord {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for id, seen := range shard.seen {
		if len(over) >= most {
			break
		}
		if now.Sub(seen) < idle {
			continue
		}
		delete(shard.seen, id)
		over = append(over, m.conclude(id, seen))
	}
	return over
}

// conclude ends a stretch of a session.
func (m *Memory) conclude(id backends.SessionID, seen time.Time) session.ClosingRecord {
	e := m.of(id)
	c := session.ClosingRecord{Record: e.record, Counters: e.tally, Since: e.since, LastSeen: seen}
	if c.Since.IsZero() || c.Since.After(seen) {
		c.Since = seen
	}
	c.Record.RevokedBefore = m.buried(id)
	e.tally, e.since, e.closed = session.Counters{}, time.Time{}, true
	m.keep(id, e)
	return c
}
