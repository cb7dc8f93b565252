package redistest

import "go.uber.org/goleak"

// IgnoreDials is for goleak: after the pool of a client library is closed, its last failed dial waits for a second.
func IgnoreDials() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
}
