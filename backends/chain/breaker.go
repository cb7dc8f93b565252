package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"usher/backends"

	"github.com/sony/gobreaker/v2"
)

// Breaker stops asking a backend that fails, and tries it again by and by. It also bounds each call by the backend's
// timeout, since a call without a bound could keep a breaker from ever moving. It stands before Tracing and after
// Bulkhead.
//
// What moves it: a Failure, and nothing else. A No is a success; a viewer who leaves and an Overload are not counted;
// a failure that a viewer's own words could have caused (see [Failure.IsTransport]) counts once per address and window.
// A panic of the backend becomes a FailureMalformed, so that one viewer's strange request ends neither the process nor
// the service of the others.
//
// While it is half-open nobody's viewer waits: the opening that comes first is the try, in the background, and is told
// what the others are told. Its answer moves the breaker and nothing else.
//
// Safe for concurrent use.
type Breaker struct {
	name    string
	timeout time.Duration
	next    backends.Backend
	log     *slog.Logger

	cb     *gobreaker.CircuitBreaker[backends.Decision]
	consecutiveFailures int // failures in a row; written under gobreaker's lock only
	dedup  *failureDedup
	probes  chan struct{} // as many as may run at once

	state  atomic.Uint32 // mirrors gobreaker's, whose State() locks and moves
	openSignal atomic.Pointer[chan struct{}]
	changes broadcaster
}

// newBreaker makes the breaker of the named backend, whose calls end after timeout. The config must be valid.
func newBreaker(name string, timeout time.Duration, cfg BreakerConfig, next backends.Backend, log *slog.Logger) *Breaker {
	b := &Breaker{
		name:    name,
		timeout: timeout,
		next:    next,
		log:     backends.LoggerOrDiscard(log),
		dedup:   newFailureDedup(cfg.Interval),
		probes:   make(chan struct{}, cfg.HalfOpenProbes),
	}
	b.openSignal.Store(new(make(chan struct{})))
	b.cb = gobreaker.NewCircuitBreaker[backends.Decision](gobreaker.Settings{
		Name:          name,
		MaxRequests:   uint32(cfg.HalfOpenProbes),
		Interval:      cfg.Interval,
		BucketPeriod:  cfg.Bucket,
		Timeout:       cfg.OpenFor,
		IsExcluded:    isExcluded,
		IsSuccessful:  b.isSuccess,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return b.isTripped(cfg, c) },
		OnStateChange: b.onStateChange,
	})
	return b
}

// Check asks the backend, unless it is being left alone: then the answer is a FailureBreakerOpen, at once.
func (b *Breaker) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
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

// State is where the breaker stands. It neither locks nor moves anything.
func (b *Breaker) State() backends.BreakerState { return backends.BreakerState(b.state.Load()) }

// IsDown reports whether the backend is not being asked as usual. It is one atomic read.
func (b *Breaker) IsDown() bool { return b.State() != backends.BreakerClosed }

// opened returns a channel that is closed while the breaker is not. One that waits for something else waits for this
// too, and gives up when the backend does.
func (b *Breaker) opened() <-chan struct{} { return *b.openSignal.Load() }

// subscribe wakes the caller after the state has changed, and once at the start, so that no state is lost: on each wake
// he reads State. Wakes that nobody fetched are merged into one. Call stop when done.
func (b *Breaker) subscribe() (wake <-chan struct{}, stop func()) { return b.changes.subscribe() }

// Run notices, each second, that the time of being open is over, even if nobody asks. It returns when ctx ends.
func (b *Breaker) Run(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			b.cb.State()
		}
	}
}

// checkCounted lets gobreaker see the outcome of ask.
func (b *Breaker) checkCounted(ctx context.Context, r *backends.Request, ask backends.BackendFunc) (backends.Decision, error) {
	d, err := b.cb.Execute(func() (backends.Decision, error) {
		d, err := ask(ctx, r)
		if err != nil && !b.countsAsFailure(err, r) || err == nil && d.Source == backends.FromLocal {
			err = excluded{err} // a rule of the adapter's own says nothing of the backend
		}
		return d, err
	})
	if err == nil {
		return d, nil
	}
	if u, ok := err.(excluded); ok { //nolint:errorlint // wrapped a few lines above and nowhere else
		return d, u.error
	}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return backends.Decision{}, b.rejection(err)
	default:
		return backends.Decision{}, err
	}
}

// probe asks the backend whether it is back. It outlives the caller: a viewer who leaves must not keep the breaker open.
func (b *Breaker) probe(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	select {
	case b.probes <- struct{}{}:
	default:
		return backends.Decision{}, b.rejection(nil)
	}
	type answer struct {
		d   backends.Decision
		err error
	}
	answered := make(chan answer, 1)
	question := *r // the caller's own may not be kept
	question.OnSent = nil
	go func() {
		d, err := b.checkCounted(context.WithoutCancel(ctx), &question, b.callWithHardDeadline)
		<-b.probes // before the answer, so that whoever has it may try next
		answered <- answer{d, err}
	}()
	if r.IsUnknown() {
		return backends.Decision{}, b.rejection(nil)
	}
	select {
	case a := <-answered:
		return a.d, a.err
	case <-ctx.Done():
		return backends.Decision{}, b.classify(ctx, ctx.Err())
	}
}

// call calls the backend within the timeout, and makes a Failure of everything that is not an answer.
func (b *Breaker) call(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	defer func() {
		if reason := recover(); reason != nil {
			d, err = backends.Decision{}, b.panicFailure(reason)
		}
	}()
	d, err = b.next.Check(bounded, r)
	return d, b.classify(ctx, err)
}

// callWithHardDeadline is ask with a deadline that holds even if the backend ignores its context: a try that hangs would keep
// the breaker half-open for ever.
func (b *Breaker) callWithHardDeadline(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	bounded, cancel := context.WithTimeout(ctx, b.timeout+b.timeout/2)
	defer cancel()
	var d backends.Decision
	err := error(&backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: errors.New("the backend's goroutine ended")})
	done := make(chan struct{})
	go func() {
		defer close(done) // even by runtime.Goexit
		d, err = b.call(bounded, r)
	}()
	select {
	case <-done:
		return d, err
	case <-bounded.Done():
		return backends.Decision{}, b.classify(ctx, bounded.Err())
	}
}

// classify sorts err into what the vocabulary knows: the viewer left, an overload, or a failure.
func (b *Breaker) classify(ctx context.Context, err error) error {
	switch {
	case err == nil || backends.IsOverload(err):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("ask backend %q: %w", b.name, context.Canceled)
	case backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &backends.Failure{
			Kind: backends.FailureTimeout, Backend: b.name,
			Err: fmt.Errorf("no answer within timeout=%s: %w", b.timeout, context.DeadlineExceeded),
		}
	default:
		return &backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: err}
	}
}

// panicFailure reports a panic. Its value is shown only if it is the runtime's own: others may hold a viewer's words.
func (b *Breaker) panicFailure(reason any) error {
	err := fmt.Errorf("panic of type %T", reason)
	if known, ok := reason.(runtime.Error); ok {
		err = fmt.Errorf("panic: %w", known)
	}
	b.log.Error("backend panicked", "backend", b.name, "error", err, "stack", string(debug.Stack()))
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: err}
}

func (b *Breaker) rejection(cause error) *backends.Failure {
	return &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: b.name, Err: cause}
}

// countsAsFailure reports whether err may move the breaker.
func (b *Breaker) countsAsFailure(err error, r *backends.Request) bool {
	f := backends.AsFailure(err)
	if f == nil {
		return false
	}
	return f.IsTransport() || b.dedup.isFirst(r.Address, time.Now())
}

// excluded hides an outcome from the breaker's count: an error, or nil for an answer.
type excluded struct{ error }

// The four below run under gobreaker's lock: they must neither call it nor wait for anybody.

func isExcluded(err error) bool {
	_, ok := err.(excluded) //nolint:errorlint // made one line before gobreaker sees it, never wrapped
	return ok
}

// isSuccess also counts failures in a row. gobreaker's own count forgets those that left the window, so five calls that
// hang one after another would never reach it.
func (b *Breaker) isSuccess(err error) bool {
	if err == nil {
		b.consecutiveFailures = 0
		return true
	}
	b.consecutiveFailures++
	return false
}

func (b *Breaker) isTripped(cfg BreakerConfig, c gobreaker.Counts) bool {
	answers := c.TotalSuccesses + c.TotalFailures // without those under way, which Requests counts
	return b.consecutiveFailures >= cfg.ConsecutiveFailures ||
		int(answers) >= cfg.MinRequests && float64(c.TotalFailures) >= cfg.FailureRatio*float64(answers)
}

func (b *Breaker) onStateChange(_ string, from, to gobreaker.State) {
	b.consecutiveFailures = 0
	switch to {
	case gobreaker.StateClosed:
		b.openSignal.Store(new(make(chan struct{})))
		b.state.Store(uint32(backends.BreakerClosed))
	case gobreaker.StateHalfOpen:
		b.state.Store(uint32(backends.BreakerHalfOpen))
	case gobreaker.StateOpen:
		b.state.Store(uint32(backends.BreakerOpen))
		if from == gobreaker.StateClosed {
			close(*b.openSignal.Load())
		}
	}
	b.changes.notify()
}
