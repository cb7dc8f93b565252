package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"usher/backends"
)

// BulkheadConfig bounds how many calls a backend gets at once.
type BulkheadConfig struct {
	// MaxInFlight bounds the opening checks, for viewers who wait for their first answer. The calls in flight follow the
	// middleware, from 256 up to this: see [Bulkhead].
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxRechecksInFlight bounds the re-checks, for viewers who are watching, from 32 up. They have slots of their own, so that
	// a wave of re-checks delays no opening.
	MaxRechecksInFlight int `yaml:"max_rechecks_in_flight"`
	// MaxWaiting bounds how many checks wait for a slot, for openings and re-checks each.
	MaxWaiting int `yaml:"max_waiting"`
	// StrangerShare is the part of the openings' slots, and of those that wait, which strangers have at most while others
	// open sessions too, in percent; see [backends.Request].
	StrangerShare int `yaml:"stranger_share_percent"`
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision. A check waits no longer for a
	// slot.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
}

// DefaultBulkheadConfig returns bounds for a middleware that answers some thousand calls a second.
func DefaultBulkheadConfig() BulkheadConfig {
	return BulkheadConfig{MaxInFlight: 2048, MaxRechecksInFlight: 256, MaxWaiting: 4096, StrangerShare: 50, AnswerDeadline: time.Second}
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
	if c.StrangerShare < 1 || c.StrangerShare > 100 {
		errs = append(errs, fmt.Errorf("stranger_share_percent: %d is out of range; want 1 to 100", c.StrangerShare))
	}
	if c.AnswerDeadline <= 0 {
		errs = append(errs, fmt.Errorf("answer_deadline: %s must be above 0", c.AnswerDeadline))
	}
	return errors.Join(errs...)
}

// Bulkhead bounds how many calls are in flight to a backend. Checks wait for a slot in the order of their arrival, strangers
// behind the others, at most answer_deadline long. A check without a slot fails with a [backends.Overload]. Neither one address
// nor all strangers take all slots from the others: see [slotQueue]. There are more slots while checks wait for one and the
// middleware answers more of them without taking longer: see [slotLimit].
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
	b.openings.init(name, "max_in_flight", leastInFlight, cfg.MaxInFlight, cfg)
	b.rechecks.init(name, "max_rechecks_in_flight", leastRechecks, cfg.MaxRechecksInFlight, cfg)
	return b
}

// Check waits for a slot, calls the request's OnSent, and asks. A check that the breaker rejects is not sent.
func (b *Bulkhead) Check(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
	q := &b.openings
	if r.IsRecheck {
		q = &b.rechecks
	}
	c := slotClaim{address: backends.SubscriberPrefix(r.Address), isStranger: r.IsStranger}
	got, err := b.acquire(ctx, q, c)
	if err != nil {
		return backends.Decision{}, err
	}
	if got != nil {
		defer func() {
			got.isSample = got.isSample && isOfMiddleware(d, err)
			q.release(got, err)
		}()
	}
	if got != nil && r.OnSent != nil {
		r.OnSent()
	}
	return b.next.Check(ctx, r)
}

// isOfMiddleware reports whether what a check ended with says how busy the middleware is: what was decided without it does not, nor
// does a status with which it may refuse a viewer.
func isOfMiddleware(d backends.Decision, err error) bool {
	f := backends.AsFailure(err)
	return d.Source != backends.FromLocal && (f == nil || !f.MayBeDenial)
}

// InFlight returns how many calls are in flight.
func (b *Bulkhead) InFlight() (openings, rechecks int) {
	return b.openings.inFlight(), b.rechecks.inFlight()
}

// Limits returns how many calls may be in flight now.
func (b *Bulkhead) Limits() (openings, rechecks int) {
	return b.openings.limitNow(), b.rechecks.limitNow()
}

// Refused returns how many checks got no slot since the start.
func (b *Bulkhead) Refused() (openings, rechecks uint64) {
	return b.openings.refused.Load(), b.rechecks.refused.Load()
}

// acquire takes a slot. It returns nil if the breaker is open, so that none is needed.
func (b *Bulkhead) acquire(ctx context.Context, q *slotQueue, c slotClaim) (*slot, error) {
	opened := b.opened()
	select {
	case <-opened:
		return nil, nil //nolint:nilnil // no slot is needed
	default:
	}
	got, w, err := q.enter(c, time.Now())
	if err != nil || got != nil {
		return got, err
	}
	timer := time.NewTimer(b.deadline)
	defer timer.Stop()
	isOpen := false
	select {
	case <-w.ended:
	case <-opened:
		isOpen = true
	case <-timer.C:
	case <-ctx.Done():
	}
	switch got, isDisplaced := q.leave(w); {
	case got != nil: // also one that it was given meanwhile
		return got, nil
	case isDisplaced:
		return nil, q.overload(q.shareSetting, q.strangerShare)
	case isOpen:
		return nil, nil //nolint:nilnil // no slot is needed
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fmt.Errorf("wait for %s: %w", q.limit.setting, ctx.Err())
	default: // a deadline that passed here is not the backend's failure
		return nil, q.full()
	}
}
