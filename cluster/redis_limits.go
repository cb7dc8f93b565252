package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"usher/actors/session"
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

func newRedisLimits(run runner, k keys, hash func(user string) string, rules session.LimitRules) *redisLimits {
	return &redisLimits{run: run, keys: k, hash: hash, terms: termsOf(rules), script: loadScript("limit")}
}

// JoinStream asks for a place among the user's sessions. It takes one round trip.
func (l *redisLimits) JoinStream(ctx context.Context, m session.StreamEntry) (session.LimitResult, error) {
	return l.call(ctx, "join", []session.StreamEntry{m})
}

// RenewStreams keeps the places, or takes some if none are known. It takes one round trip.
func (l *redisLimits) RenewStreams(ctx context.Context, of []session.StreamEntry) (session.LimitResult, error) {
	return l.call(ctx, "hold", of)
}

// LeaveStream gives the place back. It takes one round trip.
func (l *redisLimits) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	hash := l.hash(user)
	args := append(l.args("leave", hash), hex.EncodeToString(id[:]))
	if _, err := l.run.run(ctx, l.script, []string{l.keys.user(hash)}, args...); err != nil {
		return fmt.Errorf("leave the user's sessions: %w", err)
	}
	return nil
}

func (l *redisLimits) call(ctx context.Context, op string, of []session.StreamEntry) (session.LimitResult, error) {
	now := time.Now()
	calls := make([]limitCall, len(of))
	for i, m := range of {
		calls[i] = callOf(op == "join", m, now)
	}
	return l.tell(ctx, op, of[0].User, calls)
}

func (l *redisLimits) tell(ctx context.Context, op, user string, calls []limitCall) (session.LimitResult, error) {
	hash := l.hash(user)
	args := l.args(op, hash)
	for _, c := range calls {
		args = append(args, hex.EncodeToString(c.id[:]), c.opened, c.age, flag(c.counted), c.max,
			l.mark("device", user, c.device), l.mark("address", user, c.address))
	}
	v, err := l.run.run(ctx, l.script, []string{l.keys.user(hash)}, args...)
	if err != nil {
		return session.LimitResult{}, fmt.Errorf("%s the user's sessions: %w", op, err)
	}
	return readLimited(v, len(calls))
}

func (l *redisLimits) args(op, user string) []any {
	now := ""
	if l.clock != nil {
		now = strconv.FormatInt(l.clock(), 10)
	}
	t := l.terms
	return append(
		make([]any, 0, 32), now, op, int(t.policy), t.soft, t.silence, t.evictedFor, t.idle, l.keys.over(), user,
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

// readLimited reads what the script said of so many sessions.
func readLimited(v any, asked int) (said session.LimitResult, err error) {
	said, ok := parseLimited(v, asked)
	if !ok {
		return session.LimitResult{}, fmt.Errorf("BUG: script limit returned %v", v)
	}
	return said, nil
}

func parseLimited(v any, asked int) (said session.LimitResult, ok bool) {
	list, _ := v.([]any)
	if len(list) < 1+asked || (len(list)-1-asked)%3 != 0 {
		return said, false
	}
	again, ok := list[0].(int64)
	if !ok {
		return said, false
	}
	said.RecheckIn = time.Duration(again) * time.Millisecond
	for _, one := range list[1 : 1+asked] {
		standing, ok := standingOf(one)
		if !ok {
			return said, false
		}
		said.States = append(said.States, standing)
	}
	for i := 1 + asked; i < len(list); i += 3 {
		cut, ok := cutOf(list[i : i+3])
		if !ok {
			return said, false
		}
		said.Evicted = append(said.Evicted, cut)
	}
	return said, true
}

// cutOf reads a session's id in hex, when it was opened, and how it stands.
func cutOf(f []any) (session.EvictedStream, bool) {
	name, isText := f[0].(string)
	opened, isNumber := f[1].(int64)
	standing, isStanding := standingOf(f[2])
	raw, err := hex.DecodeString(name)
	if !isText || !isNumber || !isStanding || err != nil || len(raw) != len(backends.SessionID{}) {
		return session.EvictedStream{}, false
	}
	return session.EvictedStream{Session: backends.SessionID(raw), Opened: time.Unix(opened, 0), State: standing}, true
}

func standingOf(v any) (session.StreamState, bool) {
	n, ok := v.(int64)
	return session.StreamState(n), ok && n >= 0 && n <= int64(session.StreamSuperseded)
}
