package chain

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"usher/backends"
)

// FailOpen says what holds while nobody answers. It is the outermost decorator.
//
// It never turns a No into a Yes: an answer passes through as it is, and so do an [Overload] and the error of a viewer
// who left. Safe for concurrent use.
type FailOpen struct {
	name   string
	policy backends.Policy
	next   backends.Backend
	isDown   func() bool
	log    *slog.Logger

	admitted atomic.Uint64
	kept     atomic.Uint64
	refused  atomic.Uint64
}

// NewFailOpen makes the fail-open of the named backend. The policy is one of allow, keep and deny. down, usually
// [Breaker.IsDown], reports whether the backend is known to be away; nil means never.
func NewFailOpen(name string, policy backends.Policy, next backends.Backend, down func() bool, log *slog.Logger) *FailOpen {
	if down == nil {
		down = func() bool { return false }
	}
	return &FailOpen{name: name, policy: policy, next: next, isDown: down, log: backends.LoggerOrDiscard(log)}
}

// Check asks, and stands in when nobody answers.
func (f *FailOpen) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	d, err := f.next.Check(ctx, r)
	if err == nil {
		return d, nil
	}
	return f.Fallback(r, err)
}

// Fallback is what a viewer is told after err: that of a check, or nil if his time to wait is over and the check still
// runs. It asks nobody. What is neither a failure nor nil it gives back.
//
// A failure that a viewer could have caused himself lets no unknown viewer in unless the breaker, which no single
// viewer can open, says so too.
func (f *FailOpen) Fallback(r *backends.Request, err error) (backends.Decision, error) {
	if err == nil {
		err = &backends.Failure{Kind: backends.FailureTimeout, Backend: f.name}
	}
	failure := backends.AsFailure(err)
	switch {
	case failure == nil:
		return backends.Decision{}, err
	case f.policy == backends.PolicyDeny:
		f.refused.Add(1)
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen, Reason: "backends." + f.name + ".on_failure=deny"}, nil
	case !r.IsUnknown():
		f.kept.Add(1)
		return cachedDecision(r), nil
	case f.policy == backends.PolicyKeep || !f.acceptsFailure(failure):
		f.refused.Add(1)
		return backends.Decision{}, err
	default:
		f.admitted.Add(1)
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "nobody answered: " + failure.Kind.String()}, nil
	}
}

// IsDown reports whether the backend is known to be away. It is one atomic read.
func (f *FailOpen) IsDown() bool { return f.isDown() }

// Policy is what viewers are told while nobody answers.
func (f *FailOpen) Policy() backends.Policy { return f.policy }

// Counts is how often, since the start, an unknown viewer was let in, a standing decision was kept, and a viewer was
// refused because nobody answered.
func (f *FailOpen) Counts() (admitted, kept, refused uint64) {
	return f.admitted.Load(), f.kept.Load(), f.refused.Load()
}

// logOutages logs, once at each change, that the backend was given up, with the price, and that it is back. changed is a
// wake, usually [Breaker.subscribe]. It returns when ctx ends.
func (f *FailOpen) logOutages(ctx context.Context, changed <-chan struct{}) error {
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		switch down := f.IsDown(); {
		case down && since.IsZero():
			since = time.Now()
			f.log.Warn("backend is away", "backend", f.name, "on_failure", f.policy.String(), "price", effectOf(f.policy))
		case !down && !since.IsZero():
			f.log.Info("backend is back", "backend", f.name, "away", time.Since(since).Round(time.Millisecond))
			since = time.Time{}
		}
	}
}

// acceptsFailure reports whether the failure may let in a viewer whom nobody knows.
func (f *FailOpen) acceptsFailure(failure *backends.Failure) bool {
	return failure.IsTransport() || failure.Kind == backends.FailureBreakerOpen || f.IsDown()
}

// cachedDecision is the decision that the viewer has, marked as not renewed.
func cachedDecision(r *backends.Request) backends.Decision {
	d := r.Current
	if d.Source.IsAuthoritative() {
		d.Source = backends.FromCached
	}
	d.ValidFor = 0
	return d
}

// effectOf is what the policy costs while it lasts, in words for whoever reads the log at night.
func effectOf(p backends.Policy) string {
	switch p {
	case backends.PolicyDeny:
		return "from now on every viewer is refused, paying ones too"
	case backends.PolicyKeep:
		return "from now on unknown viewers are asked to come back, and nobody who watches is re-checked"
	default:
		return "from now on unknown viewers are let in unchecked, and nobody who watches is re-checked"
	}
}
