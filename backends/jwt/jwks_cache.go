package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
)

const (
	// suspectInterval is the least time between two fetches for tokens that the known keys do not verify, so that forged
	// tokens put no load on the issuer.
	suspectInterval = 10 * time.Second
	// freshFor is how long after a fetch its keys settle that such a token is not the issuer's. Issuers publish a key before
	// they sign with it.
	freshFor = time.Second
	// defaultSuspectTimeout is how long a viewer with such a token waits for a fetch. It is below the shortest answer_deadline
	// (1 s): a wait that long would count as an unanswered check, and allow the viewer.
	defaultSuspectTimeout = 500 * time.Millisecond
	// failureTTL is how long the next viewers get the last fetch's failure while no keys are known.
	failureTTL = time.Second
	// retryInterval is the delay of run's next fetch after a failure, unless jwks_refresh_interval is shorter.
	retryInterval = 10 * time.Second
)

var (
	errUnknownKey = errors.New("no key for the token")
	errClosed     = errors.New("fetch jwks_url: the backend is closed")
)

// jwksCache fetches and holds an issuer's published keys. The keys of the last successful fetch are used until the next
// one. Safe for concurrent use.
type jwksCache struct {
	name            string
	fetchKeys       func(context.Context) (keySet, error)
	refreshInterval time.Duration
	timeout         time.Duration
	// suspectTimeout is how long a viewer whose token no known key verifies waits for a fetch.
	suspectTimeout time.Duration
	now            func() time.Time
	log            *slog.Logger

	// lifetime ends with close.
	lifetime    context.Context
	endLifetime context.CancelFunc
	fetches     sync.WaitGroup

	// current is nil until keys have been fetched or taken over.
	current atomic.Pointer[keySet]

	mu       sync.Mutex
	inFlight *fetch
	// failure is the last fetch's error; nil: it succeeded.
	failure error
	// failedAt is the time of failure.
	failedAt time.Time
	// currentAsOf is when the fetch of current began.
	currentAsOf time.Time
	// suspectFetchAt is when a token that no known key verified last caused a fetch; zero: never.
	suspectFetchAt time.Time
}

// fetch is one fetch, shared by all that wait for it. err may be read once done is closed.
type fetch struct {
	startedAt time.Time
	done      chan struct{}
	err       error
}

func newJWKSCache(name string, cfg Config, load func(context.Context) (keySet, error), log *slog.Logger) *jwksCache {
	c := &jwksCache{
		name: name, fetchKeys: load, now: time.Now, log: log,
		refreshInterval: cfg.JWKSRefreshInterval, timeout: cfg.JWKSTimeout, suspectTimeout: defaultSuspectTimeout,
	}
	c.lifetime, c.endLifetime = context.WithCancel(context.Background())
	return c
}

// suspectFetches names the bound of the fetches for tokens that the known keys do not verify.
func (c *jwksCache) suspectFetches() string {
	return "backends." + c.name + ".jwks_url: fetches for tokens without a known key"
}

// takeOver takes the other cache's keys for the algorithms, and what its fetches came to.
func (c *jwksCache) takeOver(other *jwksCache, algorithms []string) {
	other.mu.Lock()
	defer other.mu.Unlock()
	known := other.current.Load()
	if known == nil {
		return
	}
	var set keySet
	for _, k := range *known {
		if slices.ContainsFunc(algorithms, k.verifies) {
			set = append(set, k)
		}
	}
	if len(set) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.Store(&set)
	c.currentAsOf, c.suspectFetchAt = other.currentAsOf, other.suspectFetchAt
	c.failure, c.failedAt = other.failure, other.failedAt
}

// keys returns the keys for a token, and the set that they are of. Its error is errUnknownKey, an overload of
// [jwksCache.refresh], wraps context.Canceled, or is a *backends.Failure, the last only while no keys are known.
func (c *jwksCache) keys(ctx context.Context, algorithm, id string) ([]jwt.VerificationKey, *keySet, error) {
	set := c.current.Load()
	if set == nil {
		if err := c.waitForKeys(ctx); err != nil {
			return nil, nil, err
		}
		set = c.current.Load()
	}
	if found := set.matching(algorithm, id); len(found) > 0 {
		return found, set, nil
	}
	newer, err := c.refresh(ctx, set)
	if err != nil {
		return nil, nil, err
	}
	if found := newer.matching(algorithm, id); len(found) > 0 {
		return found, newer, nil
	}
	return nil, nil, errUnknownKey
}

// waitForKeys waits for the first keys.
func (c *jwksCache) waitForKeys(ctx context.Context) error {
	c.mu.Lock()
	if c.current.Load() != nil {
		c.mu.Unlock()
		return nil
	}
	if c.inFlight == nil && c.failure != nil && c.now().Sub(c.failedAt) < failureTTL {
		defer c.mu.Unlock()
		return c.failure
	}
	f := c.startFetchLocked(ctx)
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return c.canceledError()
		}
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: c.name, Err: ctx.Err()}
	}
}

// refresh returns keys that are newer than seen, or seen if they are fresh: they settle that a token is not the issuer's. It
// waits briefly for a fetch, which it starts unless another token caused one just before. Without fresh keys its error is an
// overload and no failure, because the viewer chooses what a token says, and a failure may admit them.
func (c *jwksCache) refresh(ctx context.Context, seen *keySet) (*keySet, error) {
	if f := c.startSuspectFetch(ctx, seen); f != nil {
		ctx, cancel := context.WithTimeout(ctx, c.suspectTimeout)
		defer cancel()
		select {
		case <-f.done:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, c.canceledError()
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := c.current.Load()
	if newest == seen && c.now().Sub(c.currentAsOf) >= freshFor {
		return nil, backends.NewOverload(c.suspectFetches(), "1 in 10s")
	}
	return newest, nil
}

// startSuspectFetch returns the fetch to wait for, or nil if there are newer keys than seen, or may be no other fetch yet.
func (c *jwksCache) startSuspectFetch(ctx context.Context, seen *keySet) *fetch {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	switch {
	case c.current.Load() != seen:
		return nil
	case c.inFlight != nil:
		return c.inFlight
	case !c.suspectFetchAt.IsZero() && now.Sub(c.suspectFetchAt) < suspectInterval:
		return nil
	}
	c.suspectFetchAt = now
	return c.startFetchLocked(ctx)
}

func (c *jwksCache) canceledError() error {
	return fmt.Errorf("check backend %q: %w", c.name, context.Canceled)
}

// startFetchLocked returns the fetch in flight, or starts one. The fetch keeps the context's values, but not its
// cancellation.
func (c *jwksCache) startFetchLocked(ctx context.Context) *fetch {
	if c.inFlight != nil {
		return c.inFlight
	}
	f := &fetch{startedAt: c.now(), done: make(chan struct{})}
	if c.lifetime.Err() != nil {
		f.err = c.closedError()
		close(f.done)
		return f
	}
	c.inFlight = f
	c.fetches.Go(func() { c.runFetch(context.WithoutCancel(ctx), f) })
	return f
}

func (c *jwksCache) closedError() error {
	return &backends.Failure{Kind: backends.FailureTransport, Backend: c.name, Err: errClosed}
}

func (c *jwksCache) runFetch(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	stop := context.AfterFunc(c.lifetime, cancel) //nolint:contextcheck // close cancels it as well
	defer stop()
	set, err := c.fetchKeys(ctx)
	if err != nil && backends.AsFailure(err) == nil {
		err = c.closedError() // only close cancels a fetch
	}

	c.mu.Lock()
	previous := c.failure
	c.failure, c.inFlight = err, nil
	if err == nil {
		c.current.Store(&set)
		c.currentAsOf = f.startedAt
	} else {
		c.failedAt = c.now()
	}
	f.err = err
	c.mu.Unlock()
	c.logTransition(previous, err)
	close(f.done)
}

// logTransition logs when fetches start to fail and when they succeed again.
func (c *jwksCache) logTransition(previous, err error) {
	switch {
	case c.lifetime.Err() != nil:
	case previous == nil && err != nil:
		c.log.Warn("jwks unavailable", slog.String("backend", c.name),
			slog.Bool("has_keys", c.current.Load() != nil), slog.Any("error", err))
	case previous != nil && err == nil:
		c.log.Info("jwks recovered", slog.String("backend", c.name))
	}
}

// run fetches the keys at once if none are known, and then at each interval until ctx ends.
func (c *jwksCache) run(ctx context.Context) {
	timer := time.NewTimer(c.untilRefresh())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c.mu.Lock()
		f := c.startFetchLocked(ctx)
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-f.done:
		}
		pause := c.refreshInterval
		if f.err != nil {
			pause = min(pause, retryInterval)
		}
		timer.Reset(pause)
	}
}

// untilRefresh returns the time until the known keys are as old as the interval. Those of a replaced backend may be already.
func (c *jwksCache) untilRefresh() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.Load() == nil {
		return 0
	}
	return c.refreshInterval - c.now().Sub(c.currentAsOf)
}

// close cancels the fetch in flight and waits for its end.
func (c *jwksCache) close() {
	c.mu.Lock()
	c.endLifetime()
	c.mu.Unlock()
	c.fetches.Wait()
}
