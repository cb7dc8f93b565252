package limits

import (
	"context"
	"embed"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Redis counts the streams of users and the addresses of tickets over all nodes that share a Redis. A method is one round
// trip, and one more for each change by another node. None fails. It is safe for concurrent use. Redis learns no user and no
// device: it holds keyed hashes.
type Redis struct {
	methods
	shared
	addresses shared
	cipher    *redisclient.Cipher
	// local counts while Redis is unavailable: then the limits hold on each node.
	local *Memory
}

// NewRedis makes the limits of all nodes. Memory counts on this node while Redis is unavailable.
func NewRedis(client *redisclient.Client, cipher *redisclient.Cipher, local *Memory, log *slog.Logger) *Redis {
	script, keys := redisclient.LoadSessionScript(scripts, "store_streams"), client.Keys()
	newShared := func(r rules, keyOf func(string) string) shared {
		return shared{
			store: &redisStore{client, script, keyOf}, rules: r, log: log, users: make(expiring[*sharedUser]),
			newVersion: func() string { return strconv.FormatUint(rand.Uint64(), 36) },
		}
	}
	l := &Redis{
		local: local, cipher: cipher,
		shared: newShared(local.streams.rules, keys.User), addresses: newShared(local.addresses.rules, keys.Addresses),
	}
	l.methods = methods{apply: l.applyReports, applyAddresses: l.applyAddressReports}
	return l
}

// RestoreDenied stores again the streams of users of which one is denied, as this node knows them: Redis has lost its data, and
// another node must not take the denied stream for a new one. It does not block.
func (l *Redis) RestoreDenied() { l.shared.restore() }

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

// applyAddressReports counts the addresses of a ticket. The ticket's name is a session's id, which is a keyed hash already.
func (l *Redis) applyAddressReports(ctx context.Context, ticket string, reports []report) (session.LimitResult, error) {
	got, err := l.addresses.apply(ctx, ticket, reports)
	if err != nil {
		return l.local.applyAddressReports(ctx, ticket, reports)
	}
	return got, nil
}

// redisStore is the [store] in Redis.
type redisStore struct {
	client *redisclient.Client
	script *redisclient.Script
	keyOf  func(name string) string
}

func (s *redisStore) now(user string) (int64, bool) { return s.client.Now(s.keyOf(user)) }

func (s *redisStore) outage() (length, ago int64) {
	o := s.client.LastOutage()
	return o.Until.Sub(o.From).Milliseconds(), time.Since(o.Until).Milliseconds()
}

func (s *redisStore) swap(ctx context.Context, c change) (current versioned, isStored bool, err error) {
	message := ""
	if c.isExceeded {
		message = c.user
	}
	reply, err := s.client.RunWithExpiry(ctx, s.script, s.keyOf(c.user),
		c.was, c.to.version, c.to.set, c.ttl.Milliseconds(), s.client.Keys().LimitChannel(), message)
	switch {
	case err != nil:
		return versioned{}, false, err
	case len(reply) == 4:
		return versioned{redisclient.Text(reply[2]), redisclient.Text(reply[3])}, false, nil
	default:
		return versioned{}, true, nil
	}
}
