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

// lateResultWait is how long a check waits after its own deadline for its members' results. Without it, a member that
// only waited in our own queue would look like one that hangs.
const lateResultWait = 100 * time.Millisecond

// Backend checks with all its members at once. Safe for concurrent use.
type Backend struct {
	name    string
	members []*member
	callers atomic.Int64 // running checks
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

// Overloads returns the bounds of its own that turn viewers away, as the errors of Check name them.
func (b *Backend) Overloads() []string {
	all := make([]string, len(b.members))
	for i, m := range b.members {
		all[i] = m.overloadSetting
	}
	return all
}

// Check checks a viewer with all members. It returns at the first allowed decision or when the viewer leaves, else
// when all members have answered.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return backends.Decision{}, b.canceledError()
	}
	checkCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.callers.Add(1)
	defer b.callers.Add(-1)
	notifier := newSentNotifier(len(b.members), r.OnSent)
	defer notifier.stop()
	return b.decideByRank(ctx, b.collectResults(ctx, b.checkMembers(checkCtx, r, notifier)))
}

// DecideWithoutCall decides on a viewer while not all members answer: if one allows them without a call, or each denies them so.
func (b *Backend) DecideWithoutCall(r *backends.Request) (d backends.Decision, isDecided bool) {
	results, isDecided := make([]memberResult, len(b.members)), true
	for i, m := range b.members {
		results[i] = memberResult{member: i}
		if m.DecideWithoutCall != nil {
			results[i].decision, results[i].isReceived = m.DecideWithoutCall(r)
		}
		if results[i].rank() == rankAllowed {
			return m.allowedDecision(results[i].decision), true
		}
		isDecided = isDecided && results[i].isReceived
	}
	if !isDecided {
		return backends.Decision{}, false
	}
	d, _ = b.decideByRank(context.Background(), results)
	return d, true
}

// checkMembers starts every member's check in its own goroutine. The channel has room for all results, so a member
// that no check waits for still ends.
func (b *Backend) checkMembers(ctx context.Context, r *backends.Request, notifier *sentNotifier) <-chan memberResult {
	results := make(chan memberResult, len(b.members))
	requests := make([]backends.Request, len(b.members)) // copies: the caller's request must not be kept
	for i, m := range b.members {
		requests[i] = *r
		requests[i].OnSent = notifier.onMemberSent(i)
		go m.check(ctx, &requests[i], &b.callers, func(result memberResult) {
			result.member = i
			notifier.setState(i, callDone)
			results <- result
		})
	}
	return results
}

// collectResults gathers results until one is allowed, all have arrived, or the wait is over.
func (b *Backend) collectResults(ctx context.Context, arriving <-chan memberResult) []memberResult {
	results := make([]memberResult, len(b.members))
	for range b.members {
		result, ok := nextResult(ctx, arriving)
		if !ok {
			break
		}
		results[result.member] = result
		if result.rank() == rankAllowed {
			break
		}
	}
	return results
}

// nextResult waits for one result. ok is false once the viewer has left or the wait is over.
func nextResult(ctx context.Context, arriving <-chan memberResult) (result memberResult, ok bool) {
	select {
	case result = <-arriving:
		return result, true
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return memberResult{}, false
	}
	timer := time.NewTimer(lateResultWait)
	defer timer.Stop()
	select {
	case result = <-arriving:
		return result, true
	case <-timer.C:
		return memberResult{}, false
	}
}

// decideByRank returns the result of the highest rank; of equal ones, the first in the config's order.
func (b *Backend) decideByRank(ctx context.Context, results []memberResult) (backends.Decision, error) {
	best := 0
	for i := range results {
		if results[i].rank() > results[best].rank() {
			best = i
		}
	}
	result, m := results[best], b.members[best]
	switch {
	case result.rank() == rankAllowed:
		return m.allowedDecision(result.decision), nil
	case errors.Is(ctx.Err(), context.Canceled):
		return backends.Decision{}, b.canceledError()
	case !result.isReceived:
		return backends.Decision{}, m.timeoutError()
	case result.err != nil:
		return backends.Decision{}, result.err
	default:
		d := m.prefixReason(result.decision)
		d.Challenge = challengeOf(results)
		return d, nil
	}
}

// challengeOf returns the challenge of the first member that has one: credentials for it could still allow the viewer.
func challengeOf(results []memberResult) string {
	for i := range results {
		if challenge := results[i].decision.Challenge; challenge != "" {
			return challenge
		}
	}
	return ""
}

// canceledError reports that the viewer left before the decision.
func (b *Backend) canceledError() error {
	return fmt.Errorf("check backend %q: %w", b.name, context.Canceled)
}
