package edge

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
	"usher/gateway/evictions"
)

const (
	// maxFingerprints bounds the memory.
	maxFingerprints = 1_000_000
	// fingerprintTTL is how long an unused entry stays.
	fingerprintTTL = 24 * time.Hour
	// MaxSessionsPerFingerprint is how many sessions of one fingerprint are remembered: viewers behind one address with the
	// same player and channel.
	MaxSessionsPerFingerprint = 8
	// recentTurn is for how long a fingerprint's newest session need not be recorded again, at most.
	recentTurn = time.Minute
	// numRecent is how many of them are noted, a power of two: as many as two cores answer in a second.
	numRecent = 1 << 16
	// tellInterval is after what time other nodes are told again that a session is used with a fingerprint.
	tellInterval = 10 * time.Minute
	// crowdInterval is after what time they are told of one more viewer of a fingerprint that has as many as are remembered: of those,
	// nothing tells which are forgotten, and a node finds any of them for a request that shows nothing.
	crowdInterval = 10 * time.Second
)

// Fingerprint is a hash of a viewer's address, player, channel and folder, for requests that show nothing else. Its values are
// the node's own.
type Fingerprint uint64

// Fingerprints remember which sessions were used with which fingerprint. They are safe for concurrent use.
type Fingerprints struct {
	seed    maphash.Seed
	entries *otter.Cache[Fingerprint, *sessionList]
	evicted evictions.Counter
	// recent notes the newest sessions of the fingerprints that are used now, by the fingerprint's last bits: nearly every question
	// of an edge records what was recorded a moment before, and the memory's own account of uses is a twentieth of the answer.
	recent [numRecent]atomic.Uint64
}

// sessionList are the sessions of one fingerprint, the newest first.
type sessionList struct {
	mu     sync.Mutex
	used   []usedSession
	isGone bool // the memory has given it up
}

// usedSession is a session that was used with a fingerprint. Times are Unix seconds.
type usedSession struct {
	id backends.SessionID
	// opened is when its ticket was, and told when the other nodes were told of that ticket.
	opened, told int64
}

// NewFingerprints makes an empty memory.
func NewFingerprints() *Fingerprints {
	f := &Fingerprints{seed: maphash.MakeSeed()}
	f.entries = otter.Must(&otter.Options[Fingerprint, *sessionList]{
		MaximumSize:      maxFingerprints,
		ExpiryCalculator: otter.ExpiryAccessing[Fingerprint, *sessionList](fingerprintTTL),
		OnAtomicDeletion: f.onDeleted,
	})
	return f
}

// onDeleted has the fingerprint recorded again as soon as it is used.
func (f *Fingerprints) onDeleted(e otter.DeletionEvent[Fingerprint, *sessionList]) {
	evictions.Of[Fingerprint, *sessionList](&f.evicted)(e)
	e.Value.mu.Lock()
	defer e.Value.mu.Unlock()
	e.Value.isGone = true
	f.recent[e.Key%numRecent].Store(0)
}

// Evicted returns how many were given up for others.
func (f *Fingerprints) Evicted() uint64 { return f.evicted.Count() }

// Close stops the background goroutines. The memory must not be used afterwards.
func (f *Fingerprints) Close() { f.entries.StopAllGoroutines() }

// Of returns the fingerprint of a viewer. A viewer who publishes has another one than a viewer who watches.
func (f *Fingerprints) Of(route, channel, folder string, address netip.Addr, agent string, isPublish bool) Fingerprint {
	var h maphash.Hash
	h.SetSeed(f.seed)
	raw := address.As16()
	_, _ = h.Write(raw[:])
	for _, text := range [...]string{route, channel, folder, agent} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	if isPublish {
		_ = h.WriteByte(1)
	}
	return Fingerprint(h.Sum64())
}

// OfGroup returns the fingerprint of the viewers who show the same credentials on a channel.
func (f *Fingerprints) OfGroup(group backends.SessionID) Fingerprint {
	return Fingerprint(maphash.Bytes(f.seed, group[:]))
}

// OfAddress returns a hash of an address, by which look-ups are counted.
func (f *Fingerprints) OfAddress(address netip.Addr) Fingerprint {
	raw := backends.SubscriberPrefix(address).Addr().As16()
	return Fingerprint(maphash.Bytes(f.seed, raw[:]))
}

// Record remembers that a session was used with a fingerprint, whose ticket says that it was opened at that time. It skips what is noted as
// recorded a moment ago. Other nodes do not know any more what they were told up to lost; zero: they know all. isNews: they should be told,
// of a new ticket or once more, but not of each in a crowd.
func (f *Fingerprints) Record(key Fingerprint, id backends.SessionID, opened, lost, now time.Time) (isNews bool) {
	recent, mark := &f.recent[key%numRecent], markOf(key, id, opened, lost, now)
	if recent.Load() == mark {
		return false
	}
	set := f.listOf(key)
	defer set.mu.Unlock()
	recent.Store(mark) // under the lock, so that it is of the newest
	i := slices.IndexFunc(set.used, func(known usedSession) bool { return known.id == id })
	isTold := i < 0 && set.isCrowdTold(lost, now)
	if i < 0 {
		i = len(set.used)
		set.used = append(set.used, usedSession{id: id})
	}
	newest := set.used[i]
	copy(set.used[1:], set.used[:i])
	isNews = !isTold && (newest.opened != opened.Unix() || !newest.wasTold(tellInterval, lost, now))
	if isNews {
		newest.opened, newest.told = opened.Unix(), now.Unix()
	}
	set.used[0] = newest
	set.used = set.used[:min(len(set.used), MaxSessionsPerFingerprint)]
	return isNews
}

// isCrowdTold reports whether there are as many sessions as are remembered, of one of which the other nodes were told a moment ago.
func (l *sessionList) isCrowdTold(lost, now time.Time) bool {
	return len(l.used) == MaxSessionsPerFingerprint && slices.ContainsFunc(l.used, func(s usedSession) bool {
		return s.wasTold(crowdInterval, lost, now)
	})
}

// wasTold reports whether the other nodes were told within that time, and have not lost it since.
func (s *usedSession) wasTold(within time.Duration, lost, now time.Time) bool {
	return now.Unix()-s.told < int64(within/time.Second) && s.told > lost.Unix()
}

// listOf returns the sessions of a fingerprint, locked.
func (f *Fingerprints) listOf(key Fingerprint) *sessionList {
	for {
		set, found := f.entries.GetIfPresent(key)
		if !found {
			set, _ = f.entries.ComputeIfAbsent(key, func() (*sessionList, bool) { return new(sessionList), false })
		}
		if set.mu.Lock(); !set.isGone {
			return set
		}
		set.mu.Unlock()
	}
}

// markOf returns a number that tells what was recorded in this turn apart. All its parts but the turn are hashes already.
func markOf(key Fingerprint, id backends.SessionID, opened, lost, now time.Time) uint64 {
	const spread = 0x9e3779b97f4a7c15 // so that times of one day differ in more than their last bits
	turn := uint64(now.Unix()) / uint64(recentTurn/time.Second)
	return bits.RotateLeft64(uint64(key), 32) ^ binary.LittleEndian.Uint64(id[:]) + uint64(opened.Unix()+lost.Unix()<<32)*spread + turn<<1 | 1
}

// AppendSessions appends the sessions of a fingerprint, the one used last first; MaxSessionsPerFingerprint at most. Some may be
// over.
func (f *Fingerprints) AppendSessions(dst []backends.SessionID, key Fingerprint) []backends.SessionID {
	set, found := f.entries.GetIfPresent(key)
	if !found {
		return dst
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	for i := range set.used {
		dst = append(dst, set.used[i].id)
	}
	return dst
}
