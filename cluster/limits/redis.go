package limits

import (
	"context"
	"embed"
	"log/slog"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Redis counts the streams of users and the addresses of tickets over all nodes that share a Redis. A method is one round
// trip, and one more for each change by another node. It is safe for concurrent use. Redis holds the names of users and devices that
// it is given: keyed hashes.
type Redis struct {
	streams, addresses *shared
	// local counts while Redis is unavailable: then the limits hold on each node.
	local *Memory
}

// NewRedis makes the limits of all nodes. Memory counts on this node while Redis is unavailable.
func NewRedis(client *redisclient.Client, local *Memory, log *slog.Logger) *Redis {
	script, keys := redisclient.LoadSessionScript(scripts, "store_streams"), client.Keys()
	return &Redis{
		streams:   newShared(&redisStore{client, script, keys.User}, local.streams.rules, log),
		addresses: newShared(&redisStore{client, script, keys.Addresses}, local.addresses.rules, log),
		local:     local,
	}
}

// RestoreDenied stores again the streams of users of which one is denied, as this node knows them: Redis has lost its data, and
// another node must not take the denied stream for a new one. It does not block.
func (l *Redis) RestoreDenied() { l.streams.restoreDenied() }

// ReportStreams reports streams of one user, at least one.
func (l *Redis) ReportStreams(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	if got, err := l.streams.apply(ctx, entries[0].User, newReports(entries)); err == nil {
		return got
	}
	return l.local.ReportStreams(ctx, entries...)
}

// ReportAddresses reports addresses that use one ticket, at least one. The entries' user is the ticket. It is a session's id,
// which is a keyed hash already.
func (l *Redis) ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	if got, err := l.addresses.apply(ctx, entries[0].User, newReports(entries)); err == nil {
		return got
	}
	return l.local.ReportAddresses(ctx, entries...)
}

// redisStore is the [store] in Redis.
type redisStore struct {
	client *redisclient.Client
	script *redisclient.Script
	keyOf  func(name string) string
}

func (s *redisStore) now(name string) (int64, bool) { return s.client.Now(s.keyOf(name)) }

func (s *redisStore) outage() (length, ago int64) {
	o := s.client.LastOutage()
	return o.Until.Sub(o.From).Milliseconds(), time.Since(o.Until).Milliseconds()
}

func (s *redisStore) swap(name, was string, to versioned, ttl time.Duration, isExceeded bool) (versioned, bool, error) {
	message := ""
	if isExceeded {
		message = name
	}
	reply, err := s.client.RunWithExpiry(context.Background(), s.script, s.keyOf(name),
		was, to.version, to.set, ttl.Milliseconds(), s.client.Keys().LimitChannel(), message)
	if err != nil || len(reply) < 4 {
		return versioned{}, err == nil, err
	}
	return versioned{redisclient.Text(reply[2]), redisclient.Text(reply[3])}, false, nil
}
