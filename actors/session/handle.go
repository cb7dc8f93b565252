package session

import (
	"net/netip"
	"time"

	"usher/backends"
)

// Handle is a live session of this node, for everything but its actor. It is safe for concurrent use.
type Handle interface {
	// ID returns the session's id.
	ID() backends.SessionID
	// Request returns the opening request or, if only a ticket opened the session, the first request with credentials. It is
	// never nil. It is made for the caller, so that a viewer's request should not ask for it.
	Request() *backends.Request
	// Decision returns the decision that holds now, or nil before the first one.
	Decision() *backends.Decision
	// Expires returns when the decision is renewed.
	Expires() time.Time
	// Ticket returns what the session's tickets say.
	Ticket() Ticket
	// Admit reports whether a viewer at the subscriber prefix may use a session that is shared among addresses, without
	// opening it. Any viewer may use a session that is not.
	Admit(prefix netip.Prefix, now time.Time) bool
	// Seen counts a request for a playlist or for media.
	Seen(now time.Time, isPlaylist bool)
	// Begin notes that a request is being answered, so that its viewer is not silent until End.
	Begin()
	// End notes that a request was answered.
	End(now time.Time)
	// SetTargetDuration sets the target duration of the media playlist that the viewer got, and whether it is complete.
	SetTargetDuration(target time.Duration, isComplete bool)
	// TargetDuration returns what SetTargetDuration set; zero: this node gave the viewer no media playlist.
	TargetDuration() (target time.Duration, isComplete bool)
	// LastSeen returns the time of the viewer's last request.
	LastSeen() time.Time
	// Requests returns the number of the viewer's requests.
	Requests() int64
	// Sent counts bytes sent to the viewer.
	Sent(n int64)
	// Bytes returns the number of bytes sent to the viewer.
	Bytes() int64
}
