package session

import (
	"net/netip"
	"time"

	"usher/backends"
)

// RevocationKind is why sessions have to go. Its numbers travel between nodes.
type RevocationKind uint8

// The kinds of revocation.
const (
	// RevokedDenied: a backend refused a session that ran.
	RevokedDenied RevocationKind = iota + 1
	// RevokedKicked: an operator ended a session; it is refused for a while, whatever its viewer shows.
	RevokedKicked
	// RevokedEvicted: its user's limit was exceeded.
	RevokedEvicted
	// RevokedSuperseded: its viewer went to another channel.
	RevokedSuperseded
	// RevokedBanned: an operator banned somebody. RevokedUnbanned takes that back.
	RevokedBanned
	RevokedUnbanned
)

// String is the kind as logs show it: a closed set.
func (k RevocationKind) String() string {
	return [...]string{"none", "denied", "kicked", "evicted", "superseded", "banned", "unbanned"}[k]
}

// Revocation is what every node has to know at once.
type Revocation struct {
	Kind RevocationKind
	// Session is who has to go, if it was opened at Opened or before. A ban has none here.
	Session backends.SessionID
	Opened  time.Time
	// Decision is what its viewer is told from now on.
	Decision backends.Decision
	// Until is how long a kick holds, by this node's clock.
	Until time.Time
	// Ban is what was banned, or no longer is.
	Ban Ban
}

// Ban refuses viewers until it ends. It names a user, credentials, an address prefix or a session; exactly one of them.
type Ban struct {
	ID string
	// User is a user's id or name, as the middleware calls him.
	User string
	// Credentials is a keyed hash of what a viewer shows.
	Credentials string
	Prefix      netip.Prefix
	Session     backends.SessionID
	// Until is when it ends, by this node's clock.
	Until  time.Time
	Reason string
	// Cause is the id of the ban that this one follows from: the credentials that a banned user was seen with, so that the
	// ban holds when nobody can say who he is.
	Cause string
}
