package cluster

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/limits"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// Redis is the [Store] of any number of nodes. While Redis is unavailable the node serves from local state: its decisions
// stay in this process, and what denies viewers is written after the outage. It is safe for concurrent use.
type Redis struct {
	*redisLimits
	client   *redisclient.Client
	cipher   *redisclient.Cipher
	local    *Memory
	deferred *deferredWrites
	onDenied func(context.Context, session.Revocation) // may be nil
	log      *slog.Logger

	nodeID                                   string
	sessionTTL, reviveFor, heartbeatInterval time.Duration

	interruption     interruption
	scripts          sessionScripts
	waiters          leaseWaiters
	unreadable       sync.Once     // logs once
	flushRequested   chan struct{} // holds one
	restoreRequested chan struct{} // holds one
	background       sync.WaitGroup
	stop             context.CancelFunc
}

// redisLimits gives [Redis] the limits' methods without an exported field.
type redisLimits = limits.Redis

// sessionScripts are the scripts on sessions, named as their files.
type sessionScripts struct {
	acquireLease, storeDecision, revokeSession, markEvicted, addCounters *redisclient.Script
	sessionHeartbeat, expireScan, expireAck, closeSession, confirmClosed *redisclient.Script
}

func loadSessionScripts() sessionScripts {
	load := func(name string) *redisclient.Script { return redisclient.LoadScript(luaFiles, name) }
	loadForSessions := func(name string) *redisclient.Script { return redisclient.LoadSessionScript(luaFiles, name) }
	return sessionScripts{
		acquireLease: loadForSessions("acquire_lease"), storeDecision: loadForSessions("store_decision"),
		markEvicted: loadForSessions("mark_evicted"), revokeSession: load("revoke_session"), addCounters: load("add_counters"),
		sessionHeartbeat: load("session_heartbeat"), expireScan: load("expire_scan"), expireAck: load("expire_ack"),
		closeSession: load("close_session"), confirmClosed: load("confirm_closed"),
	}
}

// RedisDeps are what a [Redis] needs beside its configuration.
type RedisDeps struct {
	// NodeID tells this process from all others.
	NodeID string
	// ReviveFor is how old a ticket may be whose session is unknown.
	ReviveFor time.Duration
	// Local serves while Redis is unavailable. The Redis closes it.
	Local *Memory
	// Limits are the rules of the users' stream limits.
	Limits session.LimitRules
	Logger *slog.Logger
	// OnDenied is called when a denial of an outage has been stored: the other nodes must be told. Nil: nobody is.
	OnDenied func(context.Context, session.Revocation)
	// OnCall is told of each call; see [redisclient.Client.OnCall]. It may be nil.
	OnCall func(operation, outcome string, took time.Duration)
}

// NewRedis makes the store of a configuration that has addresses. It connects on first use, so an unavailable Redis is no
// error. Close ends the store.
func NewRedis(c Config, d RedisDeps) (*Redis, error) {
	cipher, err := redisclient.NewCipher(c.EncryptionKeys)
	if err != nil {
		return nil, err
	}
	client, err := redisclient.New(c.Redis, c.RedisTimeout, d.Logger)
	if err != nil {
		return nil, err
	}
	if d.OnCall != nil {
		client.OnCall(d.OnCall)
	}
	r := &Redis{
		client: client, cipher: cipher, local: d.Local, deferred: newDeferredWrites(), onDenied: d.OnDenied, log: d.Logger,
		nodeID: d.NodeID, sessionTTL: c.SessionTTL, reviveFor: d.ReviveFor, heartbeatInterval: c.HeartbeatInterval,
		scripts: loadSessionScripts(), flushRequested: make(chan struct{}, 1), restoreRequested: make(chan struct{}, 1),
	}
	r.redisLimits = limits.NewRedis(client, d.Limits, d.Logger)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	client.OnRecovered(func() { r.lastInterruption() })
	client.OnRecovered(r.requestFlush)
	r.background.Go(func() { r.flushOnRequest(ctx) })
	r.background.Go(func() { r.restoreOnRequest(ctx) })
	return r, nil
}

// Close ends the background work and the connections. The Redis must not be used afterwards.
func (r *Redis) Close() {
	r.stop()
	r.background.Wait()
	r.client.Close()
	r.local.Close()
}

// IsDown reports whether Redis is unavailable. It is one atomic read.
func (r *Redis) IsDown() bool { return r.client.IsDown() }

// sessionKey returns the key of a session.
func (r *Redis) sessionKey(id backends.SessionID) string { return r.client.Keys().Session(id) }

// AcquireLease reads a session and, if no decision on it holds, gives the caller a lease. While Redis is unavailable it
// returns what this node knows, together with the error.
func (r *Redis) AcquireLease(ctx context.Context, q session.LeaseRequest) (session.LeaseResult, error) {
	result, err := r.tryAcquire(ctx, q, q.Wait <= 0)
	if err == nil && result.HeldElsewhere && q.Wait > 0 {
		result, err = r.waitForLease(ctx, q)
	}
	if err != nil {
		local, _ := r.local.AcquireLease(ctx, session.LeaseRequest{ID: q.ID, KnownRevision: q.KnownRevision})
		return local, err
	}
	return result, nil
}

// tryAcquire does not wait. takeOver takes the lease from another holder.
func (r *Redis) tryAcquire(ctx context.Context, q session.LeaseRequest, takeOver bool) (session.LeaseResult, error) {
	fingerprint, known := uint64(0), ""
	if q.Known != nil {
		fingerprint = r.fingerprint(q.Known)
		known = strconv.FormatUint(fingerprint, 10)
	}
	reply, err := r.client.RunWithExpiry(ctx, r.scripts.acquireLease, r.sessionKey(q.ID),
		recordVersion, q.KnownRevision, q.Lease.Milliseconds(), redisclient.Flag(takeOver && q.Lease > 0),
		redisclient.Flag(q.Wait > 0), r.nodeID, known)
	if err != nil {
		return session.LeaseResult{}, fmt.Errorf("acquire the lease of session %s: %w", q.ID, err)
	}
	if len(reply) != 12 {
		return session.LeaseResult{}, fmt.Errorf("BUG: script acquire_lease returned %d fields", len(reply))
	}
	now := time.Now()
	record, found := r.parseRecord(q.ID, reply[2:7], now)
	if isKnown := redisclient.Int(reply[10]) == 1; isKnown {
		record, found = *q.Known, true
		record.Expires, record.Revision = now.Add(redisclient.Duration(redisclient.Int(reply[3]))), uint64(redisclient.Int(reply[4]))
	} else {
		fingerprint = 0
	}
	record.CheckNumber = max(record.CheckNumber, int(redisclient.Int(reply[11])))
	record.IsClosed = redisclient.Int(reply[9]) == 1
	return session.LeaseResult{
		Record: record, Found: found, Fingerprint: fingerprint, Revision: uint64(redisclient.Int(reply[7])),
		HeldElsewhere: redisclient.Int(reply[8]) == 1,
	}, nil
}

// parseRecord reads the five fields that scripts return of a session.
func (r *Redis) parseRecord(id backends.SessionID, f []any, now time.Time) (record session.Record, found bool) {
	record = session.Record{ID: id}
	if encrypted := redisclient.Text(f[0]); encrypted != "" {
		stored, err := r.decryptRecord(id, []byte(encrypted))
		if err == nil {
			record, found = stored, true
			record.Expires = now.Add(redisclient.Duration(redisclient.Int(f[1])))
			record.Revision = uint64(redisclient.Int(f[2]))
			record.IsEvicted = redisclient.Int(f[4]) == 1
		}
	}
	if revokedBefore := redisclient.Int(f[3]); revokedBefore > 0 {
		record.RevokedBefore, found = time.Unix(revokedBefore, 0).UTC(), true
	}
	return record, found
}

// decryptRecord logs the first record that cannot be read. The session then counts as unknown.
func (r *Redis) decryptRecord(id backends.SessionID, encrypted []byte) (session.Record, error) {
	plain, err := r.cipher.Decrypt(encrypted, recordPurpose(id))
	if err == nil {
		var record session.Record
		if record, err = decodeRecord(id, plain); err == nil {
			return record, nil
		}
	}
	r.unreadable.Do(func() {
		r.log.Warn("session record unreadable, check that all nodes have the same cluster.encryption_keys",
			slog.String("session", id.String()), slog.Any("error", err))
	})
	return session.Record{}, err
}

// denialTTL is for how long the denial of a session that never ran is remembered after it has expired: nothing needs it
// any more.
const denialTTL = time.Minute

// SaveDecision stores a decision under the revision of its lease, and releases the lease. While Redis is unavailable the
// decision stays here, and a revoked ticket is written and announced after the outage.
func (r *Redis) SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	outcome, err := r.sendDecision(ctx, &u, 0)
	if errors.Is(err, errUnknownRecord) { // somebody else has stored one
		u.Fingerprint = 0
		outcome, err = r.sendDecision(ctx, &u, 0)
	}
	if err == nil {
		return outcome, nil
	}
	if u.Record.Decision.Verdict != backends.Pending {
		local := u
		local.Record.Revision = 0 // the local store grants leases of its own
		_, _ = r.local.SaveDecision(ctx, local)
	}
	if u.RevokeTicket {
		r.deferred.deferRevokedTicket(u)
		return session.OutcomeDeferred, nil
	}
	return 0, err
}

// errUnknownRecord reports that the store does not hold the record of a fingerprint.
var errUnknownRecord = errors.New("the store has another record")

// fingerprint tells records apart that differ in more than the number of their check. It is a keyed hash, so that it tells nothing of
// them, and never 0.
func (r *Redis) fingerprint(record *session.Record) uint64 {
	var room [usualRecord]byte
	same := *record
	same.CheckNumber = 0
	return max(1, r.cipher.Number("record", appendRecord(room[:0], &same)))
}

// sendDecision stores a decision that was taken just now, or that has waited for so long for Redis to recover.
func (r *Redis) sendDecision(ctx context.Context, u *session.DecisionUpdate, age time.Duration) (session.UpdateOutcome, error) {
	record, now := &u.Record, time.Now()
	kind, ttl, encrypted, holder := "authoritative", r.sessionTTL, []byte(nil), ""
	if record.Decision.Verdict == backends.Allowed {
		holder = r.nodeID
	}
	switch d := &record.Decision; {
	case d.Verdict == backends.Pending:
		kind, ttl = "release", denialTTL
	case !d.Source.IsAuthoritative():
		kind = "fallback"
	case d.Verdict == backends.Denied && !u.RevokeTicket:
		ttl = denialTTL
	}
	fingerprint := u.Fingerprint
	if kind != "release" && fingerprint == 0 {
		encrypted, fingerprint = r.cipher.Encrypt(encodeRecord(record), recordPurpose(record.ID)), r.fingerprint(record)
	}
	reply, err := r.client.RunWithExpiry(ctx, r.scripts.storeDecision, r.sessionKey(record.ID),
		recordVersion, record.Revision, kind, encrypted, redisclient.UnixOrZero(record.Opened),
		max(0, record.Expires.Sub(now).Milliseconds()), ttl.Milliseconds(), redisclient.Flag(u.RevokeTicket),
		r.reviveFor.Milliseconds(), r.client.Keys().DecisionChannel(), record.ID.String(), holder,
		fingerprint, record.CheckNumber, age.Milliseconds())
	if err != nil {
		return 0, fmt.Errorf("store the decision on session %s: %w", record.ID, err)
	}
	if redisclient.Text(reply[1]) == "unknown" {
		return 0, errUnknownRecord
	}
	outcome, known := redisclient.ParseName(redisclient.Text(reply[1]), session.OutcomeStored, session.OutcomeStale)
	if !known {
		return 0, fmt.Errorf("BUG: script store_decision returned %q", redisclient.Text(reply[1]))
	}
	return outcome, nil
}

// RevokeSession revokes the session's tickets that were opened at that time or before; zero: all that exist. While Redis is
// unavailable only this node applies it, and it is written after the outage.
func (r *Redis) RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time) error {
	err := r.sendTombstone(ctx, id, opened)
	if err != nil {
		_ = r.local.RevokeSession(ctx, id, opened)
		r.deferred.deferTombstone(id, opened)
	}
	return err
}

func (r *Redis) sendTombstone(ctx context.Context, id backends.SessionID, opened time.Time) error {
	_, err := r.client.RunWithExpiry(ctx, r.scripts.revokeSession, r.sessionKey(id),
		redisclient.UnixOrZero(opened), r.reviveFor.Milliseconds())
	if err != nil {
		return fmt.Errorf("revoke session %s: %w", id, err)
	}
	return nil
}

// SetEvicted marks the session as evicted by the stream limit, or removes the mark.
func (r *Redis) SetEvicted(ctx context.Context, id backends.SessionID, evicted bool) error {
	_, err := r.client.RunWithExpiry(ctx, r.scripts.markEvicted, r.sessionKey(id), redisclient.Flag(evicted))
	if err != nil {
		_ = r.local.SetEvicted(ctx, id, evicted)
		return fmt.Errorf("mark session %s: %w", id, err)
	}
	return nil
}

// AddCounters adds to the counters of a session. While Redis is unavailable they are kept, and added after the outage.
func (r *Redis) AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error {
	err := r.sendCounters(ctx, id, c)
	if errors.Is(err, redisclient.ErrNotSent) { // otherwise they may be added yet, and must not be added twice
		r.deferred.deferCounters(id, c)
		return nil
	}
	return err
}

func (r *Redis) sendCounters(ctx context.Context, id backends.SessionID, c session.Counters) error {
	_, err := r.client.Run(ctx, r.scripts.addCounters, []string{r.sessionKey(id)},
		c.Requests, c.Bytes, c.Unverified.Milliseconds(), c.History, r.sessionTTL.Milliseconds(), maxHistorySize, r.nodeID)
	if err != nil {
		return fmt.Errorf("add the counters of session %s: %w", id, err)
	}
	return nil
}
