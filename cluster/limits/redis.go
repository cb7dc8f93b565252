package limits

import (
	"context"
	"embed"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Redis counts the streams of users over all nodes that share a Redis. A method is one round trip, and one more for each
// change by another node. None fails. It is safe for concurrent use. Redis learns no user and no device: it holds keyed
// hashes.
type Redis struct {
	methods
	shared
	cipher *redisclient.Cipher
	// local counts while Redis is unavailable: then a user may play as many streams as the limit allows on each node.
	local *Memory
}

// NewRedis makes the limits of all nodes. Memory counts the streams of this node while Redis is unavailable.
func NewRedis(client *redisclient.Client, cipher *redisclient.Cipher, local *Memory, log *slog.Logger) *Redis {
	s := &redisStore{client, redisclient.LoadSessionScript(scripts, "store_streams")}
	l := &Redis{local: local, cipher: cipher, shared: shared{
		store: s, rules: local.rules, log: log, users: make(expiring[*sharedUser]),
		newVersion: func() string { return strconv.FormatUint(rand.Uint64(), 36) },
	}}
	l.methods.apply = l.applyReports
	return l
}

func (l *Redis) applyReports(ctx context.Context, user string, reports []report) (session.LimitResult, error) {
	hashed := slices.Clone(reports)
	for i := range hashed {
		if p := &hashed[i]; p.device != "" {
			// It differs from user to user, so that Redis does not learn which users share a device.
			p.device = l.cipher.UserHash("\x00device\x00" + user + "\x00" + p.device)
		}
	}
	got, err := l.shared.apply(ctx, l.cipher.UserHash(user), hashed)
	if err != nil {
		return l.local.applyReports(ctx, user, reports)
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
