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
	// unknownPause is how long it is between two fetches that unknown keys cause, so that tokens of random ones cost
	// the issuer nothing.
	unknownPause = 10 * time.Second
	// unknownPatience is how long a viewer with an unknown key waits for the fetch. It is below what viewers wait for
	// a decision at most (1 s by default): a wait that ends there would count as nobody answering, and let him in.
	unknownPatience = 500 * time.Millisecond
	// failurePause is how long a failure stands for the next viewers while there are no keys at all.
	failurePause = time.Second
	// retryPause is when the background tries again after a failure, if jwks_refresh_interval is not sooner.
	retryPause = 10 * time.Second
)

var (
	errUnknownKey = errors.New("no key for the token")
	errClosed     = errors.New("fetch jwks_url: the backend is closed")
)

// remote is the keys of an issuer that publishes them. Those of the last good fetch hold until the next good one. Safe
// for concurrent use.
type remote struct {
	name    string
	load    func(context.Context) (keySet, error)
	refresh time.Duration
	timeout time.Duration
	// patience is how long a viewer with an unknown key waits.
	patience time.Duration
	now      func() time.Time
	log      *slog.Logger

	// life ends with close; work is the fetch under way.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	// current is nil until keys have been fetched.
	current atomic.Pointer[keySet]

	mu      sync.Mutex
	running *fetch
	// failure is why the last fetch failed, and when; nil: it did not.
	failure  error
	failedAt time.Time
	// soughtAt is when an unknown key last caused a fetch.
	soughtAt time.Time
}

// fetch is one fetch, shared by all who wait for it. err may be read once done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

func newRemote(name string, cfg Config, load func(context.Context) (keySet, error), log *slog.Logger) *remote {
	m := &remote{
		name: name, load: load, now: time.Now, log: log,
		refresh: cfg.JWKSRefreshInterval, timeout: cfg.JWKSTimeout, patience: unknownPatience,
	}
	m.life, m.end = context.WithCancel(context.Background())
	return m
}

// keys finds those for a token. Its error is errUnknownKey, wraps context.Canceled, or is a *backends.Failure; the
// last only if no keys are known at all.
func (m *remote) keys(ctx context.Context, algorithm, id string) ([]jwt.VerificationKey, error) {
	set := m.current.Load()
	if set == nil {
		if err := m.first(ctx); err != nil {
			return nil, err
		}
		set = m.current.Load()
	}
	if found := set.matching(algorithm, id); len(found) > 0 {
		return found, nil
	}
	if err := m.seek(ctx, set); err != nil {
		return nil, err
	}
	if found := m.current.Load().matching(algorithm, id); len(found) > 0 {
		return found, nil
	}
	return nil, errUnknownKey
}

// first waits for the first keys.
func (m *remote) first(ctx context.Context) error {
	m.mu.Lock()
	if m.current.Load() != nil {
		m.mu.Unlock()
		return nil
	}
	if m.running == nil && m.failure != nil && m.now().Sub(m.failedAt) < failurePause {
		defer m.mu.Unlock()
		return m.failure
	}
	f := m.startLocked(ctx)
	m.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return m.left()
		}
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: m.name, Err: ctx.Err()}
	}
}

// seek waits a little for newer keys than those that were looked through, unless that was tried just now. A fetch that
// fails is no error here: which key a token names is the viewer's own word.
func (m *remote) seek(ctx context.Context, seen *keySet) error {
	m.mu.Lock()
	if m.current.Load() != seen {
		m.mu.Unlock()
		return nil
	}
	f := m.running
	if f == nil {
		now := m.now()
		if !m.soughtAt.IsZero() && now.Sub(m.soughtAt) < unknownPause {
			m.mu.Unlock()
			return nil
		}
		m.soughtAt = now
		f = m.startLocked(ctx)
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	select {
	case <-f.done:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return m.left()
		}
	}
	return nil
}

func (m *remote) left() error { return fmt.Errorf("ask backend %q: %w", m.name, context.Canceled) }

// startLocked is the fetch under way, or a new one. Of the context it takes what is known of who asks, and not when he
// leaves.
func (m *remote) startLocked(ctx context.Context) *fetch {
	if m.running != nil {
		return m.running
	}
	f := &fetch{done: make(chan struct{})}
	if m.life.Err() != nil {
		f.err = m.closed()
		close(f.done)
		return f
	}
	m.running = f
	m.work.Go(func() { m.fetch(context.WithoutCancel(ctx), f) })
	return f
}

func (m *remote) closed() error {
	return &backends.Failure{Kind: backends.FailureTransport, Backend: m.name, Err: errClosed}
}

func (m *remote) fetch(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	stop := context.AfterFunc(m.life, cancel) //nolint:contextcheck // it ends with close as well
	defer stop()
	set, err := m.load(ctx)
	if err != nil && backends.AsFailure(err) == nil {
		err = m.closed() // nothing else cancels it
	}

	m.mu.Lock()
	before := m.failure
	m.failure, m.running = err, nil
	if err == nil {
		m.current.Store(&set)
	} else {
		m.failedAt = m.now()
	}
	f.err = err
	m.mu.Unlock()
	m.note(before, err)
	close(f.done)
}

// note logs that fetching has begun to fail, and that it works again.
func (m *remote) note(before, err error) {
	switch {
	case m.life.Err() != nil:
	case before == nil && err != nil:
		m.log.Warn("signing keys cannot be fetched", "backend", m.name, "known", m.current.Load() != nil, "error", err)
	case before != nil && err == nil:
		m.log.Info("signing keys are fetched again", "backend", m.name)
	}
}

// run fetches the keys at once, if nobody has, and then at each interval until ctx ends.
func (m *remote) run(ctx context.Context) {
	timer := time.NewTimer(m.refresh)
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
		f := m.startLocked(ctx)
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-f.done:
		}
		pause := m.refresh
		if f.err != nil {
			pause = min(pause, retryPause)
		}
		timer.Reset(pause)
	}
}

// close ends the fetch under way and waits for that.
func (m *remote) close() {
	m.mu.Lock()
	m.end()
	m.mu.Unlock()
	m.work.Wait()
}
