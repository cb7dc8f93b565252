package limits

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
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

// errFull reports a user with more streams than all nodes together count.
var errFull = errors.New("the user has too many streams")

// store keeps the streams of all users, each user's under a version.
type store interface {
	// now returns the store's time in ms, if a call for that user has told it.
	now(user string) (ms int64, known bool)
	// outage returns the store's last outage as this node saw it: how long it was, and how long ago it ended, in ms.
	outage() (length, ago int64)
	// swap stores streams if the version is still the one that was read, else it returns the current ones.
	swap(ctx context.Context, c change) (current versioned, isStored bool, err error)
}

// change is a call of [store].
type change struct {
	user string
	// was is the version that was read.
	was string
	to  versioned
	ttl time.Duration
	// isExceeded: all nodes are told that the user's limit is exceeded.
	isExceeded bool
}

// versioned is the encoded streams of a user. Without streams there is still a version for a while. Without a version the
// store knows nothing of the user, or has lost it.
type versioned struct{ version, set string }

// neverStored is a version that no set has: a call with it only reads.
const neverStored = "never stored"

// shared counts streams over all nodes of a store. The calls of this node for one user are merged, so that they do not
// compete with each other.
type shared struct {
	store      store
	rules      rules
	log        *slog.Logger
	newVersion func() string

	mu    sync.Mutex
	users expiring[*sharedUser]
}

// sharedUser is the streams of a user as this node last read or wrote them. If another node has changed them since, or if
// the answer to a write was lost, the next write fails and returns the current ones. What these lack because the store has lost
// it is put into them again, so that each stream keeps its place, also an evicted one.
type sharedUser struct {
	known knownSet
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

// knownSet is a set with its version.
type knownSet struct {
	streams streamSet
	version setVersion
}

// call is one call. Its caller may give up waiting; then nothing reads the result.
type call struct {
	ctx     context.Context //nolint:containedctx // tells whether the caller still waits
	reports []report
	done    chan outcome // holds one, so that it never blocks
}

type outcome struct {
	session.LimitResult
	err error
}

// apply takes reports of a user's streams. It returns errFull, ctx's error or an error of the store.
func (h *shared) apply(ctx context.Context, user string, reports []report) (session.LimitResult, error) {
	c := &call{ctx: ctx, reports: reports, done: make(chan outcome, 1)}
	h.mu.Lock()
	u, now := h.users[user].value, time.Now()
	if u == nil {
		u = new(sharedUser)
	}
	h.users.set(user, u, now, max(cacheTTL, u.fullUntil.Sub(now)))
	if now.Before(u.fullUntil) {
		h.mu.Unlock()
		return session.LimitResult{}, errFull
	}
	h.enqueue(user, u, c) //nolint:contextcheck // it serves further callers; the store bounds its time
	h.mu.Unlock()
	before := u.answers.Load()
	select {
	case o := <-c.done:
		return o.LimitResult, o.err
	case <-ctx.Done():
	}
	if u.answers.Load() > before { // the store is not down, only busy
		return contended(reports), nil
	}
	return session.LimitResult{}, ctx.Err()
}

// enqueue adds a call to those of a user. The caller holds the lock.
func (h *shared) enqueue(user string, u *sharedUser, c *call) {
	u.waiting = append(u.waiting, c)
	if !u.isRunning {
		u.isRunning = true
		go h.run(user, u)
	}
}

// restore has the sets in which a stream is denied stored again, because the store has lost its data: another node must not
// take the stream for a new one. It does not block.
func (h *shared) restore() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for user, e := range h.users {
		if e.value.hasDenied.Load() {
			h.enqueue(user, e.value, &call{ctx: context.Background(), done: make(chan outcome, 1)})
		}
	}
}

// run serves a user's calls until none waits.
func (h *shared) run(user string, u *sharedUser) {
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
		got, err := h.write(user, u, reports)
		for _, c := range calls {
			o := outcome{LimitResult: got, err: err}
			if err == nil {
				o.States, got.States = got.States[:len(c.reports)], got.States[len(c.reports):]
				got.Evicted = nil // each is listed once
			}
			c.done <- o
		}
	}
}

// write stores what the reports change.
func (h *shared) write(user string, u *sharedUser, reports []report) (session.LimitResult, error) {
	current, assumed, isCurrent := u.known, []report(nil), false
	for try := range maxTries {
		if try > 1 {
			time.Sleep(rand.N(maxPause)) // or all nodes would compete again
		}
		now, known := h.store.now(user)
		set, got := current.streams.resumed(h.store.outage, now).apply(slices.Concat(reports, assumed), now, &h.rules)
		name := h.newVersion()
		next := knownSet{set, current.version.next(name, u.read == "")}
		c := change{
			user: user, was: u.read, to: versioned{next.version.encode(name), string(set.encode())}, ttl: max(got.ttl, cacheTTL),
			// Nodes that have let a denied stream play report it at once.
			isExceeded: got.isExceeded || len(assumed) > 0,
		}
		switch {
		case !known, got.isFull && !isCurrent:
			c.was = neverStored
		case got.isFull:
			return session.LimitResult{}, h.markFull(user, u)
		}
		stored, isStored, err := h.store.swap(context.Background(), c)
		if err != nil {
			u.read = neverStored // it may have been stored
			return session.LimitResult{}, err
		}
		u.answers.Add(1)
		if isStored {
			u.setKnown(next, c.to.version)
			return got.LimitResult, nil
		}
		isCurrent = true
		if current, assumed, err = u.merge(stored, now, &h.rules); err != nil {
			return session.LimitResult{}, err
		}
	}
	return contended(reports), nil
}

// merge returns the set that the store holds, with what it lacks of the one that this node knows. The reports are of streams
// that the store has let play since, though they may not.
func (u *sharedUser) merge(stored versioned, now int64, r *rules) (current knownSet, assumed []report, err error) {
	if u.read = stored.version; stored.version == "" {
		return u.known, nil, nil // this node restores it
	}
	if current.streams, err = decode([]byte(stored.set)); err != nil {
		u.setKnown(knownSet{}, "")
		return knownSet{}, nil, err
	}
	current.version = parseVersion(stored.version)
	if !current.version.lacks(u.known.version) {
		u.setKnown(current, stored.version)
		return current, nil, nil
	}
	current.version = current.version.restoredFrom(u.known.version)
	current.streams, assumed = u.known.streams.restoredWith(current.streams, now, r)
	return current, assumed, nil
}

func (u *sharedUser) setKnown(k knownSet, read string) {
	u.known, u.read = k, read
	u.hasDenied.Store(slices.ContainsFunc(k.streams, func(s stream) bool { return s.state != session.StreamActive }))
}

// contended is the result of a call that other nodes kept from counting the streams.
func contended(reports []report) session.LimitResult {
	return session.LimitResult{States: make([]session.StreamState, len(reports)), IsContended: true, RecheckIn: retryDelay}
}

// markFull has the user's streams counted on each node for a while.
func (h *shared) markFull(user string, u *sharedUser) error {
	h.mu.Lock()
	u.fullUntil = time.Now().Add(fullFor)
	h.mu.Unlock()
	h.log.Warn("constant_user: too many streams of one user, limit counted on each node; have the backend name each user",
		slog.String("user_hash", user), slog.Int("max", maxTracked))
	return errFull
}
