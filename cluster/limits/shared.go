package limits

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
)

const (
	// maxTries is how often a call tries to store the streams while other nodes change them. Each time one node succeeds.
	maxTries = 8
	// maxPause is how long it waits at most before it tries again for the third time or more.
	maxPause = 5 * time.Millisecond
	// retryDelay is when streams that could not be stored are reported again.
	retryDelay = 700 * time.Millisecond
	// cacheTTL is how long a node keeps the streams of a user that it no longer reports.
	cacheTTL = 2 * time.Minute
	// fullFor is how long a user with too many streams is counted on each node.
	fullFor = 10 * time.Minute
)

var (
	// errFull reports a user with more streams than all nodes together count.
	errFull = errors.New("the user has too many streams")
	// errContended reports that other nodes kept a call from counting the streams.
	errContended = errors.New("other nodes change the user's streams")
)

// store keeps sets by name, each under a version.
type store interface {
	// now returns the store's time in ms, if a call for that name has told it.
	now(name string) (ms int64, known bool)
	// outage returns the store's last outage as this node saw it: how long it was, and how long ago it ended, in ms.
	outage() (length, ago int64)
	// swap stores a set for so long if its version is still was, the one that was read, else it returns the current one.
	// isExceeded: all nodes are told that the user's limit is exceeded.
	swap(name, was string, to versioned, ttl time.Duration, isExceeded bool) (current versioned, isStored bool, err error)
}

// versioned is an encoded set. Without streams there is still a set for a while. Without a version the store knows nothing
// of the user, or has lost it.
type versioned struct{ version, set string }

// neverStored is a version that no set has: a call with it only reads.
const neverStored = "never stored"

// shared counts streams over all nodes of a store. The calls of this node for one user are merged, so that they do not
// compete with each other.
type shared struct {
	store store
	rules rules
	log   *slog.Logger

	mu    sync.Mutex
	users expiring[*sharedUser]
}

func newShared(s store, r rules, log *slog.Logger) *shared {
	return &shared{store: s, rules: r, log: log, users: make(expiring[*sharedUser])}
}

// sharedUser is the streams of a user as this node last read or wrote them. If another node has changed them since, or if
// the answer to a write was lost, the next write fails and returns the current ones. What these lack because the store has lost
// it is put into them again, so that each stream keeps its place, also an evicted one.
type sharedUser struct {
	known storedSet
	// read is the version that the store had, neverStored if the answer to a write was lost.
	read string
	// hasDenied: some stream of the set may not play.
	hasDenied atomic.Bool
	// answers counts what the store answered.
	answers atomic.Int64

	// The lock of shared guards the rest.
	waiting   []*call
	isRunning bool
	fullUntil time.Time
}

// call is one call. Its caller may give up waiting; then nothing reads the result.
type call struct {
	ctx     context.Context //nolint:containedctx // tells whether the caller still waits
	reports []report
	done    chan struct{}
	result  session.LimitResult
	err     error
}

// apply takes reports of a user's streams. It returns errFull, ctx's error or an error of the store.
func (h *shared) apply(ctx context.Context, name string, reports []report) (session.LimitResult, error) {
	h.mu.Lock()
	u, now := h.users[name].value, time.Now()
	if u == nil {
		u = new(sharedUser)
	}
	h.users.set(name, u, now, max(cacheTTL, u.fullUntil.Sub(now)))
	if now.Before(u.fullUntil) {
		h.mu.Unlock()
		return session.LimitResult{}, errFull
	}
	before, c := u.answers.Load(), h.enqueue(ctx, name, u, reports)
	h.mu.Unlock()
	select {
	case <-c.done:
		if !errors.Is(c.err, errContended) {
			return c.result, c.err
		}
	case <-ctx.Done():
		if u.answers.Load() == before { // the store is down, not busy
			return session.LimitResult{}, ctx.Err()
		}
	}
	return session.LimitResult{States: make([]session.StreamState, len(reports)), IsContended: true, RecheckIn: retryDelay}, nil
}

// enqueue adds a call to those of a user. The caller holds the lock.
func (h *shared) enqueue(ctx context.Context, name string, u *sharedUser, reports []report) *call {
	c := &call{ctx: ctx, reports: reports, done: make(chan struct{})}
	if u.waiting = append(u.waiting, c); !u.isRunning {
		u.isRunning = true
		go h.run(name, u)
	}
	return c
}

// restoreDenied has the sets in which a stream is denied stored again, because the store has lost its data: another node must
// not take the stream for a new one. It does not block.
func (h *shared) restoreDenied() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, e := range h.users {
		if e.value.hasDenied.Load() {
			h.enqueue(context.Background(), name, e.value, nil)
		}
	}
}

// run serves a user's calls until none waits.
func (h *shared) run(name string, u *sharedUser) {
	for {
		h.mu.Lock()
		calls := slices.DeleteFunc(u.waiting, func(c *call) bool { return c.ctx.Err() != nil })
		u.waiting, u.isRunning = nil, len(calls) > 0
		h.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		var reports []report
		for _, c := range calls {
			reports = append(reports, c.reports...)
		}
		got, err := h.write(name, u, reports)
		for _, c := range calls {
			if c.result, c.err = got, err; err == nil {
				c.result.States, got.States = got.States[:len(c.reports)], got.States[len(c.reports):]
				got.Evicted = nil // each is listed once
			}
			close(c.done)
		}
	}
}

// write stores what the reports change.
func (h *shared) write(name string, u *sharedUser, reports []report) (session.LimitResult, error) {
	current, assumed := u.known, []report(nil)
	for try := range maxTries {
		if try > 1 {
			time.Sleep(rand.N(maxPause)) // or all nodes would compete again
		}
		now, isKnown := h.store.now(name)
		late := current.streams.missed(h.store.outage, now)
		streams, got := current.streams.applyLate(slices.Concat(reports, assumed), now, late, &h.rules)
		if got.isFull && try > 0 { // current is what the store holds
			return session.LimitResult{}, h.markFull(name, u)
		}
		version := rand.Int64()
		next := current.next(streams, version, u.read == "")
		if !isKnown || got.isFull {
			u.read = neverStored
		}
		to := versioned{strconv.FormatInt(version, 36), next.encode()}
		// Nodes that have let a denied stream play report it at once.
		isExceeded := got.isExceeded || len(assumed) > 0
		stored, isStored, err := h.store.swap(name, u.read, to, max(got.ttl, cacheTTL), isExceeded)
		if err != nil {
			u.read = neverStored // it may have been stored
			return session.LimitResult{}, err
		}
		u.answers.Add(1)
		if isStored {
			u.setKnown(next, to.version)
			return got.LimitResult, nil
		}
		if current, assumed, err = u.merge(stored, now, &h.rules); err != nil {
			return session.LimitResult{}, err
		}
	}
	return session.LimitResult{}, errContended
}

// merge returns the set that the store holds, with what it lacks of the one that this node knows. The reports are of streams
// that the store has let play since, though they may not.
func (u *sharedUser) merge(stored versioned, now int64, r *rules) (current storedSet, assumed []report, err error) {
	if u.read = stored.version; stored.version == "" {
		return u.known, nil, nil // this node restores it
	}
	if current, err = decode(stored.set); err != nil {
		u.setKnown(storedSet{}, "") // the set is left alone: it has a version
		return storedSet{}, nil, err
	}
	if !current.lacks(&u.known) {
		u.setKnown(current, stored.version)
		return current, nil, nil
	}
	current.streams, assumed = u.known.streams.restoredWith(current.streams, now, r)
	current.writes, current.restored = max(current.writes, u.known.writes), max(current.restored, u.known.writes)
	return current, assumed, nil
}

func (u *sharedUser) setKnown(s storedSet, read string) {
	u.known, u.read = s, read
	u.hasDenied.Store(slices.ContainsFunc(s.streams, func(s stream) bool { return s.State != session.StreamActive }))
}

// markFull has the user's streams counted on each node for a while.
func (h *shared) markFull(name string, u *sharedUser) error {
	h.mu.Lock()
	u.fullUntil = time.Now().Add(fullFor)
	h.mu.Unlock()
	h.log.Warn("constant_user: too many streams of one user, limit counted on each node; have the backend name each user",
		slog.String("user_hash", name), slog.Int("max", maxTracked))
	return errFull
}
