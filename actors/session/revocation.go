package session

import (
	"net/netip"
	"time"

	"usher/backends"
)

// Revocation ends sessions on all nodes at once.
type Revocation struct {
	Kind RevocationKind
	// Session is revoked if it was opened at Opened or before. A ban names none.
	Session backends.SessionID
	Opened  time.Time
	// Decision is the session's decision from now on.
	Decision backends.Decision
	// Until is when a kick ends, by this node's clock. Its ban refuses the viewer until then.
	Until time.Time
	// Ban is the ban that begins or ends.
	Ban Ban
}

// RevocationKind is why sessions are revoked. Its numbers travel between nodes.
type RevocationKind uint8

// The kinds of revocation.
const (
	// RevokedDenied means that a backend denied a running session.
	RevokedDenied RevocationKind = iota + 1
	// RevokedKicked means that an operator ended a session. Its viewer is under a ban for a while.
	RevokedKicked
	// RevokedEvicted means that the user's stream limit was exceeded.
	RevokedEvicted
	// RevokedSuperseded means that the viewer plays another channel.
	RevokedSuperseded
	// RevokedBanned means that an operator banned viewers.
	RevokedBanned
	// RevokedUnbanned means that a ban has ended.
	RevokedUnbanned
)

// String returns the kind as logs show it. Its strings are a closed set.
func (k RevocationKind) String() string {
	return [...]string{"none", "denied", "kicked", "evicted", "superseded", "banned", "unbanned"}[k]
}

// Ban refuses viewers until it ends. Exactly one of User, Credentials, Prefix and Session is set, or it is a group: it lists
// the viewers of many sessions that one kick ended.
type Ban struct {
	ID string
	// User is a user's id or name, as the middleware knows them.
	User string
	// Credentials are keyed hashes of what a viewer presents, separated by dots. A viewer who presents all of it is banned,
	// whatever they present beside it.
	Credentials string
	// OldKey is the id of the key of cluster.encryption_keys that the hashes were made with, if it is not the first one of this
	// node.
	OldKey  string
	Prefix  netip.Prefix
	Session backends.SessionID
	// Sessions, Users and CredentialSets are the viewers of a group, each as the field of one viewer has it. A viewer who is in
	// one of them is banned.
	Sessions              []backends.SessionID
	Users, CredentialSets []string
	// Backend and Channel limit the ban to viewers of that backend or channel; empty: they do not. A group's sessions are
	// not limited.
	Backend, Channel string
	// Until is when the ban ends, by this node's clock.
	Until  time.Time
	Reason string
	// IsKick reports that the ban follows from a kick, which ends soon.
	IsKick bool
	// Cause is the id of the ban from which this one follows. A ban of a user also bans the credentials with which the user is
	// seen, so that it holds while no backend can name the user. Of a group it is the id of its kick, which other groups have
	// too.
	Cause string
}
