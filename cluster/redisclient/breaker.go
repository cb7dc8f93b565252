package redisclient

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// The rules of the breaker. The window is far above the longest timeout, since gobreaker drops results that arrive after
// their window.
const (
	breakerWindow = 60 * time.Second
	breakerBucket = time.Second
	// consecutiveFailuresToOpen is low, since each failure costs a caller the whole timeout.
	consecutiveFailuresToOpen = 3
	// minRequestsForRate is from how many requests in the window a failure rate of one half opens the breaker as well. The
	// rate covers a Redis Cluster of which some servers are down.
	minRequestsForRate = 40
	// openTimeout is how long the breaker stays open before it allows a probe, and probeInterval how often one is tried.
	openTimeout   = 300 * time.Millisecond
	probeInterval = 100 * time.Millisecond
	// probesToClose probes in a row must succeed, so that a server that is still starting does not close the breaker.
	probesToClose = 2
)

// breaker is the circuit breaker before Redis. While it is open no call waits for Redis; a goroutine of its own probes
// the server. It is safe for concurrent use.
type breaker struct {
	cb    *gobreaker.CircuitBreaker[struct{}]
	probe func(ctx context.Context) error
	// probeTimeout bounds a probe: one that hangs would keep the breaker in its state for good.
	probeTimeout time.Duration
	log          *slog.Logger

	// isOpen mirrors gobreaker's state, whose reading takes a lock and may change the state.
	isOpen       atomic.Bool
	stateChanged chan struct{} // holds one
	lastError    atomic.Pointer[error]
	lastOutage   atomic.Pointer[outage] // never nil
	downAt       time.Time              // guarded by gobreaker's lock

	mu        sync.Mutex
	callbacks []func()

	// wasDown and downSince belong to the watching goroutine alone.
	wasDown   bool
	downSince time.Time
	watching  sync.WaitGroup
	stop      context.CancelFunc
}

// outage is when the last outage began and ended. Without one it has the start of the breaker as its end alone.
type outage struct{ began, ended time.Time }

// newBreaker starts a breaker. The probe is a write that needs everything that a node needs of Redis.
func newBreaker(probe func(ctx context.Context) error, probeTimeout time.Duration, log *slog.Logger) *breaker {
	b := &breaker{probe: probe, probeTimeout: probeTimeout, log: log, stateChanged: make(chan struct{}, 1)}
	b.lastOutage.Store(&outage{ended: time.Now()})
	b.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "redis", MaxRequests: probesToClose, Interval: breakerWindow, BucketPeriod: breakerBucket, Timeout: openTimeout,
		IsExcluded:  func(err error) bool { return errors.Is(err, context.Canceled) },
		ReadyToTrip: shouldOpen,
		// It runs under gobreaker's lock, so it only records the change.
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed:
				b.downAt = time.Now()
			case to == gobreaker.StateClosed: // before the first call after it
				b.lastOutage.Store(&outage{b.downAt, time.Now()})
			}
			b.isOpen.Store(to != gobreaker.StateClosed)
			b.notifyStateChanged()
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.watching.Go(func() { b.watch(ctx) })
	return b
}

// counts are what the breaker has counted in its window.
type counts = gobreaker.Counts

func shouldOpen(c counts) bool {
	return c.ConsecutiveFailures >= consecutiveFailuresToOpen ||
		c.Requests >= minRequestsForRate && 2*c.TotalFailures >= c.Requests
}

// close stops the watching goroutine.
func (b *breaker) close() {
	b.stop()
	b.watching.Wait()
}

// onRecovered registers f, which the breaker calls on its own goroutine each time that Redis has recovered.
func (b *breaker) onRecovered(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callbacks = append(b.callbacks, f)
}

// do runs call and counts its result. While the breaker is open it does not run call and returns ErrNotSent.
func (b *breaker) do(call func() error) error {
	if b.isOpen.Load() {
		return ErrNotSent
	}
	return b.execute(call)
}

func (b *breaker) execute(call func() error) error {
	_, err := b.cb.Execute(func() (struct{}, error) { return struct{}{}, call() })
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return ErrNotSent
	case err != nil:
		b.lastError.Store(&err)
	}
	return err
}

func (b *breaker) notifyStateChanged() {
	select {
	case b.stateChanged <- struct{}{}:
	default:
	}
}

// watch logs state changes, and probes Redis while the breaker is open.
func (b *breaker) watch(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.stateChanged:
		case <-tick.C:
			_ = b.execute(func() error { return b.probeOnce(ctx) })
		}
		if isDown := b.isOpen.Load(); isDown != b.wasDown {
			b.onTransition(isDown)
			if isDown {
				tick.Reset(probeInterval)
			} else {
				tick.Stop()
			}
		}
	}
}

// probeOnce runs the probe within its timeout.
func (b *breaker) probeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.probeTimeout)
	defer cancel()
	return b.probe(ctx)
}

func (b *breaker) onTransition(isDown bool) {
	b.wasDown = isDown
	if isDown {
		b.downSince = time.Now()
		var cause error
		if last := b.lastError.Load(); last != nil {
			cause = *last
		}
		attributes := []any{slog.Any("error", cause)}
		if advice := adviceOn(cause); advice != "" {
			attributes = append(attributes, slog.String("advice", advice))
		}
		b.log.Warn("redis unavailable, serving from local state", attributes...)
		return
	}
	b.log.Info("redis recovered", slog.Duration("outage", time.Since(b.downSince)))
	b.mu.Lock()
	callbacks := slices.Clone(b.callbacks)
	b.mu.Unlock()
	for _, f := range callbacks {
		f()
	}
}
