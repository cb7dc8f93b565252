package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"usher/backends"
)

// errSealed is why something could not be opened: its key is not among ours, or it is not what was sealed.
var errSealed = errors.New("cannot be opened with any of cluster.encryption_keys")

// keyring hides what tells of viewers from whoever can read Redis, and keys the hashes that stand in for their names. It
// is safe for concurrent use.
//
// Sealed is: the length of the key's id, the id, a nonce of 12 bytes, AES-256-GCM's ciphertext with its tag. The key is
// one of its own for each thing that something is sealed about, so that no key ever sees so many messages that two
// random nonces could be the same.
type keyring struct {
	first string
	keys  map[string][]byte // by id: the master keys of sealing
	names [][]byte          // key the hashes, the first key's first
}

// newKeyring derives what it needs from the keys, of which there must be one at least.
func newKeyring(keys []backends.Key) (*keyring, error) {
	s := &keyring{keys: make(map[string][]byte, len(keys))}
	for i, k := range keys {
		master, err := derive(k, "usher cluster seal 1")
		if err != nil {
			return nil, err
		}
		s.keys[k.ID] = master
		names, err := derive(k, "usher cluster names 1")
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, names)
		if i == 0 {
			s.first = k.ID
		}
	}
	if s.first == "" {
		return nil, errors.New("cluster.encryption_keys: none")
	}
	return s, nil
}

func derive(k backends.Key, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(k.Secret.Reveal()), nil, purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("cluster.encryption_keys: derive from %q: %w", k.ID, err)
	}
	return key, nil
}

// seal hides plain. It opens only when the same is said about it: what it is, and whose.
func (s *keyring) seal(plain []byte, about string) []byte {
	aead := s.aead(s.keys[s.first], about)
	sealed := make([]byte, 0, 1+len(s.first)+aead.Overhead()+len(plain))
	sealed = append(sealed, byte(len(s.first)))
	sealed = append(sealed, s.first...)
	return aead.Seal(sealed, nil, plain, nil)
}

// open returns what was sealed, or errSealed.
func (s *keyring) open(sealed []byte, about string) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) <= int(sealed[0]) {
		return nil, errSealed
	}
	end := 1 + int(sealed[0]) // as a byte it would run over
	id, rest := sealed[1:end], sealed[end:]
	master, known := s.keys[string(id)]
	if !known {
		return nil, errSealed
	}
	plain, err := s.aead(master, about).Open(nil, nil, rest, nil)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// aead is the cipher of what is sealed about one thing; its nonces are random and stand before the ciphertext.
func (s *keyring) aead(master []byte, about string) cipher.AEAD {
	mac := hmac.New(sha256.New, master)
	mac.Write([]byte(about))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic("BUG: " + err.Error()) // only the key's length can be wrong
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return aead
}

// hash stands in for a name: the same on every node that has the same first key, and nothing to whoever has none.
func (s *keyring) hash(purpose, name string) string { return hashUnder(s.names[0], purpose, name) }

// hashes are those of a name under all keys, for what was hashed before the keys were changed.
func (s *keyring) hashes(purpose, name string) []string {
	all := make([]string, len(s.names))
	for i, key := range s.names {
		all[i] = hashUnder(key, purpose, name)
	}
	return all
}

func hashUnder(key []byte, purpose, name string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(name))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// userHash is what [keys.user] names a user by.
func (s *keyring) userHash(user string) string { return s.hash("user", user) }
