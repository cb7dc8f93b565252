package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func smallBulkheadConfig() BulkheadConfig {
	return BulkheadConfig{MaxInFlight: 2, MaxRechecksInFlight: 1, MaxWaiting: 3, AnswerDeadline: time.Second}
}

// gate is a backend whose calls end when the test opens it.
type gate struct {
	open  chan struct{}
	calls atomic.Int64
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	g.calls.Add(1)
	select {
	case <-g.open:
		return allow(ctx, r)
	case <-ctx.Done():
		return backends.Decision{}, ctx.Err()
	}
}

// fillSlots takes every slot of the queue of r.
func fillSlots(t *testing.T, b *Bulkhead, r *backends.Request, slots int) {
	t.Helper()
	for range slots {
		go func() { _, _ = b.Check(t.Context(), r) }()
	}
	synctest.Wait()
}

func wantOverload(t *testing.T, err error, setting string, value int) {
	t.Helper()
	var o *backends.Overload
	if !errors.As(err, &o) || o.Setting != setting || o.Value != fmt.Sprint(value) {
		t.Fatalf("got %v, want an overload of %s=%d", err, setting, value)
	}
}

func TestBulkhead_BoundsCallsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", smallBulkheadConfig(), g, nil)
		fillSlots(t, b, openingFrom(1), 5)
		if inFlight, _ := b.InFlight(); inFlight != 2 {
			t.Errorf("got %d calls at once, want max_in_flight=2", inFlight)
		}
		if waiting := b.openings.waiting.total; waiting != 3 {
			t.Errorf("got %d waiting, want 3", waiting)
		}
		close(g.open)
		synctest.Wait()
		inFlight, _ := b.InFlight()
		if waiting := b.openings.waiting.total; inFlight != 0 || waiting != 0 {
			t.Errorf("got %d calls and %d waiting after all were answered, want none", inFlight, waiting)
		}
	})
}

func TestBulkhead_NoSlot_OverloadNamesTheSetting(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		r       *backends.Request
		slots   int
		waiting int
		setting string
		value   int
		after   time.Duration
	}{
		"an opening waits for answer_deadline":     {openingFrom(1), 2, 0, "backends.portal.max_in_flight", 2, time.Second},
		"a re-check waits in the re-checks' queue": {recheckFrom(1), 1, 0, "backends.portal.max_rechecks_in_flight", 1, time.Second},
		"one too many does not wait at all":        {openingFrom(1), 2, 3, "backends.portal.max_waiting", 3, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				b := newBulkhead("portal", smallBulkheadConfig(), g, nil)
				fillSlots(t, b, tt.r, tt.slots+tt.waiting)
				started := time.Now()
				wasSent := false
				r := *tt.r
				r.OnSent = func() { wasSent = true }
				_, err := b.Check(t.Context(), &r)
				wantOverload(t, err, tt.setting, tt.value)
				if took := time.Since(started); took != tt.after {
					t.Errorf("refused after %s, want %s", took, tt.after)
				}
				if wasSent {
					t.Error("OnSent was called for a check that was never sent")
				}
				openings, rechecks := b.Refused()
				if openings+rechecks == 0 {
					t.Error("the refusal was not counted")
				}
				close(g.open)
			})
		})
	}
}

func TestBulkhead_RechecksDoNotDelayOpenings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", smallBulkheadConfig(), g, nil)
		fillSlots(t, b, recheckFrom(1), 4)
		fillSlots(t, b, openingFrom(1), 1)
		returning := recheckFrom(2) // whose session closed, and is known
		returning.IsRecheck = false
		fillSlots(t, b, returning, 1)
		if openings, rechecks := b.InFlight(); openings != 2 || rechecks != 1 {
			t.Errorf("got %d openings and %d re-checks under way, want 2 and 1", openings, rechecks)
		}
		close(g.open)
	})
}

func TestBulkhead_SlotsInOrderOfArrival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		cfg := smallBulkheadConfig()
		cfg.MaxInFlight = 1
		b := newBulkhead("portal", cfg, g, nil)
		var (
			mu    sync.Mutex
			order []int
		)
		for i := range 4 {
			r := openingFrom(i)
			r.OnSent = func() {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}
			go func() { _, _ = b.Check(t.Context(), r) }()
			synctest.Wait()
		}
		close(g.open)
		synctest.Wait()
		if want := []int{0, 1, 2, 3}; !slices.Equal(order, want) {
			t.Errorf("got order %v, want %v", order, want)
		}
	})
}

// TestBulkhead_OneAddressLeavesSlotsToOthers has one viewer's calls hang, more than there are slots.
func TestBulkhead_OneAddressLeavesSlotsToOthers(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(int) *backends.Request{"openings": openingFrom, "re-checks": recheckFrom} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := BulkheadConfig{MaxInFlight: 8, MaxRechecksInFlight: 8, MaxWaiting: 8, AnswerDeadline: time.Second}
				bad := openingFrom(66).Address
				var hanging atomic.Int64
				b := newBulkhead("portal", cfg, backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					if r.Address == bad {
						hanging.Add(1)
						return hang(ctx, r)
					}
					return allow(ctx, r)
				}), nil)
				ctx, cancel := context.WithCancel(t.Context())
				_, _ = b.Check(ctx, check(1))
				for range 100 {
					go func() { _, _ = b.Check(ctx, check(66)) }()
				}
				synctest.Wait()
				for i := range 50 {
					if _, err := b.Check(ctx, check(i)); err != nil {
						t.Fatalf("got %v for viewer %d, want an answer", err, i)
					}
				}
				if n := hanging.Load(); n != 6 {
					t.Errorf("got %d calls of one address at once, want three quarters of 8", n)
				}
				cancel()
				synctest.Wait()
				openings, rechecks := b.InFlight()
				if openings+rechecks != 0 || len(b.openings.held.by)+len(b.rechecks.held.by) != 0 {
					t.Errorf("got %d and %d in flight after all have left, want none", openings, rechecks)
				}
			})
		})
	}
}

// TestBulkhead_AddressThatAsksAlone_HasAllSlots has everybody come from one address.
func TestBulkhead_AddressThatAsksAlone_HasAllSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		cfg := smallBulkheadConfig()
		cfg.MaxInFlight = 8
		b := newBulkhead("portal", cfg, g, nil)
		other := slotClaim{address: backends.SubscriberPrefix(openingFrom(2).Address)}
		taken, _ := b.acquire(t.Context(), &b.openings, other)
		b.openings.release(taken, nil)
		time.Sleep(2 * shareWindow) // another address asked long ago
		fillSlots(t, b, openingFrom(1), 8)
		if inFlight, _ := b.InFlight(); inFlight != 8 {
			t.Errorf("got %d calls at once, want max_in_flight=8", inFlight)
		}
		close(g.open)
	})
}

func TestBulkhead_OpenedBreakerReleasesWaitingChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: hang}
		breaker := newBreaker("portal", testTimeout, DefaultBreakerConfig(), s, Deps{})
		cfg := DefaultBulkheadConfig()
		cfg.MaxInFlight = 5
		cfg.AnswerDeadline = time.Hour
		b := newBulkhead("portal", cfg, breaker, breaker.opened)
		var refused atomic.Int64
		for i := range 50 {
			go func() {
				_, err := b.Check(t.Context(), openingFrom(i))
				if f := backends.AsFailure(err); f != nil && f.Kind == backends.FailureBreakerOpen {
					refused.Add(1)
				}
			}()
		}
		time.Sleep(testTimeout) // the first five time out, and the last of them opens the breaker
		synctest.Wait()
		if waiting := b.openings.waiting.total; waiting != 0 {
			t.Errorf("got %d still waiting after the breaker opened, want none", waiting)
		}
		// Up to four slots came free before the fifth failure.
		if calls := s.calls(); calls > 9 || int(refused.Load()) != 50-calls {
			t.Errorf("got %d calls and %d released by the breaker, want at most 9 and all the others", calls, refused.Load())
		}
	})
}

func TestBulkhead_OpenBreaker_Bypassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opened := make(chan struct{})
		g := newGate()
		b := newBulkhead("portal", smallBulkheadConfig(), g, func() <-chan struct{} { return opened })
		fillSlots(t, b, openingFrom(1), 2)
		close(opened)
		close(g.open)
		r := *openingFrom(2)
		r.OnSent = func() { t.Error("OnSent was called although the breaker rejects the check") }
		if _, err := b.Check(t.Context(), &r); err != nil {
			t.Errorf("got %v, want the check passed on without a slot", err)
		}
	})
}

func TestBulkhead_ViewerLeavesWhileWaiting_NoOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", smallBulkheadConfig(), g, nil)
		fillSlots(t, b, openingFrom(1), 2)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := b.Check(ctx, openingFrom(2))
		if !errors.Is(err, context.Canceled) || backends.IsOverload(err) || backends.AsFailure(err) != nil {
			t.Errorf("got %v, want context.Canceled alone", err)
		}
		if asked := g.calls.Load(); asked != 2 {
			t.Errorf("got %d calls, want none for the viewer who left", asked-2)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = b.Check(ctx, openingFrom(2))
		wantOverload(t, err, "backends.portal.max_in_flight", 2)
		close(g.open)
	})
}

func TestBulkhead_PanicFreesItsSlot(t *testing.T) {
	t.Parallel()
	b := newBulkhead("portal", smallBulkheadConfig(), backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
		panic("boom")
	}), nil)
	func() {
		defer func() { _ = recover() }()
		_, _ = b.Check(t.Context(), openingFrom(1))
	}()
	if inFlight, _ := b.InFlight(); inFlight != 0 {
		t.Errorf("got %d slots taken after a panic, want none", inFlight)
	}
}

func TestBulkheadConfig_Validate(t *testing.T) {
	t.Parallel()
	if err := DefaultBulkheadConfig().Validate(); err != nil {
		t.Errorf("the default is invalid: %v", err)
	}
	if err := (BulkheadConfig{MaxInFlight: 1, MaxRechecksInFlight: 1, MaxWaiting: 0, StrangerShare: 1, AnswerDeadline: 1}).Validate(); err != nil {
		t.Errorf("the least values are invalid: %v", err)
	}
	got := errorText(BulkheadConfig{MaxWaiting: -1}.Validate())
	want := "max_in_flight: 0 must be at least 1\nmax_rechecks_in_flight: 0 must be at least 1\n" +
		"max_waiting: -1 must be at least 0\nstranger_share_percent: 0 is out of range; want 1 to 100\nanswer_deadline: 0s must be above 0"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestChain_IsBacklogged_ReChecks tells when further re-checks would wait in vain, of a member of a composite too.
func TestChain_IsBacklogged_ReChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		one := &Chain{Bulkhead: newBulkhead("portal", smallBulkheadConfig(), g, nil)}
		all := &Chain{members: []*Chain{{}, one}}
		fillSlots(t, one.Bulkhead, openingFrom(1), 5)
		fillSlots(t, one.Bulkhead, recheckFrom(1), 1)
		if one.IsBacklogged() || all.IsBacklogged() {
			t.Error("backlogged though no re-check waits")
		}
		fillSlots(t, one.Bulkhead, recheckFrom(1), 1)
		if !one.IsBacklogged() || !all.IsBacklogged() {
			t.Error("not backlogged though as many re-checks wait as there are slots")
		}
		close(g.open)
		synctest.Wait()
		if one.IsBacklogged() || all.IsBacklogged() {
			t.Error("backlogged after all were answered")
		}
	})
}
