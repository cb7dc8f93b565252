package backends

import (
	"encoding/binary"
	"net/url"
	"strings"
)

// Credentials are what a viewer sends to prove what they may watch. The zero value is empty.
type Credentials struct {
	// Query is a raw query without '?', byte for byte as the viewer sent it.
	Query string
	// Headers are the header fields that the route names as credentials, in the route's order.
	Headers []Header
}

// Credentials returns the viewer's credentials.
func (r *Request) Credentials() Credentials { return Credentials{Query: r.Query, Headers: r.Headers} }

// IsEmpty reports whether the viewer sent none.
func (c Credentials) IsEmpty() bool { return c.Query == "" && len(c.Headers) == 0 }

// AppendCanonical appends a form that is the same however a player spells the query ("%2F" for "/", "+" for "%20"), and
// differs for any two credentials that differ otherwise. It is for hashing: it holds secrets and is not meant to be read.
func (c Credentials) AppendCanonical(dst []byte) []byte {
	if c.Query == "" {
		dst = binary.AppendUvarint(dst, 0)
	} else {
		dst = binary.AppendUvarint(dst, uint64(strings.Count(c.Query, "&")+1))
		for pair := range strings.SplitSeq(c.Query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			dst = AppendField(dst, UnescapeQuery(name))
			dst = AppendField(dst, UnescapeQuery(value))
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Headers)))
	for _, h := range c.Headers {
		dst = AppendField(dst, h.Name)
		dst = AppendField(dst, h.Value)
	}
	return dst
}

// AppendField appends a text after its length, so that no two lists of fields give the same bytes.
func AppendField(dst []byte, field string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(field)))
	return append(dst, field...)
}

// UnescapeQuery decodes a name or value of a query. Text that cannot be decoded stays as it is.
func UnescapeQuery(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}
