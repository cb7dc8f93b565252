package ticket

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/mac"
	"usher/backends/setting"
)

const (
	idSize     = len(backends.SessionID{})
	timeOffset = idSize
	tagOffset  = timeOffset + 4
	macOffset  = tagOffset + len(Tag{})
	macSize    = 12
	size       = macOffset + macSize
	// Chars is how many characters follow the key's id and the dot.
	Chars = size / 3 * 4
)

// MaxDepth is the greatest depth that a ticket can say.
const MaxDepth = 30

// domain separates a ticket's MAC from any other use of the same secret.
const domain = "usher ticket 2"

// Tag tells whether an address is the one for which a ticket was issued, without memory or store. It is derived of the
// session's id and subscriber prefix.
type Tag [4]byte

// NewTag returns the tag of a prefix, of which mac is a keyed hash of at least 4 bytes.
func NewTag(mac []byte, isIPv6 bool) Tag {
	t := Tag(mac[:4])
	t[0] &^= tagIPv6
	if isIPv6 {
		t[0] |= tagIPv6
	}
	return t
}

// tagIPv6 is the bit of the first byte that tells the family of the address.
const tagIPv6 = 0x80

// IsIPv6 reports whether the ticket was issued for an IPv6 address.
func (t Tag) IsIPv6() bool { return t[0]&tagIPv6 != 0 }

// Scope is what a ticket is valid for.
type Scope struct {
	Route, Channel string
	// Folder is the folder below the channel that the ticket opens, with all below it; empty: the channel's own.
	Folder string
	// Depth is how many names Folder has or, where the channel itself has folders, how many slashes the channel has. The
	// ticket says it, so that it is known which of a path's folders is meant, and the MAC is over that folder or channel. It is
	// at most MaxDepth.
	Depth int
}

// Claims are what a verified ticket says.
type Claims struct {
	ID backends.SessionID
	session.Ticket
	Tag Tag
}

// Nobody returns the claims of a ticket that admits nobody: it stands where players expect one, in the URIs of a viewer who
// is served although they were refused.
func Nobody(id backends.SessionID) Claims {
	return Claims{ID: id, Ticket: session.Ticket{Opened: time.Unix(0, 0)}}
}

// AdmitsNobody reports whether a ticket was signed for claims of [Nobody].
func (c Claims) AdmitsNobody() bool { return !c.IsZero() && c.Opened.Unix() == 0 }

// Signer signs and verifies tickets. It is safe for concurrent use.
type Signer struct {
	signing *key
	keys    map[string]*key
}

// key is a key with its MACs, each with a buffer for a ticket.
type key struct {
	id   string
	macs *mac.Pool[[size]byte]
}

// NewSigner returns a signer that signs with the first key and verifies with all.
func NewSigner(keys []setting.Key) *Signer {
	s := &Signer{keys: make(map[string]*key, len(keys))}
	for _, k := range keys {
		made := &key{id: k.ID, macs: mac.NewPool[[size]byte]([]byte(k.Secret.Reveal()))}
		s.keys[k.ID] = made
		if s.signing == nil {
			s.signing = made
		}
	}
	return s
}

// SigningKey returns the id of the key that signs new tickets.
func (s *Signer) SigningKey() string { return s.signing.id }

// Sign returns the session's ticket. The text is the same at any time and on any node as long as the session's key is
// configured; then the signing key replaces it.
func (s *Signer) Sign(c Claims, scope Scope) string {
	return string(s.AppendSigned(make([]byte, 0, UsualSize), c, scope))
}

// UsualSize is a ticket's size in bytes with a key id of up to 20 characters. Operators may give longer ones.
const UsualSize = Chars + 22

// AppendSigned appends what Sign returns. It does not allocate where dst has room.
func (s *Signer) AppendSigned(dst []byte, c Claims, scope Scope) []byte {
	k := s.keys[c.KeyID]
	if k == nil {
		k = s.signing
	}
	m := k.macs.Get()
	defer k.macs.Put(m)
	copy(m.Buffers[:], c.ID[:])
	binary.BigEndian.PutUint32(m.Buffers[timeOffset:], uint32(c.Opened.Unix()))
	copy(m.Buffers[tagOffset:], c.Tag[:])
	copy(m.Buffers[macOffset:], compute(m, k.id, scope))
	dst = base64.RawURLEncoding.AppendEncode(append(append(dst, k.id...), '.'), m.Buffers[:])
	return append(dst, scope.hint()...)
}

// hint returns the character at the end of a ticket that says its depth; none for the whole channel.
func (s Scope) hint() string {
	if s.Depth == 0 {
		return ""
	}
	return hints[s.Depth : s.Depth+1]
}

// hints are the characters of depths, in order.
const hints = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcde"

// Depth returns what a ticket says of the depth of its scope. Verify it with the folder or channel that has that depth.
func Depth(text string) int {
	_, body, _ := strings.Cut(text, ".")
	if len(body) != Chars+1 {
		return 0
	}
	return max(0, strings.IndexByte(hints, body[Chars]))
}

// Verify parses a ticket and reports whether it is valid for the scope.
func (s *Signer) Verify(text string, scope Scope) (Claims, bool) {
	id, body, found := strings.Cut(text, ".")
	if !found || !strings.HasSuffix(body, scope.hint()) {
		return Claims{}, false
	}
	if body = body[:len(body)-len(scope.hint())]; len(body) != Chars {
		return Claims{}, false
	}
	k := s.keys[id]
	if k == nil {
		return Claims{}, false
	}
	m := k.macs.Get()
	defer k.macs.Put(m)
	m.In = append(m.In[:0], body...)
	// The decoder skips newlines and stops at what it cannot read, so that all is there only if every character counts.
	if n, _ := base64.RawURLEncoding.Decode(m.Buffers[:], m.In); n != size {
		return Claims{}, false
	}
	if !hmac.Equal(m.Buffers[macOffset:], compute(m, k.id, scope)) {
		return Claims{}, false
	}
	c := Claims{Ticket: session.Ticket{
		Opened: time.Unix(int64(binary.BigEndian.Uint32(m.Buffers[timeOffset:])), 0),
		KeyID:  k.id,
	}}
	copy(c.ID[:], m.Buffers[:])
	copy(c.Tag[:], m.Buffers[tagOffset:])
	return c, true
}

// HasUnknownKey reports whether a text looks like a ticket of a key that is not configured: it was removed, or another node
// has it.
func (s *Signer) HasUnknownKey(text string) bool {
	id, body, _ := strings.Cut(text, ".")
	return s.keys[id] == nil && (len(body) == Chars || len(body) == Chars+1)
}

// compute returns the MAC over what the raw ticket says, for the scope. The result is valid until the next call.
func compute(m *mac.MAC[[size]byte], keyID string, scope Scope) []byte {
	m.In = append(m.In[:0], domain...)
	m.In = backends.AppendField(m.In, keyID)
	m.In = backends.AppendField(m.In, scope.Route)
	m.In = backends.AppendField(m.In, scope.Channel)
	m.In = backends.AppendField(m.In, scope.Folder)
	m.In = append(m.In, m.Buffers[:macOffset]...)
	return m.Sum(m.In)[:macSize]
}
