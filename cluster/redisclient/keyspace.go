package cluster

import (
	"strconv"

	"usher/backends"
)

// liveBuckets is into how many sorted sets the live sessions are spread, so that they lie on all masters of a Redis
// Cluster and no script holds one of them up for long.
const liveBuckets = 64

// keys spells the names of all keys and channels; doc.go lists them. The part in braces is what Redis Cluster places a
// key by.
type keys struct{ prefix string }

// session is a hash: a session's record, lease, burial, kick and counters.
func (k keys) session(id backends.SessionID) string { return k.prefix + ":s:{" + id.String() + "}" }

// live is a sorted set: when the sessions of a bucket were last seen.
func (k keys) live(bucket int) string { return k.prefix + ":live:{" + strconv.Itoa(bucket) + "}" }

// bucketOf is the bucket that a session lies in.
func bucketOf(id backends.SessionID) int { return int(id[0]) % liveBuckets }

// user is a hash: the sessions of a user. It is named by a keyed hash, so that Redis does not learn who he is.
func (k keys) user(hash string) string { return k.prefix + ":u:{" + hash + "}" }

// common is a key of the few that all nodes share: nodes, stream, bans, epoch. They lie in one slot.
func (k keys) common(name string) string { return k.prefix + ":{all}:" + name }

// The channels: wake says that somebody's answer on a session is there, over that a user exceeds his limit so that all
// nodes say how his sessions stand, revoked carries revocations, node is what one node is told alone.
func (k keys) wake() string            { return k.prefix + ":wake" }
func (k keys) over() string            { return k.prefix + ":over" }
func (k keys) revoked() string         { return k.prefix + ":revoked" }
func (k keys) node(name string) string { return k.prefix + ":node:" + name }
