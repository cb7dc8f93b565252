package hls

import (
	"fmt"
	"strings"
)

// Carry is how a route's URIs carry the viewer's ticket. The zero value is CarryPath. In YAML and JSON it is a word:
// path, query, cookie or none.
type Carry uint8

// The carrying modes.
const (
	// CarryPath puts "/~<ticket>" before the path of every URI. Relative URIs below it inherit it.
	CarryPath Carry = iota
	// CarryQuery adds a query parameter to every URI.
	CarryQuery
	// CarryCookie leaves the ticket to a cookie: URIs carry none.
	CarryCookie
	// CarryNone protects playlists alone: they carry the ticket in the path, everything else carries none.
	CarryNone
)

// String is the mode as the config writes it.
func (c Carry) String() string {
	if text, err := c.MarshalText(); err == nil {
		return string(text)
	}
	return fmt.Sprintf("carry(%d)", uint8(c))
}

// MarshalText writes the mode's word. A value that is no mode is an error.
func (c Carry) MarshalText() ([]byte, error) {
	words := carryWords()
	if int(c) >= len(words) {
		return nil, fmt.Errorf("write carry %d: allowed are 0 to %d", uint8(c), len(words)-1)
	}
	return []byte(words[c]), nil
}

// UnmarshalText reads the mode's word. The error for another word lists those that are allowed.
func (c *Carry) UnmarshalText(text []byte) error {
	words := carryWords()
	for i, word := range words {
		if word == string(text) {
			*c = Carry(i)
			return nil
		}
	}
	return fmt.Errorf("read carry %q: allowed are %s", text, strings.Join(words[:], ", "))
}

// carryWords names the modes in their order.
func carryWords() [4]string { return [...]string{"path", "query", "cookie", "none"} }
