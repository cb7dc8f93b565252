package reference

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"

	"usher/backends"
	"usher/backends/mac"
	"usher/backends/setting"
)

const (
	// tagSize is the number of bytes of a tag, which is also the first counter block.
	tagSize = aes.BlockSize
	// MinChars is the least number of characters of a reference: a tag, a head and a path of "/".
	MinChars = ((tagSize+2)*8 + 5) / 6
	// MaxChars is the greatest number of characters that are opened, so that a forged text costs little.
	MaxChars = 4096
)

// domain separates a tag from any other MAC. It changes with what is below the tag.
const domain = "usher reference 1"

// Scope is where a reference may be used. The tag covers it; it is not written.
type Scope struct {
	Route, Channel, Folder string
	// Name is the decoded last segment of the path behind which the reference is written.
	Name string
}

// Sealer seals and opens references. It is safe for concurrent use.
type Sealer struct {
	// keys begin with the one that seals if the caller names none. There are few, so that a search is as fast as a map.
	keys     []*key
	encoding *base64.Encoding
}

type key struct {
	id    string
	block cipher.Block
	macs  *mac.Pool[buffers]
}

// buffers are what sealing needs.
type buffers struct{ plain, sealed []byte }

// Buffer is the memory of one request, for one call at a time. Its zero value is ready to use, and use makes it grow once.
type Buffer struct {
	sealed []byte // a tag and a ciphertext
	plain  []byte // the text, and then what it says
}

// NewSealer returns a sealer that seals with the first key and opens with all. Without keys it cannot seal. Its own keys are
// derived from them, so that they serve for tickets too.
func NewSealer(keys []setting.Key) *Sealer {
	s := &Sealer{encoding: base64.RawURLEncoding.Strict()}
	for _, k := range keys {
		macKey := derive(k, "usher reference mac 1")
		block, err := aes.NewCipher(derive(k, "usher reference encryption 1"))
		if err != nil {
			panic("BUG: " + err.Error()) // only the key's length can be wrong
		}
		s.keys = append(s.keys, &key{id: k.ID, block: block, macs: mac.NewPool[buffers](macKey)})
	}
	return s
}

func derive(k setting.Key, purpose string) []byte {
	derived, err := hkdf.Key(sha256.New, []byte(k.Secret.Reveal()), nil, purpose, sha256.Size)
	if err != nil {
		panic("BUG: " + err.Error()) // only the length can be wrong
	}
	return derived
}

// find returns the key of an id, or nil.
func (s *Sealer) find(id string) *key {
	for _, k := range s.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// AppendSealed appends the reference to a target. It is the same on every node that has the key. The first key seals if keyID
// is empty or unknown. A path that does not begin with "/", and a text of more than MaxChars characters, cannot be opened.
func (s *Sealer) AppendSealed(dst []byte, keyID string, t *Target, scope *Scope) []byte {
	k := s.find(keyID)
	if k == nil {
		k = s.keys[0]
	}
	m := k.macs.Get()
	defer k.macs.Put(m)
	b := &m.Buffers
	b.plain = appendTarget(b.plain[:0], t, scope.Name)
	tag := tagOf(m, k.id, scope, b.plain)
	b.sealed = append(b.sealed[:0], tag...)
	b.sealed = appendXOR(b.sealed, k.block, tag, b.plain)
	return s.encoding.AppendEncode(dst, b.sealed)
}

// IsReference reports whether a segment of a path, without the "~" before it, can be a reference. A folder of that form cannot
// be told from one.
func IsReference(segment string) bool {
	if len(segment) < MinChars {
		return false
	}
	for i := range len(segment) {
		switch c := segment[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// Open returns the target of a reference, and whether a key sealed that for the scope. The key of keyID is tried first, then
// the others. The texts of the target point into buf: they are valid until its next use.
func (s *Sealer) Open(buf *Buffer, keyID, text string, scope *Scope) (Target, bool) {
	if !s.decode(buf, text) {
		return Target{}, false
	}
	first := s.find(keyID)
	isOpen := first != nil && first.open(buf, scope)
	for i := 0; i < len(s.keys) && !isOpen; i++ {
		isOpen = s.keys[i] != first && s.keys[i].open(buf, scope)
	}
	if !isOpen {
		return Target{}, false
	}
	t, memory, ok := parseTarget(buf.plain, scope.Name)
	buf.plain = memory
	return t, ok
}

// decode puts the bytes of a text into the buffer. Each content has one text.
func (s *Sealer) decode(buf *Buffer, text string) bool {
	if len(text) < MinChars || len(text) > MaxChars || len(text)%4 == 1 {
		return false
	}
	size := s.encoding.DecodedLen(len(text))
	buf.plain = append(buf.plain[:0], text...)
	buf.sealed = slices.Grow(buf.sealed[:0], size)[:size]
	// The decoder skips newlines and stops at what it cannot read, so that all is there only if every character counts.
	n, _ := s.encoding.Decode(buf.sealed, buf.plain)
	return n == size
}

// open decrypts what the buffer holds, and reports whether this key sealed that for the scope.
func (k *key) open(buf *Buffer, scope *Scope) bool {
	m := k.macs.Get()
	defer k.macs.Put(m)
	tag := buf.sealed[:tagSize]
	buf.plain = appendXOR(buf.plain[:0], k.block, tag, buf.sealed[tagSize:])
	return hmac.Equal(tag, tagOf(m, k.id, scope, buf.plain))
}

// tagOf returns the tag of a plaintext for the scope. The result is valid until the next call.
func tagOf(m *mac.MAC[buffers], keyID string, scope *Scope, plain []byte) []byte {
	m.In = append(m.In[:0], domain...)
	m.In = backends.AppendField(m.In, keyID)
	m.In = backends.AppendField(m.In, scope.Route)
	m.In = backends.AppendField(m.In, scope.Channel)
	m.In = backends.AppendField(m.In, scope.Folder)
	m.In = backends.AppendField(m.In, scope.Name)
	return m.Sum(m.In, plain)[:tagSize]
}

// appendXOR appends the text under the block cipher in counter mode: it encrypts, and decrypts what it encrypted. The counter
// begins with iv and counts all of its bits, as [cipher.NewCTR] does, which allocates for each text.
func appendXOR(dst []byte, block cipher.Block, iv, text []byte) []byte {
	begin, end := len(dst), len(dst)+len(text)
	dst = slices.Grow(dst, len(text)+aes.BlockSize)[:end+aes.BlockSize]
	counter := [aes.BlockSize]byte(iv)
	for at := begin; at < end; at += aes.BlockSize {
		stream := dst[at : at+aes.BlockSize]
		copy(stream, counter[:])
		block.Encrypt(stream, stream)
		for i := len(counter) - 1; i >= 0; i-- {
			if counter[i]++; counter[i] != 0 {
				break
			}
		}
	}
	subtle.XORBytes(dst[begin:end], dst[begin:end], text)
	return dst[:end]
}
