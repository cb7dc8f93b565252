package gateway

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
)

const (
	// maxRecognised bounds the memory of who was seen where, and recognisedFor how long it lasts unused; a session that is
	// over is not recognised, however fresh the memory.
	maxRecognised = 1_000_000
	recognisedFor = 24 * time.Hour
	// maxAlike is how many sessions may look alike: viewers behind one address with the same player and channel.
	maxAlike = 8
)

// recognised remembers which sessions were opened from an address by a player on a channel, for requests that show
// nothing else. It is safe for concurrent use.
type recognised struct {
	seed maphash.Seed
	seen *otter.Cache[uint64, *alike]
}

// alike are sessions that cannot be told apart by address, player and channel, the newest first.
type alike struct {
	mu  sync.Mutex
	ids []backends.SessionID
}

func newRecognised() recognised {
	return recognised{seed: maphash.MakeSeed(), seen: otter.Must(&otter.Options[uint64, *alike]{
		MaximumSize:      maxRecognised,
		ExpiryCalculator: otter.ExpiryAccessing[uint64, *alike](recognisedFor),
	})}
}

func (r *recognised) close() { r.seen.StopAllGoroutines() }

// key is what a viewer is recognised by. One who wants to publish is not one who watches.
func (r *recognised) key(t *target, address netip.Addr, agent string, publishes bool) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	raw := address.As16()
	_, _ = h.Write(raw[:])
	for _, text := range [...]string{t.route.name, t.channel, agent} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	if publishes {
		_ = h.WriteByte(1)
	}
	return h.Sum64()
}

// note remembers that a session was used from there.
func (r *recognised) note(key uint64, id backends.SessionID) {
	set, found := r.seen.GetIfPresent(key)
	if !found {
		set, _ = r.seen.ComputeIfAbsent(key, func() (*alike, bool) { return new(alike), false })
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	if len(set.ids) > 0 && set.ids[0] == id {
		return
	}
	set.ids = slices.DeleteFunc(set.ids, func(known backends.SessionID) bool { return known == id })
	set.ids = slices.Insert(set.ids, 0, id)
	if len(set.ids) > maxAlike {
		set.ids = set.ids[:maxAlike]
	}
}

// find is the session that the viewer may be told to have: the newest that is allowed, or else the newest that lives. nil
// if there is none.
func (r *recognised) find(key uint64, live func(backends.SessionID) Session) (backends.SessionID, Session) {
	set, found := r.seen.GetIfPresent(key)
	if !found {
		return backends.SessionID{}, nil
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	var bestID backends.SessionID
	var best Session
	for _, id := range set.ids {
		s := live(id)
		if s == nil {
			continue
		}
		d := s.Decision()
		if d != nil && d.Verdict == backends.Allowed {
			return id, s
		}
		if best == nil && d != nil {
			bestID, best = id, s
		}
	}
	return bestID, best
}
