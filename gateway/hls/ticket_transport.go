package hls

import (
	"fmt"
	"strings"
)

// TicketTransport is where a route's URIs put the viewer's ticket. The zero value is TicketInPath. Its text form is path,
// query, cookie or none.
type TicketTransport uint8

// The transports of a ticket.
const (
	// TicketInPath writes "/~<ticket>" before the path of every URI. Relative URIs below it inherit the ticket.
	TicketInPath TicketTransport = iota
	// TicketInQuery adds a query parameter to every URI.
	TicketInQuery
	// TicketInCookie leaves the ticket to a cookie. URIs have no ticket.
	TicketInCookie
	// TicketInNone protects playlists only. Their URIs have the ticket in the path, all other URIs have none.
	TicketInNone
)

// String returns the name of the transport.
func (t TicketTransport) String() string {
	if text, err := t.MarshalText(); err == nil {
		return string(text)
	}
	return fmt.Sprintf("ticket_transport(%d)", uint8(t))
}

// MarshalText returns the name of the transport, or an error for an unknown value.
func (t TicketTransport) MarshalText() ([]byte, error) {
	names := transportNames()
	if int(t) >= len(names) {
		return nil, fmt.Errorf("ticket transport %d: want 0 to %d", uint8(t), len(names)-1)
	}
	return []byte(names[t]), nil
}

// UnmarshalText parses the name of a transport. The error for another text lists the names.
func (t *TicketTransport) UnmarshalText(text []byte) error {
	names := transportNames()
	for i, name := range names {
		if name == string(text) {
			*t = TicketTransport(i)
			return nil
		}
	}
	return fmt.Errorf("ticket transport %q: want one of %s", text, strings.Join(names[:], ", "))
}

// transportNames returns the names of the transports in their order.
func transportNames() [4]string { return [...]string{"path", "query", "cookie", "none"} }
