package redisclient

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"usher/backends"
	"usher/backends/setting"
)

// ErrNotSent reports that Redis was not called, as it could not be reached before. Any other ErrStoreUnavailable leaves open
// whether Redis ran the call, or will when it goes on.
var ErrNotSent = fmt.Errorf("%w: the call was not sent", backends.ErrStoreUnavailable)

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
	return setting.TLSAdvice(err, "cluster.redis.tls")
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

// errorReply is a kind of error reply, by how it begins, and what the operator must do about it.
type errorReply struct{ begins, advice string }

// The error replies of Redis 6 to 8 and Valkey that this program can get. A reply that is not listed is a server that does not
// serve.

func wrongCalls() []errorReply {
	return []errorReply{
		{"BUSYKEY", ""},   // not "BUSY"
		{"BUSYGROUP", ""}, // not "BUSY"
		{"WRONGTYPE", ""},
		{"CROSSSLOT", ""},
		{"NOGROUP", ""},
		{"ERR wrong number of arguments", ""},
		{"ERR Wrong number of args", ""}, // the same, within a script
		{"ERR syntax error", ""},
		{"ERR value is not", ""},
		{"ERR hash value is not", ""},
		{"ERR invalid expire", ""},
		{"ERR Error compiling script", ""},
		{"ERR The ID specified in XADD", ""}, // another program wrote to the stream
	}
}

func needingOperator() []errorReply {
	return []errorReply{
		{"NOAUTH", adviceOnPassword},
		{"WRONGPASS", adviceOnPassword},
		{"ERR Protocol error: unauthenticated", adviceOnPassword}, // a connection from before requirepass
		{"ERR unauthenticated", adviceOnPassword},
		{"ERR AUTH", adviceOnNoPassword},
		{"ERR Client sent AUTH", adviceOnNoPassword},
		{"NOPERM", adviceOnRights},
		{"ERR The user executing the script", adviceOnRights}, // the same, within a script
		{"DENIED", "give Redis a password, or set its protected-mode"},
		{"OOM", "raise Redis' maxmemory"},
		{"MISCONF", "Redis cannot save: see its log"},
		{"ERR unknown command", adviceOnCommands},
		{"ERR Unknown Redis command", adviceOnCommands}, // the same, within a script
		{"Unknown Redis command", adviceOnCommands},
		{"ERR This Redis command is not allowed", adviceOnCommands},
		{"ERR DB index", adviceOnDatabase},
		{"ERR invalid DB index", adviceOnDatabase},
		{"ERR SELECT is not allowed", "remove cluster.redis.database"},
		{"ERR This instance has cluster support disabled", "remove cluster.redis.cluster"},
		{"NOPROTO", "use Redis 6 or newer"},
	}
}

func temporaryOnes() []errorReply {
	return []errorReply{
		{"LOADING", ""},    // it starts
		{"MASTERDOWN", ""}, // a replica without its master
		{"READONLY", "have cluster.redis name the master"}, // a replica, as after a failover
		{"REDIRECT", "have cluster.redis name the master"}, // the same, by Valkey
		{"CLUSTERDOWN", "set cluster.redis.cluster, and see CLUSTER INFO"},
		{"MOVED", "set cluster.redis.cluster"}, // or a hash slot that moves on and on
		{"ASK", "set cluster.redis.cluster"},
		{"TRYAGAIN", ""},   // a hash slot moves
		{"BUSY", ""},       // a script of somebody runs for long
		{"UNKILLABLE", ""}, // the same
		{"UNBLOCKED", ""},  // it became a replica
		{"EXECABORT", ""},  // a proxy's transaction
		{"NOREPLICAS", "see Redis' min-replicas-to-write"},
		{"INPROG", ""}, // a failover
		{"ERR max number of clients", "raise Redis' maxclients, or lower cluster.redis.pool_size"},
	}
}

const (
	adviceOnPassword   = "set cluster.redis.username and cluster.redis.password to those of Redis"
	adviceOnNoPassword = "Redis has no password: remove cluster.redis.password" //nolint:gosec // an advice
	adviceOnDatabase   = "set cluster.redis.database to one that Redis has"
	adviceOnRights     = "give the ACL user of cluster.redis.username the rights that the documentation of package cluster lists"
	adviceOnCommands   = "Redis, or a proxy before it, lacks a command: see rename-command in its settings"
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
	for _, known := range []struct {
		class   replyClass
		replies []errorReply
	}{{wrongCall, wrongCalls()}, {needsOperator, needingOperator()}, {temporary, temporaryOnes()}} {
		for _, r := range known.replies {
			if strings.HasPrefix(reply, r.begins) {
				return known.class, r.advice
			}
		}
	}
	if inScript != nil {
		return wrongCall, "" // an error of the script's own
	}
	return temporary, ""
}
