package hls

import (
	"fmt"
	"strings"
)

// TicketTransport is how a route's URIs carry the viewer's ticket. The zero value is TicketInPath. In YAML and JSON it is a word:
// path, query, cookie or none.
type TicketTransport uint8

// The carrying modes.
const (
	// TicketInPath puts "/~<ticket>" before the path of every URI. Relative URIs below it inherit it.
	TicketInPath TicketTransport = iota
	// TicketInQuery adds a query parameter to every URI.
	TicketInQuery
	// TicketInCookie leaves the ticket to a cookie: URIs carry none.
	TicketInCookie
	// TicketInNone protects playlists alone: they carry the ticket in the path, everything else carries none.
	TicketInNone
)

// String is the mode as the config writes it.
func (c TicketTransport) String() string {
	if text, err := c.MarshalText(); err == nil {
		return string(text)
	}
	return fmt.Sprintf("carry(%d)", uint8(c))
}

// MarshalText writes the mode's word. A value that is no mode is an error.
func (c TicketTransport) MarshalText() ([]byte, error) {
	words := carryWords()
	if int(c) >= len(words) {
		return nil, fmt.Errorf("write carry %d: allowed are 0 to %d", uint8(c), len(words)-1)
	}
	return []byte(words[c]), nil
}

// UnmarshalText reads the mode's word. The error for another word lists those that are allowed.
func (c *TicketTransport) UnmarshalText(text []byte) error {
	words := carryWords()
	for i, word := range words {
		if word == string(text) {
			*c = TicketTransport(i)
			return nil
		}
	}
	return fmt.Errorf("read carry %q: allowed are %s", text, strings.Join(words[:], ", "))
}

// carryWords names the modes in their order.
func carryWords() [4]string { return [...]string{"path", "query", "cookie", "none"} }
