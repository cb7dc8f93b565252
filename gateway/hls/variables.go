package hls

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// maxExpansion bounds an expanded value or URI in bytes, so that variables that name one another cannot grow without
// bound. No server accepts a longer URI.
const maxExpansion = 8 << 10

// variables are the values that a playlist knows (EXT-X-DEFINE), by name. They are needed to resolve URIs. Nil means none
// so far.
type variables map[string]string

// definitions read the EXT-X-DEFINE tags of a playlist.
type definitions struct {
	known variables
	// imported are the variables of the playlist that lists this one.
	imported variables
	// query is the raw query of the playlist's own URI.
	query string
}

// define reads one EXT-X-DEFINE. A variable whose value is not known, or contains an unknown one, stays unknown. The first
// definition of a name counts, as for players.
func (d *definitions) define(list attributes) {
	name, value, known := d.definition(list)
	if _, isDefined := d.known[name]; isDefined || !known || strings.Contains(value, "{$") {
		return
	}
	if d.known == nil {
		d.known = variables{}
	}
	d.known[name] = value
}

// definition returns the name and the value of one EXT-X-DEFINE.
func (d *definitions) definition(list attributes) (name, value string, known bool) {
	if name, known = findAttribute(list, "NAME"); known {
		if value, known = findAttribute(list, "VALUE"); known {
			value, known = d.known.expand(value)
		}
		return name, value, known
	}
	if name, known = findAttribute(list, "IMPORT"); known {
		value, known = d.imported[name]
		return name, value, known
	}
	if name, known = findAttribute(list, "QUERYPARAM"); known {
		value, known = queryParameter(d.query, name)
	}
	return name, value, known
}

// queryParameter returns the decoded value of a query's first parameter of that name.
func queryParameter(query, name string) (string, bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(key); err != nil || key != name {
			continue
		}
		value, err := url.QueryUnescape(value)
		return value, err == nil
	}
	return "", false
}

// expand replaces the known variables by their values and leaves the others. It is false beyond maxExpansion.
func (v variables) expand(text string) (expanded string, ok bool) {
	if !strings.Contains(text, "{$") {
		return text, true
	}
	var out []byte
	for len(out) <= maxExpansion {
		before, after, found := strings.Cut(text, "{$")
		out = append(out, before...)
		if !found {
			return string(out), len(out) <= maxExpansion
		}
		name := after[:nameLength(after)]
		value, known := v[name]
		switch rest, isReference := strings.CutPrefix(after[len(name):], "}"); {
		case isReference && known:
			out, text = append(out, value...), rest
		default:
			out, text = append(append(out, "{$"...), name...), after[len(name):]
		}
	}
	return "", false
}

// nameLength returns how many characters at the beginning of a text can be those of a variable's name.
func nameLength(text string) int {
	for i := range len(text) {
		letter, digit := text[i]|0x20 >= 'a' && text[i]|0x20 <= 'z', text[i] >= '0' && text[i] <= '9'
		if !letter && !digit && text[i] != '-' && text[i] != '_' {
			return i
		}
	}
	return len(text)
}

// encode returns the variables as a query, sorted, so that the same ones give the same text.
func (v variables) encode() string {
	var out strings.Builder
	for i, name := range slices.Sorted(maps.Keys(v)) {
		if i > 0 {
			out.WriteByte('&')
		}
		out.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(v[name]))
	}
	return out.String()
}

// decodeVariables reads what encode wrote. Text of another form gives the pairs that can be read.
func decodeVariables(text string) variables {
	if text == "" {
		return nil
	}
	values, _ := url.ParseQuery(text)
	v := make(variables, len(values))
	for name, all := range values {
		v[name] = all[0]
	}
	return v
}
