package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// generationSize bounds each of the cache's two generations; both take some 5 MB when full.
const generationSize = 1 << 15

// passwordCache holds correct passwords, by a keyed hash of login, stored hash and password. Without the key no password
// can be guessed from it, and a new stored hash invalidates an entry.
//
// When the young generation is full it becomes the old one, and the previous old one is dropped. Safe for concurrent use.
type passwordCache struct {
	secret []byte
	limit  int

	mu         sync.Mutex
	young, old map[fingerprint]struct{}
}

func newPasswordCache(secret []byte, limit int) *passwordCache {
	return &passwordCache{secret: secret, limit: limit, young: map[fingerprint]struct{}{}}
}

// keyOf returns an entry's key. It prefixes each part with its length, so that different parts never have one key.
func (c *passwordCache) keyOf(login, stored, password string) fingerprint {
	mac := hmac.New(sha256.New, c.secret)
	for _, part := range []string{login, stored, password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return fingerprint(mac.Sum(nil))
}

func (c *passwordCache) contains(key fingerprint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[key]; ok {
		return true
	}
	_, ok := c.old[key]
	if ok { // keep used entries
		c.putLocked(key)
	}
	return ok
}

func (c *passwordCache) add(key fingerprint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key)
}

// putLocked adds an entry. The caller holds the lock.
func (c *passwordCache) putLocked(key fingerprint) {
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[fingerprint]struct{}, c.limit)
	}
	c.young[key] = struct{}{}
}
