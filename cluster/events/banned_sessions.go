package events

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxBannedSessions bounds the tombstones of all bans, some 300 bytes each, and maxPerBan those of one ban: a banned
	// viewer who varies what they present leaves room for the others.
	maxBannedSessions = 100_000
	maxPerBan         = 10_000
)

// Tombstone returns the ban of a session that a ban of a user or of credentials refused. It refuses the session's tickets
// also where nobody knows any more who the viewer is. It ends with its cause, and no later than that.
func Tombstone(of session.Ban, id backends.SessionID, latest time.Time) session.Ban {
	t := session.Ban{Session: id, Until: of.Until, Reason: of.Reason, IsKick: of.IsKick, Cause: of.Cause}
	if t.Cause == "" {
		t.Cause = of.ID
	}
	if t.Until.After(latest) {
		t.Until = latest
	}
	t.ID = t.Cause + "-" + id.String()
	return t
}

// isTombstone reports whether a ban follows from another one that refused its session.
func isTombstone(b *session.Ban) bool { return b.Cause != "" && !b.Session.IsZero() }

// bannedSessions are the tombstones of bans. They are apart from the bans, since there may be many and each comes alone.
// It is safe for concurrent use.
type bannedSessions struct {
	// count is read first, so that a node without tombstones takes no lock.
	count atomic.Int64
	// hasDropped: a tombstone found no room since that was last logged.
	hasDropped atomic.Bool
	// dropped is how many found none since the start.
	dropped atomic.Uint64

	mu sync.RWMutex
	// of has a session's tombstones, one for each ban that refused it.
	of map[backends.SessionID][]session.Ban
	// perCause counts the tombstones of each ban.
	perCause map[string]int
	// nextCleanup is when what has ended may be looked for again.
	nextCleanup time.Time
}

// add adds a tombstone, and reports whether it is new. A ban has one of each session.
func (x *bannedSessions) add(t session.Ban, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of, x.perCause = make(map[backends.SessionID][]session.Ban), make(map[string]int)
	}
	all := x.of[t.Session]
	if slices.ContainsFunc(all, func(o session.Ban) bool { return o.Cause == t.Cause }) {
		return false
	}
	isFull := x.count.Load() >= maxBannedSessions
	if isFull && now.After(x.nextCleanup) { // a node without others removes what has ended only here
		x.nextCleanup = now.Add(time.Minute)
		x.removeLocked(func(o session.Ban) bool { return !o.Until.After(now) })
		isFull = x.count.Load() >= maxBannedSessions
	}
	if isFull || x.perCause[t.Cause] >= maxPerBan {
		x.hasDropped.Store(true)
		x.dropped.Add(1)
		return false
	}
	x.of[t.Session] = append(slices.Clip(all), t)
	x.perCause[t.Cause]++
	x.count.Add(1)
	return true
}

// match returns the tombstone of a session that holds longest.
func (x *bannedSessions) match(id backends.SessionID, now time.Time) (found session.Ban, isFound bool) {
	if x.count.Load() == 0 {
		return session.Ban{}, false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, t := range x.of[id] {
		if t.Until.After(now) && (!isFound || t.Until.After(found.Until)) {
			found, isFound = t, true
		}
	}
	return found, isFound
}

// remove removes the tombstones that match, and returns them.
func (x *bannedSessions) remove(which func(session.Ban) bool) (removed []session.Ban) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.removeLocked(which)
}

// removeLocked is remove for a caller that holds the lock.
func (x *bannedSessions) removeLocked(which func(session.Ban) bool) (removed []session.Ban) {
	for id, all := range x.of {
		if !slices.ContainsFunc(all, which) {
			continue
		}
		var kept []session.Ban
		for _, t := range all {
			if which(t) {
				removed = append(removed, t)
			} else {
				kept = append(kept, t)
			}
		}
		if x.of[id] = kept; len(kept) == 0 {
			delete(x.of, id)
		}
	}
	for _, t := range removed {
		if x.perCause[t.Cause]--; x.perCause[t.Cause] == 0 {
			delete(x.perCause, t.Cause)
		}
	}
	x.count.Add(-int64(len(removed)))
	return removed
}

// all returns all tombstones.
func (x *bannedSessions) all() (tombstones []session.Ban) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for all := range maps.Values(x.of) {
		tombstones = append(tombstones, all...)
	}
	return tombstones
}
