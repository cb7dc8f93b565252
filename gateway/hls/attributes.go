package hls

import "strings"

// attributes iterates over the attribute list of a tag (RFC 8216 §4.2) between two offsets of the playlist.
type attributes struct {
	text     string
	pos, end int
}

// attribute is one pair: its name, and the offsets of its value in the playlist without quotes and surrounding white
// space.
type attribute struct {
	name       string
	start, end int
	isQuoted   bool
}

// next returns the next pair, or false at the end of the list. A quote that is never closed ends the list, because the
// text after it cannot be split.
func (l *attributes) next() (attribute, bool) {
	for l.pos < l.end {
		i := strings.IndexAny(l.text[l.pos:l.end], "=,")
		if i < 0 {
			break
		}
		name := strings.Trim(l.text[l.pos:l.pos+i], whitespace)
		separator := l.text[l.pos+i]
		l.pos += i + 1
		if separator == '=' {
			return l.nextValue(name)
		}
	}
	l.pos = l.end
	return attribute{}, false
}

// nextValue reads the value that begins at pos and moves pos after the comma that ends it.
func (l *attributes) nextValue(name string) (attribute, bool) {
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
		a.isQuoted = true
		a.start++
		a.end = a.start + length
		l.skipComma(a.end + 1)
	} else {
		a.end = l.skipComma(l.pos)
	}
	a.start, a.end = trimSpan(l.text, a.start, a.end)
	return a, true
}

// skipComma moves pos after the first comma at or after from, or to the end. It returns the offset of the comma.
func (l *attributes) skipComma(from int) (comma int) {
	i := strings.IndexByte(l.text[from:l.end], ',')
	if i < 0 {
		l.pos = l.end
		return l.end
	}
	l.pos = from + i + 1
	return from + i
}

// whitespace holds the characters that may surround a line or a value without being part of it. The carriage return of
// CRLF is one of them.
const whitespace = " \t\r"

// trimSpan narrows text[start:end] by the white space at both ends.
func trimSpan(text string, start, end int) (int, int) {
	for start < end && strings.IndexByte(whitespace, text[start]) >= 0 {
		start++
	}
	for start < end && strings.IndexByte(whitespace, text[end-1]) >= 0 {
		end--
	}
	return start, end
}
