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

// grace is how long, once the check's own deadline is over, its members have to say how their calls ended. Without it
// one that only waited in a queue of ours would pass for one that hangs.
const grace = 100 * time.Millisecond

// Backend asks all its members at once. Safe for concurrent use.
type Backend struct {
	name    string
	members []*member
	waiting atomic.Int64 // callers
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
		return backends.Decision{}, b.left()
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	leaving := newDeparture(len(b.members), r.OnSent)
	defer leaving.forget()
	return b.decide(ctx, b.collect(ctx, b.askAll(asking, r, leaving)))
}

// askAll asks every member in a goroutine of its own. All answers find room in the channel, so that one whom nobody
// waits for any more ends all the same.
func (b *Backend) askAll(ctx context.Context, r *backends.Request, leaving *departure) <-chan answer {
	given := make(chan answer, len(b.members))
	questions := make([]backends.Request, len(b.members)) // copies, as the caller's own may not be kept
	for i, m := range b.members {
		questions[i] = *r
		questions[i].OnSent = leaving.hook(i)
		go m.ask(ctx, &questions[i], &b.waiting, func(a answer) {
			a.member = i
			leaving.move(i, back)
			given <- a
		})
	}
	return given
}

// collect gathers the answers until one is a yes, or all are there, or nobody may wait any longer.
func (b *Backend) collect(ctx context.Context, given <-chan answer) []answer {
	answers := make([]answer, len(b.members))
	for range b.members {
		a, ok := next(ctx, given)
		if !ok {
			break
		}
		answers[a.member] = a
		if a.weight() == yes {
			break
		}
	}
	return answers
}

// next waits for an answer, while somebody waits for it.
func next(ctx context.Context, given <-chan answer) (a answer, ok bool) {
	select {
	case a = <-given:
		return a, true
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return answer{}, false
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case a = <-given:
		return a, true
	case <-timer.C:
		return answer{}, false
	}
}

// decide lets the weightiest answer count, the first in the config's order where several weigh the same.
func (b *Backend) decide(ctx context.Context, answers []answer) (backends.Decision, error) {
	best := 0
	for i := range answers {
		if answers[i].weight() > answers[best].weight() {
			best = i
		}
	}
	a, m := answers[best], b.members[best]
	switch {
	case a.weight() == yes:
		return m.yes(a.decision), nil
	case errors.Is(ctx.Err(), context.Canceled):
		return backends.Decision{}, b.left()
	case !a.given:
		return backends.Decision{}, m.silent()
	case a.err != nil:
		return backends.Decision{}, a.err
	default:
		return m.named(a.decision), nil
	}
}

// left says that the viewer did not wait for the answer.
func (b *Backend) left() error { return fmt.Errorf("ask backend %q: %w", b.name, context.Canceled) }
