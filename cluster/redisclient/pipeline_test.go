package cluster

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
)

// deaf is a client of a Redis that takes connections and never answers, as one that is frozen does.
func deaf(t *testing.T, deadline time.Duration) redis.UniversalClient {
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
		DialTimeout:              deadline, ReadTimeout: deadline, WriteTimeout: deadline, PoolTimeout: deadline, PoolSize: 4,
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

// TestNobodyWaitsLongerForAFrozenRedisThanTheDeadline has crowds come one after the other, before and after Redis was
// given up, on a clock that jumps, so that the wait is told to the nanosecond.
func TestNobodyWaitsLongerForAFrozenRedisThanTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const deadline = 150 * time.Millisecond
		client := deaf(t, deadline)
		probe := func(ctx context.Context) error { return client.Ping(ctx).Err() }
		g := newGuard(probe, deadline, slog.New(slog.DiscardHandler))
		b := newBatch(client, g, deadline, slog.New(slog.DiscardHandler))
		defer g.close()
		defer b.close()
		s := &script{name: "pulse", source: "return 1", sha: "0"}
		for crowd := range 20 {
			var waiting sync.WaitGroup
			for range 1000 { // more than the pipelines of one deadline carry
				waiting.Go(func() {
					began := time.Now()
					_, err := b.run(t.Context(), s, []string{"k"})
					if took := time.Since(began); took > deadline || !errors.Is(err, ErrAway) {
						t.Errorf("crowd %d: waited %v, want at most %v: %v", crowd, took, deadline, err)
					}
				})
			}
			waiting.Wait()
			time.Sleep(50 * time.Millisecond)
		}
		if !g.away() {
			t.Error("Redis was not given up")
		}
	})
}
