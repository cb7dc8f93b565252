package backends

import "time"

// Ticket is what a viewer's verified ticket says beside the session's id. The zero value is no ticket.
type Ticket struct {
	// Opened is the session's opening, to the second.
	Opened time.Time
	// Key is the id of the key that signed it.
	Key string
}

// IsZero reports whether there is no ticket.
func (t Ticket) IsZero() bool { return t.Opened.IsZero() }

// Arrival is a viewer at the door.
type Arrival struct {
	// Request is the question to ask about him; Request.Session names the session.
	Request *Request
	// Credentials reports whether the request holds what a backend can decide on. Without them only a ticket speaks
	// for the viewer.
	Credentials bool
	Ticket      Ticket
}
