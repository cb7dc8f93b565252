package session

import (
	"time"

	"usher/backends"
)

// Ticket is what a viewer's verified ticket says beside the session's id. The zero value is no ticket.
type Ticket struct {
	// Opened is the session's opening, to the second.
	Opened time.Time
	// KeyID is the id of the key that signed it.
	KeyID string
}

// IsZero reports whether there is no ticket.
func (t Ticket) IsZero() bool { return t.Opened.IsZero() }

// OpenRequest is a viewer at the door.
type OpenRequest struct {
	// Request is the question to ask about him; Request.Session names the session.
	Request *backends.Request
	// HasCredentials reports whether the request holds what a backend can decide on. Without them only a ticket speaks
	// for the viewer.
	HasCredentials bool
	Ticket         Ticket
	// ExtraLifetime, if not zero, says that the viewer asks somebody else for his media, who asks us only now and then: he is
	// gone once nobody has asked for as long as his decision is valid, and the margin on top, rather than after
	// sessions.idle_timeout. What opened the session counts.
	ExtraLifetime time.Duration
}
