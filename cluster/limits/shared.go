package limits

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
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
	// clock returns the store's time, and since when this node reaches it without a break, in ms. isKnown: a call for that name
	// has told the time; otherwise it is the node's.
	clock(name string) (now, upSince int64, isKnown bool)
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
	h := &shared{store: s, rules: r, log: log}
	h.users = newExpiring[*sharedUser](&h.mu)
	return h
}

// sharedUser is the streams of a user as this node last read or wrote them. If another node has changed them since, or if
// the answer to a write was lost, the next write fails and returns the current ones. What these lack because the store has lost
// it is put into them again, so that each stream keeps its place, also an evicted one.
type sharedUser struct {
	known storedSet
	// read is the version that the store had, neverStored if the answer to a write was lost.
	read string

	// The lock of shared guards calls. It also guards writes of known, which the goroutine that serves the calls alone changes.
	calls *userCalls // nil: none waits, and nothing of earlier ones is left
}

// userCalls are the calls for a user, and what is left of earlier ones.
type userCalls struct {
	waiting   []*call
	isRunning bool
	// evicted are streams of which no caller was told, since those that asked have given up.
	evicted []session.EvictedStream
	// local are the streams as counted on this node alone, while the store does not count them.
	local     streamSet
	fullUntil time.Time
}

// isEmpty reports whether nothing is left of calls, of which none waits.
func (c *userCalls) isEmpty() bool {
	return len(c.evicted) == 0 && c.local == nil && c.fullUntil.IsZero()
}

// allCalls returns the user's calls, and makes them if there are none. The caller holds the lock.
func (u *sharedUser) allCalls() *userCalls {
	if u.calls == nil {
		u.calls = new(userCalls)
	}
	return u.calls
}

// call is one call. Its caller may give up waiting; then nothing reads the result.
type call struct {
	ctx     context.Context //nolint:containedctx // tells whether the caller still waits
	began   time.Time
	reports []report
	done    chan struct{}
	result  session.LimitResult
	err     error
}

// apply takes reports of a user's streams. If the store does not count them in time this node does, with what it knows.
func (h *shared) apply(ctx context.Context, name string, reports []report) session.LimitResult {
	h.mu.Lock()
	u, now := h.users.get(name), time.Now()
	if u == nil {
		u = new(sharedUser)
	}
	full := time.Duration(0)
	if u.calls != nil {
		full = u.calls.fullUntil.Sub(now)
	}
	h.users.set(name, u, max(cacheTTL, full))
	err := errFull
	if full <= 0 {
		c := h.enqueue(ctx, name, u, reports)
		h.mu.Unlock()
		select {
		case <-c.done:
			if err = c.err; err == nil {
				return c.result
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	return h.countLocally(name, u, late(reports, now), err)
}

// promptly is how old a call may be that counts as made just now.
const promptly = 100 * time.Millisecond

// late returns reports as they are now, though their call began at that time: it may have waited for a store that does not answer,
// while the viewer went on to another channel.
func late(reports []report, began time.Time) []report {
	by := time.Since(began)
	if by < promptly {
		return reports
	}
	reports = slices.Clone(reports)
	for i := range reports {
		reports[i].age += by.Milliseconds()
	}
	return reports
}

// countLocally counts on this node alone, because of an error. It begins with what the node knows of the user, as if all that
// was reported now, so that an evicted stream stays so; not if that is too much. The caller holds the lock.
func (h *shared) countLocally(name string, u *sharedUser, reports []report, cause error) session.LimitResult {
	now, upSince, _ := h.store.clock(name)
	calls := u.allCalls()
	if calls.local == nil && !errors.Is(cause, errFull) {
		calls.local, upSince = u.known.streams, now
	}
	set, got := calls.local.applyReports(reports, now, upSince, &h.rules)
	calls.local, got.IsLocal = set, true
	if !errors.Is(cause, errFull) && !errors.Is(cause, errLayout) && !errors.Is(cause, redisclient.ErrNotSent) {
		got.RecheckIn = retryDelay // the next call may succeed
	}
	return got.LimitResult
}

// enqueue adds a call to those of a user. The caller holds the lock.
func (h *shared) enqueue(ctx context.Context, name string, u *sharedUser, reports []report) *call {
	c := &call{ctx: ctx, began: time.Now(), reports: reports, done: make(chan struct{})}
	calls := u.allCalls()
	if calls.waiting = append(calls.waiting, c); !calls.isRunning {
		calls.isRunning = true
		go h.run(name, u, calls)
	}
	return c
}

// run serves a user's calls until none waits.
func (h *shared) run(name string, u *sharedUser, all *userCalls) {
	for {
		h.mu.Lock()
		calls := slices.DeleteFunc(all.waiting, func(c *call) bool { return c.ctx.Err() != nil })
		all.waiting, all.isRunning = nil, len(calls) > 0
		if len(calls) == 0 {
			if all.isEmpty() {
				u.calls = nil
			}
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		var reports []report
		for _, c := range calls {
			reports = append(reports, late(c.reports, c.began)...)
		}
		got, err := h.write(name, u, reports)
		h.mu.Lock()
		all.evicted = append(all.evicted, got.Evicted...)
		for _, c := range calls {
			if c.result, c.err = got, err; err == nil {
				c.result.States, got.States = got.States[:len(c.reports)], got.States[len(c.reports):]
			}
			if c.result.Evicted = nil; err == nil && c.ctx.Err() == nil && len(c.reports) > 0 {
				c.result.Evicted, all.evicted = all.evicted, nil // each is listed once
			}
			close(c.done)
		}
		h.mu.Unlock()
	}
}

// write stores what the reports change.
func (h *shared) write(name string, u *sharedUser, reports []report) (session.LimitResult, error) {
	current, assumed := u.known, []report(nil)
	for try := range maxTries {
		if try > 1 {
			time.Sleep(rand.N(maxPause)) //nolint:gosec // jitter, or all nodes would compete again
		}
		now, upSince, isKnown := h.store.clock(name)
		streams, got := current.streams.applyReports(slices.Concat(reports, assumed), now, upSince, &h.rules)
		if got.isFull && try > 0 { // current is what the store holds
			return session.LimitResult{}, h.markFull(name, u)
		}
		version := rand.Int64() //nolint:gosec // unlike the others', not a secret
		next := current.next(streams, version, u.read == "")
		if !isKnown || got.isFull {
			u.read = neverStored
		}
		to := versioned{strconv.FormatInt(version, 36), next.encode()}
		// Nodes that have let a denied stream play report it at once.
		stored, isStored, err := h.store.swap(name, u.read, to, max(got.ttl, cacheTTL), got.isExceeded || len(assumed) > 0)
		if err != nil {
			u.read = neverStored // it may have been stored
			return session.LimitResult{}, err
		}
		if isStored {
			h.setKnown(u, next, to.version, true)
			return got.LimitResult, nil
		}
		if current, assumed, err = h.merge(u, stored, now); err != nil {
			return session.LimitResult{}, err
		}
	}
	return session.LimitResult{}, errContended
}

// merge returns the set that the store holds, with what it lacks of the one that this node knows. The reports are of streams
// that the store has let play since, though they may not.
func (h *shared) merge(u *sharedUser, stored versioned, now int64) (current storedSet, assumed []report, err error) {
	if u.read = stored.version; stored.version == "" {
		return u.known, nil, nil // this node restores it
	}
	if current, err = decode(stored.set); err != nil {
		h.setKnown(u, storedSet{}, "", false) // the set is left alone: it has a version
		return storedSet{}, nil, err
	}
	if !current.lacks(&u.known) {
		h.setKnown(u, current, stored.version, false)
		return current, nil, nil
	}
	current.streams, assumed = u.known.streams.restoredWith(current.streams, now, &h.rules)
	current.writes, current.restored = max(current.writes, u.known.writes), max(current.restored, u.known.writes)
	return current, assumed, nil
}

// setKnown notes what the store holds. isCounted: it counts this node's reports again.
func (h *shared) setKnown(u *sharedUser, s storedSet, read string, isCounted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u.known, u.read = s, read; isCounted {
		u.allCalls().local = nil
	}
}

// markFull has the user's streams counted on each node for a while.
func (h *shared) markFull(name string, u *sharedUser) error {
	h.mu.Lock()
	u.allCalls().fullUntil = time.Now().Add(fullFor)
	h.mu.Unlock()
	h.log.Warn("constant_user: too many streams of one user, limit counted on each node; have the backend name each user",
		slog.String("user_hash", name), slog.Int("max", maxTracked))
	return errFull
}
