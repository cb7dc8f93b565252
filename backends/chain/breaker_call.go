package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"usher/backends"
)

// call asks the backend within the timeout, and returns a Failure for everything that is not an answer.
func (b *Breaker) call(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	start := time.Now()
	defer func() { b.onCall(r, d, err, time.Since(start)) }()
	waits := time.AfterFunc(b.timeout/2, func() { b.seekEarlyOpinion(ctx, start) })
	defer func() {
		if !waits.Stop() {
			b.history.endOverdue()
		}
	}()
	defer func() {
		if reason := recover(); reason != nil {
			d, err = backends.Decision{}, b.panicFailure(reason)
		}
	}()
	d, err = b.next.Check(bounded, r)
	return d, b.classify(ctx, err)
}

// callWithHardDeadline is call with a deadline that holds even if the backend ignores its context: a probe without end
// would keep the breaker half-open for ever.
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

// classify makes err one of three: the viewer left, an overload, or a failure.
func (b *Breaker) classify(ctx context.Context, err error) error {
	switch {
	case err == nil || backends.IsOverload(err):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("check backend %q: %w", b.name, context.Canceled)
	case backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &backends.Failure{
			Kind: backends.FailureTimeout, Backend: b.name, WasSent: true, // an adapter that connects says so itself
			Err: fmt.Errorf("no answer within timeout=%s: %w", b.timeout, context.DeadlineExceeded),
		}
	default:
		return &backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: err}
	}
}

// panicFailure logs a panic and returns it as a failure. Its value is shown only if it is a runtime error: another value
// may hold what a viewer sent.
func (b *Breaker) panicFailure(reason any) error {
	err := fmt.Errorf("panic of type %T", reason)
	if known, ok := reason.(runtime.Error); ok {
		err = fmt.Errorf("panic: %w", known)
	}
	b.log.Error("backend panicked",
		slog.String("backend", b.name), slog.Any("error", err), slog.String("stack", string(debug.Stack())))
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: b.name, Err: err}
}

// rejection returns the failure of a check that the breaker answers without a call.
func (b *Breaker) rejection(cause error) *backends.Failure {
	return &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: b.name, Err: cause}
}
