package anyof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"usher/backends"
)

// lateResultWait is how long, once the check's own deadline is over, its members have to say how their calls ended. Without it
// one that only waited in a queue of ours would pass for one that hangs.
const lateResultWait = 100 * time.Millisecond

// Backend asks all its members at once. Safe for concurrent use.
type Backend struct {
	name    string
	members []*member
	callers atomic.Int64 // callers
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. The members are those of [Members], in that order.
func New(name string, cfg Config, members []backends.Member) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{name: name}
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
		b.members = append(b.members, newMember(name, m))
	}
	if !slices.Equal(names, cfg.Backends) {
		return nil, fmt.Errorf("make backend %q: backends: got members %q, want %q", name, names, cfg.Backends)
	}
	return b, nil
}

// Check asks all members about one viewer. It returns at the first yes, and when the viewer leaves; else when all have
// answered.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return backends.Decision{}, b.canceledError()
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	b.callers.Add(1)
	defer b.callers.Add(-1)
	leaving := newSentNotifier(len(b.members), r.OnSent)
	defer leaving.stop()
	return b.decideByRank(ctx, b.collectResults(ctx, b.checkMembers(asking, r, leaving)))
}

// checkMembers asks every member in a goroutine of its own. All answers find room in the channel, so that one whom nobody
// waits for any more ends all the same.
func (b *Backend) checkMembers(ctx context.Context, r *backends.Request, leaving *sentNotifier) <-chan memberResult {
	given := make(chan memberResult, len(b.members))
	questions := make([]backends.Request, len(b.members)) // copies, as the caller's own may not be kept
	for i, m := range b.members {
		questions[i] = *r
		questions[i].OnSent = leaving.onMemberSent(i)
		go m.check(ctx, &questions[i], &b.callers, func(a memberResult) {
			a.member = i
			leaving.setState(i, callDone)
			given <- a
		})
	}
	return given
}

// collectResults gathers the answers until one is a yes, or all are there, or nobody may wait any longer.
func (b *Backend) collectResults(ctx context.Context, given <-chan memberResult) []memberResult {
	answers := make([]memberResult, len(b.members))
	for range b.members {
		a, ok := nextResult(ctx, given)
		if !ok {
			break
		}
		answers[a.member] = a
		if a.rank() == rankAllowed {
			break
		}
	}
	return answers
}

// nextResult waits for an answer, while somebody waits for it.
func nextResult(ctx context.Context, given <-chan memberResult) (a memberResult, ok bool) {
	select {
	case a = <-given:
		return a, true
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return memberResult{}, false
	}
	timer := time.NewTimer(lateResultWait)
	defer timer.Stop()
	select {
	case a = <-given:
		return a, true
	case <-timer.C:
		return memberResult{}, false
	}
}

// decideByRank lets the weightiest answer count, the first in the config's order where several weigh the same.
func (b *Backend) decideByRank(ctx context.Context, answers []memberResult) (backends.Decision, error) {
	best := 0
	for i := range answers {
		if answers[i].rank() > answers[best].rank() {
			best = i
		}
	}
	a, m := answers[best], b.members[best]
	switch {
	case a.rank() == rankAllowed:
		return m.allowedDecision(a.decision), nil
	case errors.Is(ctx.Err(), context.Canceled):
		return backends.Decision{}, b.canceledError()
	case !a.isReceived:
		return backends.Decision{}, m.timeoutError()
	case a.err != nil:
		return backends.Decision{}, a.err
	default:
		return m.prefixReason(a.decision), nil
	}
}

// canceledError says that the viewer did not wait for the answer.
func (b *Backend) canceledError() error { return fmt.Errorf("ask backend %q: %w", b.name, context.Canceled) }
