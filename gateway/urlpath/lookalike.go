package urlpath

import "unicode/utf8"

// class is what an origin may take a character for.
type class uint8

const (
	letter    class = iota // a part of a name
	dot                    // dots
	blank                  // white space, which some file systems drop at the end of a name
	ignored                // characters that some decoders drop, and + for those that read it as a space
	slash                  // ends a segment
	semicolon              // ends a segment's name; parameters follow
	forbidden              // never in a path: it could end a segment, or be decoded once more
)

// HasLookAlike reports whether an origin may read a path as another one: with a dot segment, with one more separator, or
// with a name whose end is dropped. The path is escaped as it came or as a pattern made it.
func HasLookAlike(path string) bool {
	var buffer [512]byte
	plain := appendUnescaped(buffer[:0], path)
	var s segment
	for len(plain) > 0 {
		c, size := next(plain)
		plain = plain[size:]
		switch c {
		case forbidden:
			return true
		case slash:
			if s.isLookAlike() {
				return true
			}
			s = segment{}
		default:
			s.add(c)
		}
	}
	return s.isLookAlike()
}

// segment is what HasLookAlike knows of the current segment.
type segment struct {
	hasDot, hasLetter, hasParameters bool
	// hasUnseenEnd reports that the name, or the segment as a whole, ends in what a file system may drop.
	hasUnseenEnd bool
	last         class
}

func (s *segment) add(c class) {
	switch {
	case c == semicolon:
		s.hasUnseenEnd = s.hasUnseenEnd || s.endsUnseen()
		s.hasParameters = true
	case s.hasParameters: // a parameter makes no name
	case c == dot:
		s.hasDot = true
	case c == letter:
		s.hasLetter = true
	}
	s.last = c
}

func (s *segment) endsUnseen() bool { return s.last == dot || s.last == blank }

func (s *segment) isLookAlike() bool {
	return s.hasDot && !s.hasLetter || s.hasUnseenEnd || s.endsUnseen()
}

// appendUnescaped appends the path without its escapes. What is no escape stays as it is.
func appendUnescaped(dst []byte, path string) []byte {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if plain, ok := unescapeByte(path[i:]); ok {
			c = plain
			i += 2
		}
		dst = append(dst, c)
	}
	return dst
}

// next returns the class and the size of the first character. A byte that is no UTF-8 is a letter: names in older
// encodings have such bytes.
func next(plain []byte) (class, int) {
	r, size := utf8.DecodeRune(plain)
	switch {
	case r == utf8.RuneError && size == 1:
		return classOfInvalid(plain)
	case r == '/':
		return slash, size
	case r < ' ', 0x7f <= r && r <= 0x9f:
		return forbidden, size
	case isBlank(r):
		return blank, size
	case isIgnored(r):
		return ignored, size
	}
	return classOfSign(r), size
}

// classOfInvalid returns the class and the size of bytes that are no UTF-8. ASCII in overlong form is never text. Some
// decoders take the low bits of any byte after 0xC0: they read "n" as a dot and "o" as a slash.
func classOfInvalid(plain []byte) (class, int) {
	switch {
	case isOverlong(plain):
		return forbidden, 1
	case plain[0] == 0xa0, plain[0] == 0x85: // white space of older encodings
		return ignored, 1
	case plain[0] != 0xc0 || len(plain) == 1:
		return letter, 1
	case plain[1] == '.', plain[1] == 'n':
		return dot, 2
	case plain[1] == 'o':
		return forbidden, 2
	}
	return letter, 1
}

// isOverlong reports whether a sequence of two to six bytes comes first whose value would fit into one.
func isOverlong(plain []byte) bool {
	size, value := 0, rune(0)
	switch lead := plain[0]; lead {
	case 0xc0, 0xc1:
		size, value = 2, rune(lead&1)
	case 0xe0:
		size = 3
	case 0xf0:
		size = 4
	case 0xf8:
		size = 5
	case 0xfc:
		size = 6
	}
	if size == 0 || len(plain) < size {
		return false
	}
	for _, c := range plain[1:size] {
		if c&0xc0 != 0x80 {
			return false
		}
		value = value<<6 | rune(c&0x3f)
	}
	return value < utf8.RuneSelf
}

// classOfSign returns the class of . ; \ and of the characters that are mapped to them, by compatibility (NFKC) or by
// the tables of code pages.
func classOfSign(r rune) class {
	switch r {
	case '.', 0x2024, 0x2025, 0x2026, 0xfe19, 0xfe30, 0xfe52, 0xff0e:
		return dot
	case ';', 0x037e, 0xfe14, 0xfe54, 0xff1b:
		return semicolon
	case '\\',
		0x2044, 0x2215, 0x29f8, 0xff0f, 0x2100, 0x2101, 0x2105, 0x2106, // slashes, and signs that have one
		0x2216, 0x29f5, 0x29f9, 0xfe68, 0xff3c, 0xa5, 0x20a9, 0xffe5, 0xffe6, // backslashes, ¥ and ₩ in code pages
		0xfe6a, 0xff05: // percent signs
		return forbidden
	}
	return letter
}

// isBlank reports whether a character is white space.
func isBlank(r rune) bool {
	switch r {
	case ' ', 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000:
		return true
	}
	return 0x2000 <= r && r <= 0x200a
}

// isIgnored reports whether a decoder may drop a character or, as with +, take it for a space. Names may end in one.
func isIgnored(r rune) bool {
	switch r {
	case '+', 0xad, 0x180e, 0xfeff:
		return true
	}
	return 0x200b <= r && r <= 0x200f || 0x2060 <= r && r <= 0x206f || 0xfe00 <= r && r <= 0xfe0f
}
