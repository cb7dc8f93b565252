package chain

import (
	"context"
	"errors"
	"time"

	"usher/backends"
)

// This file holds what an operator does to a breaker: they force its state, and probe the backend.

var (
	// ErrNoBreaker means that the backend has no breaker: it decides in this process, or asks other backends.
	ErrNoBreaker = errors.New("the backend has no breaker: it decides in the gateway, or asks other backends")
	// ErrNobodyToProbe means that there is no viewer whom a probe could ask about.
	ErrNobodyToProbe = errors.New("nobody to ask about: the backend has answered no check of a viewer since the node started")
	// ErrProbeInFlight means that another probe has not been answered yet.
	ErrProbeInFlight = errors.New("another probe is in flight")

	errForcedOpen = errors.New("forced open by an operator")
)

// Force keeps the breaker in the order's state until the order ends. An order that is not forced, or has ended, gives the
// breaker back its own state. One that is older than the last one changes nothing. The error is ErrNoBreaker.
func (c *Chain) Force(order backends.ForcedBreaker) error {
	if c.Breaker == nil {
		return ErrNoBreaker
	}
	c.Breaker.force(order, time.Now())
	return nil
}

// Forced returns the order that holds. Without one it is zero.
func (c *Chain) Forced() backends.ForcedBreaker {
	if c.Breaker != nil {
		if order := c.Breaker.forced.Load(); order != nil {
			return *order
		}
	}
	return backends.ForcedBreaker{}
}

// Probe asks the backend once more about the viewer whom it answered last, as a re-check, whatever the breaker's state. It
// moves neither the breaker nor the viewer's session. The error is ErrNoBreaker, ErrNobodyToProbe, ErrProbeInFlight, or the
// call's.
func (c *Chain) Probe(ctx context.Context) (d backends.Decision, took time.Duration, err error) {
	if c.Breaker == nil {
		return backends.Decision{}, 0, ErrNoBreaker
	}
	return c.Breaker.probeNow(ctx)
}

func (b *Breaker) force(order backends.ForcedBreaker, now time.Time) {
	b.publish(func() {
		if order.Version < b.orderVersion {
			return
		}
		b.orderVersion = order.Version
		b.forced.Store(nil)
		if order.IsForced && order.Until.After(now) {
			b.forced.Store(&order)
		}
	})
}

// endForced gives the breaker back its own state if the order has ended.
func (b *Breaker) endForced(now time.Time) {
	if order := b.forced.Load(); order != nil && !order.Until.After(now) {
		b.publish(func() { b.forced.CompareAndSwap(order, nil) })
	}
}

// checkForced asks the backend without moving the breaker, or rejects.
func (b *Breaker) checkForced(ctx context.Context, r *backends.Request, state backends.BreakerState) (backends.Decision, error) {
	if state != backends.BreakerClosed {
		recordBreakerState(ctx, state)
		return backends.Decision{}, b.rejection(errForcedOpen)
	}
	start := time.Now()
	d, err := b.call(ctx, r)
	if err == nil {
		_ = b.counts(r, d, nil, start) // a probe may ask about the viewer
	}
	return d, err
}

// probeNow asks about the viewer who was answered last.
func (b *Breaker) probeNow(ctx context.Context) (d backends.Decision, took time.Duration, err error) {
	if !b.isProbed.CompareAndSwap(false, true) {
		return backends.Decision{}, 0, ErrProbeInFlight
	}
	defer b.isProbed.Store(false)
	r, isKnown := b.history.latestAnswered()
	if !isKnown {
		return backends.Decision{}, 0, ErrNobodyToProbe
	}
	start := time.Now()
	d, err = b.callWithHardDeadline(ctx, &r)
	return d, time.Since(start), err
}

// publish makes a change, and makes the state that follows from it the breaker's.
func (b *Breaker) publish(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	before, state := b.State(), b.automatic
	if order := b.forced.Load(); order != nil {
		state = order.State
	}
	if state != before {
		if state == backends.BreakerClosed {
			b.openSignal.Store(new(make(chan struct{})))
		}
		b.state.Store(uint32(state))
		if before == backends.BreakerClosed {
			close(*b.openSignal.Load())
		}
		b.onState(state)
	}
	b.changes.notify()
}
