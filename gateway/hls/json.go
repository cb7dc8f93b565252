package hls

import (
	"encoding/json"
	"strings"
)

// jsonSpace holds the white space of JSON.
const jsonSpace = " \t\r\n"

// valueAt returns the value that begins at an offset, possibly after white space. In text that is not valid JSON, it ends
// somewhere.
func (d *document) valueAt(offset int) jsonSpan {
	start := len(d.text) - len(strings.TrimLeft(d.text[offset:], jsonSpace))
	end, depth := start, 0
	for end < len(d.text) {
		switch d.text[end] {
		case '"':
			end = d.stringEnd(end)
		case '{', '[':
			depth++
			end++
		case '}', ']':
			depth--
			end++
		default:
			end += 1 + indexOrEnd(d.text[end+1:], `"{}[],: `+jsonSpace)
		}
		if depth <= 0 {
			break
		}
	}
	return jsonSpan{start, end}
}

// stringEnd returns where the string ends that begins at an offset, with its quotes.
func (d *document) stringEnd(start int) int {
	for i := start + 1; i < len(d.text); i++ {
		switch d.text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(d.text)
}

// stringAt returns the string of a value, or false for a value that is none.
func (d *document) stringAt(value jsonSpan) (text string, ok bool) {
	ok = d.text[value.start] == '"' && json.Unmarshal([]byte(d.text[value.start:value.end]), &text) == nil
	return text, ok
}

// eachMember calls visit with each member of an object: its name, its key and its value. It does nothing for another
// value.
func (d *document) eachMember(object jsonSpan, visit func(name string, key, value jsonSpan)) {
	if d.text[object.start] != '{' {
		return
	}
	for at := object.start + 1; ; {
		key := d.valueAt(at)
		if d.text[key.start] == '}' {
			return
		}
		colon := d.valueAt(key.end)
		value := d.valueAt(colon.start + 1)
		name, _ := d.stringAt(key)
		visit(name, key, value)
		if at = d.skipComma(value.end); at == 0 {
			return
		}
	}
}

// eachObject calls visit with each member of each object in an array. It does nothing for another value.
func (d *document) eachObject(array jsonSpan, visit func(name string, key, value jsonSpan)) {
	d.eachElement(array, func(value jsonSpan) { d.eachMember(value, visit) })
}

// eachElement calls visit with each value in an array. It does nothing for another value.
func (d *document) eachElement(array jsonSpan, visit func(value jsonSpan)) {
	if d.text[array.start] != '[' {
		return
	}
	for at := array.start + 1; at > 0; {
		value := d.valueAt(at)
		if d.text[value.start] == ']' {
			return
		}
		visit(value)
		at = d.skipComma(value.end)
	}
}

// skipComma returns the offset after the comma that follows a value, or zero if none does.
func (d *document) skipComma(end int) int {
	for strings.IndexByte(jsonSpace, d.text[end]) >= 0 {
		end++
	}
	if d.text[end] != ',' {
		return 0
	}
	return end + 1
}
