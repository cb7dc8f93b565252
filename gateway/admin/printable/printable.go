// Package printable makes text that players, middlewares or origins chose fit to be shown. Raw it could break the line, move the
// cursor or turn the line around, in a terminal as in a spreadsheet.
package printable

import (
	"strings"
	"unicode"
)

// Text returns the text with a space in place of each space, and U+FFFD for what else does not print.
func Text(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c):
			return unicode.ReplacementChar
		}
		return c
	}, text)
}
