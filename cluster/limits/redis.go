package limits

import (
	"context"
	"embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

// Redis counts the streams of users over all nodes that share a Redis. Each method is one round trip. It is safe for
// concurrent use. Redis learns no user, device or address: it compares keyed hashes.
type Redis struct {
	client *redisclient.Client
	cipher *redisclient.Cipher
	rules  rules
	script *redisclient.Script
	// clock, if not nil, replaces Redis' clock in ms, which a test cannot move.
	clock func() int64
}

// NewRedis makes the limits of all nodes.
func NewRedis(client *redisclient.Client, cipher *redisclient.Cipher, r session.LimitRules) *Redis {
	return &Redis{
		client: client, cipher: cipher, rules: rulesInMillis(r),
		script: redisclient.LoadSessionScript(scripts, "stream_limit"),
	}
}

// JoinStream adds a stream to those of its user.
func (l *Redis) JoinStream(ctx context.Context, e session.StreamEntry) (session.LimitResult, error) {
	return l.apply(ctx, "join", []session.StreamEntry{e})
}

// RenewStreams reports streams of one user, at least one. Unknown ones join.
func (l *Redis) RenewStreams(ctx context.Context, entries []session.StreamEntry) (session.LimitResult, error) {
	return l.apply(ctx, "renew", entries)
}

// LeaveStream removes a stream from those of its user.
func (l *Redis) LeaveStream(ctx context.Context, user string, id backends.SessionID) error {
	hash := l.cipher.UserHash(user)
	args := append(l.args("leave", hash), hex.EncodeToString(id[:]))
	if _, err := l.client.Run(ctx, l.script, l.keys(hash), args...); err != nil {
		return fmt.Errorf("leave the user's streams: %w", err)
	}
	return nil
}

func (l *Redis) apply(ctx context.Context, op string, entries []session.StreamEntry) (session.LimitResult, error) {
	now := time.Now()
	reports := make([]report, len(entries))
	for i, e := range entries {
		reports[i] = newReport(op == "join", e, now)
	}
	return l.send(ctx, op, entries[0].User, reports)
}

func (l *Redis) send(ctx context.Context, op, user string, reports []report) (session.LimitResult, error) {
	hash := l.cipher.UserHash(user)
	args := l.args(op, hash)
	for _, p := range reports {
		args = append(args, hex.EncodeToString(p.id[:]), p.opened, p.age, redisclient.Flag(p.isPlaying), p.maxStreams,
			l.pseudonym("device", user, p.device), l.pseudonym("address", user, p.address))
	}
	reply, err := l.client.Run(ctx, l.script, l.keys(hash), args...)
	if err != nil {
		return session.LimitResult{}, fmt.Errorf("%s the user's streams: %w", op, err)
	}
	result, ok := parseResult(reply, len(reports))
	if !ok {
		return session.LimitResult{}, fmt.Errorf("BUG: script stream_limit returned %v", reply)
	}
	return result, nil
}

func (l *Redis) keys(userHash string) []string { return []string{l.client.Keys().User(userHash)} }

func (l *Redis) args(op, userHash string) []any {
	now := ""
	if l.clock != nil {
		now = strconv.FormatInt(l.clock(), 10)
	}
	r := l.rules
	return append(make([]any, 0, 32), now, op, int(r.policy), r.gracePeriod, r.zapTimeout, r.evictionTTL, r.idleTimeout,
		l.client.Keys().LimitChannel(), userHash)
}

// pseudonym replaces what tells a user's viewers apart. It differs from user to user, so that Redis does not learn which
// users share an address.
func (l *Redis) pseudonym(kind, user, value string) string {
	if value == "" {
		return ""
	}
	return l.cipher.UserHash("\x00" + kind + "\x00" + user + "\x00" + value)
}

// parseResult reads the script's reply to so many reports.
func parseResult(reply any, reports int) (result session.LimitResult, ok bool) {
	list := redisclient.List(reply)
	if len(list) < 1+reports || (len(list)-1-reports)%3 != 0 {
		return result, false
	}
	recheck, ok := list[0].(int64)
	if !ok {
		return result, false
	}
	result.RecheckIn = time.Duration(recheck) * time.Millisecond
	for _, one := range list[1 : 1+reports] {
		state, ok := parseState(one)
		if !ok {
			return result, false
		}
		result.States = append(result.States, state)
	}
	for i := 1 + reports; i < len(list); i += 3 {
		evicted, ok := parseEvicted(list[i : i+3])
		if !ok {
			return result, false
		}
		result.Evicted = append(result.Evicted, evicted)
	}
	return result, true
}

// parseEvicted reads a session's id in hex, when it was opened, and its state.
func parseEvicted(fields []any) (session.EvictedStream, bool) {
	name, isText := fields[0].(string)
	opened, isNumber := fields[1].(int64)
	state, isState := parseState(fields[2])
	raw, err := hex.DecodeString(name)
	if !isText || !isNumber || !isState || err != nil || len(raw) != len(backends.SessionID{}) {
		return session.EvictedStream{}, false
	}
	return session.EvictedStream{Session: backends.SessionID(raw), Opened: time.Unix(opened, 0), State: state}, true
}

func parseState(v any) (session.StreamState, bool) {
	n, ok := v.(int64)
	return session.StreamState(n), ok && n >= 0 && n <= int64(session.StreamSuperseded)
}
