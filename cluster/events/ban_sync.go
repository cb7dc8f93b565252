package events

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

const (
	// bansPerPage is about how many bans one call reads, so that it takes Redis a few milliseconds, also if they are groups.
	bansPerPage = 100
	// maxBytesPerCall is about how much one call writes, so that it takes Redis a few milliseconds.
	maxBytesPerCall = 512 << 10
)

// banSync keeps the bans of this node and those in Redis the same: each side gets what it lacks. So a flush or a failover
// loses no ban while one node that knows it runs, and bans set during an outage of Redis are written after it.
type banSync struct {
	client       *redisclient.Client
	cipher       *redisclient.Cipher
	bans         *Bans
	retention    time.Duration
	onRevocation func(session.Revocation)
	log          *slog.Logger

	storeScript, replaceScript, removeScript, listScript *redisclient.Script

	// unreadable and oldKeys are what was logged last of bans that cannot be read, and of those that need an old key.
	unreadable int
	oldKeys    map[string]oldKeyUse
	// loggedDropped is when it was logged last that there were too many tombstones.
	loggedDropped time.Time

	mu sync.Mutex
	// queued are tombstones that this node has not written yet.
	queued []session.Ban
}

// runScript runs a script: [redisclient.Client.Run] for a caller that waits, RunDirect for background work.
type runScript func(ctx context.Context, s *redisclient.Script, keys []string, args ...any) (any, error)

func newBanSync(o Options) *banSync {
	return &banSync{
		client: o.Client, cipher: o.Cipher, bans: o.Bans, retention: o.Retention, onRevocation: o.OnRevocation, log: o.Logger,
		storeScript: redisclient.LoadScript(scripts, "store_bans"), replaceScript: redisclient.LoadScript(scripts, "replace_bans"),
		removeScript: redisclient.LoadScript(scripts, "remove_bans"),
		listScript:   redisclient.LoadScript(scripts, "list_bans"),
	}
}

func (s *banSync) keys() []string {
	k := s.client.Keys()
	return []string{
		k.Shared("bans"), k.Shared("ban-expiries"), k.Shared("unbanned"), k.Shared("revocations"), k.Shared("state"),
	}
}

// onMessage takes a revocation from the stream. That of a group may name it alone: then the next heartbeat fetches it.
func (s *banSync) onMessage(v session.Revocation) {
	if v.Kind == session.RevokedBanned && !hasSubject(&v.Ban) {
		if !s.bans.knows(v.Ban.ID) {
			s.bans.markUnsynced()
		}
		return
	}
	s.onRevocation(v)
}

// queue has a tombstone written with the next heartbeat.
func (s *banSync) queue(t session.Ban) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = append(s.queued, t)
}

// storeQueued writes the queued tombstones. If that fails, the next heartbeat compares the bans with those in Redis.
func (s *banSync) storeQueued(ctx context.Context) error {
	if s.bans.sessions.hasDropped.Load() && time.Since(s.loggedDropped) > time.Hour {
		s.loggedDropped = time.Now()
		s.log.Warn("bans have refused more sessions than are remembered: should redis lose its data, the tickets of the others"+
			" admit them until revive_for is over", slog.Int("max", maxBannedSessions), slog.Int("max_per_ban", maxPerBan))
		s.bans.sessions.hasDropped.Store(false)
	}
	s.mu.Lock()
	queued := s.queued
	s.queued = nil
	s.mu.Unlock()
	err := s.storeBans(ctx, s.client.RunDirect, queued)
	if err != nil {
		s.bans.markUnsynced()
	}
	return err
}

// storeBans writes bans that Redis lacks, and publishes them.
func (s *banSync) storeBans(ctx context.Context, run runScript, bans []session.Ban) error {
	for len(bans) > 0 {
		args := []any{s.client.Keys().RevocationChannel(), maxStreamLength, s.retention.Milliseconds()}
		now, size, count := time.Now(), 0, 0
		for ; count < min(maxPerCall, len(bans)) && size < maxBytesPerCall; count++ {
			b := &bans[count]
			encrypted, kept := encodeBan(s.cipher, *b), []byte(nil)
			if isGroup(b) { // the stream is bounded by its entries
				kept = encodeBanned(*b, nil, now)
			}
			message := encodeBanned(*b, encrypted, now)
			args = append(args, b.ID, b.Cause, redisclient.Millis(b.Until.Sub(now)), encrypted, message, kept)
			size += len(encrypted) + len(message)
		}
		if _, err := run(ctx, s.storeScript, s.keys(), args...); err != nil {
			return err
		}
		bans = bans[count:]
	}
	return nil
}

// replaceBans encrypts stored bans anew, with the first key. All nodes know them already.
func (s *banSync) replaceBans(ctx context.Context, run runScript, bans []session.Ban) error {
	for rest := bans; len(rest) > 0; {
		var args []any
		size, count := 0, 0
		for ; count < min(maxPerCall, len(rest)) && size < maxBytesPerCall; count++ {
			encrypted := encodeBan(s.cipher, rest[count])
			args = append(args, rest[count].ID, encrypted)
			size += len(encrypted)
		}
		if _, err := run(ctx, s.replaceScript, s.keys()[:1], args...); err != nil {
			return err
		}
		rest = rest[count:]
	}
	if len(bans) > 0 {
		s.log.Info("bans encrypted anew with the first of cluster.encryption_keys", slog.Int("bans", len(bans)))
	}
	return nil
}

// removeBans removes bans from Redis, and publishes that. Each id is remembered until its time.
func (s *banSync) removeBans(ctx context.Context, run runScript, unbanned map[string]time.Time) error {
	args := []any{s.client.Keys().RevocationChannel(), maxStreamLength, s.retention.Milliseconds()}
	now := time.Now()
	for id, until := range unbanned {
		message := encodeRevocation(s.cipher, "unban-"+id,
			session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: id, Until: until}}, now)
		args = append(args, id, redisclient.Millis(until.Sub(now)), message)
		if len(args) >= 3+3*maxPerCall {
			if _, err := run(ctx, s.removeScript, s.keys(), args...); err != nil {
				return err
			}
			args = args[:3:3]
		}
	}
	if len(args) == 3 {
		return nil
	}
	_, err := run(ctx, s.removeScript, s.keys(), args...)
	return err
}

// isNeeded reports whether this node and Redis may know different bans.
func (s *banSync) isNeeded() bool {
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	return s.bans.isUnsynced
}

// sync makes this node and Redis know the same bans.
func (s *banSync) sync(ctx context.Context) (err error) {
	s.bans.mu.Lock()
	s.bans.isUnsynced = false
	s.bans.mu.Unlock()
	defer func() {
		if err != nil {
			s.bans.markUnsynced()
		}
	}()
	stored, err := s.load(ctx)
	if err != nil {
		return err
	}
	for id, until := range stored.unbanned {
		s.onRevocation(session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: id, Until: until}})
	}
	for _, b := range stored.bans {
		s.onRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: b})
	}
	missing, stillStored := s.missingIn(stored)
	if len(missing)+len(stillStored) > 0 {
		s.log.Info("bans restored to redis", slog.Int("bans", len(missing)), slog.Int("unbanned", len(stillStored)))
	}
	s.logKeys(stored.unreadable)
	if err := s.removeBans(ctx, s.client.RunDirect, stillStored); err != nil {
		return err
	}
	if err := s.replaceBans(ctx, s.client.RunDirect, stored.outdated); err != nil {
		return err
	}
	return s.storeBans(ctx, s.client.RunDirect, missing)
}

// logKeys logs how many bans in Redis cannot be read, and which need an old key, whenever that has changed.
func (s *banSync) logKeys(unreadable int) {
	if unreadable > 0 && unreadable != s.unreadable {
		s.log.Warn("bans in redis unreadable, check that cluster.encryption_keys has the key that they were written with, and that all"+
			" nodes have the same version", slog.Int("bans", unreadable))
	}
	uses := s.bans.oldKeys(time.Now())
	for _, key := range slices.Sorted(maps.Keys(uses)) {
		if use := uses[key]; use != s.oldKeys[key] {
			s.log.Info("bans need an old key, as their credentials are hashed with it: keep it in cluster.encryption_keys until they end",
				slog.String("key", key), slog.Int("bans", use.bans), slog.Time("until", use.until))
		}
	}
	s.unreadable, s.oldKeys = unreadable, uses
}

// storedBans is what Redis holds.
type storedBans struct {
	bans []session.Ban
	ids  map[string]struct{} // of all bans, including unreadable ones
	// outdated are the bans that are to be encrypted anew.
	outdated   []session.Ban
	unreadable int
	unbanned   map[string]time.Time
}

// load reads what Redis holds, page by page. What changes meanwhile comes by the stream of revocations.
func (s *banSync) load(ctx context.Context) (storedBans, error) {
	k := s.client.Keys()
	stored := storedBans{ids: make(map[string]struct{}), unbanned: make(map[string]time.Time)}
	for cursor := "0"; ; {
		reply, err := s.client.RunDirect(ctx, s.listScript,
			[]string{k.Shared("bans"), k.Shared("ban-expiries"), k.Shared("unbanned")}, cursor, bansPerPage)
		if err != nil {
			return storedBans{}, err
		}
		fields := append(redisclient.List(reply), nil, nil, nil)
		s.addPage(&stored, fields, time.Now())
		if cursor = redisclient.Text(fields[0]); cursor == "0" || cursor == "" {
			return stored, nil
		}
	}
}

// addPage adds one page of list_bans.lua.
func (s *banSync) addPage(stored *storedBans, fields []any, now time.Time) {
	for _, entry := range redisclient.List(fields[1]) {
		e := append(redisclient.List(entry), nil, nil, nil)
		id := redisclient.Text(e[0])
		if _, isRepeated := stored.ids[id]; isRepeated { // by HSCAN, while the hash is resized
			continue
		}
		stored.ids[id] = struct{}{}
		encrypted := []byte(redisclient.Text(e[2]))
		b, err := decodeBan(s.cipher, id, encrypted)
		if err != nil {
			stored.unreadable++
			continue
		}
		b.Until = now.Add(redisclient.Duration(redisclient.Int(e[1])))
		stored.bans = append(stored.bans, b)
		if isOutdated(s.cipher, b, encrypted) {
			stored.outdated = append(stored.outdated, b)
		}
	}
	for _, entry := range redisclient.List(fields[2]) {
		e := append(redisclient.List(entry), nil, nil)
		stored.unbanned[redisclient.Text(e[0])] = now.Add(redisclient.Duration(redisclient.Int(e[1])))
	}
}

// missingIn returns the bans that Redis lacks, and the ids that it does not know to be unbanned, with those of the bans that
// followed from them. What ends within a second is left out.
func (s *banSync) missingIn(stored storedBans) (missing []session.Ban, stillStored map[string]time.Time) {
	soon := time.Now().Add(time.Second)
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	for id, b := range s.bans.active {
		if _, found := stored.ids[id]; !found && b.Until.After(soon) {
			missing = append(missing, b)
		}
	}
	for _, t := range s.bans.sessions.all() {
		if _, found := stored.ids[t.ID]; !found && t.Until.After(soon) {
			missing = append(missing, t)
		}
	}
	stillStored = make(map[string]time.Time)
	for id, until := range s.bans.unbanned {
		if _, found := stored.unbanned[id]; !found && until.After(soon) {
			stillStored[id] = until
		}
	}
	s.addCaused(stillStored, stored.ids)
	return missing, stillStored
}

// addCaused adds the stored bans that followed from one that ended. The caller holds the lock of the bans.
func (s *banSync) addCaused(stillStored map[string]time.Time, stored map[string]struct{}) {
	for id := range stored {
		if _, isMain := stillStored[id]; !isMain && s.bans.isUnbanned(session.Ban{ID: id, Cause: causeOf(id)}) {
			stillStored[id] = time.Time{} // the id of its cause is remembered
		}
	}
}
