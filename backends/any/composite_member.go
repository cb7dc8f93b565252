package anyof

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"usher/backends"
)

// maxAbandonedCalls bounds, for each member, the calls that keep running although no check waits for them. A member
// that honours cancellation has next to none. The bound is far above what a busy machine needs to end canceled calls.
const maxAbandonedCalls = 4096

// member is one backend of the composite.
type member struct {
	backends.Member
	runningCalls    atomic.Int64 // waited for or not
	overloadSetting string       // names the bound in the overload error
}

func newMember(composite string, m backends.Member) *member {
	return &member{
		Member:          m,
		overloadSetting: fmt.Sprintf("backends.%s.backends: unfinished calls to %s", composite, m.Name),
	}
}

// check calls the member and always delivers a result, even if the member panics: a panic in this goroutine would end
// the whole process. callers is how many checks run.
func (m *member) check(ctx context.Context, r *backends.Request, callers *atomic.Int64, deliver func(memberResult)) {
	result, isFinished := memberResult{isReceived: true}, false
	defer func() {
		switch reason := recover(); {
		case reason != nil:
			result.decision, result.err = backends.Decision{}, m.panicError(reason)
		case !isFinished: // by runtime.Goexit
			result.decision, result.err = backends.Decision{}, m.malformedError(errors.New("the backend's goroutine ended"))
		}
		m.runningCalls.Add(-1)
		deliver(result)
	}()
	if m.runningCalls.Add(1)-callers.Load() >= maxAbandonedCalls {
		result.err, isFinished = backends.NewOverload(m.overloadSetting, maxAbandonedCalls), true
		return
	}
	result.decision, result.err = m.Backend.Check(ctx, r)
	result.err, isFinished = m.normalizeError(result.err), true
}

// normalizeError turns any error of the member into a failure or an overload. Cancellation by the viewer is for the
// caller to detect.
func (m *member) normalizeError(err error) error {
	switch {
	case err == nil, backends.IsOverload(err), backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return m.timeoutError()
	case errors.Is(err, context.Canceled):
		return m.malformedError(errors.New("canceled by the backend itself"))
	default:
		return m.malformedError(err)
	}
}

// panicError reports a panic. It shows the value only of the runtime's own panics: others may hold viewer input.
func (m *member) panicError(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return m.malformedError(fmt.Errorf("panic: %w", known))
	}
	return m.malformedError(fmt.Errorf("panic of type %T", reason))
}

func (m *member) malformedError(err error) error {
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: m.Name, Err: err}
}

// timeoutError reports that the member did not answer within the check's deadline.
func (m *member) timeoutError() error {
	return &backends.Failure{
		Kind: backends.FailureTimeout, Backend: m.Name,
		Err: fmt.Errorf("no response before the check ended: %w", context.DeadlineExceeded),
	}
}

// allowedDecision returns the winning member's decision with that member's validity. A fallback has no validity of its
// own, so it gets none.
func (m *member) allowedDecision(d backends.Decision) backends.Decision {
	if d.ValidFor == 0 && d.Source.IsAuthoritative() {
		d.ValidFor = m.Validity
	}
	return m.prefixReason(d)
}

// prefixReason names the member in the decision's reason.
func (m *member) prefixReason(d backends.Decision) backends.Decision {
	if d.Reason == "" {
		d.Reason = d.Verdict.String()
	}
	d.Reason = m.Name + ": " + d.Reason
	return d
}
