package matches

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// opened is when the tickets of a test were, unless it tells them apart.
var opened = time.Unix(1_700_000_000, 0)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.IgnoreDials()) }

// newNode makes the sharing of a node that has encryption keys of these ids.
func newNode(t *testing.T, server *redistest.Server, keys ...string) *Sharing {
	t.Helper()
	config := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 2}
	client, err := redisclient.New(config, 5*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var secrets []setting.Key
	for _, id := range keys {
		secrets = append(secrets, setting.Key{ID: id, Secret: setting.Secret("a secret of the key " + id)})
	}
	cipher, err := redisclient.NewCipher(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return New(client, cipher, slog.New(slog.DiscardHandler))
}

// want requires the tickets under these keys.
func want(t *testing.T, s *Sharing, keys [][16]byte, tickets [][]string) {
	t.Helper()
	got, err := s.Find(t.Context(), keys)
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	for i := range got {
		if len(got[i]) == 0 {
			got[i] = nil
		}
	}
	if diff := cmp.Diff(tickets, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// after waits until Redis' clock has gone on, so that what is added next is newer.
func after(t *testing.T, server *redistest.Server) {
	t.Helper()
	begin := server.Client.Time(t.Context()).Val()
	redistest.Eventually(t, "a millisecond has passed", func() bool {
		return server.Client.Time(t.Context()).Val().Sub(begin) > time.Millisecond
	})
}

func TestSharing_Find_OnAnotherNode(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := newNode(t, server, "a"), newNode(t, server, "a")
	key, other, none := [16]byte{1}, [16]byte{2}, [16]byte{3}
	one, two := backends.SessionID{1}, backends.SessionID{2}
	a.Add(t.Context(), [][16]byte{key}, one, opened, "ticket 1")
	a.Add(t.Context(), [][16]byte{other}, one, opened, "ticket 1")
	want(t, b, [][16]byte{key, none, other}, [][]string{{"ticket 1"}, nil, {"ticket 1"}})
	after(t, server)
	a.Add(t.Context(), [][16]byte{key}, two, opened, "ticket 2")
	want(t, b, [][16]byte{key}, [][]string{{"ticket 2", "ticket 1"}})
	after(t, server)
	b.Add(t.Context(), [][16]byte{key}, one, opened.Add(time.Second), "ticket 1, opened anew")
	want(t, a, [][16]byte{key}, [][]string{{"ticket 1, opened anew", "ticket 2"}})
	for _, name := range server.Client.Keys(t.Context(), "*").Val() {
		if left := server.Client.PTTL(t.Context(), name).Val(); left <= ttl-time.Minute || left > ttl {
			t.Errorf("%s expires after %v, want %v", name, left, ttl)
		}
		if all := strings.Join(server.Client.HVals(t.Context(), name).Val(), " "); strings.Contains(all, "ticket") {
			t.Errorf("%s shows a ticket", name)
		}
	}
}

func TestSharing_Add_OldestMakesRoom(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, key := newNode(t, server, "a"), [16]byte{1}
	var tickets []string
	for i := range ticketsPerKey + 3 {
		a.Add(t.Context(), [][16]byte{key}, backends.SessionID{byte(i)}, opened, fmt.Sprint(i))
		after(t, server)
		if i >= 3 {
			tickets = append(tickets, fmt.Sprint(i))
		}
	}
	slices.Reverse(tickets)
	want(t, a, [][16]byte{key}, [][]string{tickets})
}

// TestSharing_Find_Old has another viewer's ticket keep the key.
func TestSharing_Find_Old(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, key := newNode(t, server, "a"), [16]byte{1}
	one, two := backends.SessionID{1}, backends.SessionID{2}
	a.Add(t.Context(), [][16]byte{key}, one, opened, "old")
	a.Add(t.Context(), [][16]byte{key}, two, opened, "new")
	old := server.Client.HGet(t.Context(), a.name(key), string(one[:])).Val()
	at, rest, _ := strings.Cut(old, " ")
	var ms int64
	if _, err := fmt.Sscan(at, &ms); err != nil {
		t.Fatal(err)
	}
	server.Client.HSet(t.Context(), a.name(key), string(one[:]), fmt.Sprint(ms-ttl.Milliseconds()-1000)+" "+rest)
	want(t, a, [][16]byte{key}, [][]string{{"new"}})
}

func TestSharing_Find_EncryptionKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	key, id := [16]byte{1}, backends.SessionID{1}
	newNode(t, server, "old").Add(t.Context(), [][16]byte{key}, id, opened, "ticket")
	want(t, newNode(t, server, "new", "old"), [][16]byte{key}, [][]string{{"ticket"}})
	want(t, newNode(t, server, "new"), [][16]byte{key}, [][]string{nil})
}

// TestSharing_Find_NotOfAnotherKey has what is encrypted for one key copied to another.
func TestSharing_Find_NotOfAnotherKey(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, key, other := newNode(t, server, "a"), [16]byte{1}, [16]byte{2}
	a.Add(t.Context(), [][16]byte{key}, backends.SessionID{1}, opened, "ticket")
	server.Client.Copy(t.Context(), a.name(key), a.name(other), 0, true)
	want(t, a, [][16]byte{other}, [][]string{nil})
}

// TestSharing_Run_RedisFrozen has Redis not answer for a while.
func TestSharing_Run_RedisFrozen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newNode(t, server, "a")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	server.Signal(syscall.SIGSTOP)
	impatient, giveUp := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer giveUp()
	const viewers = 3 * batchSize
	keys, tickets := make([][16]byte, viewers), make([][]string, viewers)
	for i := range keys {
		keys[i], tickets[i] = [16]byte{byte(i), byte(i >> 8)}, []string{fmt.Sprint(i)}
		a.Add(impatient, [][16]byte{keys[i]}, backends.SessionID{1}, opened, tickets[i][0])
	}
	if _, err := a.Find(impatient, keys[:1]); err == nil {
		t.Error("found without Redis")
	}
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "what was added is in Redis", func() bool {
		return server.Client.DBSize(t.Context()).Val() >= viewers
	})
	redistest.Eventually(t, "each is found", func() bool {
		got, err := a.Find(t.Context(), keys)
		return err == nil && cmp.Equal(tickets, got)
	})
	if n := a.Dropped(); n != 0 {
		t.Errorf("%d were dropped", n)
	}
}

func TestSharing_Add_Bounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newNode(t, server, "a")
	server.Signal(syscall.SIGSTOP)
	defer server.Signal(syscall.SIGCONT)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range maxPending + 10 {
		a.Add(gone, [][16]byte{{byte(i), byte(i >> 8), byte(i >> 16)}}, backends.SessionID{1}, opened, "ticket")
	}
	if a.Dropped() != 10 || len(a.pending) != maxPending {
		t.Errorf("%d dropped and %d wait, want 10 and %d", a.Dropped(), len(a.pending), maxPending)
	}
}

// TestSharing_Add_LaterOpenedStays has a session be opened anew while its ticket of before waits for Redis, or is on its way.
func TestSharing_Add_LaterOpenedStays(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, keys, id := newNode(t, server, "a"), [][16]byte{{1}, {2}, {3}}, backends.SessionID{1}
	old, newer, newest := opened, opened.Add(time.Second), opened.Add(time.Hour)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	server.Signal(syscall.SIGSTOP)
	a.Add(gone, keys, id, old, "old")
	a.Add(gone, keys[:1], id, newer, "newer")
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "redis answers", func() bool { return server.Client.Ping(t.Context()).Err() == nil })
	taken := a.take() // which Redis has not answered yet
	a.Add(gone, keys[:1], id, newest, "newest")
	a.Add(t.Context(), keys[1:2], id, newest, "stored")
	a.keep(taken)
	if err := a.sendAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, a, keys, [][]string{{"newest"}, {"stored"}, {"old"}})
}

// TestSharing_Add_LaterOpenedIsOver has a ticket take the place of one that was opened later and is not kept any more.
func TestSharing_Add_LaterOpenedIsOver(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, keys, id := newNode(t, server, "a"), [][16]byte{{1}}, backends.SessionID{1}
	a.Add(t.Context(), keys, id, opened.Add(time.Second), "over")
	server.Client.HSet(t.Context(), a.name(keys[0]), string(id[:]), fmt.Sprintf("1 %d ticket", opened.Unix()+1))
	a.Add(t.Context(), keys, id, opened, "now")
	want(t, a, keys, [][]string{{"now"}})
}

// TestSharing_Find_OneServerDown has one of a cluster's servers not answer about one of several keys.
func TestSharing_Find_OneServerDown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, keys := newNode(t, server, "a"), [][16]byte{{1}, {2}, {3}}
	for i, key := range keys {
		a.Add(t.Context(), [][16]byte{key}, backends.SessionID{1}, opened, fmt.Sprint(i))
	}
	server.Client.Del(t.Context(), a.name(keys[0]))
	server.Client.Set(t.Context(), a.name(keys[0]), "no hash", 0)
	got, err := a.Find(t.Context(), keys)
	if diff := cmp.Diff([][]string{nil, {"1"}, {"2"}}, got); diff != "" || err == nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}
