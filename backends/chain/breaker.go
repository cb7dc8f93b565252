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
	streak int // failures in a row; written under gobreaker's lock only
	blame  *blame
	tries  chan struct{} // as many as may run at once

	state  atomic.Uint32 // mirrors gobreaker's, whose State() locks and moves
	opened atomic.Pointer[chan struct{}]
	wakers wakers
}

// NewBreaker makes the breaker of the named backend, whose calls end after timeout. The config must be valid.
func NewBreaker(name string, timeout time.Duration, cfg BreakerConfig, next backends.Backend, log *slog.Logger) *Breaker {
	b := &Breaker{
		name:    name,
		timeout: timeout,
		next:    next,
		log:     backends.LoggerOrDiscard(log),
		blame:   newBlame(cfg.Interval),
		tries:   make(chan struct{}, cfg.HalfOpenProbes),
	}
	b.opened.Store(new(make(chan struct{})))
	b.cb = gobreaker.NewCircuitBreaker[backends.Decision](gobreaker.Settings{
		Name:          name,
		MaxRequests:   uint32(cfg.HalfOpenProbes),
		Interval:      cfg.Interval,
		BucketPeriod:  cfg.BucketPeriod,
		Timeout:       cfg.OpenDuration,
		IsExcluded:    isUncounted,
		IsSuccessful:  b.success,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return b.tripped(cfg, c) },
		OnStateChange: b.changed,
	})
	return b
}

// Check asks the backend, unless it is being left alone: then the answer is a FailureBreakerOpen, at once.
func (b *Breaker) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if b.State() == backends.BreakerClosed {
		return b.counted(ctx, r, b.ask)
	}
	b.cb.State() // gobreaker moves from open to half-open only when it is called
	state := b.State()
	annotateBreaker(ctx, state)
	switch state {
	case backends.BreakerClosed:
		return b.counted(ctx, r, b.ask)
	case backends.BreakerHalfOpen:
		return b.try(ctx, r)
	default:
		return backends.Decision{}, b.notAsked(nil)
	}
}

// State is where the breaker stands. It neither locks nor moves anything.
func (b *Breaker) State() backends.BreakerState { return backends.BreakerState(b.state.Load()) }

// IsDown reports whether the backend is not being asked as usual. It is one atomic read.
func (b *Breaker) IsDown() bool { return b.State() != backends.BreakerClosed }

// Opened returns a channel that is closed while the breaker is not. One that waits for something else waits for this
// too, and gives up when the backend does.
func (b *Breaker) Opened() <-chan struct{} { return *b.opened.Load() }

// Changed wakes the caller after the state has changed, and once at the start, so that no state is lost: on each wake
// he reads State. Wakes that nobody fetched are merged into one. Call stop when done.
func (b *Breaker) Changed() (wake <-chan struct{}, stop func()) { return b.wakers.add() }

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

// counted lets gobreaker see the outcome of ask.
func (b *Breaker) counted(ctx context.Context, r *backends.Request, ask backends.BackendFunc) (backends.Decision, error) {
	d, err := b.cb.Execute(func() (backends.Decision, error) {
		d, err := ask(ctx, r)
		if err != nil && !b.counts(err, r) || err == nil && d.Source == backends.FromLocal {
			err = uncounted{err} // a rule of the adapter's own says nothing of the backend
		}
		return d, err
	})
	if err == nil {
		return d, nil
	}
	if u, ok := err.(uncounted); ok { //nolint:errorlint // wrapped a few lines above and nowhere else
		return d, u.error
	}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return backends.Decision{}, b.notAsked(err)
	default:
		return backends.Decision{}, err
	}
}

// try asks the backend whether it is back. It outlives the caller: a viewer who leaves must not keep the breaker open.
func (b *Breaker) try(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	select {
	case b.tries <- struct{}{}:
	default:
		return backends.Decision{}, b.notAsked(nil)
	}
	type answer struct {
		d   backends.Decision
		err error
	}
	answered := make(chan answer, 1)
	question := *r // the caller's own may not be kept
	question.OnSent = nil
	go func() {
		d, err := b.counted(context.WithoutCancel(ctx), &question, b.askOrGiveUp)
		<-b.tries // before the answer, so that whoever has it may try next
		answered <- answer{d, err}
	}()
	if r.IsUnknown() {
		return backends.Decision{}, b.notAsked(nil)
	}
	select {
	case a := <-answered:
		return a.d, a.err
	case <-ctx.Done():
		return backends.Decision{}, b.settle(ctx, ctx.Err())
	}
}

// ask calls the backend within the timeout, and makes a Failure of everything that is not an answer.
func (b *Breaker) ask(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	defer func() {
		if reason := recover(); reason != nil {
			d, err = backends.Decision{}, b.panicked(reason)
		}
	}()
	d, err = b.next.Check(bounded, r)
	return d, b.settle(ctx, err)
}

// askOrGiveUp is ask with a deadline that holds even if the backend ignores its context: a try that hangs would keep
// the breaker half-open for ever.
func (b *Breaker) askOrGiveUp(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	bounded, cancel := context.WithTimeout(ctx, b.timeout+b.timeout/2)
	defer cancel()
	var d backends.Decision
	err := error(&backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: errors.New("the backend's goroutine ended")})
	done := make(chan struct{})
	go func() {
		defer close(done) // even by runtime.Goexit
		d, err = b.ask(bounded, r)
	}()
	select {
	case <-done:
		return d, err
	case <-bounded.Done():
		return backends.Decision{}, b.settle(ctx, bounded.Err())
	}
}

// settle sorts err into what the vocabulary knows: the viewer left, an overload, or a failure.
func (b *Breaker) settle(ctx context.Context, err error) error {
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

// panicked reports a panic. Its value is shown only if it is the runtime's own: others may hold a viewer's words.
func (b *Breaker) panicked(reason any) error {
	err := fmt.Errorf("panic of type %T", reason)
	if known, ok := reason.(runtime.Error); ok {
		err = fmt.Errorf("panic: %w", known)
	}
	b.log.Error("backend panicked", "backend", b.name, "error", err, "stack", string(debug.Stack()))
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: err}
}

func (b *Breaker) notAsked(cause error) *backends.Failure {
	return &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: b.name, Err: cause}
}

// counts reports whether err may move the breaker.
func (b *Breaker) counts(err error, r *backends.Request) bool {
	f := backends.AsFailure(err)
	if f == nil {
		return false
	}
	return f.IsTransport() || b.blame.first(r.Address, time.Now())
}

// uncounted hides an outcome from the breaker's count: an error, or nil for an answer.
type uncounted struct{ error }

// The four below run under gobreaker's lock: they must neither call it nor wait for anybody.

func isUncounted(err error) bool {
	_, ok := err.(uncounted) //nolint:errorlint // made one line before gobreaker sees it, never wrapped
	return ok
}

// success also counts failures in a row. gobreaker's own count forgets those that left the window, so five calls that
// hang one after another would never reach it.
func (b *Breaker) success(err error) bool {
	if err == nil {
		b.streak = 0
		return true
	}
	b.streak++
	return false
}

func (b *Breaker) tripped(cfg BreakerConfig, c gobreaker.Counts) bool {
	answers := c.TotalSuccesses + c.TotalFailures // without those under way, which Requests counts
	return b.streak >= cfg.ConsecutiveFailures ||
		int(answers) >= cfg.MinRequests && float64(c.TotalFailures) >= cfg.FailureRatio*float64(answers)
}

func (b *Breaker) changed(_ string, from, to gobreaker.State) {
	b.streak = 0
	switch to {
	case gobreaker.StateClosed:
		b.opened.Store(new(make(chan struct{})))
		b.state.Store(uint32(backends.BreakerClosed))
	case gobreaker.StateHalfOpen:
		b.state.Store(uint32(backends.BreakerHalfOpen))
	case gobreaker.StateOpen:
		b.state.Store(uint32(backends.BreakerOpen))
		if from == gobreaker.StateClosed {
			close(*b.opened.Load())
		}
	}
	b.wakers.wake()
}
