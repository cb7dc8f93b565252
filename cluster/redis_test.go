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
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// single is one Redis store on a server of its own.
func single(t *testing.T, edit func(*Config)) (*redistest.Server, two, *redistest.Log) {
	t.Helper()
	server, log := redistest.Start(t), new(redistest.Log)
	c := testConfig(server)
	if edit != nil {
		edit(&c)
	}
	s := newStore(t, c, log.Logger())
	return server, two{t, s, s}, log
}

func membership(i int, user string) session.StreamEntry {
	return session.StreamEntry{
		User: user, Session: idOf(i), Opened: opened(5), LastSeen: time.Now(), IsPlaying: true, MaxStreams: 2,
		Device: "00:1a:79:00:00:01", Address: "192.0.2.7",
	}
}

// everything does all that stores keys.
func everything(n two) {
	n.t.Helper()
	ctx := n.t.Context()
	n.lease(n.a, 1, 0)
	n.save(n.a, under(n.lease(n.a, 2, 0), yes(2, opened(5))), false, session.OutcomeStored)
	n.save(n.a, under(n.lease(n.a, 3, 0), no(3, opened(5))), true, session.OutcomeStored)
	n.save(n.a, under(n.lease(n.a, 4, 0), no(4, opened(5))), false, session.OutcomeStored)
	n.save(n.a, stopgap(5, opened(5)), false, session.OutcomeStored)
	must(n.t, n.a.RevokeSession(ctx, idOf(6), time.Time{}, time.Hour))
	must(n.t, n.a.SetEvicted(ctx, idOf(2), true))
	must(n.t, n.a.AddCounters(ctx, idOf(7), session.Counters{Requests: 1}))
	_, err := n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(2), LastSeen: time.Now().Add(-time.Hour)}, {ID: idOf(3), LastSeen: time.Now()}})
	must(n.t, err)
	_, err = n.a.ExpireIdle(ctx, time.Minute, 10)
	must(n.t, err)
	_, err = n.a.JoinStream(ctx, membership(2, "Ann"))
	must(n.t, err)
	_, err = n.a.RenewStreams(ctx, []session.StreamEntry{membership(2, "Ann"), membership(3, "Ann")})
	must(n.t, err)
	must(n.t, n.a.LeaveStream(ctx, "Ann", idOf(3)))
}

func TestEveryKeyEndsByItself(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	everything(n)
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

func TestRedisLearnsNothingOfViewers(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	everything(n)
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

func TestANewerRecordIsIgnoredAndLeftAlone(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	key := redisclient.Keyspace{Prefix: "usher"}.Session(idOf(1))
	n.save(n.a, under(n.lease(n.a, 1, 0), yes(1, opened(5))), false, session.OutcomeStored)
	must(t, server.Client.HSet(t.Context(), key, "v", recordVersion+1, "r", "from tomorrow").Err())
	got := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
	if got.Found || got.Revision == 0 {
		t.Errorf("got %+v, want a lease and nothing known", got)
	}
	n.save(n.a, under(got.Revision, yes(1, opened(5))), false, session.OutcomeKept)
	if r := server.Client.HGet(t.Context(), key, "r").Val(); r != "from tomorrow" {
		t.Errorf("the record is %q", r)
	}
	if again := n.acquire(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); again.HeldElsewhere || again.Revision == 0 {
		t.Errorf("the lease was not given back: %+v", again)
	}
	must(t, n.a.RevokeSession(t.Context(), idOf(1), time.Time{}, time.Hour)) // tombstones are of no version
	if got := n.read(n.a, 1); !got.Found || got.Record.KickedUntil.IsZero() || got.Record.RevokedBefore.IsZero() {
		t.Errorf("got %+v, want the kick", got)
	}
}

func TestARecordOfAnotherKeyIsUnknownAndToldOnce(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	for i := range 3 {
		n.save(n.a, yes(i, opened(5)), false, session.OutcomeStored)
	}
	log := new(redistest.Log)
	other := testConfig(server)
	other.EncryptionKeys = []backends.Key{{ID: "b", Secret: "another secret of the cluster"}}
	s := newStore(t, other, log.Logger())
	for i := range 3 {
		if got := n.read(s, i); got.Found {
			t.Errorf("got %+v", got)
		}
	}
	if told := log.Count("session record unreadable"); told != 1 {
		t.Errorf("it was told %d times", told)
	}
	both := testConfig(server)
	both.EncryptionKeys = append(other.EncryptionKeys, both.EncryptionKeys...)
	if got := n.read(newStore(t, both, slog.New(slog.DiscardHandler)), 1); got.Record.Decision.User != "Ann" {
		t.Errorf("with both keys: %+v", got)
	}
}

func TestASessionThatRedisLostIsStoredAgain(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	fence := n.lease(n.a, 1, 0)
	r := under(fence, yes(1, opened(5)))
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
	if next := n.lease(n.a, 1, fence); next <= fence {
		t.Errorf("the numbers went back from %d to %d", fence, next)
	}
}

func TestScriptsThatRedisForgotAreSentAgain(t *testing.T) {
	t.Parallel()
	server, n, log := single(t, nil)
	n.lease(n.a, 1, 0)
	must(t, server.Client.ScriptFlush(t.Context()).Err())
	n.lease(n.a, 2, 0)
	if log.Count("level=") > 0 {
		t.Errorf("it was told of: %s", log.String())
	}
}

func TestAKeyOfSomebodyElseIsTold(t *testing.T) {
	t.Parallel()
	server, n, log := single(t, nil)
	must(t, server.Client.Set(t.Context(), redisclient.Keyspace{Prefix: "usher"}.Session(idOf(1)), "not ours", time.Hour).Err())
	for range 5 {
		_, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
		if err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("the error is %v", err)
		}
	}
	if told := log.Count("BUG"); told != 1 {
		t.Errorf("it was told %d times", told)
	}
	n.lease(n.a, 2, 0) // others are not disturbed
}

// TestAFrozenRedisHoldsNobodyUp freezes the server with calls under way. They end at the deadline, and change nothing when
// the server comes to them after all.
func TestAFrozenRedisHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	server, n, log := single(t, func(c *Config) { c.RedisTimeout = timeout })
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	fence := n.lease(n.a, 1, 0)
	n.save(n.a, under(fence, yes(1, opened(5))), false, session.OutcomeStored)
	second := n.lease(n.a, 1, fence)

	server.Signal(syscall.SIGSTOP)
	var late sync.WaitGroup
	for range 8 {
		late.Go(func() {
			began := time.Now()
			_, err := n.a.SaveDecision(t.Context(), session.DecisionUpdate{Record: under(second, no(1, opened(5)))})
			if !errors.Is(err, ErrUnavailable) || time.Since(began) > redistest.Timeout {
				t.Errorf("the publication ended with %v after %v", err, time.Since(began))
			}
		})
		late.Go(func() {
			if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(9), Lease: leaseFor}); !errors.Is(err, ErrUnavailable) {
				t.Errorf("the claim ended with %v", err)
			}
		})
	}
	late.Wait()
	redistest.Eventually(t, "Redis is given up", s.IsDown)
	if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while it is away: %v", err)
	}
	// What waits in the sockets is late only when its time is over by the server's clock.
	redistest.Eventually(t, "the calls are late", func() bool {
		// A call expires after the timeout and a second for the clocks. The revision is the server's time of the lease.
		return time.Now().UnixMilli() > int64(second)+(timeout+2*time.Second).Milliseconds()
	})
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "Redis is back", func() bool { return !s.IsDown() })
	n.want(n.a, 1, backends.Allowed, backends.FromBackend)
	if got := n.read(n.a, 9); got.HeldElsewhere {
		t.Error("a lease was granted to who had left")
	}
	if away, back := log.Count("redis unavailable"), log.Count("redis recovered"); away != 1 || back != 1 {
		t.Errorf("it was told %d times that Redis is away, %d times that it is back", away, back)
	}
}

// TestWhatIsDecidedWhileRedisIsAway has a node alone decide, and sees what the others know afterwards.
func TestWhatIsDecidedWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, func(c *Config) { c.RedisTimeout = time.Second })
	other := newStore(t, testConfig(server), slog.New(slog.DiscardHandler))
	s, ctx := n.a.(*Redis), t.Context() //nolint:forcetypeassert // as made above
	o := opened(5)
	for i := 1; i <= 4; i++ {
		n.save(n.a, yes(i, o), false, session.OutcomeStored)
	}
	server.Signal(syscall.SIGSTOP)
	redistest.Eventually(t, "Redis is given up", func() bool {
		_, _ = n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		return s.IsDown()
	})
	if _, err := n.a.SaveDecision(ctx, session.DecisionUpdate{Record: yes(5, o)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a yes: %v", err)
	}
	if got, err := n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(5)}); !errors.Is(err, ErrUnavailable) || got.Record.Decision.User != "Ann" {
		t.Errorf("the node forgot what it decided alone: %+v, %v", got, err)
	}
	n.save(n.a, no(1, o), true, session.OutcomeStored) // it will be written
	if err := n.a.RevokeSession(ctx, idOf(2), time.Time{}, time.Hour); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a kick: %v", err)
	}
	for i := 1; i <= 2; i++ {
		if got, _ := n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(i)}); got.Record.RevokedBefore.IsZero() {
			t.Errorf("session %d is not refused here: %+v", i, got)
		}
	}
	must(t, n.a.AddCounters(ctx, idOf(3), session.Counters{Requests: 3}))
	must(t, n.a.AddCounters(ctx, idOf(3), session.Counters{Requests: 4}))
	_, _ = n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(3), LastSeen: time.Now().Add(-time.Hour)}})
	if said, err := n.a.JoinStream(ctx, membership(4, "Ann")); err != nil || said.States[0] != session.StreamActive {
		t.Errorf("a place: %+v, %v", said, err)
	}

	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "the burial and the kick are written", func() bool {
		one, err1 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		two, err2 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(2)})
		return err1 == nil && err2 == nil && one.Record.RevokedBefore.Equal(o) && time.Now().Before(two.Record.KickedUntil)
	})
	redistest.Eventually(t, "the closing record has all that was counted", func() bool {
		over, _ := other.ExpireIdle(ctx, time.Minute, 10)
		return len(over) == 1 && over[0].Record.ID == idOf(3) && over[0].Counters.Requests == 7
	})
}

// leastRights is what an ACL user needs, as doc.go has it.
const leastRights = "~usher:* &usher:* +@connection +@hash +@sortedset +@stream +@scripting +@pubsub +eval +evalsha +set +exists +pexpire +pexpireat +pttl +time"

func TestRedisByAnACLUser(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	must(t, server.Client.Do(t.Context(), aclCommand("usher", "a password", leastRights)...).Err())
	must(t, server.Client.Do(t.Context(), "ACL", "SETUSER", "default", "off").Err())
	c := testConfig(server)
	c.Redis.Username, c.Redis.Password = "usher", "a password"
	s := newStore(t, c, slog.New(slog.DiscardHandler))
	n := two{t, s, s}
	everything(n)
	c.Redis.Password = "another one"
	c.RedisTimeout = time.Second
	wrong := newStore(t, c, slog.New(slog.DiscardHandler))
	if _, err := wrong.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with another password: %v", err)
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
	redistest.Eventually(t, "Redis is given up", func() bool {
		_, _ = s.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)})
		return s.IsDown()
	})
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "Redis has recovered", func() bool { return !s.IsDown() })
}

func aclCommand(user, password, rights string) []any {
	command := []any{"ACL", "SETUSER", user, "on", ">" + password}
	for right := range strings.FieldsSeq(rights) {
		command = append(command, right)
	}
	return command
}

func TestRedisSpeaksRESP3(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	n.lease(n.a, 1, 0)
	clients, err := server.Client.ClientList(t.Context()).Result()
	must(t, err)
	found := 0
	for line := range strings.Lines(clients) {
		if strings.Contains(line, "cmd=evalsha") || strings.Contains(line, "cmd=eval") {
			found++
			if !strings.Contains(line, "resp=3") {
				t.Errorf("a connection of ours: %s", line)
			}
		}
	}
	if found == 0 {
		t.Errorf("none of ours in:\n%s", clients)
	}
}

// TestCallsShareTripsAndKeepTheirDeadlines sends a crowd's calls at once.
func TestCallsShareTripsAndKeepTheirDeadlines(t *testing.T) {
	t.Parallel()
	_, n, _ := single(t, nil)
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	n.lease(n.a, 0, 0)
	before := s.client.RoundTrips()
	const crowd = 2000
	var all sync.WaitGroup
	for i := range crowd {
		all.Go(func() {
			if got, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(i + 1), Lease: leaseFor}); err != nil || got.Revision == 0 {
				t.Errorf("claim %d: %+v, %v", i, got, err)
			}
		})
	}
	all.Wait()
	if trips := s.client.RoundTrips() - before; trips >= crowd/2 {
		t.Errorf("%d calls took %d round trips", crowd, trips)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := n.a.AcquireLease(gone, session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("who has left gets %v", err)
	}
}
