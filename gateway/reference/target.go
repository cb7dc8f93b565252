package reference

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"usher/backends"
	"usher/gateway/hls"
)

// Target is what a reference says.
type Target struct {
	// Role is what the tag said that listed the URI.
	Role hls.Role
	// Origin is the name of the origin in the settings; empty: the route's.
	Origin string
	// Base is the scheme and host, such as "https://edge-3.example.com:8443", of a host other than the origin's own addresses;
	// empty: those.
	Base string
	// Path is the path as the playlist lists it, escaped. It begins with "/".
	Path string
	// Query is the query as listed, without "?".
	Query string
	// Variables are what a playlist below may import. The caller encodes them.
	Variables string
	// Version tells apart what an origin lists again under one name; 0: none.
	Version uint64
}

// The encoding of a target is its head, then the origin, the base, the query and the variables, each after its length, then
// the version, and then the path up to the end. Fields that are empty are left out. So is the last segment of the path
// where it is the name in the scope.
//
// Each target has one encoding, and each encoding one target.

// The bits of the head. The two lowest are the role.
const (
	roleBits    = 0x03
	hasOrigin   = 0x04
	hasBase     = 0x08
	hasQuery    = 0x10
	hasVariable = 0x20
	hasVersion  = 0x40
	endsInName  = 0x80
)

// appendTarget appends the encoding of a target under a name.
func appendTarget(dst []byte, t *Target, name string) []byte {
	if t.Role > hls.Document {
		panic("BUG: seal the unknown " + t.Role.String())
	}
	head := len(dst)
	dst = append(dst, byte(t.Role))
	for _, f := range [...]struct {
		bit  byte
		text string
	}{{hasOrigin, t.Origin}, {hasBase, t.Base}, {hasQuery, t.Query}, {hasVariable, t.Variables}} {
		if f.text != "" {
			dst[head] |= f.bit
			dst = backends.AppendField(dst, f.text)
		}
	}
	if t.Version != 0 {
		dst[head] |= hasVersion
		dst = binary.AppendUvarint(dst, t.Version)
	}
	path := t.Path
	if above, ok := cutName(path, name); ok {
		dst[head] |= endsInName
		path = above
	}
	return append(dst, path...)
}

// cutName returns the path without its last segment, if that is the name.
func cutName(path, name string) (above string, ok bool) {
	at := len(path) - len(name)
	if name == "" || at < 1 || path[at-1] != '/' || path[at:] != name || strings.IndexByte(name, '/') >= 0 {
		return path, false
	}
	return path[:at], true
}

// parseTarget reads the encoding of a target under a name. It refuses everything that appendTarget does not write, and a path
// that does not begin with "/". The texts of the target point into the returned memory, which is b or has grown out of it.
func parseTarget(b []byte, name string) (t Target, memory []byte, ok bool) {
	if len(b) == 0 {
		return Target{}, b, false
	}
	head := b[0]
	if head&endsInName != 0 {
		b = append(b, name...)
	}
	rest := b[1:]
	t.Role = hls.Role(head & roleBits)
	for _, f := range [...]struct {
		bit  byte
		text *string
	}{{hasOrigin, &t.Origin}, {hasBase, &t.Base}, {hasQuery, &t.Query}, {hasVariable, &t.Variables}} {
		if head&f.bit == 0 {
			continue
		}
		var size uint64
		if size, rest, ok = cutNumber(rest); !ok || size > uint64(len(rest)) {
			return Target{}, b, false
		}
		*f.text, rest = view(rest[:size]), rest[size:]
	}
	if head&hasVersion != 0 {
		if t.Version, rest, ok = cutNumber(rest); !ok {
			return Target{}, b, false
		}
	}
	t.Path = view(rest)
	if !strings.HasPrefix(t.Path, "/") {
		return Target{}, b, false
	}
	_, ends := cutName(t.Path, name)
	if ends != (head&endsInName != 0) {
		return Target{}, b, false
	}
	return t, b, true
}

// cutNumber reads a number that is not 0, in its shortest form.
func cutNumber(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// view returns bytes as a text, without a copy. The text changes with the bytes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // audited: see above
