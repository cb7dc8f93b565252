package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/backends"
)

// lockedLog is a log that may be read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func (l *lockedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// single is one Redis store on a server of its own.
func single(t *testing.T, edit func(*Config)) (*redisServer, two, *lockedLog) {
	t.Helper()
	server, log := startRedis(t), new(lockedLog)
	c := testConfig(server)
	if edit != nil {
		edit(&c)
	}
	s := newStore(t, c, log.logger())
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
	n.publish(n.a, under(n.lease(n.a, 2, 0), yes(2, opened(5))), false, session.OutcomeStored)
	n.publish(n.a, under(n.lease(n.a, 3, 0), no(3, opened(5))), true, session.OutcomeStored)
	n.publish(n.a, under(n.lease(n.a, 4, 0), no(4, opened(5))), false, session.OutcomeStored)
	n.publish(n.a, stopgap(5, opened(5)), false, session.OutcomeStored)
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
	keys, err := server.client.Keys(t.Context(), "*").Result()
	must(t, err)
	if len(keys) < 8 {
		t.Errorf("only %d keys were stored: %q", len(keys), keys)
	}
	for _, key := range keys {
		left, err := server.client.PTTL(t.Context(), key).Result()
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
	keys, err := server.client.Keys(t.Context(), "*").Result()
	must(t, err)
	var all strings.Builder
	for _, key := range keys {
		dump, err := server.client.Dump(t.Context(), key).Result()
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
	key := keys{"usher"}.session(idOf(1))
	n.publish(n.a, under(n.lease(n.a, 1, 0), yes(1, opened(5))), false, session.OutcomeStored)
	must(t, server.client.HSet(t.Context(), key, "v", recordVersion+1, "r", "from tomorrow").Err())
	got := n.claim(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
	if got.Found || got.Revision == 0 {
		t.Errorf("got %+v, want a lease and nothing known", got)
	}
	n.publish(n.a, under(got.Revision, yes(1, opened(5))), false, session.OutcomeKept)
	if r := server.client.HGet(t.Context(), key, "r").Val(); r != "from tomorrow" {
		t.Errorf("the record is %q", r)
	}
	if again := n.claim(n.a, session.LeaseRequest{ID: idOf(1), Lease: leaseFor}); again.HeldElsewhere || again.Revision == 0 {
		t.Errorf("the lease was not given back: %+v", again)
	}
	must(t, n.a.RevokeSession(t.Context(), idOf(1), time.Time{}, time.Hour)) // tombstones are of no version
	if got := n.look(n.a, 1); !got.Found || got.Record.KickedUntil.IsZero() || got.Record.RevokedBefore.IsZero() {
		t.Errorf("got %+v, want the kick", got)
	}
}

func TestARecordOfAnotherKeyIsUnknownAndToldOnce(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	for i := range 3 {
		n.publish(n.a, yes(i, opened(5)), false, session.OutcomeStored)
	}
	log := new(lockedLog)
	other := testConfig(server)
	other.EncryptionKeys = []backends.Key{{ID: "b", Secret: "another secret of the cluster"}}
	s := newStore(t, other, log.logger())
	for i := range 3 {
		if got := n.look(s, i); got.Found {
			t.Errorf("got %+v", got)
		}
	}
	if told := log.count("cannot be read"); told != 1 {
		t.Errorf("it was told %d times", told)
	}
	both := testConfig(server)
	both.EncryptionKeys = append(other.EncryptionKeys, both.EncryptionKeys...)
	if got := n.look(newStore(t, both, slog.New(slog.DiscardHandler)), 1); got.Record.Decision.User != "Ann" {
		t.Errorf("with both keys: %+v", got)
	}
}

func TestASessionThatRedisLostIsStoredAgain(t *testing.T) {
	t.Parallel()
	server, n, _ := single(t, nil)
	fence := n.lease(n.a, 1, 0)
	r := under(fence, yes(1, opened(5)))
	n.publish(n.a, r, false, session.OutcomeStored)
	_, err := n.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now()}})
	must(t, err)
	must(t, server.client.FlushAll(t.Context()).Err())
	unknown, err := n.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now()}})
	must(t, err)
	if len(unknown) != 1 || unknown[0] != idOf(1) {
		t.Errorf("unknown after the flush: %v", unknown)
	}
	n.publish(n.a, r, false, session.OutcomeStored)
	n.want(n.a, 1, backends.Allowed, backends.FromBackend)
	if next := n.lease(n.a, 1, fence); next <= fence {
		t.Errorf("the numbers went back from %d to %d", fence, next)
	}
}

func TestScriptsThatRedisForgotAreSentAgain(t *testing.T) {
	t.Parallel()
	server, n, log := single(t, nil)
	n.lease(n.a, 1, 0)
	must(t, server.client.ScriptFlush(t.Context()).Err())
	n.lease(n.a, 2, 0)
	if log.count("level=") > 0 {
		t.Errorf("it was told of: %s", log.text.String())
	}
}

func TestAKeyOfSomebodyElseIsTold(t *testing.T) {
	t.Parallel()
	server, n, log := single(t, nil)
	must(t, server.client.Set(t.Context(), keys{"usher"}.session(idOf(1)), "not ours", time.Hour).Err())
	for range 5 {
		_, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
		if err == nil || errors.Is(err, ErrAway) {
			t.Errorf("the error is %v", err)
		}
	}
	if told := log.count("BUG"); told != 1 {
		t.Errorf("it was told %d times", told)
	}
	n.lease(n.a, 2, 0) // others are not disturbed
}

// TestAFrozenRedisHoldsNobodyUp freezes the server with calls under way. They end at the deadline, and change nothing when
// the server comes to them after all.
func TestAFrozenRedisHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	server, n, log := single(t, func(c *Config) { c.RedisTimeout = time.Second })
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	fence := n.lease(n.a, 1, 0)
	n.publish(n.a, under(fence, yes(1, opened(5))), false, session.OutcomeStored)
	second := n.lease(n.a, 1, fence)

	server.signal(syscall.SIGSTOP)
	var late sync.WaitGroup
	for range 8 {
		late.Go(func() {
			began := time.Now()
			_, err := n.a.SaveDecision(t.Context(), session.DecisionUpdate{Record: under(second, no(1, opened(5)))})
			if !errors.Is(err, ErrAway) || time.Since(began) > patience {
				t.Errorf("the publication ended with %v after %v", err, time.Since(began))
			}
		})
		late.Go(func() {
			if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(9), Lease: leaseFor}); !errors.Is(err, ErrAway) {
				t.Errorf("the claim ended with %v", err)
			}
		})
	}
	late.Wait()
	eventually(t, "Redis is given up", s.Away)
	if _, err := n.a.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, ErrAway) {
		t.Errorf("while it is away: %v", err)
	}
	// What waits in the sockets is late only when its time is over by the server's clock.
	eventually(t, "the calls are late", func() bool {
		now, _ := s.clocks.of(s.keys.session(idOf(1))).now()
		return now > int64(second)+(s.clocks.slack+time.Second).Milliseconds()
	})
	server.signal(syscall.SIGCONT)
	eventually(t, "Redis is back", func() bool { return !s.Away() })
	n.want(n.a, 1, backends.Allowed, backends.FromBackend)
	if got := n.look(n.a, 9); got.HeldElsewhere {
		t.Error("a lease was granted to who had left")
	}
	if away, back := log.count("Redis is away"), log.count("Redis is back"); away != 1 || back != 1 {
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
		n.publish(n.a, yes(i, o), false, session.OutcomeStored)
	}
	server.signal(syscall.SIGSTOP)
	eventually(t, "Redis is given up", func() bool {
		_, _ = n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		return s.Away()
	})
	if _, err := n.a.SaveDecision(ctx, session.DecisionUpdate{Record: yes(5, o)}); !errors.Is(err, ErrAway) {
		t.Errorf("a yes: %v", err)
	}
	if got, err := n.a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(5)}); !errors.Is(err, ErrAway) || got.Record.Decision.User != "Ann" {
		t.Errorf("the node forgot what it decided alone: %+v, %v", got, err)
	}
	n.publish(n.a, no(1, o), true, session.OutcomeStored) // it will be written
	if err := n.a.RevokeSession(ctx, idOf(2), time.Time{}, time.Hour); !errors.Is(err, ErrAway) {
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

	server.signal(syscall.SIGCONT)
	eventually(t, "the burial and the kick are written", func() bool {
		one, err1 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		two, err2 := other.AcquireLease(ctx, session.LeaseRequest{ID: idOf(2)})
		return err1 == nil && err2 == nil && one.Record.RevokedBefore.Equal(o) && time.Now().Before(two.Record.KickedUntil)
	})
	eventually(t, "the closing record has all that was counted", func() bool {
		over, _ := other.ExpireIdle(ctx, time.Minute, 10)
		return len(over) == 1 && over[0].Record.ID == idOf(3) && over[0].Counters.Requests == 7
	})
}

// leastRights is what an ACL user needs, as doc.go has it.
const leastRights = "~usher:* &usher:* +@connection +@hash +@sortedset +@stream +@scripting +@pubsub +eval +evalsha +set +exists +pexpire +pexpireat +pttl +time"

func TestRedisByAnACLUser(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	must(t, server.client.Do(t.Context(), aclCommand("usher", "a password", leastRights)...).Err())
	must(t, server.client.Do(t.Context(), "ACL", "SETUSER", "default", "off").Err())
	c := testConfig(server)
	c.Redis.Username, c.Redis.Password = "usher", "a password"
	s := newStore(t, c, slog.New(slog.DiscardHandler))
	n := two{t, s, s}
	everything(n)
	must(t, s.probe(t.Context()))
	c.Redis.Password = "another one"
	c.RedisTimeout = time.Second
	wrong := newStore(t, c, slog.New(slog.DiscardHandler))
	if _, err := wrong.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with another password: %v", err)
	}
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
	clients, err := server.client.ClientList(t.Context()).Result()
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
	before := s.trips.Load()
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
	if trips := s.trips.Load() - before; trips >= crowd/2 {
		t.Errorf("%d calls took %d round trips", crowd, trips)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := n.a.AcquireLease(gone, session.LeaseRequest{ID: idOf(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("who has left gets %v", err)
	}
}

func TestIsAwayTellsAbsenceFromNonsense(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	must(t, server.client.Set(t.Context(), "text", "x", time.Minute).Err())
	if err := server.client.HGet(t.Context(), "text", "x").Err(); isAway(err) {
		t.Errorf("a wrong type is absence: %v", err)
	}
	must(t, server.client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	if err := server.client.Set(t.Context(), "text", "x", 0).Err(); !isAway(err) {
		t.Errorf("a replica is a master: %v", err)
	}
	nowhere := redis.NewClient(&redis.Options{Network: "unix", Addr: server.socket + "x", MaxRetries: -1})
	defer func() { _ = nowhere.Close() }()
	if err := nowhere.Ping(t.Context()).Err(); !isAway(err) {
		t.Errorf("nobody is somebody: %v", err)
	}
}
