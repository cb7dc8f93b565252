package hls

import "strings"

// attributes walks the attribute list of a tag, RFC 8216 §4.2, between two offsets of the playlist.
type attributes struct {
	text     string
	pos, end int
}

// attribute is one pair: its whole name, and where its value stands in the playlist, without quotes and surrounding
// blanks.
type attribute struct {
	name       string
	start, end int
	quoted     bool
}

// next gives the next pair, or false at the end of the list. A quote that is never closed ends the list: what follows it
// could be anything.
func (l *attributes) next() (attribute, bool) {
	for l.pos < l.end {
		i := strings.IndexAny(l.text[l.pos:l.end], "=,")
		if i < 0 {
			break
		}
		name := strings.Trim(l.text[l.pos:l.pos+i], blanks)
		separator := l.text[l.pos+i]
		l.pos += i + 1
		if separator == '=' {
			return l.value(name)
		}
	}
	l.pos = l.end
	return attribute{}, false
}

// value reads the value that begins at pos, and moves behind the comma that ends it.
func (l *attributes) value(name string) (attribute, bool) {
	for l.pos < l.end && (l.text[l.pos] == ' ' || l.text[l.pos] == '\t') {
		l.pos++
	}
	a := attribute{name: name, start: l.pos}
	if l.pos < l.end && l.text[l.pos] == '"' {
		length := strings.IndexByte(l.text[l.pos+1:l.end], '"')
		if length < 0 {
			l.pos = l.end
			return attribute{}, false
		}
		a.quoted = true
		a.start++
		a.end = a.start + length
		l.skipComma(a.end + 1)
	} else {
		a.end = l.skipComma(l.pos)
	}
	a.start, a.end = trim(l.text, a.start, a.end)
	return a, true
}

// skipComma moves behind the first comma at or after from, or to the end, and tells where the comma stands.
func (l *attributes) skipComma(from int) (comma int) {
	i := strings.IndexByte(l.text[from:l.end], ',')
	if i < 0 {
		l.pos = l.end
		return l.end
	}
	l.pos = from + i + 1
	return from + i
}

// blanks are what may surround a line or a value without being part of it. The carriage return of CRLF is one of them.
const blanks = " \t\r"

// trim narrows text[start:end] to what stands between its blanks.
func trim(text string, start, end int) (int, int) {
	for start < end && strings.IndexByte(blanks, text[start]) >= 0 {
		start++
	}
	for start < end && strings.IndexByte(blanks, text[end-1]) >= 0 {
		end--
	}
	return start, end
}
