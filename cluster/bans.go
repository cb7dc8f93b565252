package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
)

const (
	// maxBans bounds the bans: every node holds them all in memory, and each change arranges them anew.
	maxBans = 100_000
	// longestBan is longer than anybody means, so that a slip of the pen is told.
	longestBan = 10 * 366 * 24 * time.Hour
	// liftedFor is for how long it is remembered that a ban was lifted, unless it would have ended before: a node that was
	// cut off for less does not bring it back.
	liftedFor = 30 * 24 * time.Hour
)

// ErrNoBan says that there is no ban of that id.
var ErrNoBan = errors.New("no such ban")

// bans are those that this node knows. They only ever grow together: a ban's id is never used again, and one that was
// lifted is remembered as such; so nodes that were apart agree as soon as each has told the other all it knows, in any
// order. It is safe for concurrent use.
type bans struct {
	// set is read for every opening; nil: nobody is banned.
	set atomic.Pointer[banSet]

	mu     sync.Mutex
	held   map[string]session.Ban
	lifted map[string]time.Time // until when it is remembered
	// unwritten: something is known here that may not be in Redis.
	unwritten bool
	// version is that of the bans in Redis which are all known here.
	version place
}

func newBans() *bans {
	return &bans{held: make(map[string]session.Ban), lifted: make(map[string]time.Time)}
}

// check says what is wrong with a new ban, and gives it an id.
func (b *bans) check(ban session.Ban, now time.Time) (session.Ban, error) {
	named := 0
	for _, is := range [...]bool{ban.User != "", ban.Credentials != "", ban.Prefix.IsValid(), !ban.Session.IsZero()} {
		if is {
			named++
		}
	}
	if named != 1 {
		return ban, fmt.Errorf("ban: it names %d of user, credentials, address and session; want exactly one", named)
	}
	if !ban.Until.After(now) {
		return ban, fmt.Errorf("ban: it ends at %s, which is over", ban.Until.Format(time.RFC3339))
	}
	if ban.Until.Sub(now) > longestBan {
		return ban, fmt.Errorf("ban: it ends at %s; want at most ten years", ban.Until.Format(time.RFC3339))
	}
	if ban.Prefix.IsValid() {
		ban.Prefix = unmapped(ban.Prefix)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.held) >= maxBans {
		return ban, fmt.Errorf("ban: too many: there are %d already", len(b.held))
	}
	switch {
	case ban.ID != "":
	case ban.Cause != "": // many nodes see the same credentials: theirs is one ban
		sum := sha256.Sum256([]byte(ban.User + "\x00" + ban.Credentials + "\x00" + ban.Prefix.String() + "\x00" + ban.Session.String()))
		ban.ID = ban.Cause + "-" + hex.EncodeToString(sum[:6])
	default:
		ban.ID = newName()
	}
	return ban, nil
}

// unmapped is a prefix without its host's bits, and as IPv4 if it lies there.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// add takes bans over, and returns those that are new here.
func (b *bans) add(now time.Time, more ...session.Ban) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fresh []session.Ban
	for _, ban := range more {
		if _, known := b.held[ban.ID]; known || !ban.Until.After(now) || b.isLifted(ban) {
			continue
		}
		b.held[ban.ID] = ban
		fresh = append(fresh, ban)
	}
	if len(fresh) > 0 {
		b.set.Store(newBanSet(b.held))
	}
	return fresh
}

func (b *bans) isLifted(ban session.Ban) bool {
	_, lifted := b.lifted[ban.ID]
	_, causeLifted := b.lifted[ban.Cause]
	return lifted || causeLifted
}

// lift remembers that a ban was lifted, and returns it and those that followed from it as far as they were known. Until
// is as long as that is remembered.
func (b *bans) lift(id string, until time.Time) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lifted[id] = until
	var gone []session.Ban
	for _, ban := range b.held {
		if ban.ID == id || ban.Cause == id {
			gone = append(gone, ban)
			delete(b.held, ban.ID)
		}
	}
	if len(gone) > 0 {
		b.set.Store(newBanSet(b.held))
	}
	return gone
}

// expire forgets what has ended.
func (b *bans) expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.held)
	maps.DeleteFunc(b.held, func(_ string, ban session.Ban) bool { return !ban.Until.After(now) })
	maps.DeleteFunc(b.lifted, func(_ string, until time.Time) bool { return !until.After(now) })
	if len(b.held) != before {
		b.set.Store(newBanSet(b.held))
	}
}

// find returns a ban that holds.
func (b *bans) find(id string, now time.Time) (session.Ban, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ban, found := b.held[id]
	return ban, found && ban.Until.After(now)
}

// list returns those that hold, the ones that end last first.
func (b *bans) list(now time.Time) []session.Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := make([]session.Ban, 0, len(b.held))
	for _, ban := range b.held {
		if ban.Until.After(now) {
			found = append(found, ban)
		}
	}
	sortBans(found)
	return found
}
