package backends

import (
	"encoding/binary"
	"net/url"
	"slices"
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

// Parts returns each parameter, header and cookie of the credentials once, in order, in a form that is the same for all
// spellings that some middleware takes for one: letter case, escapes, space around a value, and what PHP makes of a name.
// A viewer who adds, repeats or reorders parameters still shows the same parts. It holds secrets.
func (c Credentials) Parts() []string {
	var parts []string
	for pair := range strings.SplitSeq(c.Query, "&") {
		if name, value, _ := strings.Cut(pair, "="); pair != "" {
			parts = append(parts, credentialPart("q", phpName(UnescapeQuery(name)), UnescapeQuery(value)))
		}
	}
	for _, h := range c.Headers {
		switch scheme, rest, hasScheme := strings.Cut(h.Value, " "); {
		case strings.EqualFold(h.Name, "Cookie"):
			for cookie := range strings.SplitSeq(h.Value, ";") {
				if name, value, _ := strings.Cut(cookie, "="); strings.TrimSpace(cookie) != "" {
					parts = append(parts, credentialPart("c", name, value))
				}
			}
		case hasScheme && strings.EqualFold(h.Name, "Authorization"):
			parts = append(parts, credentialPart("h", h.Name, scheme+" "+strings.TrimSpace(rest)))
		default:
			parts = append(parts, credentialPart("h", h.Name, h.Value))
		}
	}
	slices.Sort(parts)
	return slices.Compact(parts)
}

func credentialPart(kind, name, value string) string {
	part := AppendField([]byte(kind), normalized(name))
	return string(AppendField(part, normalized(value)))
}

func normalized(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

// phpName returns the name under which PHP shows a parameter: without leading spaces, up to a NUL, and with "_" for a space,
// a dot and an opening bracket without its end.
func phpName(name string) string {
	name, _, _ = strings.Cut(strings.TrimLeft(name, " "), "\x00")
	if before, index, isList := strings.Cut(name, "["); isList && strings.Contains(index, "]") {
		name = before
	}
	return strings.NewReplacer(" ", "_", ".", "_", "[", "_").Replace(name)
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
