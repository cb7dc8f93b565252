package anyof

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"usher/backends"
)

// maxUnended bounds, for each member, the calls that go on although nobody waits for them any more. Members that end
// when they are told to have next to none; the bound is far above what a busy machine takes time to end.
const maxUnended = 4096

// member is one of those who are asked.
type member struct {
	backends.Member
	running atomic.Int64 // calls, waited for or not
	crowd   string       // what is said to be full when too many do not end
}

func newMember(joining string, m backends.Member) *member {
	return &member{
		Member: m,
		crowd:  fmt.Sprintf("backends.%s.backends: calls of %s that do not end", joining, m.Name),
	}
}

// ask asks the member, and gives its answer in any case, even that of one that panics: a panic in a goroutine of ours
// would end the whole process. waiting is how many callers there are.
func (m *member) ask(ctx context.Context, r *backends.Request, waiting *atomic.Int64, give func(answer)) {
	a, ended := answer{given: true}, false
	defer func() {
		switch reason := recover(); {
		case reason != nil:
			a.decision, a.err = backends.Decision{}, m.panicked(reason)
		case !ended: // by runtime.Goexit
			a.decision, a.err = backends.Decision{}, m.malformed(errors.New("the backend's goroutine ended"))
		}
		m.running.Add(-1)
		give(a)
	}()
	if m.running.Add(1)-waiting.Load() >= maxUnended {
		a.err, ended = backends.NewOverload(m.crowd, maxUnended), true
		return
	}
	a.decision, a.err = m.Backend.Check(ctx, r)
	a.err, ended = m.sorted(a.err), true
}

// sorted makes an error of the vocabulary of whatever the member gave. That somebody left, the caller knows better.
func (m *member) sorted(err error) error {
	switch {
	case err == nil, backends.IsOverload(err), backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return m.silent()
	case errors.Is(err, context.Canceled):
		return m.malformed(errors.New("gave up by itself"))
	default:
		return m.malformed(err)
	}
}

// panicked reports a panic. Its value is shown only if it is the runtime's own: others may hold a viewer's words.
func (m *member) panicked(reason any) error {
	if known, ok := reason.(runtime.Error); ok {
		return m.malformed(fmt.Errorf("panic: %w", known))
	}
	return m.malformed(fmt.Errorf("panic of type %T", reason))
}

func (m *member) malformed(err error) error {
	return &backends.Failure{Kind: backends.FailureMalformed, Backend: m.Name, Err: err}
}

// silent says that the member has not answered within the check's deadline.
func (m *member) silent() error {
	return &backends.Failure{
		Kind: backends.FailureTimeout, Backend: m.Name,
		Err: fmt.Errorf("no answer before the check ended: %w", context.DeadlineExceeded),
	}
}

// yes is the decision of the one who won. A stopgap's time is nobody's to give.
func (m *member) yes(d backends.Decision) backends.Decision {
	if d.ValidFor == 0 && d.Source.IsAuthoritative() {
		d.ValidFor = m.Validity
	}
	return m.named(d)
}

// named says whose decision it is.
func (m *member) named(d backends.Decision) backends.Decision {
	if d.Reason == "" {
		d.Reason = d.Verdict.String()
	}
	d.Reason = m.Name + ": " + d.Reason
	return d
}
