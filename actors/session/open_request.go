package session

import (
	"time"

	"usher/backends"
)

// OpenRequest asks for a viewer's session.
type OpenRequest struct {
	// Request is what the backend is asked. Request.Session is the session's id. It must not be changed afterwards.
	Request *backends.Request
	// HasCredentials reports that a backend can decide on the request. Otherwise only the ticket can admit the viewer.
	HasCredentials bool
	// Ticket is the ticket that the viewer presents; zero without one.
	Ticket Ticket
	// Root is the session of the ticket that a viewer presents at another address. Then Request.Session is a sibling, which
	// is opened with the facts of the root. Zero: the ticket is the session's own, or there is none.
	Root backends.SessionID
	// AddressID names the viewer's address among those that use the ticket. It is set if the session is shared among
	// addresses; otherwise a session has one address, which its own id names.
	AddressID backends.SessionID
	// MaxAddresses is how many addresses may use the ticket at once, the root's included. Those beyond it are denied. Zero:
	// as the settings say, and those beyond it retry.
	MaxAddresses int
	// ExtraLifetime is set for a viewer who asks an edge, which may ask Usher only when a decision expires. The session is idle
	// when that time has passed since the end of its decision's validity, not after sessions.idle_timeout. Only the request
	// that opens the session counts. Zero: the viewer asks Usher.
	ExtraLifetime time.Duration
}

// Ticket is what a viewer's verified ticket says beside the session's id. The zero value is no ticket.
type Ticket struct {
	// Opened is when the session was opened, to the second.
	Opened time.Time
	// KeyID is the id of the key that signed the ticket.
	KeyID string
}

// IsZero reports whether there is no ticket.
func (t Ticket) IsZero() bool { return t.Opened.IsZero() }
