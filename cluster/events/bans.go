package events

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxBans bounds the bans: every node has all of them in memory.
	maxBans = 100_000
	// maxRecent is how many bans may be new before the index of all is built anew, which takes longer the more there are:
	// kicks of many sessions come one by one.
	maxRecent = 256
	// maxBanDuration rejects obvious typos.
	maxBanDuration = 10 * 366 * 24 * time.Hour
)

// NewID returns an id that no other call returns, on any node: 60 random bits, in letters that can be read out over the
// phone.
func NewID() string { return strings.ToLower(rand.Text()[:12]) }

// Bans are the bans that a node knows. Nodes only ever add to what they know: a ban's id is never used again, and an
// unbanned id is remembered. So nodes that were apart agree once each has sent the other all it knows, in any order. It is
// safe for concurrent use.
type Bans struct {
	// index is read for every opening. It is nil if there are no bans.
	index atomic.Pointer[banIndexes]
	// groups find the viewers of groups, which no other index has.
	groups groupedBans
	// sessions are the tombstones of what the bans refused.
	sessions bannedSessions
	// changed receives when anything was added or removed. It holds one.
	changed chan struct{}

	mu     sync.Mutex
	active map[string]session.Ban
	// recent are the active bans that are not in the index of the others.
	recent map[string]session.Ban
	// unbanned has the ids of bans that were removed, and until when they are remembered.
	unbanned map[string]time.Time
	// isUnsynced: this node and Redis may know different bans. Once they know the same, each change comes by the stream of
	// revocations.
	isUnsynced bool
	// nextCleanup is when what has ended may be looked for again.
	nextCleanup time.Time
}

// banIndexes find the ban of a viewer among the recent bans and the others. Either is nil if there are none.
type banIndexes struct{ recent, others *banIndex }

// NewBans returns an empty set of bans.
func NewBans() *Bans {
	return &Bans{active: make(map[string]session.Ban), unbanned: make(map[string]time.Time), isUnsynced: true, changed: make(chan struct{}, 1)}
}

// TombstonesDropped returns how many tombstones found no room since the start.
func (b *Bans) TombstonesDropped() uint64 { return b.sessions.dropped.Load() }

// Validate reports what is wrong with a new ban, and gives it an id if it has none.
func (b *Bans) Validate(ban session.Ban, now time.Time) (session.Ban, error) {
	targets := 0
	for _, isTarget := range [...]bool{ban.User != "", ban.Credentials != "", ban.Prefix.IsValid(), !ban.Session.IsZero()} {
		if isTarget {
			targets++
		}
	}
	if targets != 1 {
		return ban, fmt.Errorf("ban: it names %d of user, credentials, address and session; want exactly one", targets)
	}
	if !ban.Until.After(now) {
		return ban, fmt.Errorf("ban: it ends at %s, which is in the past", ban.Until.Format(time.RFC3339))
	}
	if ban.Until.Sub(now) > maxBanDuration {
		return ban, fmt.Errorf("ban: it ends at %s; want at most ten years", ban.Until.Format(time.RFC3339))
	}
	if ban.Prefix.IsValid() {
		ban.Prefix = canonicalPrefix(ban.Prefix)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !now.Before(b.nextCleanup) { // a node without others removes what has ended only here
		b.removeEnded(now)
	}
	if len(b.active) >= maxBans {
		return ban, fmt.Errorf("ban: too many: there are %d already", len(b.active))
	}
	switch {
	case ban.ID != "":
	case ban.Cause != "": // many nodes see the same credentials, and their bans are one
		sum := sha256.Sum256([]byte(strings.Join([]string{
			ban.User, ban.Credentials, ban.Prefix.String(), ban.Session.String(), ban.Backend, ban.Channel,
		}, "\x00")))
		ban.ID = ban.Cause + "-" + hex.EncodeToString(sum[:6])
	default:
		ban.ID = NewID()
	}
	return ban, nil
}

// canonicalPrefix returns a prefix without host bits, and an IPv4-mapped one as IPv4.
func canonicalPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// Add adds bans, and returns those that are new here. It ignores bans that ended or were unbanned.
func (b *Bans) Add(now time.Time, bans ...session.Ban) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	var added []session.Ban
	mustIndex := false
	for _, ban := range bans {
		if _, known := b.active[ban.ID]; known || !ban.Until.After(now) || b.isUnbanned(ban) {
			continue
		}
		if isTombstone(&ban) {
			if b.sessions.add(ban, now) {
				added = append(added, ban)
			}
			continue
		}
		b.active[ban.ID] = ban
		added = append(added, ban)
		if isGroup(&ban) {
			b.groups.add(ban)
			continue
		}
		if b.recent == nil {
			b.recent = make(map[string]session.Ban)
		}
		b.recent[ban.ID], mustIndex = ban, true
	}
	if len(added) > 0 {
		notify(b.changed)
	}
	if mustIndex {
		b.indexRecent()
	}
	return added
}

// indexRecent indexes the recent bans, or all anew if these are too many. The caller holds the lock.
func (b *Bans) indexRecent() {
	if len(b.recent) > maxRecent {
		b.rebuild()
		return
	}
	indexes := banIndexes{recent: newBanIndex(b.recent)}
	if old := b.index.Load(); old != nil {
		indexes.others = old.others
	}
	b.index.Store(&indexes)
}

// rebuild indexes all bans anew. The caller holds the lock.
func (b *Bans) rebuild() {
	b.recent = nil
	if len(b.active) == 0 {
		b.index.Store(nil)
		return
	}
	b.index.Store(&banIndexes{others: newBanIndex(b.active)})
}

// causeOf returns the id of the ban from which the one that has the id follows, or the id if it follows from none: so all are named.
// It is of use where the ban cannot be read.
func causeOf(id string) string {
	cause, _, _ := strings.Cut(id, "-")
	return cause
}

func (b *Bans) isUnbanned(ban session.Ban) bool {
	_, found := b.unbanned[ban.ID]
	_, foundCause := b.unbanned[ban.Cause]
	return found || foundCause
}

// Remove removes a ban and those that it caused, and returns them. The id is remembered until that time.
func (b *Bans) Remove(id string, until time.Time) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unbanned[id] = until
	notify(b.changed)
	var removed []session.Ban
	for _, ban := range b.active {
		if ban.ID == id || ban.Cause == id {
			removed = append(removed, ban)
			delete(b.active, ban.ID)
		}
	}
	if len(removed) > 0 {
		b.rebuild()
	}
	if slices.ContainsFunc(removed, func(ban session.Ban) bool { return isGroup(&ban) }) {
		b.groups.replace(b.active)
	}
	return append(removed, b.sessions.remove(func(t session.Ban) bool { return t.Cause == id })...)
}

// expire removes what has ended.
func (b *Bans) expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeEnded(now)
}

// removeEnded is expire for a caller that holds the lock.
func (b *Bans) removeEnded(now time.Time) {
	b.nextCleanup = now.Add(time.Minute)
	b.sessions.remove(func(t session.Ban) bool { return !t.Until.After(now) })
	before, endedGroups := len(b.active), false
	maps.DeleteFunc(b.active, func(_ string, ban session.Ban) bool {
		isEnded := !ban.Until.After(now)
		endedGroups = endedGroups || isEnded && isGroup(&ban)
		return isEnded
	})
	maps.DeleteFunc(b.unbanned, func(_ string, until time.Time) bool { return !until.After(now) })
	if len(b.active) != before {
		b.rebuild()
	}
	if endedGroups {
		b.groups.replace(b.active)
	}
}

// Find returns the active bans that have the id or follow from it, and when the last of them ends; none: there is no such
// ban. A kick of many sessions is known by what follows from it alone.
func (b *Bans) Find(id string, now time.Time) (ids []string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ban := range b.active {
		if (ban.ID == id || ban.Cause == id) && ban.Until.After(now) {
			ids = append(ids, ban.ID)
			if ban.Until.After(until) {
				until = ban.Until
			}
		}
	}
	return ids, until
}

// knows reports whether a ban is active or was removed.
func (b *Bans) knows(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, isActive := b.active[id]
	_, isRemoved := b.unbanned[id]
	return isActive || isRemoved
}

// isNews reports whether this node has not applied a revocation. A tombstone is no news: it follows from a ban.
func (b *Bans) isNews(v session.Revocation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, isActive := b.active[v.Ban.ID]
	_, isRemoved := b.unbanned[v.Ban.ID]
	switch v.Kind {
	case session.RevokedBanned:
		return !isActive && !isRemoved && !isTombstone(&v.Ban)
	case session.RevokedUnbanned:
		return !isRemoved
	default:
		return true
	}
}

// List returns the active bans, those that end last first.
func (b *Bans) List(now time.Time) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := make([]session.Ban, 0, len(b.active))
	for _, ban := range b.active {
		if ban.Until.After(now) {
			found = append(found, ban)
		}
	}
	sortBans(found)
	return found
}

// oldKeyUse is how many bans need an old key, and until when.
type oldKeyUse struct {
	bans  int
	until time.Time
}

// oldKeys returns the use of each old key that bans need, by its id.
func (b *Bans) oldKeys(now time.Time) map[string]oldKeyUse {
	b.mu.Lock()
	defer b.mu.Unlock()
	uses := make(map[string]oldKeyUse)
	for _, ban := range b.active {
		if ban.OldKey == "" || !ban.Until.After(now) {
			continue
		}
		use := uses[ban.OldKey]
		if use.bans++; ban.Until.After(use.until) {
			use.until = ban.Until
		}
		uses[ban.OldKey] = use
	}
	return uses
}

// IsEmpty reports whether there are no bans. It is three atomic reads.
func (b *Bans) IsEmpty() bool {
	return b.index.Load() == nil && b.groups.viewers.Load() == 0 && b.sessions.count.Load() == 0
}

// Match returns the ban of a viewer. The decision may be nil. The hashes are those of the viewer's credentials under all
// keys. A ban of a group is returned as one of the viewer alone. Match does not allocate unless credentials are banned, and
// takes no lock unless bans have refused sessions.
func (b *Bans) Match(r *backends.Request, d *backends.Decision, hashes func() []string) (session.Ban, bool) {
	if index := b.index.Load(); index != nil {
		for _, x := range [...]*banIndex{index.others, index.recent} {
			if x == nil {
				continue
			}
			if ban, isBanned := x.match(r, d, hashes); isBanned {
				return ban, true
			}
		}
	}
	if ban, isBanned := b.groups.match(r, d, hashes); isBanned {
		return ban, true
	}
	return b.sessions.match(r.Session, time.Now())
}

// Tombstones returns the tombstones of a ban, and of those that it caused.
func (b *Bans) Tombstones(id string) []session.Ban {
	return slices.DeleteFunc(b.sessions.all(), func(t session.Ban) bool { return t.Cause != id })
}

// markUnsynced makes the next heartbeat compare the bans with those in Redis.
func (b *Bans) markUnsynced() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isUnsynced = true
}
