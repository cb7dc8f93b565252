package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"usher/backends"
)

// target is one address of an origin.
type target struct {
	url   *url.URL
	slots [classes]chan struct{}
	// downUntil is until when it is set aside, 0 if it is not; lastAnswer is when it last answered anybody. Both in the
	// cache's time.
	downUntil, lastAnswer atomic.Int64
}

func newTarget(u *url.URL, maxConns int) *target {
	t := &target{url: u}
	for c := range t.slots {
		t.slots[c] = make(chan struct{}, maxConns)
	}
	return t
}

func (t *target) isDown(now int64) bool { return now < t.downUntil.Load() }

// acquire waits for a connection's turn; the returned function gives it back.
func (o *Origin) acquire(ctx context.Context, t *target, c class) (release func(), err error) {
	slots := t.slots[c]
	release = func() { <-slots }
	select {
	case slots <- struct{}{}:
		return release, nil
	default:
	}
	defer o.waiting.Add(-1)
	if o.waiting.Add(1) > int64(o.config.Fetch.MaxWaiting) {
		return nil, o.overload("fetch.max_waiting", o.config.Fetch.MaxWaiting)
	}
	select {
	case slots <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		if _, ok := errors.AsType[*timeoutError](context.Cause(ctx)); ok {
			return nil, o.overload("fetch.max_conns", o.config.Fetch.MaxConns)
		}
		return nil, context.Cause(ctx)
	}
}

// overload says that a bound of ours was reached, which is no failure of the origin.
func (o *Origin) overload(setting string, value int) error {
	return fmt.Errorf("fetch from origin %q: %w", o.name, backends.NewOverload(setting, value))
}

// candidates are the addresses to ask, best first. Those set aside are asked only if there is no other: the one whose
// time is over first goes first.
func (o *Origin) candidates() []*target {
	if len(o.targets) == 1 {
		return o.targets
	}
	now := o.cache.now()
	up := make([]*target, 0, len(o.targets))
	for _, t := range o.targets {
		if !t.isDown(now) {
			up = append(up, t)
		}
	}
	if len(up) > 0 {
		return up
	}
	return slices.SortedStableFunc(slices.Values(o.targets), func(a, b *target) int {
		return cmp.Compare(a.downUntil.Load(), b.downUntil.Load())
	})
}

func (o *Origin) allDown(now int64) bool {
	for _, t := range o.targets {
		if !t.isDown(now) {
			return false
		}
	}
	return true
}

// answeredBy records that an address is alive.
func (o *Origin) answeredBy(t *target, now int64) {
	t.lastAnswer.Store(now)
	if t.downUntil.Swap(0) != 0 {
		o.log.Info("origin address answers again", slog.String("address", t.url.Host))
	}
}

// setAside avoids an address for a while, unless it has answered somebody since the failed request began: then it is
// not the address that is at fault.
func (o *Origin) setAside(t *target, started, now int64, err error) {
	if t.lastAnswer.Load() > started {
		return
	}
	if t.downUntil.Swap(now+int64(o.config.Fetch.EjectFor)) == 0 {
		o.log.Warn("origin address does not answer", slog.String("address", t.url.Host),
			slog.Duration("set_aside_for", o.config.Fetch.EjectFor), slog.Any("error", err))
	}
}

// unanswered makes the error of a request that got no answer, and draws the conclusion for the address.
func (o *Origin) unanswered(ctx context.Context, f *flight, t *target, started int64, err error) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx) //nolint:contextcheck // the flight's own: we hung up, not the origin
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = bareError(err)
	timeout, late := errors.AsType[*timeoutError](err)
	held := late && timeout.setting == "fetch.blocking_timeout" // as long as it was meant to
	if !held && !errors.Is(err, errRedirect) {
		o.setAside(t, started, o.cache.now(), err)
	}
	return &UnreachableError{Origin: o.name, Err: err}
}

// limit is how long the headers of a fetch may take (of a playlist: all of it), and which setting says so.
func (o *Origin) limit(c class) *timeoutError {
	if c == classBlocking {
		return &timeoutError{"fetch.blocking_timeout", o.config.Fetch.BlockingTimeout}
	}
	return &timeoutError{"fetch.response_timeout", o.config.Fetch.ResponseTimeout}
}

// refreshPause keeps the refreshes of one stale object apart while the origin fails.
const refreshPause = time.Second
