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
type variables map[string]value

// definitions read the EXT-X-DEFINE tags of a playlist.
type definitions struct {
	known variables
	// imported are the variables of the playlist that lists this one.
	imported variables
	// query is the raw query of the playlist's own URI. isViewersQuery reports that a viewer chose some of it.
	query          string
	isViewersQuery bool
}

// define reads one EXT-X-DEFINE. A variable whose value is not known, or contains an unknown one, stays unknown. The first
// definition of a name counts, as for players.
func (d *definitions) define(list attributes) {
	name, v, known := d.definition(list)
	if _, isDefined := d.known[name]; isDefined || !known || strings.Contains(v.text, "{$") {
		return
	}
	if d.known == nil {
		d.known = variables{}
	}
	d.known[name] = v
}

// definition returns the name and the value of one EXT-X-DEFINE.
func (d *definitions) definition(list attributes) (name string, v value, known bool) {
	if name, known = findAttribute(list, "NAME"); known {
		if v.text, known = findAttribute(list, "VALUE"); known {
			v, known = d.known.expand(v.text)
		}
		return name, v, known
	}
	if name, known = findAttribute(list, "IMPORT"); known {
		v, known = d.imported[name]
		return name, v, known
	}
	if name, known = findAttribute(list, "QUERYPARAM"); known {
		if v.text, known = queryParameter(d.query, name); known && d.isViewersQuery {
			v.viewers = []part{{0, len(v.text)}}
		}
	}
	return name, v, known
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
func (v variables) expand(text string) (expanded value, ok bool) {
	if !strings.Contains(text, "{$") {
		return value{text: text}, true
	}
	var out []byte
	for len(out) <= maxExpansion {
		before, after, found := strings.Cut(text, "{$")
		out = append(out, before...)
		if !found {
			expanded.text = string(out)
			return expanded, len(out) <= maxExpansion
		}
		name := after[:nameLength(after)]
		known, isKnown := v[name]
		switch rest, isReference := strings.CutPrefix(after[len(name):], "}"); {
		case isReference && isKnown:
			expanded.addViewers(known.viewers, len(out))
			out, text = append(out, known.text...), rest
		default:
			out, text = append(append(out, "{$"...), name...), after[len(name):]
		}
	}
	return value{}, false
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
		known := v[name]
		out.WriteString(url.QueryEscape(name) + "=" + known.encode())
	}
	return out.String()
}

// decodeVariables reads what encode wrote. Text of another form gives the pairs that can be read.
func decodeVariables(text string) variables {
	if text == "" {
		return nil
	}
	v := variables{}
	for pair := range strings.SplitSeq(text, "&") {
		name, encoded, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		decoded, ok := decodeValue(encoded)
		if _, isTwice := v[name]; err == nil && ok && !isTwice {
			v[name] = decoded
		}
	}
	return v
}
