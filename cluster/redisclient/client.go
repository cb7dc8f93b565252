package redisclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"

	"usher/backends"
)

const (
	// maxRedirects is how often a call to a Redis Cluster follows a hash slot that moved. Each redirect costs a round trip
	// of the same timeout, so there are few.
	maxRedirects = 3
	// topologyTTL is how old the client's view of a Redis Cluster may get. A master that is lost redirects no call, so this
	// bounds how long its replica stays unknown.
	topologyTTL = time.Second
	// probeTTL is how long the key of the breaker's probe is kept.
	probeTTL = time.Minute
	// minDirectTimeout is the shortest timeout of a call that no session waits for.
	minDirectTimeout = 250 * time.Millisecond
)

// Client runs scripts on Redis: one server, a group of them under Sentinel, or a Redis Cluster. It is safe for concurrent
// use.
type Client struct {
	redis    redis.UniversalClient
	breaker  *breaker
	pipeline *pipeline
	clocks   serverClocks
	// clockScript runs clockSource.
	clockScript *Script
	keyspace    Keyspace
	timeout     time.Duration
	// onCall is told of each call; see [Client.OnCall].
	onCall func(operation, outcome string, took time.Duration)
}

// New makes a client. It connects on first use, so an unavailable Redis is no error. The timeout bounds each call of
// [Client.Run]. Close ends the client.
func New(c Config, timeout time.Duration, log *slog.Logger) (*Client, error) {
	client, err := connect(c, timeout, log)
	if err != nil {
		return nil, err
	}
	return newClient(client, c, timeout, log), nil
}

func newClient(client redis.UniversalClient, config Config, timeout time.Duration, log *slog.Logger) *Client {
	c := &Client{
		redis: client, keyspace: Keyspace{Prefix: config.KeyPrefix, Database: config.Database}, timeout: timeout,
		clockScript: newScript("clock", clockSource),
		clocks:      serverClocks{tolerance: timeout + clockTolerance, isCluster: config.Cluster},
		onCall:      func(string, string, time.Duration) {},
	}
	c.breaker = newBreaker(c.writeProbe, timeout, log)
	c.pipeline = newPipeline(client, c.breaker, timeout, log)
	return c
}

// connect configures go-redis. It retries nothing, see also once: the caller's time is short, and the breaker knows better when to try
// again.
func connect(c Config, timeout time.Duration, log *slog.Logger) (redis.UniversalClient, error) {
	dial, err := c.TLS.dialer(timeout, log)
	if err != nil {
		return nil, err
	}
	o := &redis.UniversalOptions{
		Addrs:            c.Addresses,
		MasterName:       c.SentinelMaster,
		IsClusterMode:    c.Cluster,
		Username:         c.Username,
		Password:         c.Password.Reveal(),
		SentinelUsername: c.SentinelUsername,
		SentinelPassword: c.SentinelPassword.Reveal(),
		DB:               c.Database,
		Dialer:           dial,
		Protocol:         3,

		MaxRetries:    -1,
		MaxRedirects:  maxRedirects,
		DialerRetries: 1,
		// Without it the end of a context does not reach the socket, and a frozen server holds a worker for the sum of all
		// timeouts.
		ContextTimeoutEnabled: true,
		DialTimeout:           timeout,
		ReadTimeout:           max(timeout, minDirectTimeout), // a pipeline's context ends it after the timeout
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		PoolSize:              c.PoolSize,
		MaxIdleConns:          c.PoolSize,
		ConnMaxIdleTime:       5 * time.Minute,
		PipelinePoolSize:      -1, // one pool for all: most calls are pipelines

		// Both are of no use here, and cost round trips on every new connection.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if !c.Cluster {
		return redis.NewUniversalClient(o), nil
	}
	cluster := o.Cluster()
	cluster.ClusterStateReloadInterval = topologyTTL
	return redis.NewClusterClient(cluster), nil
}

// Close ends the background work and the connections. The client must not be used afterwards.
func (c *Client) Close() {
	c.breaker.close()
	c.pipeline.close()
	_ = c.redis.Close()
}

// Keys returns the names of keys and channels.
func (c *Client) Keys() Keyspace { return c.keyspace }

// IsDown reports whether Redis is unavailable, so that calls fail at once. It is one atomic read.
func (c *Client) IsDown() bool { return c.breaker.isOpen.Load() }

// UpSince returns when Redis recovered last as this node saw it, or when the client was made.
func (c *Client) UpSince() time.Time { return c.breaker.lastOutage.Load().ended }

// LastOutage returns when the last outage that is over began and ended, as this node saw it. Without one began is zero.
func (c *Client) LastOutage() (began, ended time.Time) {
	last := c.breaker.lastOutage.Load()
	return last.began, last.ended
}

// OnRecovered registers f, which is called on a goroutine of the client's each time that Redis has recovered.
func (c *Client) OnRecovered(f func()) { c.breaker.onRecovered(f) }

// RoundTrips returns how many round trips sessions waited for since the start. Calls that share a pipeline share one.
func (c *Client) RoundTrips() uint64 { return c.pipeline.roundTrips.Load() }

// writeProbe writes a key: a server that accepts writes is what a node needs.
func (c *Client) writeProbe(ctx context.Context) error {
	return c.redis.Set(ctx, c.keyspace.Shared("probe"), 1, probeTTL).Err()
}

// Run runs a script for a caller that waits. A call is one round trip, which calls that arrive at the same time share.
// The error is ErrStoreUnavailable or ctx's, or says what is wrong with the script.
func (c *Client) Run(ctx context.Context, s *Script, keys []string, args ...any) (any, error) {
	return c.runCommand(ctx, s, keys, append(s.command(keys, len(args)), args...))
}

func (c *Client) runCommand(ctx context.Context, s *Script, keys []string, command []any) (any, error) {
	start := time.Now()
	reply, err := c.pipeline.run(ctx, s, keys, command)
	describeCall(trace.SpanFromContext(ctx), s, err)
	c.onCall(s.name, outcomeOf(err), time.Since(start))
	return reply, err
}

// OnCall registers f, which is told of each call: the script's name or "publish", how the call ended, and how long its caller
// waited. The outcome is "ok", "unavailable" (Redis did not serve in time), "cancelled" (the caller gave up) or "failed" (Redis
// rejected the call). It must be registered before the first call, and f must not block.
func (c *Client) OnCall(f func(operation, outcome string, took time.Duration)) { c.onCall = f }

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, backends.ErrStoreUnavailable), isUnavailable(err):
		return "unavailable"
	default:
		return "failed"
	}
}

// RunWithExpiry runs a script on one key. The script's first argument is the time by which it must run, in ms of the
// server's clock; its reply begins with that clock and with "expired" or another word. A call that a frozen server runs
// after its caller has given up changes nothing.
func (c *Client) RunWithExpiry(ctx context.Context, s *Script, key string, args ...any) ([]any, error) {
	clock := c.clocks.clockOf(key)
	if err := c.learnClock(ctx, clock, key); err != nil {
		return nil, err
	}
	keys := []string{key}
	for isRetry := false; ; isRetry = true {
		command := append(s.command(keys, 1+len(args)), clock.expiry(c.clocks.tolerance))
		sentAt := time.Now()
		reply, err := c.runCommand(ctx, s, keys, append(command, args...))
		if err != nil {
			return nil, err
		}
		fields := List(reply)
		if len(fields) < 2 {
			return nil, fmt.Errorf("BUG: script %s returned %v", s.name, reply)
		}
		clock.Set(Int(fields[0]), sentAt)
		if Text(fields[1]) != "expired" {
			return fields, nil
		}
		// The caller still waits, so the call was not late: another server, with a clock of its own, has taken over.
		if isRetry {
			return nil, errExpired
		}
	}
}

// clockSource is a script that returns the server's time in ms.
const clockSource = `local t = redis.call('TIME')
return t[1] * 1000 + math.floor(t[2] / 1000)`

// learnClock asks for the server's time before the first call that is to expire. Without it a frozen server would run that call
// whenever it goes on.
func (c *Client) learnClock(ctx context.Context, clock *Clock, key string) error {
	if _, isKnown := clock.Now(); isKnown {
		return nil
	}
	sentAt := time.Now()
	reply, err := c.Run(ctx, c.clockScript, []string{key})
	if err != nil {
		return err
	}
	clock.Set(Int(reply), sentAt)
	return nil
}

// Now returns the time in ms of the server that the key lies on, if a reply to [Client.RunWithExpiry] told it.
func (c *Client) Now(key string) (ms int64, known bool) { return c.clocks.clockOf(key).Now() }

// RunDirect runs a script past the breaker and the pipeline, for background work: it can succeed while the breaker is
// still open.
func (c *Client) RunDirect(ctx context.Context, s *Script, keys []string, args ...any) (any, error) {
	start := time.Now()
	reply, err := c.eval(ctx, s, keys, args...)
	c.onCall(s.name, outcomeOf(err), time.Since(start))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return reply, nil
}

// eval runs a script on a connection of its own.
func (c *Client) eval(ctx context.Context, s *Script, keys []string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.timeout, minDirectTimeout))
	defer cancel()
	command := append(s.command(keys, len(args)), args...)
	reply, err := c.send(ctx, command...)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = c.send(ctx, s.withSource(command)...)
	}
	if errors.Is(err, redis.Nil) { // a script without a result
		return reply, nil
	}
	return reply, err
}

// send sends a command on a connection of its own.
func (c *Client) send(ctx context.Context, command ...any) (any, error) {
	sent := redis.NewCmd(ctx, command...)
	_ = c.redis.Process(ctx, once{sent}) // the command has the error
	return sent.Result()
}

// Publish sends a message to the subscribers of a channel.
func (c *Client) Publish(ctx context.Context, channel, message string) error {
	start := time.Now()
	_, err := c.send(ctx, "publish", channel, message)
	c.onCall("publish", outcomeOf(err), time.Since(start))
	return err
}

// LogTo directs the log of the client library, with a line for each connection that fails, to a logger at debug level:
// what an operator needs to know the [Client] logs once. It is for the whole process, and must be called before anything
// else here.
func LogTo(log *slog.Logger) { redis.SetLogger(libraryLog{log}) }

type libraryLog struct{ log *slog.Logger }

// Printf implements the library's logger.
func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client", slog.String("message", fmt.Sprintf(format, args...)))
	}
}
