package known

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.IgnoreDials()) }

// peer is the sharing of one node, with what it was told of.
type peer struct {
	*Sharing

	mu   sync.Mutex
	told map[uint64]time.Time
}

func newPeer(t *testing.T, server *redistest.Server) *peer {
	t.Helper()
	config := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 2}
	client, err := redisclient.New(config, 5*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p := &peer{told: map[uint64]time.Time{}}
	p.Sharing = New(client, func(key uint64, allowed time.Time) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told[key] = allowed
	}, slog.New(slog.DiscardHandler))
	return p
}

func (p *peer) numTold() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.told)
}

func TestSharing_AllNodesAreTold(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := newPeer(t, server), newPeer(t, server)
	const viewers = 100_000 // more than may wait, than a call sends, and than one returns
	for first := uint64(0); first < viewers; first += viewers / 2 {
		for key := range uint64(viewers / 2) {
			a.Add(first + key)
		}
		if err := a.exchange(t.Context(), time.Now().Add(maxDelay)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := b.exchange(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if got := b.numTold(); got != viewers {
		t.Errorf("the other node was told of %d viewers, want %d", got, viewers)
	}
	for key, allowed := range b.told {
		if age := now.Sub(allowed); key >= viewers || age < 0 || age > time.Minute {
			t.Fatalf("viewer %d was allowed %v ago", key, age)
		}
	}
	c := newPeer(t, server) // starts later
	if err := c.exchange(t.Context(), now); err != nil || c.numTold() != viewers {
		t.Errorf("a node that starts was told of %d viewers, error %v; want %d", c.numTold(), err, viewers)
	}
	clear(b.told)
	if err := b.exchange(t.Context(), now); err != nil || b.numTold() != 0 {
		t.Errorf("told of %d viewers again, error %v", b.numTold(), err)
	}
	if ttl := server.Client.PTTL(t.Context(), "usher:{all}:known").Val(); ttl < 7*24*time.Hour {
		t.Errorf("the stream expires after %v", ttl)
	}
}

// TestSharing_FewWait has a batch that is not full wait for others.
func TestSharing_FewWait(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newPeer(t, server)
	a.Add(7)
	for _, step := range []struct {
		after time.Duration
		want  int64
	}{{maxDelay / 2, 0}, {maxDelay + time.Second, 1}, {time.Hour, 1}} {
		if err := a.exchange(t.Context(), time.Now().Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if got := server.Client.XLen(t.Context(), "usher:{all}:known").Val(); got != step.want {
			t.Errorf("after %v: %d entries, want %d", step.after, got, step.want)
		}
	}
}

// TestSharing_RedisFrozen_BoundedAndSentLater adds more than fits while Redis does not answer.
func TestSharing_RedisFrozen_BoundedAndSentLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newPeer(t, server)
	server.Signal(syscall.SIGSTOP)
	for key := range uint64(maxPending + 10) {
		a.Add(key)
	}
	if a.Dropped() != 10 || len(a.pending) != maxPending*keySize {
		t.Errorf("%d dropped and %d bytes wait, want 10 and %d", a.Dropped(), len(a.pending), maxPending*keySize)
	}
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "what waited is sent", func() bool {
		return a.exchange(t.Context(), time.Now()) == nil && a.numTold() == maxPending
	})
}

func TestSharing_Read_OddReplies(t *testing.T) {
	t.Parallel()
	keys := string(binary.LittleEndian.AppendUint64(nil, 42)) + "rest"
	cases := map[string]struct {
		reply   []any
		entries int
		told    []uint64
	}{
		"nothing":              {nil, 0, nil},
		"no list":              {[]any{int64(1), "x"}, 0, nil},
		"an id that is none":   {[]any{int64(1), []any{"x", keys}}, 1, nil},
		"a rest of a hash":     {[]any{int64(5000), []any{"1000-0", keys}}, 1, []uint64{42}},
		"an id without hashes": {[]any{int64(1), []any{"1000-0"}}, 0, nil},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told []uint64
			s := &Sharing{onKnown: func(key uint64, _ time.Time) { told = append(told, key) }}
			if got := s.read(tt.reply, time.Now()); got != tt.entries || !slices.Equal(told, tt.told) {
				t.Errorf("%d entries, told of %v; want %d, %v", got, told, tt.entries, tt.told)
			}
		})
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"1700000000000-3": "1700000000000 1700000000000-4 true", "-": "0  false", "": "0  false", "1-x": "0  false",
		"1-18446744073709551615": "0  false",
	} {
		ms, next, isID := after(id)
		if got := fmt.Sprintf("%d %s %v", ms, next, isID); got != want {
			t.Errorf("after(%q) is %s, want %s", id, got, want)
		}
	}
}

func TestSharing_Run_WakesForFullBatch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := newPeer(t, server), newPeer(t, server)
	running := make(chan struct{})
	go func() {
		defer close(running)
		a.Run(t.Context())
	}()
	for key := range uint64(batchSize) {
		a.Add(key)
	}
	redistest.Eventually(t, "the other node is told", func() bool {
		return b.exchange(t.Context(), time.Now()) == nil && b.numTold() == batchSize
	})
	t.Cleanup(func() { <-running })
}
