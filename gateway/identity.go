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
	"usher/backends/setting"
)

// identityDomain separates the hash of a session id from any other use of the same secret.
const identityDomain = "usher session 1"

// sessionHasher derives session ids. It is safe for concurrent use.
type sessionHasher struct {
	macs        sync.Pool
	playbackIDs playbackIDs
}

func newSessionHasher(secret setting.Secret) *sessionHasher {
	key := []byte(secret.Reveal())
	i := &sessionHasher{playbackIDs: newPlaybackIDs()}
	i.macs.New = func() any { return &identityMAC{hash: hmac.New(sha256.New, key)} }
	return i
}

type identityMAC struct {
	hash hash.Hash
	in   []byte
	sum  [sha256.Size]byte
}

// sessionID returns the viewer's session id, the same on every node. prefix is zero, or the network prefix of a viewer
// beyond the limit of addresses, who gets a session apart from the others with the same credentials.
func (i *sessionHasher) sessionID(t *target, c *backends.Credentials, req *Request, viewer client, prefix uint64) backends.SessionID {
	m, _ := i.macs.Get().(*identityMAC)
	defer i.macs.Put(m)
	m.in = append(m.in[:0], identityDomain...)
	m.in = backends.AppendField(m.in, t.route.name)
	m.in = backends.AppendField(m.in, t.channel)
	m.in = c.AppendCanonical(m.in)
	if req.isPublish {
		m.in = backends.AppendField(m.in, "publish")
	}
	m.in = i.appendIdentityFields(m.in, t, c, req, viewer)
	m.in = binary.BigEndian.AppendUint64(m.in, prefix)
	m.hash.Reset()
	m.hash.Write(m.in)
	return backends.SessionID(m.hash.Sum(m.sum[:0])[:16])
}

// appendIdentityFields appends what tells the route's viewers apart beside their credentials. Viewers without credentials
// are told apart by address and player, because a backend can decide on nothing else.
func (i *sessionHasher) appendIdentityFields(in []byte, t *target, c *backends.Credentials, req *Request, viewer client) []byte {
	agent := req.Header.Get("User-Agent")
	fields := t.route.identity
	if fields.edgeSession && req.edgeSession != "" {
		in = backends.AppendField(append(in, 'e'), req.edgeSession)
	}
	if c.IsEmpty() {
		in = backends.AppendField(in, viewer.address.String())
		return backends.AppendField(in, agent)
	}
	if fields.playback {
		if p := req.Header.Get("X-Playback-Session-Id"); p != "" && i.playbackIDs.accept(in, p, time.Now()) {
			return backends.AppendField(append(in, 'p'), p)
		}
	}
	if fields.address {
		in = binary.BigEndian.AppendUint64(append(in, 'a'), networkPrefix(viewer.address))
	}
	if fields.agent {
		in = backends.AppendField(append(in, 'u'), agent)
	}
	return in
}

const (
	// maxPlaybacks is how many X-Playback-Session-Id values count per credentials. The client chooses the value, so
	// without a bound one viewer could open sessions at will.
	maxPlaybacks = 8
	// playbackTTL is how long a value counts against that bound.
	playbackTTL = time.Hour
	// maxPlaybackOwners bounds the credentials whose values are remembered.
	maxPlaybackOwners = 100_000
)

// playbackIDs remembers which playback ids came with which credentials. It is safe for concurrent use.
type playbackIDs struct {
	seed   maphash.Seed
	owners *otter.Cache[uint64, *playbackSet]
}

type playbackSet struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPlaybackIDs() playbackIDs {
	return playbackIDs{seed: maphash.MakeSeed(), owners: otter.Must(&otter.Options[uint64, *playbackSet]{
		MaximumSize:      maxPlaybackOwners,
		ExpiryCalculator: otter.ExpiryAccessing[uint64, *playbackSet](playbackTTL),
	})}
}

// accept reports whether the value is one of the maxPlaybacks that count for its owner.
func (p *playbackIDs) accept(owner []byte, value string, now time.Time) bool {
	set, _ := p.owners.ComputeIfAbsent(maphash.Bytes(p.seed, owner), func() (*playbackSet, bool) {
		return &playbackSet{seen: make(map[uint64]time.Time)}, false
	})
	set.mu.Lock()
	defer set.mu.Unlock()
	key := maphash.String(p.seed, value)
	if _, known := set.seen[key]; !known && len(set.seen) >= maxPlaybacks {
		for k, at := range set.seen {
			if now.Sub(at) > playbackTTL {
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
