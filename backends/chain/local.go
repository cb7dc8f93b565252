package chain

import (
	"context"
	"sync"

	"usher/backends"
)

// deniesPending makes a denial of a decision that is Pending.
func deniesPending(next backends.Backend) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		d, err := next.Check(ctx, r)
		if err == nil {
			d = pendingToDenied(d)
		}
		return d, err
	})
}

// pendingToDenied denies a viewer on whom a standalone backend has no opinion.
func pendingToDenied(d backends.Decision) backends.Decision {
	if d.Verdict != backends.Pending {
		return d
	}
	if d.Reason == "" {
		d.Reason = "no rule speaks for the viewer"
	}
	d.Verdict = backends.Denied
	if d.Source == backends.SourceNone {
		d.Source = backends.FromLocal // another source, for example fail-open, stays
	}
	return d
}

// notifiesOnSent calls the request's OnSent once: at once for a backend that decides in this process, and when the first
// member is asked for a composite.
func (c *Chain) notifiesOnSent(adapter backends.Backend) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.OnSent == nil {
			return adapter.Check(ctx, r)
		}
		notified := *r
		if notified.OnSent = sync.OnceFunc(r.OnSent); len(c.members) == 0 {
			notified.OnSent()
		}
		return adapter.Check(ctx, &notified)
	})
}
