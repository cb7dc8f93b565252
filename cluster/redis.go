package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/backends"
)

// Redis is the [Store] of any number of nodes. While Redis is away the node goes on alone: what it decides stays in this
// process, and what refuses viewers is written when Redis is back. It is safe for concurrent use.
type Redis struct {
	redisLimited
	client redis.UniversalClient
	guard  *guard
	batch  *batch
	runner runner
	keys   keys
	seal   *keyring
	clocks *slotClocks
	local  *Memory
	held   *heldWrites
	log    *slog.Logger

	keepFor, reviveFor time.Duration
	scripts            sessionScripts
	waiting            waiting
	trips              atomic.Uint64
	foreign            sync.Once // tells once of records that cannot be read
	life               context.Context
	end                context.CancelFunc
	back               chan struct{} // there is something to write
	running            sync.WaitGroup
}

// sessionScripts are the scripts for sessions.
type sessionScripts struct{ claim, publish, kick, evict, flush, beat, sweep, forget, close *script }

func loadSessionScripts() sessionScripts {
	return sessionScripts{
		claim: loadScript("claim"), publish: loadScript("publish"), kick: loadScript("kick"), evict: loadScript("evict"),
		flush: loadScript("flush"), beat: loadScript("beat"), sweep: loadScript("sweep"), forget: loadScript("forget"),
		close: loadScript("close"),
	}
}

// waitedFor are the scripts that sessions wait for, by SHA and by source.
func (r *Redis) waitedFor() map[string]bool {
	waited := make(map[string]bool)
	for _, s := range []*script{r.scripts.claim, r.scripts.publish, r.scripts.evict, r.shared.script} {
		waited[s.sha], waited[s.source] = true, true
	}
	return waited
}

// RedisParts are what a [Redis] is made of beside its config.
type RedisParts struct {
	// ReviveMaxAge is how old a ticket may be that nobody remembers.
	ReviveFor time.Duration
	Limits    session.LimitRules
	// Local serves while Redis is away. The Redis closes it.
	Local  *Memory
	Logger *slog.Logger
}

// NewRedis makes the store of a config that names addresses. It connects when it is first used: a Redis that is away is
// no reason not to serve. Close ends it.
func NewRedis(c Config, p RedisParts) (*Redis, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	seal, err := newKeyring(c.EncryptionKeys)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	r := &Redis{
		client: client, keys: keys{prefix: c.Redis.KeyPrefix}, seal: seal,
		clocks: &slotClocks{slack: c.RedisTimeout + clockSlack, several: c.Redis.Cluster}, local: p.Local,
		held: newHeldWrites(), back: make(chan struct{}, 1), log: p.Logger,
		keepFor: c.SessionTTL, reviveFor: p.ReviveFor, scripts: loadSessionScripts(),
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.guard = newGuard(r.probe, c.RedisTimeout, p.Logger)
	r.batch = newBatch(client, r.guard, c.RedisTimeout, p.Logger)
	r.runner = r.batch
	r.redisLimited = redisLimited{
		shared: newRedisLimits(r.runner, r.keys, seal.userHash, p.Limits), local: p.Local,
	}
	client.AddHook(trips{&r.trips, r.waitedFor()})
	r.guard.onBack(r.writeSoon)
	r.running.Go(r.reconcile)
	return r, nil
}

// Close ends the background work and the connections. The Redis must not be used afterwards.
func (r *Redis) Close() {
	r.end()
	r.running.Wait()
	r.guard.close()
	r.batch.close()
	_ = r.client.Close()
	r.local.Close()
}

// Away reports whether Redis is being left alone. It is one atomic read.
func (r *Redis) Away() bool { return r.guard.away() }

// probe tries what a node needs of Redis: a server that takes writes.
func (r *Redis) probe(ctx context.Context) error {
	return r.client.Set(ctx, r.keys.common("probe"), 1, time.Minute).Err()
}

// errLate says that a call came to Redis when its caller had long left.
var errLate = fmt.Errorf("%w: the call came too late", ErrAway)

// sessionCall runs a script that begins with its latest time and answers with its clock. A call that was held up, in a
// Redis that was stopped for example, changes nothing when it is run after all: its caller has gone on without it.
func (r *Redis) sessionCall(ctx context.Context, s *script, key string, args ...any) ([]any, error) {
	clock := r.clocks.of(key)
	full := make([]any, 1, 1+len(args))
	full = append(full, args...)
	for again := true; ; again = false {
		full[0] = clock.latest(r.clocks.slack)
		asked := time.Now()
		reply, err := r.runner.run(ctx, s, []string{key}, full...)
		if err != nil {
			return nil, err
		}
		answer := list(reply)
		if len(answer) < 2 {
			return nil, fmt.Errorf("BUG: script %s returned %v", s.name, reply)
		}
		clock.set(number(answer[0]), asked)
		if text(answer[1]) != "late" {
			return answer, nil
		}
		// We still wait, so it is not the call that was late: another server, with a clock of its own, has taken over.
		if !again {
			return nil, errLate
		}
	}
}

// AcquireLease reads a session and, if no decision on it is an answer, lets the caller ask. While Redis is away it returns what
// this node knows alone, beside the error.
func (r *Redis) AcquireLease(ctx context.Context, c session.LeaseRequest) (session.LeaseResult, error) {
	got, err := r.claim(ctx, c, c.Wait <= 0)
	if err == nil && got.HeldElsewhere && c.Wait > 0 {
		got, err = r.wait(ctx, c)
	}
	if err != nil {
		alone, _ := r.local.AcquireLease(ctx, session.LeaseRequest{ID: c.ID, KnownRevision: c.KnownRevision})
		return alone, err
	}
	return got, nil
}

func (r *Redis) claim(ctx context.Context, c session.LeaseRequest, insist bool) (session.LeaseResult, error) {
	answer, err := r.sessionCall(ctx, r.scripts.claim, r.keys.session(c.ID),
		recordVersion, c.KnownRevision, c.Lease.Milliseconds(), flag(insist && c.Lease > 0), flag(c.Wait > 0))
	if err != nil {
		return session.LeaseResult{}, fmt.Errorf("claim session %s: %w", c.ID, err)
	}
	if len(answer) != 10 {
		return session.LeaseResult{}, fmt.Errorf("BUG: script claim returned %d fields", len(answer))
	}
	record, found := r.readRecord(c.ID, answer[2:8], time.Now())
	return session.LeaseResult{
		Record: record, Found: found, Revision: uint64(number(answer[8])), HeldElsewhere: number(answer[9]) == 1,
	}, nil
}

// readRecord reads the six fields that scripts tell of a session.
func (r *Redis) readRecord(id backends.SessionID, f []any, now time.Time) (record session.Record, found bool) {
	record = session.Record{ID: id}
	if sealed := text(f[0]); sealed != "" {
		known, err := r.openRecord(id, []byte(sealed))
		if err == nil {
			record, found = known, true
			record.Expires = now.Add(time.Duration(number(f[1])) * time.Millisecond)
			record.Revision = uint64(number(f[2]))
			record.IsEvicted = number(f[5]) == 1
		}
	}
	if buried := number(f[3]); buried > 0 {
		record.RevokedBefore, found = time.Unix(buried, 0).UTC(), true
	}
	if kicked := number(f[4]); kicked > 0 {
		record.KickedUntil, found = now.Add(time.Duration(kicked)*time.Millisecond), true
	}
	return record, found
}

func (r *Redis) openRecord(id backends.SessionID, sealed []byte) (session.Record, error) {
	plain, err := r.seal.open(sealed, aboutRecord(id))
	if err == nil {
		var record session.Record
		if record, err = decodeRecord(id, plain); err == nil {
			return record, nil
		}
	}
	r.foreign.Do(func() {
		r.log.Warn("a session's record cannot be read, as if nobody had known it: do all nodes have the same cluster.encryption_keys?",
			slog.String("session", id.String()), slog.Any("error", err))
	})
	return session.Record{}, err
}

// deniedKept is for how long a denial is remembered after it has run out, of a session that never ran: nothing of it is
// needed any more.
const deniedKept = time.Minute

// SaveDecision stores a decision under the number of its lease, and gives the lease back. While Redis is away the decision
// stays here, and a burial is written when Redis is back.
func (r *Redis) SaveDecision(ctx context.Context, p session.DecisionUpdate) (session.UpdateOutcome, error) {
	outcome, err := r.publish(ctx, p)
	if err == nil {
		return outcome, nil
	}
	if p.Record.Decision.Verdict != backends.Pending {
		p := p
		p.Record.Revision = 0 // the leases here are others
		_, _ = r.local.SaveDecision(ctx, p)
	}
	if p.RevokeTicket {
		r.held.bury(p)
		return session.OutcomeStored, nil
	}
	return 0, err
}

func (r *Redis) publish(ctx context.Context, p session.DecisionUpdate) (session.UpdateOutcome, error) {
	record, now := &p.Record, time.Now()
	kind, keep, sealed := "asked", r.keepFor, []byte(nil)
	switch d := &record.Decision; {
	case d.Verdict == backends.Pending:
		kind, keep = "release", deniedKept
	case !d.Source.IsAuthoritative():
		kind = "stopgap"
	case d.Verdict == backends.Denied && !p.RevokeTicket:
		keep = deniedKept
	}
	if kind != "release" {
		sealed = r.seal.seal(encodeRecord(record), aboutRecord(record.ID))
	}
	answer, err := r.sessionCall(ctx, r.scripts.publish, r.keys.session(record.ID),
		recordVersion, record.Revision, kind, sealed, unixOrZero(record.Opened), max(0, record.Expires.Sub(now).Milliseconds()),
		keep.Milliseconds(), flag(p.RevokeTicket), r.reviveFor.Milliseconds(), r.keys.wake(), record.ID.String())
	if err != nil {
		return 0, fmt.Errorf("publish session %s: %w", record.ID, err)
	}
	for outcome := session.OutcomeStored; outcome <= session.OutcomeStale; outcome++ {
		if outcome.String() == text(answer[1]) {
			return outcome, nil
		}
	}
	return 0, fmt.Errorf("BUG: script publish returned %q", text(answer[1]))
}

// RevokeSession refuses the session for so long, and its tickets that were opened at that time or before. While Redis is away this
// node obeys alone, and it is written when Redis is back.
func (r *Redis) RevokeSession(ctx context.Context, id backends.SessionID, opened time.Time, d time.Duration) error {
	err := r.kick(ctx, id, opened, d)
	if err != nil {
		_ = r.local.RevokeSession(ctx, id, opened, d)
		r.held.kick(id, opened, time.Now().Add(d))
	}
	return err
}

func (r *Redis) kick(ctx context.Context, id backends.SessionID, opened time.Time, d time.Duration) error {
	_, err := r.sessionCall(ctx, r.scripts.kick, r.keys.session(id),
		unixOrZero(opened), d.Milliseconds(), r.reviveFor.Milliseconds())
	if err != nil {
		return fmt.Errorf("kick session %s: %w", id, err)
	}
	return nil
}

// SetEvicted marks the session as one that lost its place, or takes that back.
func (r *Redis) SetEvicted(ctx context.Context, id backends.SessionID, evicted bool) error {
	_, err := r.sessionCall(ctx, r.scripts.evict, r.keys.session(id), flag(evicted))
	if err != nil {
		_ = r.local.SetEvicted(ctx, id, evicted)
		return fmt.Errorf("evict session %s: %w", id, err)
	}
	return nil
}

// AddCounters adds up what was counted of a session. While Redis is away it is kept, and added when Redis is back.
func (r *Redis) AddCounters(ctx context.Context, id backends.SessionID, t session.Counters) error {
	err := r.flush(ctx, id, t)
	if err != nil && r.guard.away() { // else it may have been added, and must not be twice
		r.held.flush(id, t)
		return nil
	}
	return err
}

func (r *Redis) flush(ctx context.Context, id backends.SessionID, t session.Counters) error {
	_, err := r.runner.run(ctx, r.scripts.flush, []string{r.keys.session(id)},
		t.Requests, t.Bytes, t.Unverified.Milliseconds(), t.History, r.keepFor.Milliseconds(), mostHistory)
	if err != nil {
		return fmt.Errorf("count session %s: %w", id, err)
	}
	return nil
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}
