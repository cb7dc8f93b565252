package limits

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Redis counts the streams of users over all nodes that share a Redis. A method is one round trip, and one more for each
// change by another node. It is safe for concurrent use. Redis learns no user and no device: it holds keyed hashes.
type Redis struct {
	cipher *redisclient.Cipher
	shared
}

// NewRedis makes the limits of all nodes.
func NewRedis(client *redisclient.Client, cipher *redisclient.Cipher, r session.LimitRules, log *slog.Logger) *Redis {
	s := &redisStore{client, redisclient.LoadSessionScript(scripts, "store_streams")}
	return &Redis{cipher: cipher, shared: shared{
		store: s, rules: rulesInMillis(r), log: log, users: make(expiring[*sharedUser]),
		newVersion: func() string { return strconv.FormatUint(rand.Uint64(), 36) },
	}}
}

// JoinStream adds a stream to those of its user.
func (l *Redis) JoinStream(ctx context.Context, e session.StreamEntry) (session.LimitResult, error) {
	return l.send(ctx, e.User, newReports(true, e))
}

// RenewStreams reports streams of one user, at least one. Unknown ones join.
func (l *Redis) RenewStreams(ctx context.Context, entries []session.StreamEntry) (session.LimitResult, error) {
	return l.send(ctx, entries[0].User, newReports(false, entries...))
}

// LeaveStream removes a stream from those of its user.
func (l *Redis) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	_, err := l.send(ctx, user, []report{{isLeaving: true, id: id}})
	return err
}

func (l *Redis) send(ctx context.Context, user string, reports []report) (session.LimitResult, error) {
	for i := range reports {
		if p := &reports[i]; p.device != "" {
			// It differs from user to user, so that Redis does not learn which users share a device.
			p.device = l.cipher.UserHash("\x00device\x00" + user + "\x00" + p.device)
		}
	}
	got, err := l.apply(ctx, l.cipher.UserHash(user), reports)
	if err != nil {
		return got, fmt.Errorf("store the user's streams: %w", err)
	}
	return got, nil
}

// redisStore is the [store] in Redis.
type redisStore struct {
	client *redisclient.Client
	script *redisclient.Script
}

func (s *redisStore) now(user string) (int64, bool) { return s.client.Now(s.client.Keys().User(user)) }

func (s *redisStore) swap(ctx context.Context, c change) (current versioned, isStored bool, err error) {
	message := ""
	if c.isExceeded {
		message = c.user
	}
	keys := s.client.Keys()
	reply, err := s.client.RunWithExpiry(ctx, s.script, keys.User(c.user),
		c.was, c.to.version, c.to.set, c.ttl.Milliseconds(), keys.LimitChannel(), message)
	switch {
	case err != nil:
		return versioned{}, false, err
	case len(reply) == 4:
		return versioned{redisclient.Text(reply[2]), redisclient.Text(reply[3])}, false, nil
	default:
		return versioned{}, true, nil
	}
}
