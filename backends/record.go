package backends

import "time"

// Record is what outlives a session's actor: enough for any node to go on with the session, or to ask again about it,
// without hearing from the viewer. It is a value; its Facts are not changed.
type Record struct {
	ID SessionID
	// Opened is when the session began, to the second: its ticket says the same.
	Opened time.Time
	// Key is the id of the key that signed the session's ticket.
	Key string
	// Decision is the last one taken, and Expires when it ends. Later it is only what the session stood on.
	Decision Decision
	Expires  time.Time
	// Check is the number of the session's newest check.
	Check int
	// Facts are those of the opening request; nil if nobody knows them any more.
	Facts *Request
	// Buried, if not zero, refuses every ticket of this id that was opened at or before it: the session was denied
	// while it ran, so its old ticket must not revive it.
	Buried time.Time
}
