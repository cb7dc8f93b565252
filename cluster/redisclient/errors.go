package redisclient

import (
	"errors"
	"fmt"
	"net"
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

// isUnavailable reports whether an error says that Redis cannot serve at present, rather than that the call was wrong. An
// error that Redis did not write itself is a broken connection.
func isUnavailable(err error) bool {
	reply, isReply := errors.AsType[redis.Error](err)
	if !isReply {
		return true
	}
	if _, isNetwork := errors.AsType[net.Error](err); isNetwork {
		return true
	}
	for _, prefix := range []string{
		"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "MISCONF", "OOM", "BUSY",
		"UNKILLABLE", "NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients",
	} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return true
		}
	}
	return false
}
