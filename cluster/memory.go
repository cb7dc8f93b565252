package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/actors/session"
	"usher/backends"
)

// MemoryConfig bounds a [Memory].
type MemoryConfig struct {
	// MaxSessions is how many sessions that ended are remembered at most, about 1 kB each.
	MaxSessions int `yaml:"max_sessions"`
}

// DefaultMemoryConfig is what holds where the file is silent.
func DefaultMemoryConfig() MemoryConfig { return MemoryConfig{MaxSessions: 500_000} }

// Validate names every setting that cannot work.
func (c MemoryConfig) Validate() error {
	if c.MaxSessions < 1 {
		return fmt.Errorf("max_sessions: %d is too small; want at least 1", c.MaxSessions)
	}
	return nil
}

// memoryShards is into how many locks the sessions are spread, so that different ones seldom meet.
const memoryShards = 64

// Memory is the [Store] of a node alone, in this process: what it holds ends with it. It never fails, but for a context
// that ends while somebody else asks. It is safe for concurrent use.
type Memory struct {
	*memoryLimits
	records *otter.Cache[backends.SessionID, *remembered]
	// tombs are apart, so that a flood of idle sessions does not push out what refuses a ticket.
	tombs  *otter.Cache[backends.SessionID, *tomb]
	shards [memoryShards]memoryShard
}

// memoryShard locks the sessions whose ids begin alike.
type memoryShard struct {
	mu sync.Mutex
	// seen is when those were last seen that are to be closed when nobody comes.
	seen map[backends.SessionID]time.Time
}

// remembered is what is known of a session. It is guarded by its shard's lock.
type remembered struct {
	record session.Record
	stored bool // record is one, rather than a lease or counters alone

	lease     uint64    // the last one granted
	busy      time.Time // until when somebody asks
	published chan struct{}

	since  time.Time // when the stretch at hand began
	closed bool      // no stretch is at hand
	tally  session.Counters
}

// tomb is what refuses a session.
type tomb struct{ buried, kicked time.Time }

// NewMemory remembers sessions, and refuses buried tickets, for as long as a ticket may be revived.
func NewMemory(c MemoryConfig, reviveFor time.Duration, rules session.LimitRules) (*Memory, error) {
	records, err := otter.New(&otter.Options[backends.SessionID, *remembered]{
		MaximumSize:      c.MaxSessions,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, *remembered](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of sessions: %w", err)
	}
	tombs, err := otter.New(&otter.Options[backends.SessionID, *tomb]{
		MaximumSize:      c.MaxSessions,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, *tomb](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of refused tickets: %w", err)
	}
	m := &Memory{memoryLimits: newMemoryLimits(rules), records: records, tombs: tombs}
	for i := range m.shards {
		m.shards[i].seen = make(map[backends.SessionID]time.Time)
	}
	return m, nil
}

// Close stops the background work. The Memory must not be used afterwards.
func (m *Memory) Close() {
	m.records.StopAllGoroutines()
	m.tombs.StopAllGoroutines()
}

// clear forgets all sessions.
func (m *Memory) clear() {
	m.records.InvalidateAll()
	m.tombs.InvalidateAll()
}

func (m *Memory) shard(id backends.SessionID) *memoryShard {
	return &m.shards[bucketOf(id)%memoryShards]
}

// of returns what is known of a session; made anew if nothing is. It is called under the shard's lock, and keep has it
// remembered.
func (m *Memory) of(id backends.SessionID) *remembered {
	if e, found := m.records.GetIfPresent(id); found {
		return e
	}
	return &remembered{record: session.Record{ID: id}}
}

func (m *Memory) keep(id backends.SessionID, e *remembered) { m.records.Set(id, e) }

// AcquireLease reads a session and, if no decision on it is an answer, lets the caller ask.
func (m *Memory) AcquireLease(ctx context.Context, c session.LeaseRequest) (session.LeaseResult, error) {
	patience := time.NewTimer(c.Wait)
	defer patience.Stop()
	for insist := c.Wait <= 0; ; {
		got, published := m.claim(c, insist)
		if !got.HeldElsewhere || c.Wait <= 0 || insist {
			return got, nil
		}
		select {
		case <-published:
		case <-patience.C:
			insist = true
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

// claim returns also what is closed when there is news.
func (m *Memory) claim(c session.LeaseRequest, insist bool) (session.LeaseResult, <-chan struct{}) {
	now, shard := time.Now(), m.shard(c.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.of(c.ID)
	if c.KnownRevision == 0 {
		delete(shard.seen, c.ID) // its viewer is back
		if e.closed {
			e.since, e.closed = now, false
		}
	}
	got := session.LeaseResult{Record: e.record, Found: e.stored}
	if t, found := m.tombs.GetIfPresent(c.ID); found {
		got.Record.RevokedBefore, got.Record.KickedUntil, got.Found = t.buried, t.kicked, true
	}
	r := &got.Record
	holds := e.stored && now.Before(r.Expires) && r.Opened.After(r.RevokedBefore)
	switch {
	case holds && (c.KnownRevision == 0 || r.Decision.Source.IsAuthoritative() && r.Revision > c.KnownRevision), now.Before(r.KickedUntil):
	case now.Before(e.busy) && (!insist || c.Lease == 0):
		got.HeldElsewhere = true
		if e.published == nil {
			e.published = make(chan struct{})
		}
	case c.Lease > 0:
		e.lease, e.busy = max(e.lease+1, uint64(now.UnixMilli())), now.Add(c.Lease)
		got.Revision = e.lease
		m.keep(c.ID, e)
	}
	return got, e.published
}

// SaveDecision stores a decision under the number of its lease, and gives the lease back.
func (m *Memory) SaveDecision(_ context.Context, p session.DecisionUpdate) (session.UpdateOutcome, error) {
	r := p.Record
	now, shard := time.Now(), m.shard(r.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.of(r.ID)
	if r.Revision > 0 && r.Revision < e.lease {
		return session.OutcomeStale, nil
	}
	outcome := e.take(p, m.buried(r.ID), now)
	if p.RevokeTicket {
		m.bury(r.ID, r.Opened, time.Time{})
	}
	if r.Revision > 0 {
		e.lease, e.busy = r.Revision, time.Time{}
		if e.published != nil {
			close(e.published)
			e.published = nil
		}
	}
	m.keep(r.ID, e)
	return outcome, nil
}

// take stores a decision, if it may.
func (e *remembered) take(p session.DecisionUpdate, buried, now time.Time) session.UpdateOutcome {
	old, r := &e.record, p.Record
	asked := r.Decision.Source.IsAuthoritative()
	stands := e.stored && old.Decision.Source.IsAuthoritative() && now.Before(old.Expires) && old.Opened.After(buried)
	switch {
	case r.Decision.Verdict == backends.Pending:
		return session.OutcomeStored
	case stands && !asked, stands && r.Revision == 0 && !p.RevokeTicket:
		return session.OutcomeKept
	}
	r.IsEvicted = old.IsEvicted && (!e.stored || old.Opened.Equal(r.Opened))
	r.RevokedBefore, r.KickedUntil = time.Time{}, time.Time{} // those stand apart
	switch {
	case e.closed:
		e.since, e.closed = now, false
	case e.since.IsZero():
		e.since = r.Opened
	}
	e.record, e.stored = r, true
	return session.OutcomeStored
}

func (m *Memory) buried(id backends.SessionID) time.Time {
	if t, found := m.tombs.GetIfPresent(id); found {
		return t.buried
	}
	return time.Time{}
}

// bury is called under the shard's lock.
func (m *Memory) bury(id backends.SessionID, opened, kicked time.Time) {
	t := new(tomb)
	if old, found := m.tombs.GetIfPresent(id); found {
		*t = *old
	}
	if opened.After(t.buried) {
		t.buried = opened
	}
	if kicked.After(t.kicked) {
		t.kicked = kicked
	}
	m.tombs.Set(id, t)
}

// RevokeSession refuses the session for so long, and its tickets that were opened at that time or before.
func (m *Memory) RevokeSession(_ context.Context, id backends.SessionID, opened time.Time, d time.Duration) error {
	now, shard := time.Now(), m.shard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if opened.IsZero() {
		opened = now.Truncate(time.Second)
		if e := m.of(id); e.record.Opened.After(opened) {
			opened = e.record.Opened
		}
	}
	var until time.Time
	if d > 0 {
		until = now.Add(d)
	}
	m.bury(id, opened, until)
	return nil
}

// SetEvicted marks the session as one that lost its place, or takes that back.
func (m *Memory) SetEvicted(_ context.Context, id backends.SessionID, evicted bool) error {
	shard := m.shard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if e := m.of(id); e.stored || e.lease > 0 {
		e.record.IsEvicted = evicted
		m.keep(id, e)
	}
	return nil
}

// AddCounters adds up what was counted of a session.
func (m *Memory) AddCounters(_ context.Context, id backends.SessionID, t session.Counters) error {
	shard := m.shard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := m.of(id)
	e.tally = sumTally(e.tally, t)
	m.keep(id, e)
	return nil
}
