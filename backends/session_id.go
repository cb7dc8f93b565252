package backends

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// SessionID identifies one viewer's session on one channel, on every node of a cluster. It is a keyed hash, so it reveals
// no credential. The zero value identifies no session.
type SessionID [16]byte

// String returns the id as logs, traces and the admin API show it: 22 characters of URL-safe base64.
func (id SessionID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero reports whether the id identifies no session.
func (id SessionID) IsZero() bool { return id == SessionID{} }

// Number returns the id as the number that Astra's contract demands in X-Session-ID. It has 53 bits, so that JavaScript,
// Lua and PHP hold it exactly.
func (id SessionID) Number() uint64 { return binary.BigEndian.Uint64(id[:8]) >> 11 }

// UUID returns the id as Flussonic's contract shows it, a version 8 (custom) UUID of RFC 9562.
func (id SessionID) UUID() string {
	u := id
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseSessionID parses the result of [SessionID.String]. No other text stands for the id, so that texts of ids compare as ids do.
func ParseSessionID(s string) (SessionID, error) {
	var id SessionID
	raw, err := base64.RawURLEncoding.DecodeString(s)
	copy(id[:], raw)
	if err != nil || id.String() != s {
		return SessionID{}, fmt.Errorf("session id %q: want 22 characters of URL-safe base64", s)
	}
	return id, nil
}
