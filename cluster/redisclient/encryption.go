package redisclient

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"usher/backends/mac"
	"usher/backends/setting"
)

// errDecrypt reports that data cannot be decrypted: its key is not in the list, or no node of the cluster wrote it.
var errDecrypt = errors.New("cannot be decrypted with any of cluster.encryption_keys")

// Cipher encrypts what Redis holds of viewers, and hashes their names. It is safe for concurrent use.
//
// An encrypted value is: the length of the key's id, the id, a nonce of 12 bytes, the ciphertext of AES-256-GCM with its
// tag. Each purpose has a key of its own, so that no key ever encrypts so many values that two random nonces could be
// equal.
type Cipher struct {
	encryptingID string
	masterKeys   map[string]*mac.Pool[struct{}] // by id
	hashKeys     []*mac.Pool[struct{}]          // in the order of the list
}

// NewCipher derives what it needs from the keys, of which there must be at least one. The first key encrypts and hashes,
// all of them decrypt.
func NewCipher(keys []setting.Key) (*Cipher, error) {
	if len(keys) == 0 {
		return nil, errors.New("cluster.encryption_keys: none")
	}
	c := &Cipher{encryptingID: keys[0].ID, masterKeys: make(map[string]*mac.Pool[struct{}], len(keys))}
	for _, k := range keys {
		master, err := derive(k, "usher cluster encryption 1")
		if err != nil {
			return nil, err
		}
		c.masterKeys[k.ID] = mac.NewPool[struct{}](master)
		hashKey, err := derive(k, "usher cluster hashes 1")
		if err != nil {
			return nil, err
		}
		c.hashKeys = append(c.hashKeys, mac.NewPool[struct{}](hashKey))
	}
	return c, nil
}

func derive(k setting.Key, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(k.Secret.Reveal()), nil, purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("cluster.encryption_keys: derive from %q: %w", k.ID, err)
	}
	return key, nil
}

// Encrypt encrypts a value. It can be decrypted only for the same purpose, which says what the value is and whose.
func (c *Cipher) Encrypt(plain []byte, purpose string) []byte {
	return c.EncryptWith(c.encryptingID, plain, purpose)
}

// EncryptWith is Encrypt with the key that has the id, or with the first one if none has it.
func (c *Cipher) EncryptWith(id string, plain []byte, purpose string) []byte {
	master, known := c.masterKeys[id]
	if !known {
		id, master = c.encryptingID, c.masterKeys[c.encryptingID]
	}
	aead := newAEAD(master, purpose)
	encrypted := make([]byte, 0, 1+len(id)+aead.Overhead()+len(plain))
	encrypted = append(encrypted, byte(len(id)))
	encrypted = append(encrypted, id...)
	return aead.Seal(encrypted, nil, plain, nil)
}

// OldKey returns the id of the key that a value which can be decrypted was encrypted with; empty: it was the first key.
func (c *Cipher) OldKey(encrypted []byte) string {
	if id := string(encrypted[1 : 1+int(encrypted[0])]); id != c.encryptingID {
		return id
	}
	return ""
}

// Decrypt returns the value that Encrypt was given for the purpose. Its error is the same whatever is wrong.
func (c *Cipher) Decrypt(encrypted []byte, purpose string) ([]byte, error) {
	if len(encrypted) == 0 || len(encrypted) <= int(encrypted[0]) {
		return nil, errDecrypt
	}
	end := 1 + int(encrypted[0]) // an int: a byte overflows at 255
	id, rest := encrypted[1:end], encrypted[end:]
	master, known := c.masterKeys[string(id)]
	if !known {
		return nil, errDecrypt
	}
	plain, err := newAEAD(master, purpose).Open(nil, nil, rest, nil)
	if err != nil {
		return nil, errDecrypt
	}
	return plain, nil
}

// newAEAD returns the cipher of one purpose. Its nonces are random and stand before the ciphertext.
func newAEAD(master *mac.Pool[struct{}], purpose string) cipher.AEAD {
	m := master.Get()
	defer master.Put(m)
	m.In = append(m.In[:0], purpose...)
	block, err := aes.NewCipher(m.Sum(m.In))
	if err != nil {
		panic("BUG: " + err.Error()) // only the key's length can be wrong
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return aead
}

// Hash returns a keyed hash of a name: the same on every node that has the same first key, and meaningless without the
// key.
func (c *Cipher) Hash(purpose, name string) string { return hashWith(c.hashKeys[0], purpose, name) }

// Hashes returns the hashes of a name under all keys, to find what was hashed before the keys were changed.
func (c *Cipher) Hashes(purpose, name string) []string {
	all := make([]string, len(c.hashKeys))
	for i, key := range c.hashKeys {
		all[i] = hashWith(key, purpose, name)
	}
	return all
}

// UserHash returns the hash of a user, as [Keyspace.User] takes it.
func (c *Cipher) UserHash(user string) string { return c.Hash("user", user) }

// Number returns [Cipher.Hash] of a value as a number. It does not allocate: a node asks for one at each opening, those that it
// refuses among them.
func (c *Cipher) Number(purpose string, value []byte) uint64 {
	m := c.hashKeys[0].Get()
	defer c.hashKeys[0].Put(m)
	m.In = append(append(append(m.In[:0], purpose...), 0), value...)
	return binary.LittleEndian.Uint64(m.Sum(m.In))
}

func hashWith(key *mac.Pool[struct{}], purpose, name string) string {
	m := key.Get()
	defer key.Put(m)
	m.In = append(append(append(m.In[:0], purpose...), 0), name...)
	return base64.RawURLEncoding.EncodeToString(m.Sum(m.In)[:16])
}
