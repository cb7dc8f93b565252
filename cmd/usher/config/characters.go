package config

import (
	"fmt"
	"strings"
	"unicode"
)

// explainCharacter returns the end of a message about a line with a character that looks like another one, or like none.
// It is empty for other lines. What stands in a comment is not read.
func explainCharacter(line string) string {
	isIndent := true
	column, before := 0, ' '
	for _, r := range line {
		column++
		switch name := lookalike(r); {
		case r == '#' && (before == ' ' || before == '\t'):
			return "" // a comment
		case r == '\t' && isIndent:
			return fmt.Sprintf("; column %d is a tab, and YAML is indented by spaces", column)
		case name != "" && !(r == byteOrderMark && column == 1):
			return fmt.Sprintf("; column %d is %s (U+%04X)", column, name, r)
		}
		isIndent = isIndent && strings.ContainsRune(" \t-?", r)
		before = r
	}
	return ""
}

const byteOrderMark = '\uFEFF'

// lookalike returns what a character is that an editor or a web page puts in the place of one that is meant, and which one
// that is; empty: none.
func lookalike(r rune) string {
	switch r {
	case '\u00A0', '\u202F', '\u2007':
		return "a no-break space, where a plain space is meant"
	case byteOrderMark, '\u200B', '\u200C', '\u200D', '\u2060', '\u00AD':
		return "an invisible character, where none is meant"
	case '“', '”', '„', '‟', '«', '»':
		return `a typographic quotation mark, where " is meant`
	case '‘', '’', '‚', '‛':
		return "a typographic quotation mark, where ' is meant"
	case '‐', '‑', '‒', '–', '—', '−':
		return "a dash, where a plain - is meant"
	case '：', '﹕':
		return "a full-width colon, where a plain : is meant"
	}
	if r > unicode.MaxASCII && unicode.IsSpace(r) || unicode.Is(unicode.Zs, r) && r != ' ' {
		return "a space of another width, where a plain space is meant"
	}
	return ""
}
