package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// explainCharacter returns the end of a message about a line with a character that looks like another one, or like none.
// It is empty for other lines. What stands in a comment is not read.
func explainCharacter(line string) string {
	for i, r := range line {
		before, name := line[:i], lookalike(r)
		switch {
		case r == '#' && (i == 0 || strings.HasSuffix(before, " ") || strings.HasSuffix(before, "\t")): // a comment
			return ""
		case r == '\uFEFF' && i == 0: // a byte order mark
			continue
		case r == '\t' && strings.Trim(before, " -?") == "":
			name = "a tab, and YAML is indented by spaces"
		}
		if name != "" {
			return fmt.Sprintf("; column %d is %s (U+%04X)", utf8.RuneCountInString(before)+1, name, r)
		}
	}
	return ""
}

// lookalike returns what a character is that an editor or a web page puts in the place of one that is meant; empty: none.
func lookalike(r rune) string {
	switch {
	case r > unicode.MaxASCII && unicode.IsSpace(r):
		return "a no-break space or one of another width, where a plain space is meant"
	case unicode.Is(unicode.Cf, r):
		return "an invisible character, where none is meant"
	case unicode.In(r, unicode.Pi, unicode.Pf) || r == '„' || r == '‚':
		return `a typographic quotation mark, where " or ' is meant`
	case r != '-' && unicode.Is(unicode.Pd, r) || r == '−':
		return "a dash, where a plain - is meant"
	case r == '：' || r == '﹕':
		return "a full-width colon, where a plain : is meant"
	default:
		return ""
	}
}
