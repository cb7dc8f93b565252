package chain

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// queueingMiddleware takes its time for every call, and answers so many at once. Further ones wait in it.
type queueingMiddleware struct {
	takes   atomic.Int64 // a duration
	workers chan struct{}
	fails   atomic.Bool
	answers atomic.Int64
	// notFoundEvery is of how many calls one gets 404; 0: none.
	notFoundEvery, calls atomic.Int64
}

func newQueueingMiddleware(takes time.Duration, workers int) *queueingMiddleware {
	m := &queueingMiddleware{workers: make(chan struct{}, workers)}
	m.takes.Store(int64(takes))
	return m
}

func (m *queueingMiddleware) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	m.workers <- struct{}{}
	time.Sleep(time.Duration(m.takes.Load()))
	<-m.workers
	if n := m.notFoundEvery.Load(); n > 0 && m.calls.Add(1)%n == 0 {
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 404, MayBeDenial: true}
	}
	if m.fails.Load() {
		return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 500}
	}
	m.answers.Add(1)
	return allow(ctx, r)
}

// askFor sends so many openings a second, and returns how many found no slot.
func askFor(t *testing.T, b *Bulkhead, perSecond int, length time.Duration) (refused int64) {
	t.Helper()
	var count atomic.Int64
	var asking sync.WaitGroup
	for i := range int(length.Seconds() * float64(perSecond)) {
		asking.Go(func() {
			var o *backends.Overload
			if _, err := b.Check(t.Context(), openingFrom(i%200)); errors.As(err, &o) {
				count.Add(1)
			}
		})
		time.Sleep(time.Second / time.Duration(perSecond))
	}
	asking.Wait()
	return count.Load()
}

// TestBulkhead_SlowMiddleware_GetsMoreCalls has a middleware that is slow, but answers everybody: nobody is refused.
func TestBulkhead_SlowMiddleware_GetsMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead("portal", DefaultBulkheadConfig(), newQueueingMiddleware(1900*time.Millisecond, 100_000), nil)
		if refused := askFor(t, b, 200, 20*time.Second); refused != 0 {
			t.Errorf("%d of 4,000 viewers found no slot, want none: 380 calls in flight answer all of them", refused)
		}
		if got, _ := b.Limits(); got < 380 || got > 576 {
			t.Errorf("max_in_flight is %d, want one step more than 256, or two", got)
		}
		time.Sleep(2 * limitPause)
		askFor(t, b, 10, 10*time.Second)
		if got, _ := b.Limits(); got != leastInFlight {
			t.Errorf("max_in_flight is %d a minute after it was needed, want %d", got, leastInFlight)
		}
	})
}

// TestBulkhead_ViewersRefusedBy404_GetMoreCalls has a slow middleware refuse every fifth viewer by 404: that says nothing of its room.
func TestBulkhead_ViewersRefusedBy404_GetMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newQueueingMiddleware(1900*time.Millisecond, 100_000)
		m.notFoundEvery.Store(5)
		b := newBulkhead("portal", DefaultBulkheadConfig(), m, nil)
		if refused := askFor(t, b, 200, 20*time.Second); refused != 0 {
			t.Errorf("%d of 4,000 viewers found no slot, want none", refused)
		}
		if got, _ := b.Limits(); got < 380 {
			t.Errorf("max_in_flight is %d, want 380 or more", got)
		}
	})
}

// TestBulkhead_StrangersWait_KeepMoreCalls has strangers wait for their share, so that never two thirds of all slots are taken: a
// limit that grew for them is needed nevertheless.
func TestBulkhead_StrangersWait_KeepMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBulkhead("portal", DefaultBulkheadConfig(), newQueueingMiddleware(1900*time.Millisecond, 100_000), nil)
		for i := range 1600 { // 80 a second
			r := strangerFrom(i % 200)
			r.IsStranger = i%20 > 0
			go func() { _, _ = b.Check(t.Context(), r) }()
			time.Sleep(12500 * time.Microsecond)
		}
		time.Sleep(time.Minute / 2) // until all are answered
		if got, changes := b.openings.limit.current, b.openings.limit.step; got != 384 || changes != 1 {
			t.Errorf("max_in_flight is %d after %d changes, want 384 after one: it was needed within a minute", got, changes)
		}
	})
}

// TestBulkhead_FullMiddleware_GetsNoMoreCalls asks twice as much as the middleware can: more calls at once would only wait in it.
func TestBulkhead_FullMiddleware_GetsNoMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newQueueingMiddleware(500*time.Millisecond, 64)
		b := newBulkhead("portal", DefaultBulkheadConfig(), m, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			askFor(t, b, 256, 5*time.Minute)
		}()
		var higher time.Duration
		for range 2990 {
			time.Sleep(100 * time.Millisecond)
			current, _ := b.Limits()
			if current > leastInFlight*3/2 {
				t.Errorf("max_in_flight is %d, want at most one step above %d", current, leastInFlight)
			}
			if current > leastInFlight {
				higher += 100 * time.Millisecond
			}
		}
		if higher == 0 || higher > time.Minute {
			t.Errorf("more calls were tried for %s of 5 minutes, want some calls' time of each minute", higher)
		}
		if got := m.answers.Load(); got < 37_000 {
			t.Errorf("%d answers in 5 minutes, want 128 a second", got)
		}
		<-done
	})
}

// TestBulkhead_MiddlewareHesitates_KeepsMoreCalls has a middleware that takes more calls be slow for half a second now and
// then: only then do checks wait, and those calls alone say nothing about the limit.
func TestBulkhead_MiddlewareHesitates_KeepsMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newQueueingMiddleware(180*time.Millisecond, 100_000)
		c := DefaultBulkheadConfig()
		c.MaxInFlight = 384
		b := newBulkhead("portal", c, m, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			askFor(t, b, 1500, 16*time.Second)
		}()
		for range 4 {
			time.Sleep(3 * time.Second)
			if got, _ := b.Limits(); got != 384 {
				t.Errorf("max_in_flight is %d, want 384: 1,500 calls a second take 180 ms each", got)
			}
			m.takes.Store(int64(400 * time.Millisecond))
			time.Sleep(600 * time.Millisecond)
			m.takes.Store(int64(180 * time.Millisecond))
		}
		<-done
	})
}

// TestBulkhead_MiddlewareWeakens_GetsFewerCalls has a middleware lose most of what it can while it is asked more.
func TestBulkhead_MiddlewareWeakens_GetsFewerCalls(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*queueingMiddleware){
		"its calls take longer": func(m *queueingMiddleware) { m.takes.Store(int64(4 * time.Second)) },
		"its calls fail": func(m *queueingMiddleware) {
			m.takes.Store(int64(4 * time.Second)) // so that all slots are taken; failures count by their number alone
			m.fails.Store(true)
		},
	}
	for name, weaken := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newQueueingMiddleware(time.Second, 100_000)
				b := newBulkhead("portal", DefaultBulkheadConfig(), m, nil)
				askFor(t, b, 800, 20*time.Second)
				if got, _ := b.Limits(); got < 800 {
					t.Fatalf("max_in_flight is %d, want 800 or more for 800 calls that take a second", got)
				}
				weaken(m)
				askFor(t, b, 800, 30*time.Second)
				if got, _ := b.Limits(); got != leastInFlight {
					t.Errorf("max_in_flight is %d, want %d", got, leastInFlight)
				}
			})
		})
	}
}

// TestBulkhead_AfterFailures_GetsMoreCalls has a middleware come back from an outage: its failures delay nothing.
func TestBulkhead_AfterFailures_GetsMoreCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newQueueingMiddleware(1900*time.Millisecond, 100_000)
		m.fails.Store(true)
		b := newBulkhead("portal", DefaultBulkheadConfig(), m, nil)
		askFor(t, b, 10, 3*time.Second)
		m.fails.Store(false)
		askFor(t, b, 200, 10*time.Second)
		if got, _ := b.Limits(); got < 380 {
			t.Errorf("max_in_flight is %d, want 380 or more", got)
		}
	})
}

// TestBulkhead_SettingBelowTheLeast keeps what an operator asked for.
func TestBulkhead_SettingBelowTheLeast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := DefaultBulkheadConfig()
		c.MaxInFlight = 100
		b := newBulkhead("portal", c, newQueueingMiddleware(time.Second, 100_000), nil)
		if refused := askFor(t, b, 300, 10*time.Second); refused == 0 {
			t.Error("nobody was refused by max_in_flight=100")
		}
		if got := b.openings.limit.String(); got != "100" {
			t.Errorf("max_in_flight is %s, want 100", got)
		}
	})
}
