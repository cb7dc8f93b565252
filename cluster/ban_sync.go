package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"usher/actors/session"
)

// banSync keeps the bans of this node and those in Redis the same: what one lacks, the other tells it. So a flush or a
// failover loses no ban while one node that knows it lives, and what was banned while Redis was away is written later.
type banSync struct {
	wire  *wire
	bans  *bans
	keep  time.Duration // for how long revocations are kept
	apply func(session.Revocation)
	log   *slog.Logger

	foreign sync.Once
}

func (s *banSync) keys() []string {
	k := s.wire.keys
	return []string{
		k.common("bans"), k.common("ban-ends"), k.common("lifted"), k.common("revocations"), k.common("state"),
	}
}

// write writes bans that are not in Redis yet.
func (s *banSync) write(ctx context.Context, call caller, more []session.Ban) error {
	for len(more) > 0 {
		batch := more[:min(sentAtOnce, len(more))]
		more = more[len(batch):]
		args := make([]any, 0, 3+5*len(batch))
		args = append(args, s.wire.keys.revoked(), keptRevocations, s.keep.Milliseconds())
		now := time.Now()
		for _, b := range batch {
			told := encodeRevocation(s.wire.seal, "ban-"+b.ID, session.Revocation{Kind: session.RevokedBanned, Ban: b}, now)
			args = append(args, b.ID, b.Cause, millis(b.Until.Sub(now)), encodeBan(s.wire.seal, b), told)
		}
		if _, err := call(ctx, s.wire.scripts.ban, s.keys(), args...); err != nil {
			return err
		}
	}
	return nil
}

// lift writes that bans were lifted, and until when that is remembered.
func (s *banSync) lift(ctx context.Context, call caller, lifted map[string]time.Time) error {
	args := []any{s.wire.keys.revoked(), keptRevocations, s.keep.Milliseconds()}
	now := time.Now()
	for id, until := range lifted {
		told := encodeRevocation(s.wire.seal, "lifted-"+id,
			session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: id, Until: until}}, now)
		args = append(args, id, millis(until.Sub(now)), told)
		if len(args) >= 3+3*sentAtOnce {
			if _, err := call(ctx, s.wire.scripts.unban, s.keys(), args...); err != nil {
				return err
			}
			args = args[:3:3]
		}
	}
	if len(args) == 3 {
		return nil
	}
	_, err := call(ctx, s.wire.scripts.unban, s.keys(), args...)
	return err
}

// due reports whether Redis knows something else than this node.
func (s *banSync) due(p pulse) bool {
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	return s.bans.unwritten || s.bans.version != p.bans
}

// run makes both sides know all.
func (s *banSync) run(ctx context.Context) (err error) {
	s.bans.mu.Lock()
	s.bans.unwritten = false
	s.bans.mu.Unlock()
	defer func() {
		if err != nil {
			s.bans.mu.Lock()
			s.bans.unwritten = true
			s.bans.mu.Unlock()
		}
	}()
	stored, err := s.load(ctx)
	if err != nil {
		return err
	}
	for id, until := range stored.lifted {
		s.apply(session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: id, Until: until}})
	}
	for _, b := range stored.bans {
		s.apply(session.Revocation{Kind: session.RevokedBanned, Ban: b})
	}
	missing, unlifted := s.lacking(stored)
	if len(missing)+len(unlifted) > 0 {
		s.log.Info("bans that Redis lacked are written", slog.Int("bans", len(missing)), slog.Int("lifted", len(unlifted)))
	}
	if err := s.lift(ctx, s.wire.direct, unlifted); err != nil {
		return err
	}
	if err := s.write(ctx, s.wire.direct, missing); err != nil {
		return err
	}
	s.bans.mu.Lock()
	s.bans.version = stored.version
	s.bans.mu.Unlock()
	return nil
}

// storedBans is what Redis knows.
type storedBans struct {
	version place
	bans    []session.Ban
	ids     map[string]struct{} // of all bans, those that cannot be read included
	lifted  map[string]time.Time
}

func (s *banSync) load(ctx context.Context) (storedBans, error) {
	k := s.wire.keys
	reply, err := s.wire.direct(ctx, s.wire.scripts.bans,
		[]string{k.common("bans"), k.common("ban-ends"), k.common("lifted"), k.common("state")})
	if err != nil {
		return storedBans{}, err
	}
	now := time.Now()
	found := storedBans{ids: make(map[string]struct{}), lifted: make(map[string]time.Time)}
	fields := append(list(reply), nil, nil, nil)
	found.version, _ = parsePlace(text(fields[0]))
	for _, entry := range list(fields[1]) {
		e := append(list(entry), nil, nil, nil)
		id := text(e[0])
		found.ids[id] = struct{}{}
		b, err := decodeBan(s.wire.seal, id, []byte(text(e[2])))
		if err != nil {
			s.foreign.Do(func() {
				s.log.Warn("a ban was not understood: is a node of another version, or with other cluster.encryption_keys, about?",
					slog.String("ban", id), slog.Any("error", err))
			})
			continue
		}
		b.Until = now.Add(time.Duration(number(e[1])) * time.Millisecond)
		found.bans = append(found.bans, b)
	}
	for _, entry := range list(fields[2]) {
		e := append(list(entry), nil, nil)
		found.lifted[text(e[0])] = now.Add(time.Duration(number(e[1])) * time.Millisecond)
	}
	return found, nil
}

// lacking is what this node knows and Redis does not. What ends in a moment is let go.
func (s *banSync) lacking(stored storedBans) (missing []session.Ban, unlifted map[string]time.Time) {
	soon := time.Now().Add(time.Second)
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	for id, b := range s.bans.held {
		if _, found := stored.ids[id]; !found && b.Until.After(soon) {
			missing = append(missing, b)
		}
	}
	unlifted = make(map[string]time.Time)
	for id, until := range s.bans.lifted {
		if _, found := stored.lifted[id]; !found && until.After(soon) {
			unlifted[id] = until
		}
	}
	return missing, unlifted
}
