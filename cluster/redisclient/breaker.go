package cluster

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

// When Redis is given up, and how it is tried again. The window is far above the longest deadline, since gobreaker drops
// answers that come after their window.
const (
	guardWindow = 60 * time.Second
	guardBucket = time.Second
	// tripInARow failures give Redis up: few, since each costs somebody the deadline.
	tripInARow = 3
	// Half of tripOutOf answers or more being failures do so as well, where some servers of several are away.
	tripOutOf = 40
	// guardOpenFor is how long Redis is left alone before it is tried, and probeEvery how often it is looked whether to.
	guardOpenFor = 300 * time.Millisecond
	probeEvery   = 100 * time.Millisecond
	// probesToClose in a row must succeed, so that a server on its way up does not fool us.
	probesToClose = 2
)

// guard is the breaker before Redis. While it is open nobody waits for Redis; a goroutine of its own tries it. It is safe
// for concurrent use.
type guard struct {
	cb    *gobreaker.CircuitBreaker[struct{}]
	probe func(ctx context.Context) error
	bound time.Duration // of a probe: one that hangs would keep the breaker from ever moving
	log   *slog.Logger

	open     atomic.Bool // mirrors gobreaker's state, whose reading locks and moves
	failures atomic.Uint64
	moved    chan struct{} // the state may have changed
	last     atomic.Pointer[error]

	hooks    sync.Mutex
	backDo   []func()
	told     bool // that it is away; of watch alone
	since    time.Time
	watching sync.WaitGroup
	life     context.Context //nolint:containedctx // of the watching
	stop     context.CancelFunc
}

// newGuard watches what probe tries: a write that needs everything that we need of Redis.
func newGuard(probe func(ctx context.Context) error, bound time.Duration, log *slog.Logger) *guard {
	g := &guard{probe: probe, bound: bound, log: log, moved: make(chan struct{}, 1)}
	g.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "redis", MaxRequests: probesToClose, Interval: guardWindow, BucketPeriod: guardBucket, Timeout: guardOpenFor,
		IsExcluded:  func(err error) bool { return errors.Is(err, context.Canceled) },
		ReadyToTrip: tripped,
		// It runs under gobreaker's lock, so it only notes what happened.
		OnStateChange: func(_ string, _, to gobreaker.State) {
			g.open.Store(to != gobreaker.StateClosed)
			g.nudge()
		},
	})
	g.life, g.stop = context.WithCancel(context.Background())
	g.watching.Go(func() { g.watch(g.life) })
	return g
}

func tripped(c gobreaker.Counts) bool {
	return c.ConsecutiveFailures >= tripInARow || c.Requests >= tripOutOf && 2*c.TotalFailures >= c.Requests
}

// close ends the watching.
func (g *guard) close() {
	g.stop()
	g.watching.Wait()
}

// away reports whether Redis is being left alone. It is one atomic read.
func (g *guard) away() bool { return g.open.Load() }

// onBack has f called, on the guard's own goroutine, whenever Redis is back.
func (g *guard) onBack(f func()) {
	g.hooks.Lock()
	defer g.hooks.Unlock()
	g.backDo = append(g.backDo, f)
}

// attempt runs call and lets its outcome move the breaker. While that is open, call is not run and the error is ErrAway.
func (g *guard) attempt(call func() error) error {
	if g.away() {
		return ErrAway
	}
	return g.execute(call)
}

func (g *guard) execute(call func() error) error {
	_, err := g.cb.Execute(func() (struct{}, error) { return struct{}{}, call() })
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return ErrAway
	case err != nil:
		g.failures.Add(1)
		g.last.Store(&err)
	}
	return err
}

func (g *guard) nudge() {
	select {
	case g.moved <- struct{}{}:
	default:
	}
}

// watch tells of changes, and tries Redis while it is away.
func (g *guard) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.moved:
		case <-tick.C:
			_ = g.execute(func() error { return g.try(ctx) })
		}
		if away := g.away(); away != g.told {
			g.tell(away)
			if away {
				tick.Reset(probeEvery)
			} else {
				tick.Stop()
			}
		}
	}
}

// try runs the probe, and gives it up when its time is over, whatever it does.
func (g *guard) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.bound)
	defer cancel()
	return g.probe(ctx)
}

func (g *guard) tell(away bool) {
	g.told = away
	if away {
		g.since = time.Now()
		var cause error
		if last := g.last.Load(); last != nil {
			cause = *last
		}
		g.log.Warn("Redis is away; the node goes on alone", slog.Any("error", cause))
		return
	}
	g.log.Info("Redis is back", slog.Duration("after", time.Since(g.since)))
	g.hooks.Lock()
	calls := slices.Clone(g.backDo)
	g.hooks.Unlock()
	for _, f := range calls {
		f()
	}
}
