package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// generationSize is how many passwords are remembered in each of two generations; both take some 5 MB when full.
const generationSize = 1 << 15

// passwordCache remembers which passwords were right, by a keyed hash of login, stored hash and password. So it holds nothing
// that a password could be guessed from without the key, and an entry is void as soon as the stored hash changes.
//
// When a generation is full it becomes the old one, and the one before it is forgotten. Safe for concurrent use.
type passwordCache struct {
	secret []byte
	limit  int

	mu         sync.Mutex
	young, old map[fingerprint]struct{}
}

func newPasswordCache(secret []byte, limit int) *passwordCache {
	return &passwordCache{secret: secret, limit: limit, young: map[fingerprint]struct{}{}}
}

// keyOf puts each part's length before it, so that no two triples are the same bytes.
func (m *passwordCache) keyOf(login, stored, password string) fingerprint {
	mac := hmac.New(sha256.New, m.secret)
	for _, part := range []string{login, stored, password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return fingerprint(mac.Sum(nil))
}

func (m *passwordCache) contains(key fingerprint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.young[key]; ok {
		return true
	}
	_, ok := m.old[key]
	if ok { // what is used stays
		m.putLocked(key)
	}
	return ok
}

func (m *passwordCache) add(key fingerprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putLocked(key)
}

// putLocked needs the lock.
func (m *passwordCache) putLocked(key fingerprint) {
	if len(m.young) >= m.limit {
		m.old, m.young = m.young, make(map[fingerprint]struct{}, m.limit)
	}
	m.young[key] = struct{}{}
}
