package redisclient

import (
	"strconv"

	"usher/backends"
)

// Keyspace returns the names of all keys and channels; the table in the documentation of package cluster lists them. The
// part in braces decides the hash slot.
type Keyspace struct {
	// Prefix begins every name.
	Prefix string
	// Database is the number of the database, which tells the channels of several databases apart: Redis has one set for all.
	Database int
}

// channel returns the name of a channel. Those of database 0 have no number, as in all versions.
func (k Keyspace) channel(name string) string {
	if k.Database == 0 {
		return k.Prefix + ":" + name
	}
	return k.Prefix + ":db" + strconv.Itoa(k.Database) + ":" + name
}

// Session returns the key of a hash: a session's record, lease, tombstones and counters.
func (k Keyspace) Session(id backends.SessionID) string {
	return k.Prefix + ":session:{" + id.String() + "}"
}

// LastSeen returns the key of a sorted set: when each session of a bucket was last seen.
func (k Keyspace) LastSeen(bucket int) string {
	return k.Prefix + ":last-seen:{" + strconv.Itoa(bucket) + "}"
}

// User returns the key of a hash: the streams of a user. The user is named by a keyed hash, so that Redis does not learn
// the name.
func (k Keyspace) User(hash string) string { return k.Prefix + ":user:{" + hash + "}" }

// Addresses returns the key of a hash: the addresses that use a ticket, named by its session.
func (k Keyspace) Addresses(session string) string { return k.Prefix + ":addresses:{" + session + "}" }

// Match returns the key of a hash: the tickets of viewers at edges, named by a keyed hash of what their requests have in common.
func (k Keyspace) Match(hash string) string { return k.Prefix + ":match:{" + hash + "}" }

// Shared returns the name of a key that all nodes share. These few keys lie in one hash slot.
func (k Keyspace) Shared(name string) string { return k.Prefix + ":{all}:" + name }

// DecisionChannel returns the channel of decisions that other nodes wait for: a message is a session's id. " ticket" follows it
// if the session has another ticket now.
func (k Keyspace) DecisionChannel() string { return k.channel("decisions") }

// LimitChannel returns the channel of stream limits that were exceeded: a message is a user's hash, and every node then
// reports how the user's sessions stand.
func (k Keyspace) LimitChannel() string { return k.channel("limits") }

// RevocationChannel returns the channel of revocations.
func (k Keyspace) RevocationChannel() string { return k.channel("revocations") }

// NodeChannel returns the channel of messages to one node.
func (k Keyspace) NodeChannel(nodeID string) string { return k.channel("node:" + nodeID) }
