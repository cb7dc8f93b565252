package hls

import "strings"

// longestExpansion bounds a value or a URI with its variables put in, so that variables that name one another cannot
// blow up: no server accepts a longer URI.
const longestExpansion = 8 << 10

// variables are those that the playlist defines itself (EXT-X-DEFINE with NAME and VALUE), by name. They serve to find
// out where a URI leads. Nil: none so far.
type variables map[string]string

// define reads one EXT-X-DEFINE. A variable that is imported, comes from a query, or holds one that is not known is not
// known.
func (v *variables) define(list attributes) {
	name, named := find(list, "NAME")
	value, given := find(list, "VALUE")
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

// expand puts in the variables that are known and leaves the others as they stand. It is false if the text would become
// too long.
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
			return string(out), len(out) <= longestExpansion
		}
		out = append(out, before...)
		if value, known := v[name]; known {
			out = append(out, value...)
		} else {
			out = append(out, text[len(before):len(text)-len(rest)]...)
		}
		if len(out) > longestExpansion {
			return "", false
		}
		text = rest
	}
}
