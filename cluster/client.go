package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// maxRedirects is how often a call to a Redis Cluster follows a slot that moved. Each costs a round trip of the same
// deadline, so there are few.
const maxRedirects = 3

// layoutFor is how old the client's picture of a Redis Cluster may get. A master that is lost does not redirect anybody,
// so this is how soon its replica is found.
const layoutFor = time.Second

// newClient makes the client of a config that names addresses. It connects when it is first used. Nothing is tried
// again below it: the caller's time is short, and the guard knows better when to try.
func newClient(c Config) (redis.UniversalClient, error) {
	tlsConfig, err := c.Redis.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("make the client of Redis: %w", err)
	}
	o := &redis.UniversalOptions{
		Addrs:            c.Redis.Addresses,
		MasterName:       c.Redis.SentinelMaster,
		IsClusterMode:    c.Redis.Cluster,
		Username:         c.Redis.Username,
		Password:         c.Redis.Password.Reveal(),
		SentinelUsername: c.Redis.SentinelUsername,
		SentinelPassword: c.Redis.SentinelPassword.Reveal(),
		DB:               c.Redis.Database,
		TLSConfig:        tlsConfig,
		Protocol:         3,

		MaxRetries:    -1,
		MaxRedirects:  maxRedirects,
		DialerRetries: 1,
		// A context's end alone does not reach the socket; without it a frozen server would hold a worker for as long as
		// all the timeouts together.
		ContextTimeoutEnabled: true,
		DialTimeout:           c.RedisTimeout,
		ReadTimeout:           c.RedisTimeout,
		WriteTimeout:          c.RedisTimeout,
		PoolTimeout:           c.RedisTimeout,
		PoolSize:              c.Redis.PoolSize,
		MaxIdleConns:          c.Redis.PoolSize,
		ConnMaxIdleTime:       5 * time.Minute,
		PipelinePoolSize:      -1, // one pool for all: most calls are pipelines

		// Neither is of use here, and each costs round trips on every new connection.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if !c.Redis.Cluster {
		return redis.NewUniversalClient(o), nil
	}
	several := o.Cluster()
	several.ClusterStateReloadInterval = layoutFor
	return redis.NewClusterClient(several), nil
}

// trips counts what sessions wait for: each pipeline is one round trip, however many calls share it.
type trips struct {
	count *atomic.Uint64
	of    map[string]bool // the scripts, by SHA and by source
}

// DialHook changes nothing.
func (t trips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes nothing: single commands are those that no session waits for.
func (t trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook counts the trip once it is over.
func (t trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		counts := slices.ContainsFunc(commands, t.counts)
		err := next(ctx, commands)
		if counts {
			t.count.Add(1)
		}
		return err
	}
}

func (t trips) counts(c redis.Cmder) bool {
	args := c.Args() // evalsha, SHA, … or eval, source, …
	if len(args) < 2 {
		return false
	}
	name, _ := args[1].(string)
	return t.of[name]
}

// LogTo has the client library write its own log, such as of each connection that fails, to a logger at debug level: what an
// operator needs to know is told once by the [Redis] itself. It is for the whole process, and is called before anything
// else here.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

// Printf is how the library writes.
func (c clientLog) Printf(ctx context.Context, format string, args ...any) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.DebugContext(ctx, "redis client", slog.String("says", fmt.Sprintf(format, args...)))
	}
}
