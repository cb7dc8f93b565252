package httpbackend

import (
	"net/url"
	"slices"
	"strings"
)

// Parameter is a query parameter that we set ourselves, neither part escaped.
type Parameter struct{ Name, Value string }

// joinQuery is the raw query that a backend gets: the address's own, what we add, then the viewer's.
//
// A viewer's parameter that has the name of one of ours is left out; the others stay byte for byte, in their order,
// duplicates and all. Only what cannot stand in a request line (controls, space) or would end the query there ('#') is
// escaped: raw, it would cut off or smuggle in what follows.
func joinQuery(address string, ours []Parameter, viewer string) string {
	var out strings.Builder
	out.Grow(len(address) + len(viewer) + 32*len(ours) + 1)
	out.WriteString(address)
	for _, p := range ours {
		appendSeparator(&out)
		out.WriteString(escapeComponent(p.Name))
		out.WriteByte('=')
		out.WriteString(escapeComponent(p.Value))
	}
	names := parameterNames(address)
	for _, p := range ours {
		names = append(names, canonicalName(escapeComponent(p.Name)))
	}
	if viewer = escapeUnsafe(removeParameters(viewer, names)); viewer != "" {
		appendSeparator(&out)
		out.WriteString(viewer)
	}
	return out.String()
}

// QueryValue is the first value of that name in a viewer's raw query which is not empty, unescaped; "" if there is none.
// What is escaped badly stays as it is.
func QueryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if n, value, _ := strings.Cut(pair, "="); value != "" && unescapeValue(n) == name {
			return unescapeValue(value)
		}
	}
	return ""
}

func unescapeValue(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

func appendSeparator(out *strings.Builder) {
	if out.Len() > 0 {
		out.WriteByte('&')
	}
}

// parameterNames lists the names in a raw query.
func parameterNames(query string) []string {
	var names []string
	for len(query) > 0 {
		var piece string
		piece, _, query = nextParameter(query)
		names = append(names, parameterName(piece))
	}
	return names
}

// removeParameters leaves out the parameters that have one of the names.
func removeParameters(query string, names []string) string {
	if len(names) == 0 {
		return query
	}
	kept := make([]byte, 0, len(query))
	separator, first := "", true
	for rest := query; len(rest) > 0; {
		var piece, next string
		piece, next, rest = nextParameter(rest)
		if name := parameterName(piece); name == "" || !slices.Contains(names, name) {
			if !first {
				kept = append(kept, separator...)
			}
			kept = append(kept, piece...)
			first = false
		}
		separator = next
	}
	return string(kept)
}

// nextParameter splits a raw query at its first separator. Most middlewares split at '&' only, some at ';' too; a viewer
// must not be able to hide a parameter of ours from either.
func nextParameter(query string) (piece, separator, rest string) {
	at := strings.IndexAny(query, "&;")
	if at < 0 {
		return query, "", ""
	}
	return query[:at], query[at : at+1], query[at+1:]
}

func parameterName(piece string) string {
	name, _, _ := strings.Cut(piece, "=")
	return canonicalName(name)
}

// canonicalName is a raw parameter name as the middleware may come to see it. PHP, which most of them are written in,
// unescapes it, drops spaces in front, ends it at a NUL or '[', and reads ' ' and '.' as '_'. So "%6bey", "key[]" and
// "key" are one name.
func canonicalName(raw string) string {
	if !strings.ContainsFunc(raw, func(r rune) bool { return !isPlain(r) }) {
		return raw
	}
	name := strings.TrimLeft(unescapeLeniently(raw), " ")
	if at := strings.IndexAny(name, "\x00["); at > 0 {
		name = name[:at]
	}
	return strings.NewReplacer(" ", "_", ".", "_").Replace(name)
}

func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

// unescapeLeniently unescapes what is escaped well, and leaves the rest.
func unescapeLeniently(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out = append(out, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	default:
		return c - '0'
	}
}

// escapeUnsafe escapes what may not stand raw in a query on the wire, and nothing else.
func escapeUnsafe(query string) string {
	return escape(query, func(c byte) bool { return c > ' ' && c != 0x7f && c != '#' })
}

// escapeComponent escapes a name or value of ours: everything but RFC 3986's unreserved characters.
func escapeComponent(s string) string {
	return escape(s, func(c byte) bool { return isPlain(rune(c)) && c < 0x80 || c == '.' || c == '~' })
}

func escape(s string, keep func(byte) bool) string {
	stray := 0
	for i := range len(s) {
		if !keep(s[i]) {
			stray++
		}
	}
	if stray == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+2*stray)
	for i := range len(s) {
		if c := s[i]; keep(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(out)
}
