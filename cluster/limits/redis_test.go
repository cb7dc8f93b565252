package limits

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

func newClient(t testing.TB, server *redistest.Server) *redisclient.Client {
	t.Helper()
	c := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 32}
	client, err := redisclient.New(c, 5*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newCipher(t testing.TB) *redisclient.Cipher {
	t.Helper()
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	return cipher
}

func newRedis(t testing.TB, client *redisclient.Client, p session.LimitPolicy) *Redis {
	t.Helper()
	return NewRedis(client, newCipher(t), NewMemory(testRules(p)), slog.New(slog.DiscardHandler))
}

// clockedStore is Redis with a clock that a test sets.
type clockedStore struct {
	store
	ms int64
}

func (c *clockedStore) now(string) (int64, bool) { return c.ms, true }

// redisLimiter has two nodes report in turn.
type redisLimiter struct {
	user  string
	nodes [2]*Redis
	clock *clockedStore
	calls int
}

func newRedisLimiter(t testing.TB, client *redisclient.Client, p session.LimitPolicy, user string) *redisLimiter {
	t.Helper()
	l := &redisLimiter{user: user, clock: &clockedStore{store: newRedis(t, client, p).store}}
	for i := range l.nodes {
		l.nodes[i] = newRedis(t, client, p)
		l.nodes[i].store = l.clock
	}
	return l
}

func (l *redisLimiter) apply(now int64, reports ...report) session.LimitResult {
	l.clock.ms = now
	l.calls++
	got, err := l.nodes[l.calls%2].methods.apply(context.Background(), l.user, reports)
	if err != nil {
		panic(err)
	}
	return got
}

func TestRedis_Scenarios(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t))
	runScenarios(t, func(name string, p session.LimitPolicy) limiter { return newRedisLimiter(t, client, p, name) })
}

func TestRedis_ExactOnceSettled(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t))
	rounds := 0
	rapid.Check(t, func(r *rapid.T) {
		if rounds++; rounds > 15 {
			return // each call is a round trip
		}
		policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(r, "policy"))
		l := newRedisLimiter(t, client, policy, fmt.Sprint("settling", rounds))
		checkSettles(r, l, rapid.IntRange(1, 4).Draw(r, "max"), rapid.IntRange(1, 9).Draw(r, "viewers"))
	})
}

func entryOf(i int) session.StreamEntry {
	return session.StreamEntry{
		User: "Ann", Session: idOf(i), Opened: time.Now().Add(-time.Minute), LastSeen: time.Now(), IsPlaying: true, MaxStreams: 2,
	}
}

// TestRedis_RoundTrips counts what calls cost.
func TestRedis_RoundTrips(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t))
	a, b := newRedis(t, client, session.EvictOldest), newRedis(t, client, session.EvictOldest)
	trips := func(do func() error) uint64 {
		t.Helper()
		before := client.RoundTrips()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return client.RoundTrips() - before
	}
	renew := func(l *Redis, i int) func() error {
		return func() error { _, err := l.RenewStreams(t.Context(), []session.StreamEntry{entryOf(i)}); return err }
	}
	trips(renew(a, 1)) // the server learns the script, the client the server's clock
	for _, one := range []struct {
		name string
		do   func() error
		want uint64
	}{
		{"a heartbeat", renew(a, 1), 1},
		{"a second stream on the node", func() error { _, err := a.JoinStream(t.Context(), entryOf(2)); return err }, 1},
		{"the first stream on another node", func() error { _, err := b.JoinStream(t.Context(), entryOf(3)); return err }, 2},
		{"another node's heartbeat", renew(b, 3), 1},
		{"a heartbeat after that", renew(a, 1), 2},
		{"a heartbeat once more", renew(a, 1), 1},
		{"an end", func() error { return a.LeaveStream(t.Context(), "Ann", idOf(2)) }, 1},
	} {
		if got := trips(one.do); got != one.want {
			t.Errorf("%s costs %d round trips, want %d", one.name, got, one.want)
		}
	}
}

// TestRedis_SetExpires_TellsExceeded checks what a call leaves in Redis.
func TestRedis_SetExpires_TellsExceeded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server)
	l := newRedis(t, client, session.EvictOldest)
	subscription := server.Client.Subscribe(t.Context(), client.Keys().LimitChannel())
	t.Cleanup(func() { _ = subscription.Close() })
	if _, err := subscription.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // one message: with the third stream
		if _, err := l.JoinStream(t.Context(), entryOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	key := client.Keys().User(l.cipher.UserHash("Ann"))
	if ttl := server.Client.PTTL(t.Context(), key).Val(); ttl < time.Minute || ttl > 3*time.Minute {
		t.Errorf("the set expires in %v", ttl)
	}
	for i := range 5 {
		if err := l.LeaveStream(t.Context(), "Ann", idOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	left, ttl := server.Client.HGet(t.Context(), key, "s").Val(), server.Client.PTTL(t.Context(), key).Val()
	if left != "" || ttl <= 0 || ttl > cacheTTL {
		t.Errorf("the set is %q and expires in %v; want an empty one, for as long as nodes remember the set", left, ttl)
	}
	if err := server.Client.Publish(t.Context(), client.Keys().LimitChannel(), "end").Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{l.cipher.UserHash("Ann"), "end"} {
		if got := (<-subscription.Channel()).Payload; got != want {
			t.Errorf("got the message %q, want %q", got, want)
		}
	}
}

func BenchmarkRenewStreams(b *testing.B) {
	for _, count := range []int{1, 10, 100} {
		entries := make([]session.StreamEntry, count)
		for i := range entries {
			entries[i] = entryOf(i)
			entries[i].MaxStreams = count
		}
		b.Run(fmt.Sprintf("memory/%d", count), func(b *testing.B) {
			l := NewMemory(testRules(session.EvictOldest))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = l.RenewStreams(b.Context(), entries)
			}
		})
		b.Run(fmt.Sprintf("redis/%d", count), func(b *testing.B) {
			server := redistest.Start(b)
			l := newRedis(b, newClient(b, server), session.EvictOldest)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.RenewStreams(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			server.ReportScriptTime(b)
		})
	}
}

// BenchmarkJoinStream opens a session of a user with a limit, each time of another user.
func BenchmarkJoinStream(b *testing.B) {
	server := redistest.Start(b)
	l := newRedis(b, newClient(b, server), session.EvictOldest)
	e, user := entryOf(0), 0
	e.MaxStreams = 3
	b.ReportAllocs()
	for b.Loop() {
		user++
		e.User = fmt.Sprint("user ", user)
		if _, err := l.JoinStream(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	server.ReportScriptTime(b)
}
