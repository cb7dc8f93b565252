package cluster

import (
	"context"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// RecordHeartbeats stores when sessions were last seen, and returns those that were not stored yet.
func (m *Memory) RecordHeartbeats(_ context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error) {
	for _, h := range seen {
		if isNew := m.recordHeartbeat(h); isNew {
			unknown = append(unknown, h.ID)
		}
	}
	return unknown, nil
}

func (m *Memory) recordHeartbeat(h session.Heartbeat) (isNew bool) {
	shard := m.shardOf(h.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	before, found := shard.unrecorded[h.ID]
	if h.LastSeen.After(before.lastSeen) {
		shard.unrecorded[h.ID] = unrecordedSession{lastSeen: h.LastSeen, entry: m.find(h.ID)}
	}
	return !found
}

// ExpireIdle closes sessions that were not seen for that long, at most that many.
func (m *Memory) ExpireIdle(_ context.Context, idle time.Duration, limit int) (closed []session.ClosingRecord, err error) {
	now := time.Now()
	for i := range m.shards {
		closed = m.expireShard(&m.shards[i], now, idle, limit, closed)
	}
	return closed, nil
}

func (m *Memory) expireShard(
	shard *memoryShard, now time.Time, idle time.Duration, limit int, closed []session.ClosingRecord,
) []session.ClosingRecord {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for id, u := range shard.unrecorded {
		if len(closed) >= limit {
			break
		}
		if u.lastSeen.IsZero() || now.Sub(u.lastSeen) < idle {
			continue
		}
		closed = append(closed, m.endPeriod(id, u.lastSeen, now))
		delete(shard.unrecorded, id)
	}
	return closed
}

// ConfirmClosed does nothing: what closes here is returned once.
func (m *Memory) ConfirmClosed(context.Context, []session.ClosingRecord) error { return nil }

// endPeriod ends the current period of a session. The caller holds the shard's lock.
func (m *Memory) endPeriod(id backends.SessionID, lastSeen, now time.Time) session.ClosingRecord {
	e := m.entryOf(id)
	c := session.ClosingRecord{
		Record: e.record, Counters: e.counters, Since: e.since, LastSeen: lastSeen, Period: uint64(now.UnixMilli()),
	}
	if since := e.counters.Since; !since.IsZero() {
		c.Since = since // the ticket may be older than this process
	}
	if c.Since.IsZero() || c.Since.After(lastSeen) {
		c.Since = lastSeen
	}
	c.Record.RevokedBefore = m.lastRevoked(id)
	e.counters, e.since, e.isClosed = session.Counters{}, time.Time{}, true
	m.put(id, e)
	return c
}
