package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
)

// MemoryConfig bounds a [Memory].
type MemoryConfig struct {
	// MaxRecords is how many sessions that ended are remembered at most, about 1 kB each.
	MaxRecords int `yaml:"max_records"`
}

// DefaultMemoryConfig is what holds where the file is silent.
func DefaultMemoryConfig() MemoryConfig { return MemoryConfig{MaxRecords: 500_000} }

// Validate names every setting that cannot work.
func (c MemoryConfig) Validate() error {
	if c.MaxRecords < 1 {
		return fmt.Errorf("max_records: %d is too small; want at least 1", c.MaxRecords)
	}
	return nil
}

// Memory remembers sessions in this process. It is safe for concurrent use.
type Memory struct {
	records *otter.Cache[backends.SessionID, backends.Record]
	// burials are apart, so that a flood of idle sessions does not push out what refuses a ticket.
	burials *otter.Cache[backends.SessionID, time.Time]
}

// NewMemory remembers sessions, and refuses buried tickets, for as long as a ticket may be revived.
func NewMemory(c MemoryConfig, reviveFor time.Duration) (*Memory, error) {
	records, err := otter.New(&otter.Options[backends.SessionID, backends.Record]{
		MaximumSize:      c.MaxRecords,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, backends.Record](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of sessions: %w", err)
	}
	burials, err := otter.New(&otter.Options[backends.SessionID, time.Time]{
		MaximumSize:      c.MaxRecords,
		ExpiryCalculator: otter.ExpiryWriting[backends.SessionID, time.Time](reviveFor),
	})
	if err != nil {
		return nil, fmt.Errorf("make the store of refused tickets: %w", err)
	}
	return &Memory{records: records, burials: burials}, nil
}

// Close stops the background work. The Memory must not be used afterwards.
func (m *Memory) Close() {
	m.records.StopAllGoroutines()
	m.burials.StopAllGoroutines()
}

// Load returns what is remembered of a session, its burial included. It never fails.
func (m *Memory) Load(_ context.Context, id backends.SessionID) (backends.Record, bool, error) {
	r, found := m.records.GetIfPresent(id)
	buried, isBuried := m.burials.GetIfPresent(id)
	if isBuried {
		r.ID, r.Buried = id, buried
	}
	return r, found || isBuried, nil
}

// Save remembers a session. It never fails.
func (m *Memory) Save(_ context.Context, r backends.Record) error {
	m.records.Set(r.ID, r)
	return nil
}

// Bury refuses the session's tickets that were opened at that time or before, and forgets what it stood on. A session
// of the same id that was opened later is not touched. It never fails.
func (m *Memory) Bury(_ context.Context, id backends.SessionID, opened time.Time) error {
	m.burials.Compute(id, func(old time.Time, found bool) (time.Time, otter.ComputeOp) {
		if found && old.After(opened) {
			return old, otter.CancelOp
		}
		return opened, otter.WriteOp
	})
	m.records.ComputeIfPresent(id, func(old backends.Record) (backends.Record, otter.ComputeOp) {
		if old.Opened.After(opened) {
			return old, otter.CancelOp
		}
		return old, otter.InvalidateOp
	})
	return nil
}
