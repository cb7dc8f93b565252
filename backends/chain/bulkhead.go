package chain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/backends"
)

// BulkheadConfig bounds how many calls a backend gets at once.
type BulkheadConfig struct {
	// MaxInFlight bounds the opening checks, for viewers who wait for their first answer.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxRechecksInFlight bounds the re-checks, for viewers who are watching. They have slots of their own, so that a wave
	// of re-checks delays no opening.
	MaxRechecksInFlight int `yaml:"max_rechecks_in_flight"`
	// MaxWaiting bounds how many checks wait for a slot, for openings and re-checks each.
	MaxWaiting int `yaml:"max_waiting"`
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision. A check waits no longer for a
	// slot.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
}

// DefaultBulkheadConfig returns bounds for a middleware that answers some thousand calls a second.
func DefaultBulkheadConfig() BulkheadConfig {
	return BulkheadConfig{MaxInFlight: 256, MaxRechecksInFlight: 32, MaxWaiting: 4096, AnswerDeadline: time.Second}
}

// Validate reports everything wrong. Messages begin with the key, relative to the backend's.
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

// Bulkhead bounds how many calls are in flight to a backend. Checks wait for a slot in the order of their arrival, at
// most answer_deadline long. A check without a slot fails with a [backends.Overload]. One address cannot take all slots
// from the others: see [slotQueue].
//
// While the breaker is not closed the bulkhead lets every check pass at once, those that wait for a slot too: the
// breaker rejects them without a call. Safe for concurrent use.
type Bulkhead struct {
	next     backends.Backend
	opened   func() <-chan struct{}
	deadline time.Duration
	openings slotQueue
	rechecks slotQueue
}

// newBulkhead returns the bulkhead of the named backend. opened, usually [Breaker.opened], returns a channel that is
// closed while the breaker is not closed; nil: there is no breaker. The config must be valid.
func newBulkhead(name string, cfg BulkheadConfig, next backends.Backend, opened func() <-chan struct{}) *Bulkhead {
	if opened == nil {
		opened = func() <-chan struct{} { return nil }
	}
	b := &Bulkhead{next: next, opened: opened, deadline: cfg.AnswerDeadline}
	b.openings.init(name, "max_in_flight", cfg.MaxInFlight, cfg.MaxWaiting)
	b.rechecks.init(name, "max_rechecks_in_flight", cfg.MaxRechecksInFlight, cfg.MaxWaiting)
	return b
}

// Check waits for a slot, calls the request's OnSent, and asks.
func (b *Bulkhead) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	q := &b.openings
	if r.Number > 0 {
		q = &b.rechecks
	}
	address := backends.SubscriberPrefix(r.Address)
	hasSlot, err := b.acquire(ctx, q, address)
	if err != nil {
		return backends.Decision{}, err
	}
	if hasSlot {
		defer q.release(address)
	}
	if r.OnSent != nil {
		r.OnSent()
	}
	return b.next.Check(ctx, r)
}

// InFlight returns how many calls are in flight.
func (b *Bulkhead) InFlight() (openings, rechecks int) {
	return b.openings.inFlight(), b.rechecks.inFlight()
}

// Refused returns how many checks got no slot since the start.
func (b *Bulkhead) Refused() (openings, rechecks uint64) {
	return b.openings.refused.Load(), b.rechecks.refused.Load()
}

// acquire takes a slot. hasSlot is false if the breaker is open, so that none is needed.
func (b *Bulkhead) acquire(ctx context.Context, q *slotQueue, address netip.Prefix) (hasSlot bool, err error) {
	opened := b.opened()
	select {
	case <-opened:
		return false, nil
	default:
	}
	w, err := q.enter(address, time.Now())
	switch {
	case err != nil:
		return false, err
	case w == nil:
		return true, nil
	}
	timer := time.NewTimer(b.deadline)
	defer timer.Stop()
	isOpen := false
	select {
	case <-w.granted:
		return true, nil
	case <-opened:
		isOpen = true
	case <-timer.C:
	case <-ctx.Done():
	}
	switch {
	case q.leave(w): // with a slot that it was given meanwhile
		return true, nil
	case isOpen:
		return false, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return false, fmt.Errorf("wait for %s: %w", q.setting, ctx.Err())
	default: // a deadline that passed here is not the backend's failure
		return false, q.overload(q.setting, q.capacity)
	}
}
