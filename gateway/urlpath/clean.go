package urlpath

import "strings"

// Unclean is the refusal of a path that is not clean, in words for an operator.
const Unclean = "the path has dot segments, encoded slashes, encoded letters, control characters or look-alikes of them"

// IsClean reports whether a path, escaped as it came, may be routed as it is. Players send no others. It does not allocate
// for plain paths.
func IsClean(path string) bool {
	segment, isPlain := 0, true // segment is the start of the current one
	for i := 0; i <= len(path); i++ {
		if i < len(path) {
			switch c := path[i]; {
			case c < ' ' || c == 0x7f || c == '\\', c == '%' && !isCleanEscape(path[i:]):
				return false
			case c == '%', c >= 0x80, c == ';', c == '+', c == ' ':
				isPlain = false
			}
			if path[i] != '/' {
				continue
			}
		}
		if isDotSegment(path[segment:i]) {
			return false
		}
		segment = i + 1
	}
	return isPlain || !HasLookAlike(path)
}

// isDotSegment reports whether a segment begins with two dots or ends with one, which some origins cut off.
func isDotSegment(segment string) bool {
	return strings.HasPrefix(segment, "..") || strings.HasSuffix(segment, ".")
}

// isCleanEscape reports whether the escape at the beginning of the text may stand in a path. Escapes of a slash, a dot, a
// backslash or a percent sign could make one path read as another. Escapes of letters, digits, - and _ would miss the cache.
// Escapes of control characters are found by [HasLookAlike].
func isCleanEscape(text string) bool {
	c, ok := unescapeByte(text)
	switch {
	case !ok, strings.IndexByte(`/.\%-_`, c) >= 0,
		'0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z':
		return false
	}
	return true
}

// unescapeByte decodes the escape at the beginning of the text. It is false if there is none.
func unescapeByte(text string) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := hexDigit(text[1]), hexDigit(text[2])
	if high < 0 || low < 0 {
		return 0, false
	}
	return byte(high<<4 | low), true
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// Escape returns a path as browsers send it: with escapes for what is no ASCII and for what they never send plainly.
func Escape(path string) string { return escape(path, "\"#<>?^`{|}") }

// EscapeQuery returns a query as browsers send it.
func EscapeQuery(query string) string { return escape(query, "\"#<>") }

// escape escapes what is no ASCII, blanks, and the characters of never.
func escape(text, never string) string {
	const hexDigits = "0123456789ABCDEF"
	var out []byte
	for i := range len(text) {
		c := text[i]
		isPlain := c > ' ' && c < 0x7f && strings.IndexByte(never, c) < 0
		if !isPlain && out == nil {
			out = append(make([]byte, 0, len(text)+16), text[:i]...)
		}
		switch {
		case !isPlain:
			out = append(out, '%', hexDigits[c>>4], hexDigits[c&15])
		case out != nil:
			out = append(out, c)
		}
	}
	if out == nil {
		return text
	}
	return string(out)
}
