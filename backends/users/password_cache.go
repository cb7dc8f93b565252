package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// generation is how many passwords are remembered in each of two generations; both take some 5 MB when full.
const generation = 1 << 15

// memory remembers which passwords were right, by a keyed hash of login, stored hash and password. So it holds nothing
// that a password could be guessed from without the key, and an entry is void as soon as the stored hash changes.
//
// When a generation is full it becomes the old one, and the one before it is forgotten. Safe for concurrent use.
type memory struct {
	secret []byte
	limit  int

	mu       sync.Mutex
	new, old map[fingerprint]struct{}
}

func newMemory(secret []byte, limit int) *memory {
	return &memory{secret: secret, limit: limit, new: map[fingerprint]struct{}{}}
}

// keyOf puts each part's length before it, so that no two triples are the same bytes.
func (m *memory) keyOf(login, stored, password string) fingerprint {
	mac := hmac.New(sha256.New, m.secret)
	for _, part := range []string{login, stored, password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return fingerprint(mac.Sum(nil))
}

func (m *memory) holds(key fingerprint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.new[key]; ok {
		return true
	}
	_, ok := m.old[key]
	if ok { // what is used stays
		m.put(key)
	}
	return ok
}

func (m *memory) add(key fingerprint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(key)
}

// put needs the lock.
func (m *memory) put(key fingerprint) {
	if len(m.new) >= m.limit {
		m.old, m.new = m.new, make(map[fingerprint]struct{}, m.limit)
	}
	m.new[key] = struct{}{}
}
