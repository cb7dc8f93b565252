package chain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"usher/backends"
)

// Breaker stops asking a backend that fails, and probes it from time to time. It bounds each call by the backend's
// timeout, since a call without end would keep a breaker from ever moving.
//
// Only a Failure moves it. A denial is a success. A viewer who leaves and an Overload are not counted. A failure to connect
// counts always; another one, which a viewer's own request may have caused, counts as [callHistory] says. A panic of the
// adapter becomes a FailureMalformed, so that one viewer's odd request ends neither the process nor the service.
//
// Before the failures of fewer than three addresses open it, the latest answered request is asked again in the background,
// and must fail too.
//
// While it is half-open no opening waits for a probe: the first one starts it in the background and fails with
// FailureBreakerOpen like the others. The probe's answer moves the breaker and nothing else.
//
// Safe for concurrent use.
type Breaker struct {
	name    string
	timeout time.Duration
	next    backends.Backend
	log     *slog.Logger

	cb                  *gobreaker.CircuitBreaker[backends.Decision]
	consecutiveFailures int // written under gobreaker's lock only
	history             *callHistory
	probes              chan struct{} // holds one value for each probe in flight
	warnedAt            atomic.Int64  // when a second opinion was last reported, in Unix seconds

	mu           sync.Mutex                             // held to change the next three, and to publish the state that follows from them
	automatic    backends.BreakerState                  // a copy of gobreaker's, whose State() locks and moves
	orderVersion int64                                  // of the last order
	forced       atomic.Pointer[backends.ForcedBreaker] // nil: the breaker is not forced

	state      atomic.Uint32                 // the state that holds: the forced one, or automatic
	openSignal atomic.Pointer[chan struct{}] // closed while the state is not closed
	changes    broadcaster
	isProbed   atomic.Bool // an operator's probe is in flight
	onCall     func(r *backends.Request, d backends.Decision, err error, took time.Duration)
	onState    func(backends.BreakerState)
}

// newBreaker returns the breaker of the named backend, whose calls end after timeout. The config must be valid.
func newBreaker(name string, timeout time.Duration, cfg BreakerConfig, next backends.Backend, deps Deps) *Breaker {
	deps = deps.orNobody()
	b := &Breaker{
		name:    name,
		timeout: timeout,
		next:    next,
		log:     deps.Log,
		onCall:  deps.OnCall,
		onState: deps.OnState,
		history: newCallHistory(cfg.Interval, cfg.ConsecutiveFailures),
		probes:  make(chan struct{}, cfg.HalfOpenProbes),
	}
	b.openSignal.Store(new(make(chan struct{})))
	b.cb = gobreaker.NewCircuitBreaker[backends.Decision](gobreaker.Settings{
		Name:          name,
		MaxRequests:   uint32(cfg.HalfOpenProbes),
		Interval:      cfg.Interval,
		BucketPeriod:  cfg.BucketPeriod,
		Timeout:       cfg.OpenDuration,
		IsExcluded:    isExcluded,
		IsSuccessful:  b.isSuccess,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return b.isTripped(cfg, c) },
		OnStateChange: b.onStateChange,
	})
	return b
}

// Check asks the backend. Unless the breaker is closed it fails at once with a FailureBreakerOpen.
func (b *Breaker) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if forced := b.forced.Load(); forced != nil {
		return b.checkForced(ctx, r, forced.State)
	}
	if b.State() == backends.BreakerClosed {
		return b.checkCounted(ctx, r, b.call)
	}
	b.cb.State() // gobreaker moves from open to half-open only when it is called
	state := b.State()
	recordBreakerState(ctx, state)
	switch state {
	case backends.BreakerClosed:
		return b.checkCounted(ctx, r, b.call)
	case backends.BreakerHalfOpen:
		return b.probe(ctx, r)
	default:
		return backends.Decision{}, b.rejection(nil)
	}
}

// State returns the breaker's state. It neither locks nor moves anything.
func (b *Breaker) State() backends.BreakerState { return backends.BreakerState(b.state.Load()) }

// IsDown reports whether the breaker is not closed. It is one atomic read.
func (b *Breaker) IsDown() bool { return b.State() != backends.BreakerClosed }

// opened returns a channel that is closed while the breaker is not closed. A caller that waits for something else gives
// up when it is closed.
func (b *Breaker) opened() <-chan struct{} { return *b.openSignal.Load() }

// subscribe returns a channel that signals each change of State: see [broadcaster].
func (b *Breaker) subscribe() (changes <-chan struct{}, cancel func()) { return b.changes.subscribe() }

// Run moves an open breaker to half-open in time, even without checks, and ends what an operator forced. It returns when ctx
// ends.
func (b *Breaker) Run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			b.cb.State()
			b.endForced(now)
		}
	}
}

// checkCounted calls the backend and lets gobreaker count the outcome.
func (b *Breaker) checkCounted(ctx context.Context, r *backends.Request, call backends.BackendFunc) (backends.Decision, error) {
	d, err := b.execute(func() (backends.Decision, error) {
		start := time.Now()
		d, err := call(ctx, r)
		if !b.counts(r, d, err, start) {
			err = excluded{err}
		}
		return d, err
	})
	b.seekOpinion(ctx)
	return d, err
}

// execute runs a call whose outcome gobreaker counts, unless it is excluded.
func (b *Breaker) execute(call func() (backends.Decision, error)) (backends.Decision, error) {
	d, err := b.cb.Execute(call)
	if err == nil {
		return d, nil
	}
	if e, ok := err.(excluded); ok { //nolint:errorlint // wrapped a few lines above and nowhere else
		return d, e.error
	}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return backends.Decision{}, b.rejection(err)
	default:
		return backends.Decision{}, err
	}
}

// probe asks the backend whether it answers again. It outlives the caller, since a viewer who leaves must not keep the
// breaker open.
func (b *Breaker) probe(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	select {
	case b.probes <- struct{}{}:
	default:
		return backends.Decision{}, b.rejection(nil)
	}
	type result struct {
		d   backends.Decision
		err error
	}
	results := make(chan result, 1)
	request := *r // the caller's own may not be kept
	request.OnSent, request.OnFailure = nil, nil
	go func() {
		d, err := b.checkCounted(context.WithoutCancel(ctx), &request, b.callWithHardDeadline)
		<-b.probes // before the result, so that its receiver may probe next
		results <- result{d, err}
	}()
	if r.IsUnknown() {
		return backends.Decision{}, b.rejection(nil)
	}
	select {
	case got := <-results:
		return got.d, got.err
	case <-ctx.Done():
		return backends.Decision{}, b.classify(ctx, ctx.Err())
	}
}

// counts records the outcome of a call that began at start, and reports whether gobreaker counts it.
func (b *Breaker) counts(r *backends.Request, d backends.Decision, err error, start time.Time) bool {
	now := time.Now()
	if err == nil {
		if d.Source == backends.FromLocal {
			return false // a decision of the adapter's own says nothing of the backend
		}
		b.history.recordAnswer(r, now.Sub(start), now)
		return true
	}
	f := backends.AsFailure(err)
	return f != nil && b.history.recordFailure(f, r, b.IsDown(), now)
}

// excluded wraps an outcome that gobreaker must not count: an error, or nil for an answer.
type excluded struct{ error }

// The functions below run under gobreaker's lock: they must neither call it nor block.

func isExcluded(err error) bool {
	_, ok := err.(excluded) //nolint:errorlint // made one line before gobreaker sees it, never wrapped
	return ok
}

// isSuccess counts consecutive failures as well. gobreaker's own count forgets those that left the window, so five calls
// that hang one after another would never reach it.
func (b *Breaker) isSuccess(err error) bool {
	if err == nil {
		b.consecutiveFailures = 0
		return true
	}
	b.consecutiveFailures++
	return false
}

// isTripped reports whether the failures so far open the breaker.
func (b *Breaker) isTripped(cfg BreakerConfig, c gobreaker.Counts) bool {
	answers := c.TotalSuccesses + c.TotalFailures // Requests also counts calls in flight
	isOver := b.consecutiveFailures >= cfg.ConsecutiveFailures ||
		int(answers) >= cfg.MinRequests && float64(c.TotalFailures) >= cfg.FailureRatio*float64(answers)
	return b.history.opens(isOver, time.Now())
}

// onStateChange copies gobreaker's state and signals the change.
func (b *Breaker) onStateChange(_ string, _, to gobreaker.State) {
	b.consecutiveFailures = 0
	b.history.reset()
	automatic := backends.BreakerOpen
	switch to {
	case gobreaker.StateClosed:
		automatic = backends.BreakerClosed
	case gobreaker.StateHalfOpen:
		automatic = backends.BreakerHalfOpen
	case gobreaker.StateOpen:
	}
	b.publish(func() { b.automatic = automatic })
}
