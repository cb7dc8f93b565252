package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
)

const (
	// unknownKeyInterval is how long it is between two fetches that unknown keys cause, so that tokens of random ones cost
	// the issuer nothing.
	unknownKeyInterval = 10 * time.Second
	// defaultUnknownKeyTimeout is how long a viewer with an unknown key waits for the fetch. It is below what viewers wait for
	// a decision at most (1 s by default): a wait that ends there would count as nobody answering, and let him in.
	defaultUnknownKeyTimeout = 500 * time.Millisecond
	// failureTTL is how long a failure stands for the next viewers while there are no keys at all.
	failureTTL = time.Second
	// retryInterval is when the background tries again after a failure, if jwks_refresh is not sooner.
	retryInterval = 10 * time.Second
)

var (
	errUnknownKey = errors.New("no key for the token")
	errClosed     = errors.New("fetch jwks_url: the backend is closed")
)

// jwksCache is the keys of an issuer that publishes them. Those of the last good fetch hold until the next good one. Safe
// for concurrent use.
type jwksCache struct {
	name            string
	fetchKeys       func(context.Context) (keySet, error)
	refreshInterval time.Duration
	timeout         time.Duration
	// unknownKeyTimeout is how long a viewer with an unknown key waits.
	unknownKeyTimeout time.Duration
	now               func() time.Time
	log               *slog.Logger

	// lifetime ends with close; work is the fetch under way.
	lifetime    context.Context
	endLifetime context.CancelFunc
	fetches     sync.WaitGroup

	// current is nil until keys have been fetched.
	current atomic.Pointer[keySet]

	mu       sync.Mutex
	inFlight *fetch
	// failure is why the last fetch failed, and when; nil: it did not.
	failure  error
	failedAt time.Time
	// unknownKeyFetchAt is when an unknown key last caused a fetch.
	unknownKeyFetchAt time.Time
}

// fetch is one fetch, shared by all who wait for it. err may be read once done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

func newJWKSCache(name string, cfg Config, load func(context.Context) (keySet, error), log *slog.Logger) *jwksCache {
	m := &jwksCache{
		name: name, fetchKeys: load, now: time.Now, log: log,
		refreshInterval: cfg.JWKSRefresh, timeout: cfg.JWKSTimeout, unknownKeyTimeout: defaultUnknownKeyTimeout,
	}
	m.lifetime, m.endLifetime = context.WithCancel(context.Background())
	return m
}

// keys finds those for a token. Its error is errUnknownKey, wraps context.Canceled, or is a *backends.Failure; the
// last only if no keys are known at all.
func (m *jwksCache) keys(ctx context.Context, algorithm, id string) ([]jwt.VerificationKey, error) {
	set := m.current.Load()
	if set == nil {
		if err := m.waitForKeys(ctx); err != nil {
			return nil, err
		}
		set = m.current.Load()
	}
	if found := set.matching(algorithm, id); len(found) > 0 {
		return found, nil
	}
	if err := m.refreshForUnknownKey(ctx, set); err != nil {
		return nil, err
	}
	if found := m.current.Load().matching(algorithm, id); len(found) > 0 {
		return found, nil
	}
	return nil, errUnknownKey
}

// waitForKeys waits for the first keys.
func (m *jwksCache) waitForKeys(ctx context.Context) error {
	m.mu.Lock()
	if m.current.Load() != nil {
		m.mu.Unlock()
		return nil
	}
	if m.inFlight == nil && m.failure != nil && m.now().Sub(m.failedAt) < failureTTL {
		defer m.mu.Unlock()
		return m.failure
	}
	f := m.startFetchLocked(ctx)
	m.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return m.canceledError()
		}
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: m.name, Err: ctx.Err()}
	}
}

// refreshForUnknownKey waits a little for newer keys than those that were looked through, unless that was tried just now. A fetch that
// fails is no error here: which key a token names is the viewer's own word.
func (m *jwksCache) refreshForUnknownKey(ctx context.Context, seen *keySet) error {
	m.mu.Lock()
	if m.current.Load() != seen {
		m.mu.Unlock()
		return nil
	}
	f := m.inFlight
	if f == nil {
		now := m.now()
		if !m.unknownKeyFetchAt.IsZero() && now.Sub(m.unknownKeyFetchAt) < unknownKeyInterval {
			m.mu.Unlock()
			return nil
		}
		m.unknownKeyFetchAt = now
		f = m.startFetchLocked(ctx)
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.unknownKeyTimeout)
	defer cancel()
	select {
	case <-f.done:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return m.canceledError()
		}
	}
	return nil
}

func (m *jwksCache) canceledError() error {
	return fmt.Errorf("ask backend %q: %w", m.name, context.Canceled)
}

// startFetchLocked is the fetch under way, or a new one. Of the context it takes what is known of who asks, and not when he
// leaves.
func (m *jwksCache) startFetchLocked(ctx context.Context) *fetch {
	if m.inFlight != nil {
		return m.inFlight
	}
	f := &fetch{done: make(chan struct{})}
	if m.lifetime.Err() != nil {
		f.err = m.closedError()
		close(f.done)
		return f
	}
	m.inFlight = f
	m.fetches.Go(func() { m.runFetch(context.WithoutCancel(ctx), f) })
	return f
}

func (m *jwksCache) closedError() error {
	return &backends.Failure{Kind: backends.FailureTransport, Backend: m.name, Err: errClosed}
}

func (m *jwksCache) runFetch(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	stop := context.AfterFunc(m.lifetime, cancel) //nolint:contextcheck // it ends with close as well
	defer stop()
	set, err := m.fetchKeys(ctx)
	if err != nil && backends.AsFailure(err) == nil {
		err = m.closedError() // nothing else cancels it
	}

	m.mu.Lock()
	before := m.failure
	m.failure, m.inFlight = err, nil
	if err == nil {
		m.current.Store(&set)
	} else {
		m.failedAt = m.now()
	}
	f.err = err
	m.mu.Unlock()
	m.logTransition(before, err)
	close(f.done)
}

// logTransition logs that fetching has begun to fail, and that it works again.
func (m *jwksCache) logTransition(before, err error) {
	switch {
	case m.lifetime.Err() != nil:
	case before == nil && err != nil:
		m.log.Warn("signing keys cannot be fetched", "backend", m.name, "known", m.current.Load() != nil, "error", err)
	case before != nil && err == nil:
		m.log.Info("signing keys are fetched again", "backend", m.name)
	}
}

// run fetches the keys at once, if nobody has, and then at each interval until ctx ends.
func (m *jwksCache) run(ctx context.Context) {
	timer := time.NewTimer(m.refreshInterval)
	defer timer.Stop()
	if m.current.Load() == nil {
		timer.Reset(0)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		m.mu.Lock()
		f := m.startFetchLocked(ctx)
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-f.done:
		}
		pause := m.refreshInterval
		if f.err != nil {
			pause = min(pause, retryInterval)
		}
		timer.Reset(pause)
	}
}

// close ends the fetch under way and waits for that.
func (m *jwksCache) close() {
	m.mu.Lock()
	m.endLifetime()
	m.mu.Unlock()
	m.fetches.Wait()
}
