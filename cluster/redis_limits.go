package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"usher/backends"
)

// redisLimits are the limits of all nodes that share a Redis. They are safe for concurrent use. Neither users nor devices
// nor addresses are told to Redis: it compares keyed hashes.
type redisLimits struct {
	run    runner
	keys   keys
	hash   func(user string) string
	terms  limitTerms
	script *script
	// clock, if not nil, stands in for Redis' clock, in milliseconds; for tests alone, which cannot move that one.
	clock func() int64
}

func newRedisLimits(run runner, k keys, hash func(user string) string, rules backends.LimitRules) *redisLimits {
	return &redisLimits{run: run, keys: k, hash: hash, terms: termsOf(rules), script: loadScript("limit")}
}

// Join asks for a place among the user's sessions. It takes one round trip.
func (l *redisLimits) Join(ctx context.Context, m backends.Membership) (backends.Limited, error) {
	return l.call(ctx, true, m)
}

// Hold keeps the place, or takes one if none is known. It takes one round trip.
func (l *redisLimits) Hold(ctx context.Context, m backends.Membership) (backends.Limited, error) {
	return l.call(ctx, false, m)
}

// Leave gives the place back. It takes one round trip.
func (l *redisLimits) Leave(ctx context.Context, user string, id backends.SessionID) error {
	if _, err := l.run.run(ctx, l.script, []string{l.keys.user(l.hash(user))}, l.args("leave", id)...); err != nil {
		return fmt.Errorf("leave the user's sessions: %w", err)
	}
	return nil
}

func (l *redisLimits) call(ctx context.Context, join bool, m backends.Membership) (backends.Limited, error) {
	op := "hold"
	if join {
		op = "join"
	}
	user, c := l.hash(m.User), callOf(join, m, time.Now())
	args := append(
		l.args(op, m.Session), l.keys.over(), user, c.opened, c.age, c.counted, c.max,
		l.mark("device", m.User, c.device), l.mark("address", m.User, c.address),
	)
	v, err := l.run.run(ctx, l.script, []string{l.keys.user(user)}, args...)
	if err != nil {
		return backends.Limited{}, fmt.Errorf("%s the user's sessions: %w", op, err)
	}
	return readLimited(v)
}

func (l *redisLimits) args(op string, id backends.SessionID) []any {
	now := ""
	if l.clock != nil {
		now = strconv.FormatInt(l.clock(), 10)
	}
	t := l.terms
	return append(
		make([]any, 0, 16), now, op, hex.EncodeToString(id[:]), int(t.policy), t.soft, t.silence, t.evictedFor, t.idle,
	)
}

// mark stands in for what tells a user's viewers apart. It is another one for another user, so that nobody learns who
// shares an address.
func (l *redisLimits) mark(what, user, value string) string {
	if value == "" {
		return ""
	}
	return l.hash("\x00" + what + "\x00" + user + "\x00" + value)
}

// readLimited reads what the script said.
func readLimited(v any) (said backends.Limited, err error) {
	said, ok := parseLimited(v)
	if !ok {
		return backends.Limited{}, fmt.Errorf("BUG: script limit returned %v", v)
	}
	return said, nil
}

func parseLimited(v any) (said backends.Limited, ok bool) {
	list, _ := v.([]any)
	if len(list) < 2 || len(list)%3 != 2 {
		return said, false
	}
	again, ok := list[1].(int64)
	if !ok {
		return said, false
	}
	said.Again = time.Duration(again) * time.Millisecond
	if said.Standing, ok = standingOf(list[0]); !ok {
		return said, false
	}
	for i := 2; i < len(list); i += 3 {
		name, isText := list[i].(string)
		opened, isNumber := list[i+1].(int64)
		standing, isStanding := standingOf(list[i+2])
		raw, err := hex.DecodeString(name)
		if !isText || !isNumber || !isStanding || err != nil || len(raw) != len(backends.SessionID{}) {
			return said, false
		}
		said.Cut = append(said.Cut, backends.Cut{
			Session: backends.SessionID(raw), Opened: time.Unix(opened, 0), Standing: standing,
		})
	}
	return said, true
}

func standingOf(v any) (backends.Standing, bool) {
	n, ok := v.(int64)
	return backends.Standing(n), ok && n >= 0 && n <= int64(backends.StandingSuperseded)
}
