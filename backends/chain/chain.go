package chain

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/backends"
)

// Chain is one backend inside its decorators. Its parts are exported to be observed. Safe for concurrent use.
type Chain struct {
	// Name is the backend's name in the config.
	Name     string
	FailOpen *FailOpen
	// Bulkhead and Breaker are nil in a local chain.
	Bulkhead *Bulkhead
	Breaker  *Breaker

	withoutFailOpen backends.Backend
	members         []*Chain
	own             ownDecision
	changes         broadcaster // of a local chain
}

// New returns the chain of the named backend, which is asked over a network. The config must be valid.
//
// What an adapter's DecideWithoutCall decides holds whatever the backend does: it waits for no slot, and moves no breaker.
func New(name string, cfg Config, adapter backends.Backend, deps Deps) *Chain {
	c := &Chain{Name: name, own: ownDecisionOf(adapter)}
	decorate(
		// Outermost: it decides for everything below that fails to ask.
		c.failOpen(deps.policy(cfg.OnFailure), deps),
		// What a composite asks: it has an outage policy of its own.
		c.memberView(),
		// Outside all that concerns calls.
		c.own.first,
		// Outside the breaker, for which a 404 stays a failure, and outside the wait for a slot, so that checks are compared
		// in the order in which they came.
		func(next backends.Backend) backends.Backend {
			return newPossibleDenial(cfg.Bulkhead.AnswerDeadline, next)
		},
		// Outside the breaker: a breaker that opens releases the callers who wait for a slot.
		c.bulkhead(cfg.Bulkhead),
		// Outside the call alone: it counts what the backend did, and never a wait in the bulkhead.
		c.breaker(cfg, deps),
		// Innermost: a span is a call that really went out.
		c.callSpan(deps),
	)(adapter)
	return c
}

// NewLocal returns the chain of a backend that decides in this process, or asks the members, which have chains of their
// own. So it has neither bulkhead nor breaker.
//
// An adapter without an opinion answers Pending. The chain denies then; [Chain.WithoutFailOpen] keeps the Pending. What a composite's
// DecideWithoutCall decides while members do not answer holds in place of the outage policy.
func NewLocal(name string, policy backends.Policy, adapter backends.Backend, members []*Chain, deps Deps) *Chain {
	c := &Chain{Name: name, members: members, own: ownDecisionOf(adapter)}
	decorate(
		// Outermost: it decides for everything below that fails to ask.
		c.failOpen(deps.policy(policy), deps),
		// Inside the outage policy: denying a viewer on whom no backend has an opinion is an answer, not an outage.
		deniesPending,
		// What a composite asks: there, having no opinion leaves the decision to the next member.
		c.memberView(),
		// The span of a composite holds those of its members.
		c.callSpan(deps),
		// Innermost: only the adapter knows whether the check left this process.
		c.notifiesOnSent,
	)(adapter)
	return c
}

// decorator puts one concern around a backend.
type decorator func(next backends.Backend) backends.Backend

// decorate joins decorators into one. They are listed as a check travels, the outermost first, and made the other way
// round, so that each may use the parts of those after it.
func decorate(outermostFirst ...decorator) decorator {
	return func(next backends.Backend) backends.Backend {
		for _, d := range slices.Backward(outermostFirst) {
			next = d(next)
		}
		return next
	}
}

func (c *Chain) failOpen(policy backends.Policy, deps Deps) decorator {
	return func(next backends.Backend) backends.Backend {
		c.FailOpen = NewFailOpen(c.Name, policy, next, c.IsDown, deps.Log)
		c.FailOpen.own, c.FailOpen.forced = c.own, c.Forced
		return c.FailOpen
	}
}

func (c *Chain) memberView() decorator {
	return func(next backends.Backend) backends.Backend {
		c.withoutFailOpen = next
		return next
	}
}

func (c *Chain) bulkhead(cfg BulkheadConfig) decorator {
	return func(next backends.Backend) backends.Backend {
		c.Bulkhead = newBulkhead(c.Name, cfg, next, c.Breaker.opened)
		return c.Bulkhead
	}
}

func (c *Chain) breaker(cfg Config, deps Deps) decorator {
	return func(next backends.Backend) backends.Backend {
		c.Breaker = newBreaker(c.Name, cfg.Timeout, cfg.Breaker, next, deps)
		return c.Breaker
	}
}

func (c *Chain) callSpan(deps Deps) decorator {
	return func(next backends.Backend) backends.Backend {
		return newTracing(c.Name, deps.Kind, deps.Tracer, next)
	}
}

// WithoutFailOpen returns the chain without its outage policy, for a composite that asks it as a member. It fails as
// [backends.Backend] says.
func (c *Chain) WithoutFailOpen() backends.Backend { return c.withoutFailOpen }

// Member returns the chain as a member of a composite, with answers that hold for so long if they do not say.
func (c *Chain) Member(validity time.Duration) backends.Member {
	m := backends.Member{Name: c.Name, Backend: c.withoutFailOpen, Validity: validity, DecideWithoutCall: c.own}
	if c.Breaker != nil || len(c.members) > 0 {
		m.State = c.State
	}
	return m
}

// Check asks the backend, or returns what the outage policy decides in its place.
func (c *Chain) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	return c.FailOpen.Check(ctx, r)
}

// Fallback returns what the outage policy decides: see [FailOpen.Fallback].
func (c *Chain) Fallback(r *backends.Request, err error) (backends.Decision, error) {
	return c.FailOpen.Fallback(r, err)
}

// IsDown reports whether the backend is known to be unavailable; of a composite, whether all members are.
func (c *Chain) IsDown() bool { return c.State() != backends.BreakerClosed }

// State returns the state of the breaker. It is one atomic read for each member.
//
// A composite has the state of its best member, since one member that allows is enough. A backend that decides in this
// process is always closed, so that a composite with such a member asks it during an outage of the others.
func (c *Chain) State() backends.BreakerState {
	if c.Breaker != nil {
		return c.Breaker.State()
	}
	if len(c.members) == 0 {
		return backends.BreakerClosed
	}
	best := backends.BreakerOpen
	for _, m := range c.members {
		best = min(best, m.State())
	}
	return best
}

// IsImpaired reports whether the backend is down, or a member of it. What that one denies the others may not know.
func (c *Chain) IsImpaired() bool {
	return c.IsDown() || slices.ContainsFunc(c.members, (*Chain).IsImpaired)
}

// IsBacklogged reports whether as many re-checks wait for a slot as there are, so that further ones would wait in vain; of a
// composite, whether that is so of a member.
func (c *Chain) IsBacklogged() bool {
	if c.Bulkhead != nil {
		return c.Bulkhead.rechecks.isBacklogged()
	}
	return slices.ContainsFunc(c.members, (*Chain).IsBacklogged)
}

// Run moves the breaker on in time and logs the backend's outages until ctx ends.
func (c *Chain) Run(ctx context.Context) error {
	changes, cancel := c.subscribe()
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	if c.Breaker != nil {
		group.Go(func() error { return c.Breaker.Run(ctx) })
	}
	for _, m := range c.members {
		group.Go(func() error { return c.forwardChanges(ctx, m) })
	}
	group.Go(func() error { return c.FailOpen.logOutages(ctx, changes) })
	return group.Wait()
}

// subscribe returns a channel that signals when State may have changed: see [broadcaster].
func (c *Chain) subscribe() (changes <-chan struct{}, cancel func()) {
	if c.Breaker != nil {
		return c.Breaker.subscribe()
	}
	return c.changes.subscribe()
}

// forwardChanges makes each change of a member one of the chain.
func (c *Chain) forwardChanges(ctx context.Context, member *Chain) error {
	changes, cancel := member.subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
			c.changes.notify()
		}
	}
}
