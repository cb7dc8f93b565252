// Package mac computes HMAC-SHA-256 under a key that is used at each request. Making a MAC costs several times as much as using
// it, and allocates. So a [Pool] keeps those that were made, each with the buffers that its calls need.
//
// Decided: the buffers are a type parameter. What a hash or a cipher writes to escapes, so that a buffer on the stack would be
// allocated for each call.
package mac

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// Pool keeps the MACs of one key. B is the type of their buffers. Safe for concurrent use.
type Pool[B any] struct{ pool sync.Pool }

// NewPool returns the pool of a key, which must not be changed.
func NewPool[B any](key []byte) *Pool[B] {
	p := new(Pool[B])
	p.pool.New = func() any { return &MAC[B]{hash: hmac.New(sha256.New, key)} }
	return p
}

// Get returns a MAC for the caller alone, until Put. In and Buffers hold what was left there.
func (p *Pool[B]) Get() *MAC[B] {
	m, _ := p.pool.Get().(*MAC[B])
	return m
}

// Put gives a MAC back.
func (p *Pool[B]) Put(m *MAC[B]) { p.pool.Put(m) }

// MAC computes one sum after the other, for one goroutine at a time.
type MAC[B any] struct {
	// In is for the bytes of which Sum is asked. Its memory is kept: begin with m.In[:0].
	In []byte
	// Buffers are the caller's.
	Buffers B

	hash hash.Hash
	sum  [sha256.Size]byte
}

// Sum returns the MAC of the parts, one after the other. It is valid until the next call.
func (m *MAC[B]) Sum(parts ...[]byte) []byte {
	m.hash.Reset()
	for _, part := range parts {
		m.hash.Write(part)
	}
	return m.hash.Sum(m.sum[:0])
}
