package hls

import "strings"

// maxExpansion bounds an expanded value or URI in bytes, so that variables that name one another cannot grow without
// bound. No server accepts a longer URI.
const maxExpansion = 8 << 10

// variables are the values that the playlist itself defines (EXT-X-DEFINE with NAME and VALUE), by name. They are needed
// to resolve URIs. Nil means none so far.
type variables map[string]string

// define reads one EXT-X-DEFINE. A variable that is imported, comes from a query, or contains an unknown one stays
// unknown.
func (v *variables) define(list attributes) {
	name, named := findAttribute(list, "NAME")
	value, given := findAttribute(list, "VALUE")
	if !named || !given {
		return
	}
	value, known := v.expand(value)
	if !known || strings.Contains(value, "{$") {
		return
	}
	if *v == nil {
		*v = variables{}
	}
	(*v)[name] = value
}

// expand replaces the known variables by their values and leaves the others. It is false beyond maxExpansion.
func (v variables) expand(text string) (expanded string, ok bool) {
	if !strings.Contains(text, "{$") {
		return text, true
	}
	var out []byte
	for {
		before, after, found := strings.Cut(text, "{$")
		name, rest, closed := strings.Cut(after, "}")
		if !found || !closed {
			out = append(out, text...)
			return string(out), len(out) <= maxExpansion
		}
		out = append(out, before...)
		if value, known := v[name]; known {
			out = append(out, value...)
		} else {
			out = append(out, text[len(before):len(text)-len(rest)]...)
		}
		if len(out) > maxExpansion {
			return "", false
		}
		text = rest
	}
}
