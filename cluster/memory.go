package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/limits"
)

// MemoryConfig bounds a [Memory].
type MemoryConfig struct {
	// MaxSessions is the most ended sessions that are remembered, about 1 kB each.
	MaxSessions int `yaml:"max_sessions"`
}

// DefaultMemoryConfig returns the defaults.
func DefaultMemoryConfig() MemoryConfig { return MemoryConfig{MaxSessions: 500_000} }

// Validate reports every setting that cannot work.
func (c MemoryConfig) Validate() error {
	if c.MaxSessions < 1 {
		return fmt.Errorf("max_sessions: %d is too small; want at least 1", c.MaxSessions)
	}
	return nil
}

// Memory is the [Store] of one node, in this process: what it holds ends with the process. It returns no error, except
// when a context ends while it waits for the holder of a lease. It is safe for concurrent use.
type Memory struct {
	*memoryLimits
	entries *otter.Cache[backends.SessionID, *memoryEntry]
	// tombstones are apart, so that a flood of idle sessions does not push out what denies a ticket.
	tombstones *otter.Cache[backends.SessionID, *tombstone]
	reviveFor  time.Duration
	shards     [bucketCount]memoryShard
	// unknown is the entry of a session that nobody has stored. It is not written to.
	unknown memoryEntry
}

// memoryLimits gives [Memory] the limits' methods without an exported field.
type memoryLimits = limits.Memory

// memoryShard locks the sessions of a bucket.
type memoryShard struct {
	mu sync.Mutex
	// unrecorded are the sessions that must be closed when they are idle.
	unrecorded map[backends.SessionID]unrecordedSession
}

// unrecordedSession is a session that is still to be recorded. It holds what is known of it, which the cache may give up.
type unrecordedSession struct {
	lastSeen time.Time    // zero: its viewer is back, and the node that they are at reports it again
	entry    *memoryEntry // nil: nothing is known
}

// memoryEntry is what is known of a session. The lock of its shard guards it.
type memoryEntry struct {
	record session.Record
	// hasRecord: there is a record, rather than a lease or counters alone.
	hasRecord bool

	// lease is the revision of the newest lease, leasedUntil is when that lease ends.
	lease       uint64
	leasedUntil time.Time
	// released is closed when a lease is released. It is nil if no call waits.
	released chan struct{}

	// since is when the session's current period began; isClosed: it has none.
	since    time.Time
	isClosed bool
	counters session.Counters
}

// tombstone refuses a session's tickets that were opened at that time or before. The lock of its shard guards it.
type tombstone struct{ revokedBefore time.Time }

// NewMemory makes a store that remembers sessions and revoked tickets for as long as a ticket may be revived.
func NewMemory(c MemoryConfig, reviveFor time.Duration, rules session.LimitRules) (*Memory, error) {
	entries, err := otter.New(&otter.Options[backends.SessionID, *memoryEntry]{
		MaximumSize:      c.MaxSessions,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, *memoryEntry](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of sessions: %w", err)
	}
	tombstones, err := otter.New(&otter.Options[backends.SessionID, *tombstone]{
		MaximumSize:      c.MaxSessions,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, *tombstone](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of revoked tickets: %w", err)
	}
	m := &Memory{memoryLimits: limits.NewMemory(rules), entries: entries, tombstones: tombstones, reviveFor: reviveFor}
	for i := range m.shards {
		m.shards[i].unrecorded = make(map[backends.SessionID]unrecordedSession)
	}
	return m, nil
}

// Close stops the background work. The Memory must not be used afterwards.
func (m *Memory) Close() {
	m.entries.StopAllGoroutines()
	m.tombstones.StopAllGoroutines()
}

// clear removes all sessions.
func (m *Memory) clear() {
	m.entries.InvalidateAll()
	m.tombstones.InvalidateAll()
}

func (m *Memory) shardOf(id backends.SessionID) *memoryShard { return &m.shards[bucketOf(id)] }

// find returns the entry of a session, or nil. The caller holds the shard's lock.
func (m *Memory) find(id backends.SessionID) *memoryEntry {
	if e, found := m.entries.GetIfPresent(id); found {
		return e
	}
	return m.shardOf(id).unrecorded[id].entry
}

// entryOf returns the entry of a session, or a new one that put must store. The caller holds the shard's lock.
func (m *Memory) entryOf(id backends.SessionID) *memoryEntry {
	if e := m.find(id); e != nil {
		return e
	}
	return &memoryEntry{record: session.Record{ID: id}}
}

// entryFor returns the entry of a session that somebody asks about. Without a lease nothing will be stored, so that nothing is
// allocated for an unknown one: its entry must not be written to.
func (m *Memory) entryFor(r session.LeaseRequest) *memoryEntry {
	if r.Lease > 0 {
		return m.entryOf(r.ID)
	}
	if e := m.find(r.ID); e != nil {
		return e
	}
	return &m.unknown
}

// put stores an entry. What is stored already must not be set again: a cache that has not yet taken in the first of two values of a key
// never evicts the second. The caller holds the shard's lock.
func (m *Memory) put(id backends.SessionID, e *memoryEntry) {
	shard := m.shardOf(id)
	if u, isUnrecorded := shard.unrecorded[id]; isUnrecorded {
		u.entry = e
		shard.unrecorded[id] = u
	}
	if stored, found := m.entries.GetEntryQuietly(id); found && stored.Value == e {
		m.entries.SetExpiresAfter(id, m.reviveFor)
		return
	}
	m.entries.Set(id, e)
}

// AcquireLease reads a session and, if no decision on it holds, gives the caller a lease.
func (m *Memory) AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error) {
	result, released := m.tryAcquire(r, r.Wait <= 0)
	if !result.HeldElsewhere || r.Wait <= 0 {
		return result, nil
	}
	timeout := time.NewTimer(r.Wait)
	defer timeout.Stop()
	for takeOver := false; result.HeldElsewhere && !takeOver; result, released = m.tryAcquire(r, takeOver) {
		select {
		case <-released:
		case <-timeout.C:
			takeOver = true
		case <-ctx.Done():
			return result, ctx.Err()
		}
	}
	return result, nil
}

// tryAcquire does not wait. It also returns what is closed when the lease of another holder is released. takeOver takes
// the lease from another holder.
func (m *Memory) tryAcquire(r session.LeaseRequest, takeOver bool) (session.LeaseResult, <-chan struct{}) {
	now, shard := time.Now(), m.shardOf(r.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.entryFor(r)
	result := session.LeaseResult{Record: e.record, Found: e.hasRecord}
	result.Record.ID = r.ID
	if t, found := m.tombstones.GetIfPresent(r.ID); found {
		result.Record.RevokedBefore, result.Found = t.revokedBefore, true
	}
	result.Record.IsClosed = e.isClosed
	if isOver := e.hasRecord && !e.record.Opened.After(result.Record.RevokedBefore); r.KnownRevision == 0 && !isOver {
		shard.onReturn(r.ID)
		e.openIfAnswered(&result.Record, now)
	}
	switch {
	case e.answers(&result.Record, r.KnownRevision, now):
	case now.Before(e.leasedUntil) && (!takeOver || r.Lease == 0):
		result.HeldElsewhere = true
		if e.released == nil {
			e.released = make(chan struct{})
		}
	case r.Lease > 0:
		e.lease, e.leasedUntil = max(e.lease+1, uint64(now.UnixMilli())), now.Add(r.Lease)
		result.Revision = e.lease
		m.put(r.ID, e)
	}
	return result, e.released
}

// onReturn closes the session no more: its viewer is back. What was counted of one that was open is kept for its end.
func (s *memoryShard) onReturn(id backends.SessionID) {
	u, isUnrecorded := s.unrecorded[id]
	if isUnrecorded && u.entry != nil && u.entry.hasRecord && u.entry.record.Decision.Verdict == backends.Allowed {
		s.unrecorded[id] = unrecordedSession{entry: u.entry}
		return
	}
	delete(s.unrecorded, id)
}

// openIfAnswered opens a closed session again whose decision holds. Another one is open again once it is decided anew.
func (e *memoryEntry) openIfAnswered(r *session.Record, now time.Time) {
	if e.isClosed && e.answers(r, 0, now) {
		e.since, e.isClosed = now, false
	}
}

// answers reports whether the record's decision holds and is newer than the known revision.
func (e *memoryEntry) answers(r *session.Record, knownRevision uint64, now time.Time) bool {
	return e.hasRecord && holdsAt(r, r.RevokedBefore, now) &&
		(knownRevision == 0 || r.Decision.Source.IsAuthoritative() && r.Revision > knownRevision)
}

// holdsAt reports whether the record's decision has not expired, and its ticket is not revoked.
func holdsAt(r *session.Record, revokedBefore, now time.Time) bool {
	return now.Before(r.Expires) && r.Opened.After(revokedBefore)
}

// SaveDecision stores a decision under the revision of its lease, and releases the lease.
func (m *Memory) SaveDecision(_ context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	r := u.Record
	now, shard := time.Now(), m.shardOf(r.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.entryOf(r.ID)
	if r.Revision > 0 && r.Revision < e.lease {
		return session.OutcomeStale, nil
	}
	outcome := e.update(u, m.lastRevoked(r.ID), now)
	if u.RevokeTicket {
		m.revokeTicket(r.ID, r.Opened)
	}
	if r.Revision > 0 {
		e.lease, e.leasedUntil = r.Revision, time.Time{}
		if e.released != nil {
			close(e.released)
			e.released = nil
		}
	}
	m.put(r.ID, e)
	return outcome, nil
}

// update stores a decision, unless a better one holds.
func (e *memoryEntry) update(u session.DecisionUpdate, revokedBefore, now time.Time) session.UpdateOutcome {
	old, r := &e.record, u.Record
	if r.Decision.Verdict == backends.Pending {
		return session.OutcomeStored
	}
	if e.hasRecord && isBeside(old, &u, revokedBefore, now) {
		if outcome := outcomeBeside(old, &u); outcome != session.OutcomeStored {
			return outcome
		}
	}
	r.IsEvicted = old.IsEvicted && (!e.hasRecord || old.Opened.Equal(r.Opened))
	r.RevokedBefore = time.Time{} // the tombstone has it
	switch {
	case e.isClosed && r.Opened.After(old.Opened):
		e.since, e.isClosed = r.Opened, false
	case e.isClosed:
		e.since, e.isClosed = now, false
	case e.since.IsZero():
		e.since = r.Opened
	}
	e.record, e.hasRecord = r, true
	return session.OutcomeStored
}

// isBeside reports whether another decision has not expired, or is of a session that was opened later than a revoked ticket.
func isBeside(old *session.Record, u *session.DecisionUpdate, revokedBefore, now time.Time) bool {
	return u.RevokeTicket && u.Record.Opened.Before(old.Opened) || holdsAt(old, revokedBefore, now)
}

// outcomeBeside returns what becomes of a decision where another one has not expired, or was opened later.
func outcomeBeside(old *session.Record, u *session.DecisionUpdate) session.UpdateOutcome {
	isVerified, isUnleased := old.Decision.Source.IsAuthoritative(), u.Record.Revision == 0 && !u.RevokeTicket
	switch order := u.Record.Opened.Compare(old.Opened); {
	case order < 0 && u.RevokeTicket:
		return session.OutcomeKept // only the older tickets are revoked
	case order < 0 && old.Decision.Verdict == backends.Allowed:
		return session.OutcomeStale // it was opened later elsewhere
	case !isVerified:
		return session.OutcomeStored
	case !u.Record.Decision.Source.IsAuthoritative(), isUnleased && order == 0:
		return session.OutcomeKept
	case isUnleased && old.Revision > 0:
		return session.OutcomeStale // it must look, and take the decision
	default:
		return session.OutcomeStored
	}
}

// lastRevoked returns until when the tickets of a session are revoked.
func (m *Memory) lastRevoked(id backends.SessionID) time.Time {
	if t, found := m.tombstones.GetIfPresent(id); found {
		return t.revokedBefore
	}
	return time.Time{}
}

// revokeTicket extends the tombstone of a session, without setting it again; see put. The caller holds the shard's lock.
func (m *Memory) revokeTicket(id backends.SessionID, opened time.Time) {
	t, found := m.tombstones.GetIfPresent(id)
	if !found {
		m.tombstones.Set(id, &tombstone{revokedBefore: opened})
		return
	}
	if opened.After(t.revokedBefore) {
		t.revokedBefore = opened
	}
	m.tombstones.SetExpiresAfter(id, m.reviveFor)
}

// RevokeSession revokes the session's tickets that were opened at that time or before; zero: all that exist.
func (m *Memory) RevokeSession(_ context.Context, id backends.SessionID, opened time.Time) error {
	now, shard := time.Now(), m.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if opened.IsZero() {
		opened = now.Truncate(time.Second)
		if e := m.entryOf(id); e.record.Opened.After(opened) {
			opened = e.record.Opened
		}
	}
	m.revokeTicket(id, opened)
	return nil
}

// SetEvicted marks the session as evicted by the stream limit, or removes the mark.
func (m *Memory) SetEvicted(_ context.Context, id backends.SessionID, evicted bool) error {
	shard := m.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if e := m.entryOf(id); e.hasRecord || e.lease > 0 {
		e.record.IsEvicted = evicted
		m.put(id, e)
	}
	return nil
}

// AddCounters adds to the counters of a session.
func (m *Memory) AddCounters(_ context.Context, id backends.SessionID, c session.Counters) error {
	shard := m.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.entryOf(id)
	e.counters = sumCounters(e.counters, c)
	m.put(id, e)
	return nil
}
