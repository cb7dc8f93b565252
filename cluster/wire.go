package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// wire is how the parts of a node that talk to all nodes reach Redis.
type wire struct {
	client  redis.UniversalClient
	runner  runner
	keys    keys
	seal    sealer
	scripts *wireScripts
	// deadline bounds a call past the runner.
	deadline time.Duration
}

// wireScripts are the scripts for what all nodes share.
type wireScripts struct{ pulse, nodes, revoke, replay, ban, unban, bans *script }

func loadWireScripts() *wireScripts {
	return &wireScripts{
		pulse: loadScript("pulse"), nodes: loadScript("nodes"), revoke: loadScript("revoke"), replay: loadScript("replay"),
		ban: loadScript("ban"), unban: loadScript("unban"), bans: loadScript("bans"),
	}
}

// caller runs a script.
type caller func(ctx context.Context, s *script, keys []string, args ...any) (any, error)

// call runs a script on behalf of somebody who waits: if Redis is away, it says so at once.
func (w *wire) call(ctx context.Context, s *script, keys []string, args ...any) (any, error) {
	return w.runner.run(ctx, s, keys, args...)
}

// direct runs a script past the breaker, for what nobody waits for: it is how a node notices that Redis is back.
func (w *wire) direct(ctx context.Context, s *script, keys []string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, w.deadline)
	defer cancel()
	reply, err := w.client.EvalSha(ctx, s.sha, keys, args...).Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = w.client.Eval(ctx, s.source, keys, args...).Result()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return reply, nil
}

// newName is unlike any other, over all nodes: 60 random bits, in letters that can be told over the phone.
func newName() string { return strings.ToLower(rand.Text()[:12]) }
