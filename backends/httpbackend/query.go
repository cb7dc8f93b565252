package httpbackend

import (
	"slices"
	"strings"

	"usher/backends"
)

// Parameter is a query parameter that Usher adds. Neither part is escaped.
type Parameter struct{ Name, Value string }

// joinQuery returns the raw query of a call: the address's, then own, then the viewer's.
//
// A viewer's parameter with the name of an earlier one is left out. The others stay byte for byte, in their order,
// duplicates included. Only bytes that a request line cannot hold (controls, space) or that end the query ('#') are
// escaped: raw, they could cut off or smuggle in what follows.
func joinQuery(address string, own []Parameter, viewer string) string {
	var out strings.Builder
	out.Grow(len(address) + len(viewer) + 32*len(own) + 1)
	out.WriteString(address)
	for _, p := range own {
		appendSeparator(&out)
		out.WriteString(escapeComponent(p.Name))
		out.WriteByte('=')
		out.WriteString(escapeComponent(p.Value))
	}
	names := parameterNames(address)
	for _, p := range own {
		names = append(names, canonicalName(escapeComponent(p.Name)))
	}
	if viewer = escapeUnsafe(removeParameters(viewer, names)); viewer != "" {
		appendSeparator(&out)
		out.WriteString(viewer)
	}
	return out.String()
}

// QueryValue returns the first value of that name in a viewer's raw query that is not empty, unescaped; "" if there is
// none. A value with an invalid escape is returned raw.
func QueryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if n, value, _ := strings.Cut(pair, "="); value != "" && backends.UnescapeQuery(n) == name {
			return backends.UnescapeQuery(value)
		}
	}
	return ""
}

func appendSeparator(out *strings.Builder) {
	if out.Len() > 0 {
		out.WriteByte('&')
	}
}

// parameterNames returns the names in a raw query.
func parameterNames(query string) []string {
	var names []string
	for len(query) > 0 {
		var parameter string
		parameter, _, query = nextParameter(query)
		names = append(names, parameterName(parameter))
	}
	return names
}

// parameters returns the parameters of a raw query, unescaped, but for empty ones.
func parameters(query string) []string {
	var all []string
	for len(query) > 0 {
		var parameter string
		if parameter, _, query = nextParameter(query); parameter != "" {
			all = append(all, unescapeLeniently(parameter))
		}
	}
	return all
}

// removeParameters removes the parameters that have one of the names.
func removeParameters(query string, names []string) string {
	if len(names) == 0 {
		return query
	}
	kept := make([]byte, 0, len(query))
	separator, first := "", true
	for rest := query; len(rest) > 0; {
		var parameter, next string
		parameter, next, rest = nextParameter(rest)
		if name := parameterName(parameter); name == "" || !slices.Contains(names, name) {
			if !first {
				kept = append(kept, separator...)
			}
			kept = append(kept, parameter...)
			first = false
		}
		separator = next
	}
	return string(kept)
}

// nextParameter splits a raw query at its first separator. Most middlewares split at '&' only, some at ';' too. A viewer
// must be able to hide one of Usher's parameters from neither.
func nextParameter(query string) (parameter, separator, rest string) {
	at := strings.IndexAny(query, "&;")
	if at < 0 {
		return query, "", ""
	}
	return query[:at], query[at : at+1], query[at+1:]
}

func parameterName(parameter string) string {
	name, _, _ := strings.Cut(parameter, "=")
	return canonicalName(name)
}

// canonicalName returns a raw parameter name as a middleware may see it. PHP, the language of most, unescapes it, drops
// leading spaces, ends it at a NUL or '[', and reads ' ' and '.' as '_'. So "%6bey", "key[]" and "key" are one name.
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

// unescapeLeniently decodes the valid escapes and leaves the others.
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

// escapeUnsafe escapes the bytes that a query on the wire cannot hold, and no others.
func escapeUnsafe(query string) string {
	return escape(query, func(c byte) bool { return c > ' ' && c != 0x7f && c != '#' })
}

// escapeComponent escapes a name or value of Usher's: everything but RFC 3986's unreserved characters.
func escapeComponent(s string) string {
	return escape(s, func(c byte) bool { return isPlain(rune(c)) || c == '.' || c == '~' })
}

// escape escapes every byte that keep rejects.
func escape(s string, keep func(byte) bool) string {
	unsafe := 0
	for i := range len(s) {
		if !keep(s[i]) {
			unsafe++
		}
	}
	if unsafe == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+2*unsafe)
	for i := range len(s) {
		if c := s[i]; keep(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(out)
}
