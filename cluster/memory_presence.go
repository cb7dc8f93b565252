package cluster

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Beat says when sessions were seen.
func (m *Memory) Beat(_ context.Context, seen []session.Presence) (unknown []backends.SessionID, err error) {
	for _, p := range seen {
		if m.beat(p) {
			unknown = append(unknown, p.ID)
		}
	}
	return unknown, nil
}

func (m *Memory) beat(p session.Presence) (unknown bool) {
	shard := m.shard(p.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	before, known := shard.seen[p.ID]
	if p.Seen.After(before) {
		shard.seen[p.ID] = p.Seen
	}
	return !known
}

// Sweep closes sessions that nobody has seen for so long, at most so many.
func (m *Memory) Sweep(_ context.Context, idle time.Duration, most int) (over []session.Closed, err error) {
	now := time.Now()
	for i := range m.shards {
		over = m.sweep(&m.shards[i], now, idle, most, over)
	}
	return over, nil
}

func (m *Memory) sweep(
	shard *memoryShard, now time.Time, idle time.Duration, most int, over []session.Closed,
) []session.Closed {
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
func (m *Memory) conclude(id backends.SessionID, seen time.Time) session.Closed {
	e := m.of(id)
	c := session.Closed{Record: e.record, Tally: e.tally, Since: e.since, Seen: seen}
	if c.Since.IsZero() || c.Since.After(seen) {
		c.Since = seen
	}
	c.Record.Buried = m.buried(id)
	e.tally, e.since, e.closed = session.Tally{}, time.Time{}, true
	m.keep(id, e)
	return c
}
