package anyof

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"usher/backends"
)

// maxAbandonedCalls bounds, for each member, the calls that go on although nobody waits for them any more. Members that end
// when they are told to have next to none; the bound is far above what a busy machine takes time to end.
const maxAbandonedCalls = 4096

// member is one of those who are asked.
type member struct {
	backends.Member
	runningCalls atomic.Int64 // calls, waited for or not
	overloadSetting   string       // what is said to be full when too many do not end
}

func newMember(joining string, m backends.Member) *member {
	return &member{
		Member: m,
		overloadSetting:  fmt.Sprintf("backends.%s.backends: calls of %s that do not end", joining, m.Name),
	}
}

// check asks the member, and gives its answer in any case, even that of one that panics: a panic in a goroutine of ours
// would end the whole process. waiting is how many callers there are.
func (m *member) check(ctx context.Context, r *backends.Request, waiting *atomic.Int64, give func(memberResult)) {
	a, ended := memberResult{isReceived: true}, false
	defer func() {
		switch reason := recover(); {
		case reason != nil:
			a.decision, a.err = backends.Decision{}, m.panicError(reason)
		case !ended: // by runtime.Goexit
			a.decision, a.err = backends.Decision{}, m.malformedError(errors.New("the backend's goroutine ended"))
		}
		m.runningCalls.Add(-1)
		give(a)
	}()
	if m.runningCalls.Add(1)-waiting.Load() >= maxAbandonedCalls {
		a.err, ended = backends.NewOverload(m.overloadSetting, maxAbandonedCalls), true
		return
	}
	a.decision, a.err = m.Backend.Check(ctx, r)
	a.err, ended = m.normalizeError(a.err), true
}

// normalizeError makes an error of the vocabulary of whatever the member gave. That somebody left, the caller knows better.
func (m *member) normalizeError(err error) error {
	switch {
	case err == nil, backends.IsOverload(err), backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return m.timeoutError()
	case errors.Is(err, context.Canceled):
		return m.malformedError(errors.New("gave up by itself"))
	default:
		return m.malformedError(err)
	}
}

// panicError reports a panic. Its value is shown only if it is the runtime's own: others may hold a viewer's words.
func (m *member) panicError(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return m.malformedError(fmt.Errorf("panic: %w", known))
	}
	return m.malformedError(fmt.Errorf("panic of type %T", reason))
}

func (m *member) malformedError(err error) error {
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: m.Name, Err: err}
}

// timeoutError says that the member has not answered within the check's deadline.
func (m *member) timeoutError() error {
	return &backends.Failure{
		Kind: backends.FailureTimeout, Backend: m.Name,
		Err: fmt.Errorf("no answer before the check ended: %w", context.DeadlineExceeded),
	}
}

// allowedDecision is the decision of the one who won. A stopgap's time is nobody's to give.
func (m *member) allowedDecision(d backends.Decision) backends.Decision {
	if d.ValidFor == 0 && d.Source.IsAuthoritative() {
		d.ValidFor = m.Validity
	}
	return m.prefixReason(d)
}

// prefixReason says whose decision it is.
func (m *member) prefixReason(d backends.Decision) backends.Decision {
	if d.Reason == "" {
		d.Reason = d.Verdict.String()
	}
	d.Reason = m.Name + ": " + d.Reason
	return d
}
