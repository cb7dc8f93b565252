package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
)

// identityDomain keeps the hash of a session id apart from any other use of the same secret.
const identityDomain = "usher session 1"

// identifier makes session ids. It is safe for concurrent use.
type identifier struct {
	macs      sync.Pool
	playbacks playbacks
}

func newIdentifier(secret backends.Secret) *identifier {
	key := []byte(secret.Reveal())
	i := &identifier{playbacks: newPlaybacks()}
	i.macs.New = func() any { return &identityMAC{hash: hmac.New(sha256.New, key)} }
	return i
}

type identityMAC struct {
	hash hash.Hash
	in   []byte
	sum  [sha256.Size]byte
}

// sessionID is the same on every node for the same viewer. apart, if not zero, is the address prefix of a viewer who is
// told apart from a crowd that uses the same credentials.
func (i *identifier) sessionID(t *target, c *backends.Credentials, v *View, who client, apart uint64) backends.SessionID {
	m, _ := i.macs.Get().(*identityMAC)
	defer i.macs.Put(m)
	m.in = append(m.in[:0], identityDomain...)
	m.in = backends.AppendField(m.in, t.route.name)
	m.in = backends.AppendField(m.in, t.channel)
	m.in = c.AppendCanonical(m.in)
	if v.publishes {
		m.in = backends.AppendField(m.in, "publish")
	}
	m.in = i.appendFacts(m.in, t, c, v, who)
	m.in = binary.BigEndian.AppendUint64(m.in, apart)
	m.hash.Reset()
	m.hash.Write(m.in)
	return backends.SessionID(m.hash.Sum(m.sum[:0])[:16])
}

// appendFacts adds what the route tells viewers apart by beside their credentials. A viewer without any is told apart by
// his address and player, since a backend can have decided on nothing else.
func (i *identifier) appendFacts(in []byte, t *target, c *backends.Credentials, v *View, who client) []byte {
	agent := v.Header.Get("User-Agent")
	facts := t.route.byFacts
	if facts.edgeSession && v.edgeSession != "" {
		in = backends.AppendField(append(in, 'e'), v.edgeSession)
	}
	if c.IsEmpty() {
		in = backends.AppendField(in, who.address.String())
		return backends.AppendField(in, agent)
	}
	if facts.playback {
		if p := v.Header.Get("X-Playback-Session-Id"); p != "" && i.playbacks.admit(in, p, time.Now()) {
			return backends.AppendField(append(in, 'p'), p)
		}
	}
	if facts.address {
		in = binary.BigEndian.AppendUint64(append(in, 'a'), prefixOf(who.address))
	}
	if facts.agent {
		in = backends.AppendField(append(in, 'u'), agent)
	}
	return in
}

const (
	// maxPlaybacks is how many X-Playback-Session-Id values count for the same credentials: a client chooses the
	// value, so without a bound one viewer could open sessions at will.
	maxPlaybacks = 8
	// playbackMemory is how long a value counts against that bound.
	playbackMemory = time.Hour
	// maxPlaybackOwners bounds the memory of them all.
	maxPlaybackOwners = 100_000
)

// playbacks remembers which playback ids came with which credentials.
type playbacks struct {
	seed   maphash.Seed
	owners *otter.Cache[uint64, *playbackSet]
}

type playbackSet struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPlaybacks() playbacks {
	return playbacks{seed: maphash.MakeSeed(), owners: otter.Must(&otter.Options[uint64, *playbackSet]{
		MaximumSize:      maxPlaybackOwners,
		ExpiryCalculator: otter.ExpiryAccessing[uint64, *playbackSet](playbackMemory),
	})}
}

// admit reports whether the value is one of the few that count for its owner.
func (p *playbacks) admit(owner []byte, value string, now time.Time) bool {
	set, _ := p.owners.ComputeIfAbsent(maphash.Bytes(p.seed, owner), func() (*playbackSet, bool) {
		return &playbackSet{seen: make(map[uint64]time.Time)}, false
	})
	set.mu.Lock()
	defer set.mu.Unlock()
	key := maphash.String(p.seed, value)
	if _, known := set.seen[key]; !known && len(set.seen) >= maxPlaybacks {
		for k, at := range set.seen {
			if now.Sub(at) > playbackMemory {
				delete(set.seen, k)
			}
		}
		if len(set.seen) >= maxPlaybacks {
			return false
		}
	}
	set.seen[key] = now
	return true
}
