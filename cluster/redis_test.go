package cluster

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// newSingleStore returns one Redis store on a server of its own.
func newSingleStore(t *testing.T, edit func(*Config)) (*redistest.Server, storePair, *redistest.Log) {
	t.Helper()
	server, log := redistest.Start(t), new(redistest.Log)
	c := testConfig(server)
	if edit != nil {
		edit(&c)
	}
	s := newStore(t, c, log.Logger())
	return server, storePair{t, s, s}, log
}

// streamEntryOf returns an entry of a user, who is named by a hash, as the device is.
func streamEntryOf(i int, user string) session.StreamEntry {
	return session.StreamEntry{
		User: user, Session: idOf(i), Opened: openedAgo(5), LastSeen: time.Now(), IsPlaying: true, MaxStreams: 2,
		Device: "hash of a device",
	}
}

// writeEveryKey makes every call that writes a key.
func writeEveryKey(n storePair) {
	n.t.Helper()
	ctx := n.t.Context()
	n.lease(n.a, 1, 0)
	n.save(n.a, withRevision(n.lease(n.a, 2, 0), allowedRecord(2, openedAgo(5))), false, session.OutcomeStored)
	n.save(n.a, withRevision(n.lease(n.a, 3, 0), deniedRecord(3, openedAgo(5))), true, session.OutcomeStored)
	n.save(n.a, withRevision(n.lease(n.a, 4, 0), deniedRecord(4, openedAgo(5))), false, session.OutcomeStored)
	n.save(n.a, fallbackRecord(5, openedAgo(5)), false, session.OutcomeStored)
	must(n.t, n.a.RevokeSession(ctx, idOf(6), time.Time{}))
	must(n.t, n.a.SetEvicted(ctx, idOf(2), true))
	must(n.t, n.a.AddCounters(ctx, idOf(7), session.Counters{Requests: 1}))
	_, err := n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(2), LastSeen: time.Now().Add(-time.Hour)}, {ID: idOf(3), LastSeen: time.Now()}})
	must(n.t, err)
	_, err = n.a.ExpireIdle(ctx, time.Minute, 10)
	must(n.t, err)
	n.a.ReportStreams(ctx, streamEntryOf(2, "hash"))
	n.a.ReportStreams(ctx, streamEntryOf(2, "hash"), streamEntryOf(3, "hash"))
	n.a.ReportStreams(ctx, session.StreamEntry{User: "hash", Session: idOf(3), IsLeaving: true})
}

func TestRedis_EveryKeyExpires(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	writeEveryKey(n)
	keys, err := server.Client.Keys(t.Context(), "*").Result()
	must(t, err)
	if len(keys) < 8 {
		t.Errorf("only %d keys were stored: %q", len(keys), keys)
	}
	for _, key := range keys {
		left, err := server.Client.PTTL(t.Context(), key).Result()
		must(t, err)
		if left <= 0 || left > 2*time.Hour {
			t.Errorf("%s is kept for %v", key, left)
		}
	}
}

// TestRedis_AddCounters_History has the script join histories as joinHistory does.
func TestRedis_AddCounters_History(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	for i, test := range joinedHistories() {
		for _, history := range []string{test.before, test.next} {
			must(t, n.a.AddCounters(t.Context(), idOf(i), session.Counters{History: history}))
		}
		got := server.Client.HGet(t.Context(), n.a.(*Redis).sessionKey(idOf(i)), "nh").Val()
		if got != test.want {
			t.Errorf("%q and %q: got %q, want %q", test.before, test.next, got, test.want)
		}
	}
}

func TestRedis_StoresNoPlainText(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	writeEveryKey(n)
	keys, err := server.Client.Keys(t.Context(), "*").Result()
	must(t, err)
	var all strings.Builder
	for _, key := range keys {
		dump, err := server.Client.Dump(t.Context(), key).Result()
		must(t, err)
		all.WriteString(key + dump)
	}
	for _, secret := range []string{"Ann", "s3cret", "192.0.2.7", "00:1a:79", "unpaid", "a001"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("Redis holds %q", secret)
		}
	}
}

func TestRedis_NewerRecord_Kept(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	key := redisclient.Keyspace{Prefix: "usher"}.Session(idOf(1))
	n.save(n.a, withRevision(n.lease(n.a, 1, 0), allowedRecord(1, openedAgo(5))), false, session.OutcomeStored)
	must(t, server.Client.HSet(t.Context(), key, "v", recordVersion+1, "r", "from tomorrow").Err())
	got := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
	if got.Found || got.Revision == 0 {
		t.Errorf("got %+v, want a lease and nothing known", got)
	}
	n.save(n.a, withRevision(got.Revision, allowedRecord(1, openedAgo(5))), false, session.OutcomeKept)
	if r := server.Client.HGet(t.Context(), key, "r").Val(); r != "from tomorrow" {
		t.Errorf("the record is %q", r)
	}
	if again := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); again.HeldElsewhere || again.Revision == 0 {
		t.Errorf("the lease was not released: %+v", again)
	}
	must(t, n.a.RevokeSession(t.Context(), idOf(1), time.Time{})) // tombstones have no version
	if got := n.read(n.a, 1); !got.Found || got.Record.RevokedBefore.IsZero() {
		t.Errorf("got %+v, want the tombstone", got)
	}
}

func TestRedis_UnknownKey_LoggedOnce(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	for i := range 3 {
		n.save(n.a, allowedRecord(i, openedAgo(5)), false, session.OutcomeStored)
	}
	log := new(redistest.Log)
	other := testConfig(server)
	other.EncryptionKeys = []setting.Key{{ID: "b", Secret: "another secret of the cluster"}}
	s := newStore(t, other, log.Logger())
	for i := range 3 {
		if got := n.read(s, i); got.Found {
			t.Errorf("got %+v", got)
		}
	}
	if logged := log.Count("session record unreadable"); logged != 1 {
		t.Errorf("it was logged %d times", logged)
	}
	both := testConfig(server)
	both.EncryptionKeys = append(other.EncryptionKeys, both.EncryptionKeys...)
	if got := n.read(newStore(t, both, slog.New(slog.DiscardHandler)), 1); got.Record.Decision.User != "Ann" {
		t.Errorf("with both keys: %+v", got)
	}
}

func TestRedis_Flush_SessionStoredAgain(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	revision := n.lease(n.a, 1, 0)
	r := withRevision(revision, allowedRecord(1, openedAgo(5)))
	n.save(n.a, r, false, session.OutcomeStored)
	_, err := n.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now()}})
	must(t, err)
	must(t, server.Client.FlushAll(t.Context()).Err())
	unknown, err := n.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now()}})
	must(t, err)
	if len(unknown) != 1 || unknown[0] != idOf(1) {
		t.Errorf("unknown after the flush: %v", unknown)
	}
	n.save(n.a, r, false, session.OutcomeStored)
	n.want(n.a, 1, backends.Allowed, backends.FromBackend)
	if next := n.lease(n.a, 1, revision); next <= revision {
		t.Errorf("the revisions went back from %d to %d", revision, next)
	}
}

func TestRedis_ScriptFlush_ScriptsSentAgain(t *testing.T) {
	t.Parallel()
	server, n, log := newSingleStore(t, nil)
	n.lease(n.a, 1, 0)
	must(t, server.Client.ScriptFlush(t.Context()).Err())
	n.lease(n.a, 2, 0)
	if log.Count("level=") > 0 {
		t.Errorf("logged: %s", log.String())
	}
}

func TestRedis_ForeignKey_LoggedOnce(t *testing.T) {
	t.Parallel()
	server, n, log := newSingleStore(t, nil)
	must(t, server.Client.Set(t.Context(), redisclient.Keyspace{Prefix: "usher"}.Session(idOf(1)), "not ours", time.Hour).Err())
	for range 5 {
		_, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
		if err == nil || errors.Is(err, backends.ErrStoreUnavailable) {
			t.Errorf("the error is %v", err)
		}
	}
	if logged := log.Count("BUG"); logged != 1 {
		t.Errorf("it was logged %d times", logged)
	}
	n.lease(n.a, 2, 0) // other sessions are not affected
}

// TestRedis_Frozen_CallsTimeOut freezes the server with calls in flight. They end at the timeout, and change nothing when
// the server runs them after all.
func TestRedis_Frozen_CallsTimeOut(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second // a machine that is busy may answer late
	server, n, log := newSingleStore(t, func(c *Config) { c.RedisTimeout = timeout })
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	revision := n.lease(n.a, 1, 0)
	n.save(n.a, withRevision(revision, allowedRecord(1, openedAgo(5))), false, session.OutcomeStored)
	second := n.lease(n.a, 1, revision)
	must(t, n.a.AddCounters(t.Context(), idOf(7), session.Counters{Requests: 3}))
	_, err := n.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(7), LastSeen: time.Now().Add(-time.Hour)}})
	must(t, err)
	c := testConfig(server)
	c.RedisTimeout = timeout
	other := newStore(t, c, slog.New(slog.DiscardHandler))                                      // whose call waits behind no other
	_, err = other.endPeriod(t.Context(), string(new(idOf(8))[:]), time.Hour.Milliseconds(), 1) // the server knows the script
	must(t, err)
	n.read(other, 7)

	server.Signal(syscall.SIGSTOP)
	var late sync.WaitGroup
	for range 8 {
		late.Go(func() {
			began := time.Now()
			_, err := n.a.SaveDecision(t.Context(), session.DecisionUpdate{Record: withRevision(second, deniedRecord(1, openedAgo(5)))})
			if !errors.Is(err, backends.ErrStoreUnavailable) || time.Since(began) > redistest.Timeout {
				t.Errorf("the save ended with %v after %v", err, time.Since(began))
			}
		})
		late.Go(func() {
			if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(9), Lease: leaseFor}); !errors.Is(err, backends.ErrStoreUnavailable) {
				t.Errorf("the lease request ended with %v", err)
			}
		})
	}
	late.Go(func() {
		if _, err := other.endPeriod(t.Context(), string(new(idOf(7))[:]), time.Hour.Milliseconds(), 1); !errors.Is(err, backends.ErrStoreUnavailable) {
			t.Errorf("the close ended with %v", err)
		}
	})
	late.Wait()
	redistest.Eventually(t, "redis is unavailable", s.IsDown)
	if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("during the outage: %v", err)
	}
	// The calls that wait in the sockets expire by the server's clock.
	redistest.Eventually(t, "the calls have expired", func() bool {
		// A call expires after the timeout and a second for the clocks. The revision is the server's time of the lease.
		return time.Now().UnixMilli() > int64(second)+(timeout+2*time.Second).Milliseconds()
	})
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "redis has recovered", func() bool { return !s.IsDown() })
	n.want(n.a, 1, backends.Allowed, backends.FromBackend)
	if got := n.read(n.a, 9); got.HeldElsewhere {
		t.Error("an expired call was granted a lease")
	}
	fresh := newStore(t, c, slog.New(slog.DiscardHandler)) // which has had no outage, and need not wait
	if over, err := fresh.ExpireIdle(t.Context(), time.Minute, 10); err != nil || len(over) != 1 || over[0].Counters.Requests != 3 {
		t.Errorf("the closing record: %+v, %v", over, err)
	}
	if down, recovered := log.Count("redis unavailable"), log.Count("redis recovered"); down != 1 || recovered != 1 {
		t.Errorf("%d outages and %d recoveries were logged, want one each", down, recovered)
	}
}

// TestRedis_FrozenAtStart_ChangesNothing freezes the server before the node knows its clock, so that no call could expire.
func TestRedis_FrozenAtStart_ChangesNothing(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	s := n.a.(*Redis)                                      //nolint:forcetypeassert // as made above
	_, err := n.a.ExpireIdle(t.Context(), time.Minute, 10) // it is connected
	must(t, err)
	n.read(newStore(t, testConfig(server), slog.New(slog.DiscardHandler)), 1) // the server knows the script
	server.Signal(syscall.SIGSTOP)
	if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("the lease request ended with %v", err)
	}
	server.Signal(syscall.SIGCONT)
	for range 20 { // the calls that wait in the sockets run meanwhile
		must(t, server.Client.Ping(t.Context()).Err())
	}
	if keys := server.Client.Exists(t.Context(), s.sessionKey(idOf(1))).Val(); keys != 0 {
		t.Error("a call whose caller had given up was granted a lease")
	}
}

// TestRedis_FrozenWithCounters_CountedOnce freezes the server while counters are added, until this node takes it for
// unavailable. What the server adds after all is not added again.
func TestRedis_FrozenWithCounters_CountedOnce(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, func(c *Config) { c.RedisTimeout = time.Second })
	s := n.a.(*Redis)                                                             //nolint:forcetypeassert // as made above
	must(t, n.a.AddCounters(t.Context(), idOf(2), session.Counters{Requests: 1})) // the server knows the script
	server.Signal(syscall.SIGSTOP)
	var adding sync.WaitGroup
	tick := time.NewTicker(100 * time.Millisecond) // so that calls are in flight when the breaker opens
	defer tick.Stop()
	const last = 30
	for i := 0; !s.IsDown() && i < last; i, _ = i+1, <-tick.C { // each in digits of its own, to base 4
		adding.Go(func() { _ = n.a.AddCounters(t.Context(), idOf(1), session.Counters{Requests: 1 << (2 * i)}) })
	}
	adding.Wait()
	must(t, n.a.AddCounters(t.Context(), idOf(1), session.Counters{Requests: 1 << (2 * last)}))
	server.Signal(syscall.SIGCONT)
	var got int64
	redistest.Eventually(t, "what was added in the outage is counted", func() bool {
		got, _ = server.Client.HGet(t.Context(), s.sessionKey(idOf(1)), "nr").Int64()
		return got >= 1<<(2*last)
	})
	for i := range last + 1 {
		if times := got >> (2 * i) & 3; times > 1 {
			t.Errorf("call %d is counted %d times", i, times)
		}
	}
}

// TestRedis_Outage_DeferredWrites has a node decide during an outage, and reads what another node knows afterwards.
func TestRedis_Outage_DeferredWrites(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, func(c *Config) { c.RedisTimeout = time.Second })
	other := newStore(t, testConfig(server), slog.New(slog.DiscardHandler))
	s, ctx := n.a.(*Redis), t.Context() //nolint:forcetypeassert // as made above
	o := openedAgo(5)
	for i := 1; i <= 4; i++ {
		n.save(n.a, allowedRecord(i, o), false, session.OutcomeStored)
	}
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, n.a, s.IsDown)
	if _, err := n.a.SaveDecision(ctx, session.DecisionUpdate{Record: allowedRecord(5, o)}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("an allowed decision: %v", err)
	}
	if got, err := n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(5)}); !errors.Is(err, backends.ErrStoreUnavailable) || got.Record.Decision.User != "Ann" {
		t.Errorf("the node forgot its own decision: %+v, %v", got, err)
	}
	n.save(n.a, deniedRecord(1, o), true, session.OutcomeDeferred)
	if err := n.a.RevokeSession(ctx, idOf(2), time.Time{}); !errors.Is(err, backends.ErrStoreUnavailable) {
		t.Errorf("a tombstone: %v", err)
	}
	for i := 1; i <= 2; i++ {
		if got, _ := n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(i)}); got.Record.RevokedBefore.IsZero() {
			t.Errorf("session %d is not denied here: %+v", i, got)
		}
	}
	must(t, n.a.AddCounters(ctx, idOf(3), session.Counters{Requests: 3}))
	must(t, n.a.AddCounters(ctx, idOf(3), session.Counters{Requests: 4}))
	_, _ = n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(3), LastSeen: time.Now().Add(-time.Hour)}})
	if result := n.a.ReportStreams(ctx, streamEntryOf(4, "Ann")); result.States[0] != session.StreamActive {
		t.Errorf("a stream: %+v", result)
	}

	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "the revoked ticket and the tombstone are stored", func() bool {
		one, err1 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		two, err2 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(2)})
		return err1 == nil && err2 == nil && one.Record.RevokedBefore.Equal(o) && !two.Record.RevokedBefore.IsZero()
	})
	redistest.Eventually(t, "the closing record has all counters", func() bool {
		over, _ := other.ExpireIdle(ctx, time.Minute, 10)
		return len(over) == 1 && over[0].Record.ID == idOf(3) && over[0].Counters.Requests == 7
	})
}

// leastRights are the rights that an ACL user needs, as in doc.go. clusterRights are those that a Redis Cluster needs beside them.
const (
	leastRights   = "~usher:* &usher:* +@connection +@hash +@sortedset +@stream +@scripting +@pubsub +eval +evalsha +set +exists +pexpire +pexpireat +pttl +time"
	clusterRights = " +cluster|slots"
)

func TestRedis_ACLUser(t *testing.T) {
	t.Parallel()
	for name, isCluster := range map[string]bool{"one server": false, "a Redis Cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *redistest.Server
			var c Config
			rights := leastRights
			if isCluster {
				cluster := redistest.StartCluster(t)
				server, c, rights = cluster.Server, testConfig(cluster.Server), leastRights+clusterRights
				c.Redis.Addresses, c.Redis.Cluster = []string{cluster.Address}, true
			} else {
				server = redistest.Start(t)
				c = testConfig(server)
			}
			must(t, server.Client.Do(t.Context(), aclCommand("usher", "a password", rights)...).Err())
			must(t, server.Client.Do(t.Context(), "ACL", "SETUSER", "default", "off").Err())
			c.Redis.Username, c.Redis.Password = "usher", "a password"
			s := newStore(t, c, slog.New(slog.DiscardHandler))
			n := storePair{t, s, s}
			writeEveryKey(n)
			c.Redis.Password = "another one"
			c.RedisTimeout = time.Second
			wrong := newStore(t, c, slog.New(slog.DiscardHandler))
			if _, err := wrong.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, backends.ErrStoreUnavailable) || !strings.Contains(err.Error(), "WRONGPASS") {
				t.Errorf("with another password: %v", err)
			}
		})
	}
}

// TestRedis_ACLUser_Recovers needs the rights for the probe of the breaker.
func TestRedis_ACLUser_Recovers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	must(t, server.Client.Do(t.Context(), aclCommand("usher", "a password", leastRights)...).Err())
	c := testConfig(server)
	c.Redis.Username, c.Redis.Password = "usher", "a password"
	c.RedisTimeout = time.Second
	s := newStore(t, c, slog.New(slog.DiscardHandler))
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, s, s.IsDown)
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "redis has recovered", func() bool { return !s.IsDown() })
}

func aclCommand(user, password, rights string) []any {
	command := []any{"ACL", "SETUSER", user, "on", ">" + password}
	for right := range strings.FieldsSeq(rights) {
		command = append(command, right)
	}
	return command
}

func TestRedis_RESP3(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	n.lease(n.a, 1, 0)
	clients, err := server.Client.ClientList(t.Context()).Result()
	must(t, err)
	found := 0
	for line := range strings.Lines(clients) {
		if strings.Contains(line, "cmd=evalsha") || strings.Contains(line, "cmd=eval") {
			found++
			if !strings.Contains(line, "resp=3") {
				t.Errorf("a connection of the client: %s", line)
			}
		}
	}
	if found == 0 {
		t.Errorf("no connection of the client in:\n%s", clients)
	}
}

// TestRedis_CallsShareRoundTrips sends many calls at once.
func TestRedis_CallsShareRoundTrips(t *testing.T) {
	t.Parallel()
	_, n, _ := newSingleStore(t, nil)
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	n.lease(n.a, 0, 0)
	before := s.client.RoundTrips()
	const count = 2000
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() {
			if got, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(i + 1), Lease: leaseFor}); err != nil || got.Revision == 0 {
				t.Errorf("lease %d: %+v, %v", i, got, err)
			}
		})
	}
	all.Wait()
	if trips := s.client.RoundTrips() - before; trips >= count/2 {
		t.Errorf("%d calls took %d round trips", count, trips)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := n.a.AcquireLease(gone, session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller whose context ended gets %v", err)
	}
}
