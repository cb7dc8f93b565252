package chain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"usher/backends"
)

// BulkheadConfig bounds how much is asked of a backend at once.
type BulkheadConfig struct {
	// MaxInFlight bounds the calls for viewers who wait for their first answer.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxRechecksInFlight bounds those for viewers who are watching already. They have a lane of their own, so that a
	// wave of them holds up no newcomer.
	MaxRechecksInFlight int `yaml:"max_rechecks_in_flight"`
	// MaxWaiting bounds, for each lane, how many may wait for a slot.
	MaxWaiting int `yaml:"max_waiting"`
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision. A call waits no longer for a
	// slot.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
}

// DefaultBulkheadConfig suits a middleware that answers some thousand calls a second.
func DefaultBulkheadConfig() BulkheadConfig {
	return BulkheadConfig{MaxInFlight: 256, MaxRechecksInFlight: 32, MaxWaiting: 4096, AnswerDeadline: time.Second}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c BulkheadConfig) Validate() error {
	var errs []error
	for _, limit := range []struct {
		key   string
		value int
		least int
	}{
		{"max_in_flight", c.MaxInFlight, 1},
		{"max_rechecks_in_flight", c.MaxRechecksInFlight, 1},
		{"max_waiting", c.MaxWaiting, 0},
	} {
		if limit.value < limit.least {
			errs = append(errs, fmt.Errorf("%s: %d must be at least %d", limit.key, limit.value, limit.least))
		}
	}
	if c.AnswerDeadline <= 0 {
		errs = append(errs, fmt.Errorf("answer_deadline: %s must be above 0", c.AnswerDeadline))
	}
	return errors.Join(errs...)
}

// Bulkhead bounds the calls that a backend is busy with: first come, first served, each caller waiting at most
// answer_deadline for a slot, then refused with an [Overload].
//
// It stands before the breaker, and steps aside while that one is not closed: then nobody is busy, and whoever waits
// for a slot is let through to be told so. Safe for concurrent use.
type Bulkhead struct {
	next     backends.Backend
	opened   func() <-chan struct{}
	deadline time.Duration
	openings lane
	rechecks lane
}

// lane is one kind of call. Slots are handed over in the order of asking, as Go's channels do.
type lane struct {
	setting    string
	slots      chan struct{}
	maxWaiting int
	waitingKey string
	waiting    atomic.Int64
	refused    atomic.Uint64
}

// NewBulkhead makes the bulkhead of the named backend. opened, usually [Breaker.OpenRequested], gives a channel that is closed
// while the backend is not asked; nil if there is no breaker. The config must be valid.
func NewBulkhead(name string, cfg BulkheadConfig, next backends.Backend, opened func() <-chan struct{}) *Bulkhead {
	if opened == nil {
		opened = func() <-chan struct{} { return nil }
	}
	b := &Bulkhead{next: next, opened: opened, deadline: cfg.AnswerDeadline}
	b.openings.init(name, "max_in_flight", cfg.MaxInFlight, cfg.MaxWaiting)
	b.rechecks.init(name, "max_rechecks_in_flight", cfg.MaxRechecksInFlight, cfg.MaxWaiting)
	return b
}

func (l *lane) init(backend, key string, slots, maxWaiting int) {
	l.setting = "backends." + backend + "." + key
	l.waitingKey = "backends." + backend + ".max_waiting"
	l.slots = make(chan struct{}, slots)
	l.maxWaiting = maxWaiting
}

// Check waits for a slot, says that the question goes out (Asking), and asks.
func (b *Bulkhead) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	l := &b.openings
	if r.Number > 0 {
		l = &b.rechecks
	}
	held, err := b.enter(ctx, l)
	if err != nil {
		return backends.Decision{}, err
	}
	if held {
		defer func() { <-l.slots }()
	}
	if r.OnSent != nil {
		r.OnSent()
	}
	return b.next.Check(ctx, r)
}

// InFlight is how many calls the backend is busy with, openings and re-checks.
func (b *Bulkhead) InFlight() (openings, rechecks int) {
	return len(b.openings.slots), len(b.rechecks.slots)
}

// Waiting is how many callers wait for a slot.
func (b *Bulkhead) Waiting() (openings, rechecks int) {
	return int(b.openings.waiting.Load()), int(b.rechecks.waiting.Load())
}

// Refused is how many callers got no slot since the start.
func (b *Bulkhead) Refused() (openings, rechecks uint64) {
	return b.openings.refused.Load(), b.rechecks.refused.Load()
}

// enter takes a slot; held is false if none is needed because nobody will be asked.
func (b *Bulkhead) enter(ctx context.Context, l *lane) (held bool, err error) {
	opened := b.opened()
	select {
	case <-opened:
		return false, nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return true, nil
	default:
	}
	if l.waiting.Add(1) > int64(l.maxWaiting) {
		l.waiting.Add(-1)
		return false, l.overload(l.waitingKey, l.maxWaiting)
	}
	defer l.waiting.Add(-1)
	return b.wait(ctx, l, opened)
}

func (b *Bulkhead) wait(ctx context.Context, l *lane, opened <-chan struct{}) (held bool, err error) {
	timer := time.NewTimer(b.deadline)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return true, nil
	case <-opened:
		return false, nil
	case <-timer.C:
		return false, l.overload(l.setting, cap(l.slots))
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return false, fmt.Errorf("wait for %s: %w", l.setting, ctx.Err())
		}
		return false, l.overload(l.setting, cap(l.slots)) // the backend had no part in it
	}
}

func (l *lane) overload(setting string, value int) error {
	l.refused.Add(1)
	return backends.NewOverload(setting, value)
}
