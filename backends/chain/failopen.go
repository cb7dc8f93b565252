package chain

import (
	"context"
	"log/slog"
	"time"

	"usher/backends"
)

// FailOpen applies a backend's outage policy. It is the outermost decorator.
//
// It never turns a denial into an allowance: an answer passes through unchanged, and so do a [backends.Overload] and the
// error of a viewer who left. Safe for concurrent use.
type FailOpen struct {
	name   string
	policy backends.Policy
	next   backends.Backend
	isDown func() bool
	own    ownDecision
	// forced returns the order that holds; zero: the backend is not forced.
	forced func() backends.ForcedBreaker
	log    *slog.Logger
}

// NewFailOpen returns the outage policy of the named backend: allow, keep or deny. isDown, usually [Breaker.IsDown],
// reports whether the backend is known to be unavailable; nil: never. log may be nil.
func NewFailOpen(name string, policy backends.Policy, next backends.Backend, isDown func() bool, log *slog.Logger) *FailOpen {
	if isDown == nil {
		isDown = func() bool { return false }
	}
	return &FailOpen{
		name: name, policy: policy, next: next, isDown: isDown, own: undecided, log: backends.LoggerOrDiscard(log),
		forced: func() backends.ForcedBreaker { return backends.ForcedBreaker{} },
	}
}

// Check asks the backend, and returns the fallback if it fails.
func (f *FailOpen) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	d, err := f.next.Check(ctx, r)
	if err == nil {
		return d, nil
	}
	if failure := backends.AsFailure(err); failure != nil && r.OnFailure != nil {
		r.OnFailure(failure)
	}
	return f.afterFailure(r, err)
}

// Fallback returns what holds in place of an answer that a viewer does not wait for: because of err, or, if it is nil, because their
// time to wait is over. What the adapter decides without a call stands, and else the policy decides. It calls no backend. An err that
// is neither a failure nor nil is returned unchanged.
func (f *FailOpen) Fallback(r *backends.Request, err error) (backends.Decision, error) {
	if err == nil {
		err = &backends.Failure{Kind: backends.FailureTimeout, Backend: f.name}
	}
	if d, isDecided := f.own(r); isDecided && backends.AsFailure(err) != nil {
		return pendingToDenied(d), nil
	}
	return f.afterFailure(r, err)
}

// afterFailure returns what the policy decides after the error of a check.
//
// A failure that a viewer can cause admits no unknown viewer unless the breaker, which no single viewer can open, is
// open too.
func (f *FailOpen) afterFailure(r *backends.Request, err error) (backends.Decision, error) {
	failure := backends.AsFailure(err)
	switch {
	case failure == nil:
		return backends.Decision{}, err
	case f.policy == backends.PolicyDeny:
		return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen, Reason: "backends." + f.name + ".on_failure=deny"}, nil
	case !r.IsUnknown():
		return cachedDecision(r), nil
	case f.policy == backends.PolicyKeep || !f.acceptsFailure(failure):
		return backends.Decision{}, err
	default:
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "no answer: " + failure.Kind.String()}, nil
	}
}

// ownDecision returns what an adapter decides on a viewer without a call, if it does.
type ownDecision func(r *backends.Request) (d backends.Decision, isDecided bool)

func ownDecisionOf(adapter backends.Backend) ownDecision {
	if a, ok := adapter.(interface {
		DecideWithoutCall(r *backends.Request) (backends.Decision, bool)
	}); ok {
		return a.DecideWithoutCall
	}
	return undecided
}

// undecided is that of an adapter that always calls.
func undecided(*backends.Request) (backends.Decision, bool) { return backends.Decision{}, false }

// first asks next on the other viewers alone.
func (own ownDecision) first(next backends.Backend) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if d, isDecided := own(r); isDecided {
			return d, nil
		}
		return next.Check(ctx, r)
	})
}

// IsDown reports whether the backend is known to be unavailable. It neither blocks nor locks.
func (f *FailOpen) IsDown() bool { return f.isDown() }

// Policy returns the outage policy: allow, keep or deny.
func (f *FailOpen) Policy() backends.Policy { return f.policy }

// logOutages logs the beginning and the end of each outage once, with what it means for viewers, and of each order of an
// operator. What an operator forced is no outage. changes signals when IsDown or the order may have changed. It returns when
// ctx ends.
func (f *FailOpen) logOutages(ctx context.Context, changes <-chan struct{}) error {
	var since time.Time // zero: no outage
	var forced backends.ForcedBreaker
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
		backend, policy := slog.String("backend", f.name), slog.String("on_failure", f.policy.String())
		forced = f.logForced(forced)
		switch isDown := f.IsDown(); {
		case forced.IsForced:
		case isDown && since.IsZero():
			since = time.Now()
			f.log.Warn("backend unavailable", backend, policy, slog.String("effect", effectOf(f.policy)))
		case !isDown && !since.IsZero():
			f.log.Info("backend recovered", backend, policy, slog.Duration("outage", time.Since(since).Round(time.Millisecond)))
			since = time.Time{}
		}
	}
}

// logForced logs an order that is not the last one, or the end of the last one. It returns the order that holds.
func (f *FailOpen) logForced(last backends.ForcedBreaker) (order backends.ForcedBreaker) {
	order = f.forced()
	if order == last {
		return order
	}
	backend, policy := slog.String("backend", f.name), slog.String("on_failure", f.policy.String())
	if !order.IsForced {
		f.log.Warn("backend no longer forced", backend, policy, slog.String("state", last.State.String()),
			slog.String("effect", "checks are sent again as the breaker decides"))
		return order
	}
	facts := []any{
		backend, policy, slog.Time("until", order.Until), slog.String("reason", order.Reason), slog.String("by", order.By),
	}
	if order.State == backends.BreakerClosed {
		f.log.Warn("backend forced closed by an operator",
			append(facts, slog.String("effect", "every check is sent and waits for its answer, also during an outage"))...)
		return order
	}
	f.log.Warn("backend forced open by an operator", append(facts, slog.String("effect", effectOf(f.policy)))...)
	return order
}

// acceptsFailure reports whether the failure may admit an unknown viewer.
func (f *FailOpen) acceptsFailure(failure *backends.Failure) bool {
	return failure.IsTransport() || failure.Kind == backends.FailureBreakerOpen || f.IsDown()
}

// cachedDecision returns the viewer's current decision, marked as not renewed.
func cachedDecision(r *backends.Request) backends.Decision {
	d := r.Current
	if d.Source.IsAuthoritative() {
		d.Source = backends.FromCached
	}
	d.ValidFor = 0
	return d
}

// effectOf returns, for the log, what an outage means for viewers under the policy.
func effectOf(p backends.Policy) string {
	switch p {
	case backends.PolicyDeny:
		return "viewers without a valid decision are refused, paying viewers too"
	case backends.PolicyKeep:
		return "unknown viewers are asked to retry, and running sessions are not re-checked"
	default:
		return "unknown viewers are admitted without a check, and running sessions are not re-checked"
	}
}
