package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
)

// A ticket is "<key id>.<48 characters of URL-safe base64>". The characters are 36 bytes: the session's id (16), when it
// was opened in Unix seconds (4), and a MAC (16) over both, the key's id, the route and the channel.
const (
	ticketIDSize  = 16
	ticketMACSize = 16
	ticketSize    = ticketIDSize + 4 + ticketMACSize
	ticketChars   = ticketSize / 3 * 4
)

// ticketDomain separates a ticket's MAC from any other use of the same secret.
const ticketDomain = "usher ticket 1"

// ticketSigner signs and verifies tickets. It is safe for concurrent use.
type ticketSigner struct {
	signing *ticketKey
	keys    map[string]*ticketKey
}

// ticketKey pools MACs, because making one costs several times as much as using it.
type ticketKey struct {
	id   string
	macs sync.Pool
}

// ticketMAC is a MAC with its buffers.
type ticketMAC struct {
	hash hash.Hash
	in   []byte
	sum  [sha256.Size]byte
	raw  [ticketSize]byte
}

// newTicketSigner returns a signer that signs with the first key and verifies with all.
func newTicketSigner(keys []setting.Key) *ticketSigner {
	ring := &ticketSigner{keys: make(map[string]*ticketKey, len(keys))}
	for _, k := range keys {
		key := &ticketKey{id: k.ID}
		secret := []byte(k.Secret.Reveal())
		key.macs.New = func() any { return &ticketMAC{hash: hmac.New(sha256.New, secret)} }
		ring.keys[k.ID] = key
		if ring.signing == nil {
			ring.signing = key
		}
	}
	return ring
}

// ticketScope is what a ticket is valid for.
type ticketScope struct{ route, channel string }

// ticketClaims are what a verified ticket says.
type ticketClaims struct {
	id backends.SessionID
	session.Ticket
}

// sign returns the session's ticket. The text is the same at any time and on any node as long as the session's key is
// configured; then the signing key replaces it.
func (r *ticketSigner) sign(c ticketClaims, s ticketScope) string {
	key := r.keys[c.KeyID]
	if key == nil {
		key = r.signing
	}
	m, _ := key.macs.Get().(*ticketMAC)
	defer key.macs.Put(m)
	copy(m.raw[:], c.id[:])
	binary.BigEndian.PutUint32(m.raw[ticketIDSize:], uint32(c.Opened.Unix()))
	sum := m.compute(key.id, s)
	copy(m.raw[ticketIDSize+4:], sum)
	var text [ticketChars]byte
	base64.RawURLEncoding.Encode(text[:], m.raw[:])
	return key.id + "." + string(text[:])
}

// verify parses a ticket and reports whether it is valid for the scope. It does not allocate.
func (r *ticketSigner) verify(text string, s ticketScope) (ticketClaims, bool) {
	id, body, found := strings.Cut(text, ".")
	if !found || len(body) != ticketChars {
		return ticketClaims{}, false
	}
	key := r.keys[id]
	if key == nil {
		return ticketClaims{}, false
	}
	m, _ := key.macs.Get().(*ticketMAC)
	defer key.macs.Put(m)
	m.in = append(m.in[:0], body...)
	if n, err := base64.RawURLEncoding.Decode(m.raw[:], m.in); err != nil || n != ticketSize {
		return ticketClaims{}, false
	}
	var given [ticketMACSize]byte
	copy(given[:], m.raw[ticketIDSize+4:])
	if !hmac.Equal(given[:], m.compute(key.id, s)) {
		return ticketClaims{}, false
	}
	c := ticketClaims{Ticket: session.Ticket{
		Opened: time.Unix(int64(binary.BigEndian.Uint32(m.raw[ticketIDSize:])), 0),
		KeyID:  key.id,
	}}
	copy(c.id[:], m.raw[:ticketIDSize])
	return c, true
}

// compute returns the MAC over the raw ticket's id and time for the scope. The result is valid until the next call.
func (m *ticketMAC) compute(keyID string, s ticketScope) []byte {
	m.in = append(m.in[:0], ticketDomain...)
	m.in = backends.AppendField(m.in, keyID)
	m.in = backends.AppendField(m.in, s.route)
	m.in = backends.AppendField(m.in, s.channel)
	m.in = append(m.in, m.raw[:ticketIDSize+4]...)
	m.hash.Reset()
	m.hash.Write(m.in)
	return m.hash.Sum(m.sum[:0])[:ticketMACSize]
}
