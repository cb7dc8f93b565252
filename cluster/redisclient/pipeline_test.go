package redisclient

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"usher/backends"
)

// newFrozenClient returns a client of a Redis that accepts connections and never answers.
func newFrozenClient(t *testing.T, timeout time.Duration) redis.UniversalClient {
	t.Helper()
	var mu sync.Mutex
	var ends []net.Conn
	client := redis.NewClient(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, its := net.Pipe()
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, its)
			return ours, nil
		},
		Addr: "192.0.2.1:6379", MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DialTimeout:              timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout, PoolSize: 4,
	})
	t.Cleanup(func() {
		_ = client.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range ends {
			_ = c.Close()
		}
	})
	return client
}

// TestPipeline_FrozenRedis_TimesOut sends many calls in each of several rounds, before and after the breaker opened, on a
// fake clock that measures the wait to the nanosecond.
func TestPipeline_FrozenRedis_TimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 150 * time.Millisecond
		client := newFrozenClient(t, timeout)
		probe := func(ctx context.Context) error { return client.Ping(ctx).Err() }
		b := newBreaker(probe, timeout, slog.New(slog.DiscardHandler))
		p := newPipeline(client, b, timeout, slog.New(slog.DiscardHandler))
		defer b.close()
		defer p.close()
		s := &Script{name: "test", source: "return 1", sha: "0"}
		for round := range 20 {
			var waiting sync.WaitGroup
			for range 1000 { // more than the pipelines of one timeout carry
				waiting.Go(func() {
					began := time.Now()
					_, err := p.run(t.Context(), s, []string{"k"}, s.command([]string{"k"}, 0))
					if took := time.Since(began); took > timeout || !errors.Is(err, backends.ErrStoreUnavailable) {
						t.Errorf("round %d: waited %v, want at most %v: %v", round, took, timeout, err)
					}
				})
			}
			waiting.Wait()
			time.Sleep(50 * time.Millisecond)
		}
		if !b.isOpen.Load() {
			t.Error("the breaker did not open")
		}
	})
}

// TestPipeline_Send_BreakerOpens answers at once the calls that were queued when the breaker opened, and none that nobody waits
// for.
func TestPipeline_Send_BreakerOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker()
		defer b.close()
		b.isFailing.Store(true)
		b.call("xxx")
		p := &pipeline{breaker: b.breaker}
		waits, abandoned := &call{done: make(chan result, 1)}, &call{done: make(chan result, 1)}
		abandoned.isAbandoned.Store(true)
		p.send([]*call{abandoned, waits})
		if len(waits.done) != 1 || len(abandoned.done) != 0 {
			t.Fatalf("answered %d and %d calls, want the one that is waited for", len(waits.done), len(abandoned.done))
		}
		if r := <-waits.done; !errors.Is(r.err, backends.ErrStoreUnavailable) {
			t.Errorf("answered with %v", r.err)
		}
	})
}

// TestPipeline_QueueFor has one queue for one server, and else keeps neighbouring hash slots together.
func TestPipeline_QueueFor(t *testing.T) {
	t.Parallel()
	one, several := &pipeline{queues: make([]chan *call, 1)}, new(pipeline)
	one.queues[0] = make(chan *call)
	for range clusterQueues {
		several.queues = append(several.queues, make(chan *call))
	}
	used := map[chan *call]bool{}
	for i := range 1000 {
		key := "usher:session:{" + strconv.Itoa(i) + "}"
		if one.queueFor([]string{key}) != one.queues[0] {
			t.Fatalf("%s: another queue than the only one", key)
		}
		queue := several.queueFor([]string{key})
		if want := several.queues[int(hashSlot(key))/(hashSlots/clusterQueues)]; queue != want {
			t.Fatalf("%s, of slot %d: another queue than its neighbours'", key, hashSlot(key))
		}
		used[queue] = true
	}
	if len(used) != clusterQueues || several.queueFor(nil) != several.queues[0] {
		t.Errorf("%d queues are used, want %d", len(used), clusterQueues)
	}
}
