package redisclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/cluster/redistest"
)

func TestShouldOpen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		requests, failures, consecutive uint32
		want                            bool
	}{
		{1, 1, 1, false},
		{2, 2, 2, false},
		{3, 3, 3, true},
		{1000, 3, 3, true},
		{39, 37, 2, false}, // too few for a rate
		{40, 19, 1, false},
		{40, 20, 1, true},
		{100, 49, 2, false},
		{100, 50, 0, true},
	} {
		c := counts{Requests: test.requests, TotalFailures: test.failures, ConsecutiveFailures: test.consecutive}
		if got := shouldOpen(c); got != test.want {
			t.Errorf("%+v opens: %t, want %t", c, got, test.want)
		}
	}
}

var errFailed = errors.New("it failed")

// testBreaker is a breaker in a bubble whose probes fail as long as isFailing.
type testBreaker struct {
	*breaker
	log       *redistest.Log
	isFailing atomic.Bool
	probes    atomic.Int64
}

func newTestBreaker() *testBreaker {
	b := &testBreaker{log: new(redistest.Log)}
	b.breaker = newBreaker(func(context.Context) error {
		if b.probes.Add(1); b.isFailing.Load() {
			return errFailed
		}
		return nil
	}, time.Second, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// call makes calls that end as given: '.' succeeds, 'x' fails, 'c' is cancelled. It returns how many were made.
func (b *testBreaker) call(outcomes string) (made int) {
	for _, o := range outcomes {
		_ = b.do(func() error {
			made++
			switch o {
			case 'x':
				return errFailed
			case 'c':
				return fmt.Errorf("it ended: %w", context.Canceled)
			default:
				return nil
			}
		})
	}
	synctest.Wait()
	return made
}

func repeat(outcomes string, n int) (all string) {
	for range n {
		all += outcomes
	}
	return all
}

// TestBreaker_Opens: by three failures in a row, or by a rate of one half in the window, never by one.
func TestBreaker_Opens(t *testing.T) {
	t.Parallel()
	for outcomes, want := range map[string]bool{
		"x": false, "xx": false, "xx.xx.": false, "xxx": true, repeat("xx.", 13): false, repeat("xx.", 14): true,
		repeat(".", 50) + repeat("x.", 20): false, "xxc": false, "cccccc": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newTestBreaker()
			defer b.close()
			b.isFailing.Store(true)
			b.call(outcomes)
			if got := b.isOpen.Load(); got != want {
				t.Errorf("%q opens the breaker: %t, want %t", outcomes, got, want)
			}
		})
	}
}

// TestBreaker_Window: failures of more than a minute ago do not count.
func TestBreaker_Window(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker()
		defer b.close()
		b.call(repeat("xx.", 13))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if b.call(repeat("xx.", 3)); b.isOpen.Load() {
			t.Error("old failures open the breaker")
		}
	})
}

// TestBreaker_Recovers: while it is open nothing is called. Two probes in a row that succeed close it, and then what waits for
// that is called once.
func TestBreaker_Recovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker()
		defer b.close()
		var order []string
		b.onRecovered(func() { order = append(order, "first") })
		b.onRecovered(func() { order = append(order, "second") })
		b.isFailing.Store(true)
		b.call("xxx")
		if made := b.call("...."); made != 0 {
			t.Errorf("%d calls were made while it is open", made)
		}
		if err := b.do(func() error { return nil }); !errors.Is(err, backends.ErrStoreUnavailable) {
			t.Errorf("a call while it is open: %v", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := b.probes.Load(); n < 15 || n > 40 {
			t.Errorf("%d probes in ten seconds", n)
		}
		if !b.isOpen.Load() || len(order) > 0 {
			t.Fatalf("open: %t, called: %q", b.isOpen.Load(), order)
		}
		b.isFailing.Store(false)
		before := b.probes.Load()
		time.Sleep(openTimeout + 3*probeInterval)
		synctest.Wait()
		if b.isOpen.Load() || !slices.Equal(order, []string{"first", "second"}) {
			t.Errorf("open: %t, called: %q", b.isOpen.Load(), order)
		}
		if n := b.probes.Load() - before; n != probesToClose {
			t.Errorf("%d probes closed it, want %d", n, probesToClose)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := b.probes.Load() - before; n != probesToClose {
			t.Errorf("%d probes, the last of them while it was closed", n)
		}
		if b.log.Count("redis unavailable") != 1 || b.log.Count("redis recovered") != 1 || b.log.Count(errFailed.Error()) != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// TestBreaker_ProbeFailsOnce: one probe that succeeds does not close it.
func TestBreaker_ProbeFailsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker()
		defer b.close()
		b.isFailing.Store(true)
		b.call("xxx")
		for range 5 {
			n := b.probes.Load()
			b.isFailing.Store(false)
			for b.probes.Load() == n {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			b.isFailing.Store(true)
			time.Sleep(probeInterval + time.Millisecond)
			synctest.Wait()
			if !b.isOpen.Load() {
				t.Fatal("it is closed")
			}
		}
	})
}
