package redisclient

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"usher/backends"
)

// errExpired reports that a call reached Redis long after its caller had given up.
var errExpired = fmt.Errorf("%w: the call reached redis too late", backends.ErrStoreUnavailable)

// unavailable marks an error as an outage of Redis.
func unavailable(err error) error {
	if errors.Is(err, backends.ErrStoreUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", backends.ErrStoreUnavailable, err)
}

// isUnavailable reports whether an error says that Redis does not serve this node at present, rather than that the call was
// wrong. An error that Redis did not write itself is a broken connection.
func isUnavailable(err error) bool {
	reply, isReply := errors.AsType[redis.Error](err)
	if !isReply {
		return true
	}
	if _, isNetwork := errors.AsType[net.Error](err); isNetwork {
		return true
	}
	class, _ := classify(reply.Error())
	return class != wrongCall
}

// adviceOn returns what the operator must do about an error of Redis; empty: nothing that the error tells.
func adviceOn(err error) string {
	if reply, isReply := errors.AsType[redis.Error](err); isReply {
		_, advice := classify(reply.Error())
		return advice
	}
	return ""
}

// replyClass is what an error reply means for this node.
type replyClass uint8

const (
	// temporary: Redis does not serve at present, and will again by itself.
	temporary replyClass = iota
	// needsOperator: Redis does not serve until an operator changes something.
	needsOperator
	// wrongCall: Redis serves, and this program has a bug, or another one wrote to its keys.
	wrongCall
)

// errorReplies are the error replies of Redis 6 to 8 and Valkey that this program can get, by how they begin. The first match
// counts. A reply that is not listed is a server that does not serve.
var errorReplies = []struct {
	begins string
	class  replyClass
	advice string
}{
	{"LOADING", temporary, ""},                                    // it starts
	{"MASTERDOWN", temporary, ""},                                 // a replica without its master
	{"READONLY", temporary, "have cluster.redis name the master"}, // a replica, as after a failover
	{"REDIRECT", temporary, "have cluster.redis name the master"}, // the same, by Valkey
	{"CLUSTERDOWN", temporary, "set cluster.redis.cluster, and see CLUSTER INFO"},
	{"MOVED", temporary, "set cluster.redis.cluster"}, // or a hash slot that moves on and on
	{"ASK", temporary, "set cluster.redis.cluster"},
	{"TRYAGAIN", temporary, ""},   // a hash slot moves
	{"BUSYKEY", wrongCall, ""},    // not "BUSY"
	{"BUSYGROUP", wrongCall, ""},  // not "BUSY"
	{"BUSY", temporary, ""},       // a script of somebody runs for long
	{"UNKILLABLE", temporary, ""}, // the same
	{"UNBLOCKED", temporary, ""},  // it became a replica
	{"EXECABORT", temporary, ""},  // a proxy's transaction
	{"NOREPLICAS", temporary, "see Redis' min-replicas-to-write"},
	{"INPROG", temporary, ""}, // a failover
	{"ERR max number of clients", temporary, "raise Redis' maxclients, or lower cluster.redis.pool_size"},

	{"NOAUTH", needsOperator, adviceOnPassword},
	{"WRONGPASS", needsOperator, adviceOnPassword},
	{"ERR Protocol error: unauthenticated", needsOperator, adviceOnPassword}, // a connection from before requirepass
	{"ERR unauthenticated", needsOperator, adviceOnPassword},
	{"ERR AUTH", needsOperator, "Redis has no password: remove cluster.redis.password"},
	{"ERR Client sent AUTH", needsOperator, "Redis has no password: remove cluster.redis.password"},
	{"NOPERM", needsOperator, adviceOnRights},
	{"ERR The user executing the script", needsOperator, adviceOnRights}, // the same, within a script
	{"DENIED", needsOperator, "give Redis a password, or set its protected-mode"},
	{"OOM", needsOperator, "raise Redis' maxmemory"},
	{"MISCONF", needsOperator, "Redis cannot save: see its log"},
	{"ERR unknown command", needsOperator, adviceOnCommands},
	{"ERR Unknown Redis command", needsOperator, adviceOnCommands}, // the same, within a script
	{"Unknown Redis command", needsOperator, adviceOnCommands},
	{"ERR This Redis command is not allowed", needsOperator, adviceOnCommands},
	{"ERR DB index", needsOperator, "set cluster.redis.database to one that Redis has"},
	{"ERR invalid DB index", needsOperator, "set cluster.redis.database to one that Redis has"},
	{"ERR SELECT is not allowed", needsOperator, "remove cluster.redis.database"},
	{"ERR This instance has cluster support disabled", needsOperator, "remove cluster.redis.cluster"},
	{"NOPROTO", needsOperator, "use Redis 6 or newer"},

	{"WRONGTYPE", wrongCall, ""},
	{"CROSSSLOT", wrongCall, ""},
	{"NOGROUP", wrongCall, ""},
	{"ERR wrong number of arguments", wrongCall, ""},
	{"ERR Wrong number of args", wrongCall, ""}, // the same, within a script
	{"ERR syntax error", wrongCall, ""},
	{"ERR value is not", wrongCall, ""},
	{"ERR hash value is not", wrongCall, ""},
	{"ERR invalid expire", wrongCall, ""},
	{"ERR Error compiling script", wrongCall, ""},
	{"ERR The ID specified in XADD", wrongCall, ""}, // another program wrote to the stream
}

const (
	adviceOnPassword = "set cluster.redis.username and cluster.redis.password to those of Redis"
	adviceOnRights   = "give the ACL user of cluster.redis.username the rights that the documentation of package cluster lists"
	adviceOnCommands = "Redis, or a proxy before it, lacks a command: see rename-command in its settings"
)

// scriptError matches the error of a script with the error of the command that it called. Redis 7 adds the script's position
// at the end, older versions before it.
var scriptError = regexp.MustCompile(`^ERR (?:Error running script \(call to \S+\): )?@?user_script: ?\d+: (?:@?user_script: ?\d+: )?-?(.*)$`)

// classify returns what an error reply means, and what the operator must do about it.
func classify(reply string) (class replyClass, advice string) {
	inScript := scriptError.FindStringSubmatch(reply)
	if inScript != nil {
		reply = inScript[1]
	}
	for _, r := range errorReplies {
		if strings.HasPrefix(reply, r.begins) {
			return r.class, r.advice
		}
	}
	if inScript != nil {
		return wrongCall, "" // an error of the script's own
	}
	return temporary, ""
}
