package limits

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
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

func newRedis(t testing.TB, client *redisclient.Client, p session.LimitPolicy) *Redis {
	t.Helper()
	return NewRedis(client, testRules(p), slog.New(slog.DiscardHandler))
}

// clockedStore is Redis with a clock that a test sets.
type clockedStore struct {
	store
	ms int64
}

func (c *clockedStore) clock(string) (now, upSince int64, isKnown bool) { return c.ms, 0, true }

// redisLimiter has two nodes report in turn.
type redisLimiter struct {
	user  string
	nodes [2]*Redis
	clock *clockedStore
	calls int
}

func newRedisLimiter(t testing.TB, client *redisclient.Client, p session.LimitPolicy, user string) *redisLimiter {
	t.Helper()
	l := &redisLimiter{user: user, clock: &clockedStore{store: newRedis(t, client, p).streams.store}}
	for i := range l.nodes {
		l.nodes[i] = newRedis(t, client, p)
		l.nodes[i].streams.store = l.clock
	}
	return l
}

func (l *redisLimiter) apply(now int64, reports ...report) session.LimitResult {
	l.clock.ms = now
	l.calls++
	got := l.nodes[l.calls%2].streams.apply(context.Background(), l.user, reports)
	if got.IsLocal {
		panic("redis did not count")
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
	trips := func(l *Redis, e session.StreamEntry) uint64 {
		before := client.RoundTrips()
		l.ReportStreams(t.Context(), e)
		return client.RoundTrips() - before
	}
	opened := func(i int) session.StreamEntry {
		e := entryOf(i)
		e.IsNew = true
		return e
	}
	trips(a, entryOf(1)) // the server learns the script, the client the server's clock
	for _, one := range []struct {
		name  string
		node  *Redis
		entry session.StreamEntry
		want  uint64
	}{
		{"a heartbeat", a, entryOf(1), 1},
		{"a second stream on the node", a, opened(2), 1},
		{"the first stream on another node", b, opened(3), 2},
		{"another node's heartbeat", b, entryOf(3), 1},
		{"a heartbeat after that", a, entryOf(1), 2},
		{"a heartbeat once more", a, entryOf(1), 1},
		{"an end", a, session.StreamEntry{User: "Ann", Session: idOf(2), IsLeaving: true}, 1},
	} {
		got := trips(one.node, one.entry)
		if t.Logf("%s costs %d round trips", one.name, got); got != one.want {
			t.Errorf("%s costs %d round trips, want %d", one.name, got, one.want)
		}
	}
	if client.IsDown() {
		t.Error("Redis was unavailable meanwhile")
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
		l.ReportStreams(t.Context(), entryOf(i))
	}
	key := client.Keys().User("Ann")
	if ttl := server.Client.PTTL(t.Context(), key).Val(); ttl < time.Minute || ttl > 3*time.Minute {
		t.Errorf("the set expires in %v", ttl)
	}
	for i := range 5 {
		l.ReportStreams(t.Context(), session.StreamEntry{User: "Ann", Session: idOf(i), IsLeaving: true})
	}
	left, err := decode(server.Client.HGet(t.Context(), key, "s").Val())
	ttl := server.Client.PTTL(t.Context(), key).Val()
	if err != nil || len(left.streams) != 0 || ttl <= 0 || ttl > cacheTTL {
		t.Errorf("the set is %+v and expires in %v; want an empty one, for as long as nodes remember the set", left, ttl)
	}
	if err := server.Client.Publish(t.Context(), client.Keys().LimitChannel(), "end").Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Ann", "end"} {
		if got := (<-subscription.Channel()).Payload; got != want {
			t.Errorf("got the message %q, want %q", got, want)
		}
	}
}

func BenchmarkReportStreams(b *testing.B) {
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
				l.ReportStreams(b.Context(), entries...)
			}
		})
		b.Run(fmt.Sprintf("redis/%d", count), func(b *testing.B) {
			server := redistest.Start(b)
			l := newRedis(b, newClient(b, server), session.EvictOldest)
			b.ReportAllocs()
			for b.Loop() {
				l.ReportStreams(b.Context(), entries...)
			}
			server.ReportScriptTime(b)
		})
	}
}

// BenchmarkReportStreams_New opens a session of a user with a limit, each time of another user.
func BenchmarkReportStreams_New(b *testing.B) {
	server := redistest.Start(b)
	l := newRedis(b, newClient(b, server), session.EvictOldest)
	e, user := entryOf(0), 0
	e.MaxStreams, e.IsNew = 3, true
	b.ReportAllocs()
	for b.Loop() {
		user++
		e.User = fmt.Sprint("user ", user)
		l.ReportStreams(b.Context(), e)
	}
	server.ReportScriptTime(b)
}
