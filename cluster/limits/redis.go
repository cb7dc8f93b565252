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
type Redis struct{ streams, addresses *shared }

// NewRedis makes the limits of all nodes. While Redis is unavailable they hold on each node.
func NewRedis(client *redisclient.Client, r session.LimitRules, log *slog.Logger) *Redis {
	script, keys := redisclient.LoadSessionScript(scripts, "store_streams"), client.Keys()
	return &Redis{
		streams:   newShared(&redisStore{client, script, keys.User}, rules{LimitRules: r}, log),
		addresses: newShared(&redisStore{client, script, keys.Addresses}, rules{LimitRules: r, isBound: true}, log),
	}
}

// RestoreDenied stores again the streams of users of which one is denied, as this node knows them: Redis has lost its data, and
// another node must not take the denied stream for a new one. It tries again what fails, until all are stored or ctx ends.
func (l *Redis) RestoreDenied(ctx context.Context) { l.streams.restoreDenied(ctx) }

// ReportStreams reports streams of one user, at least one.
func (l *Redis) ReportStreams(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	return l.streams.apply(ctx, entries[0].User, newReports(entries))
}

// ReportAddresses reports addresses that use one ticket, at least one. The entries' user is the ticket. It is a session's id,
// which is a keyed hash already.
func (l *Redis) ReportAddresses(ctx context.Context, entries ...session.StreamEntry) session.LimitResult {
	return l.addresses.apply(ctx, entries[0].User, newReports(entries))
}

// redisStore is the [store] in Redis.
type redisStore struct {
	client *redisclient.Client
	script *redisclient.Script
	keyOf  func(name string) string
}

func (s *redisStore) clock(name string) (now, upSince int64, isKnown bool) {
	if now, isKnown = s.client.Now(s.keyOf(name)); !isKnown {
		now = time.Now().UnixMilli()
	}
	return now, now - time.Since(s.client.UpSince()).Milliseconds(), isKnown
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
