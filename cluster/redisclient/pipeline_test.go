package redisclient

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
					_, err := p.run(t.Context(), s, []string{"k"})
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
