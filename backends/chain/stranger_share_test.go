package chain

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// strangerFrom returns an opening of a viewer for whom nothing speaks.
func strangerFrom(viewer int) *backends.Request {
	r := openingFrom(viewer)
	r.IsStranger = true
	return r
}

func shareConfig(slots, waiting, share int) BulkheadConfig {
	return BulkheadConfig{
		MaxInFlight: slots, MaxRechecksInFlight: 1, MaxWaiting: waiting, StrangerShare: share, AnswerDeadline: time.Second,
	}
}

// TestBulkhead_StrangersLeaveSlotsToOthers has strangers at as many addresses as they like ask for all slots of a backend that
// hangs, beside one viewer who is none.
func TestBulkhead_StrangersLeaveSlotsToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", shareConfig(8, 8, 25), g, nil)
		fillSlots(t, b, openingFrom(1), 1)
		for viewer := range 20 {
			fillSlots(t, b, strangerFrom(10+viewer), 1)
		}
		if b.openings.held.strangers != 2 || b.openings.held.total != 3 {
			t.Errorf("strangers hold %d of %d slots that are taken, want 2 of 3", b.openings.held.strangers, b.openings.held.total)
		}
		if b.openings.waiting.strangers != 2 {
			t.Errorf("%d strangers wait, want 2 of 8 places", b.openings.waiting.strangers)
		}
		_, err := b.Check(t.Context(), strangerFrom(60))
		wantOverload(t, err, "backends.portal.stranger_share_percent", 25)
		fillSlots(t, b, openingFrom(2), 5)
		if inFlight, _ := b.InFlight(); inFlight != 8 {
			t.Errorf("%d calls in flight, want 8: a viewer who is no stranger waits for a free slot", inFlight)
		}
		close(g.open)
	})
}

// TestBulkhead_StrangersAlone_HaveAllSlots has nobody else ask for longer than the share holds, as on the first day of a service.
func TestBulkhead_StrangersAlone_HaveAllSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", shareConfig(8, 8, 25), g, nil)
		known := slotClaim{address: backends.SubscriberPrefix(openingFrom(1).Address)}
		taken, _ := b.acquire(t.Context(), &b.openings, known)
		b.openings.release(taken, nil)
		time.Sleep(2 * shareWindow)
		for viewer := range 8 {
			fillSlots(t, b, strangerFrom(10+viewer), 1)
		}
		if inFlight, _ := b.InFlight(); inFlight != 8 {
			t.Errorf("%d calls in flight, want 8", inFlight)
		}
		close(g.open)
	})
}

// TestBulkhead_StrangersWaitBehindOthers has strangers come first, and be asked about last.
func TestBulkhead_StrangersWaitBehindOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []bool // whether it was about a stranger
		b := newBulkhead("portal", shareConfig(1, 8, 100), backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			mu.Lock()
			asked = append(asked, r.IsStranger)
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			return allow(ctx, r)
		}), nil)
		for _, r := range []*backends.Request{strangerFrom(1), strangerFrom(2), strangerFrom(3), openingFrom(4), openingFrom(5)} {
			fillSlots(t, b, r, 1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []bool{true, false, false, true, true}; !slices.Equal(asked, want) {
			t.Errorf("asked about strangers in the order %v, want %v", asked, want)
		}
	})
}

// TestBulkhead_FullOfStrangers_LastMakesRoom fills the queue with strangers while nobody else asks.
func TestBulkhead_FullOfStrangers_LastMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		b := newBulkhead("portal", shareConfig(1, 2, 50), g, nil)
		time.Sleep(2 * shareWindow) // since the time before which nobody asked
		for viewer := range 2 {
			fillSlots(t, b, strangerFrom(1+viewer), 1)
		}
		displaced := make(chan error, 1)
		go func() {
			_, err := b.Check(t.Context(), strangerFrom(9))
			displaced <- err
		}()
		synctest.Wait()
		fillSlots(t, b, openingFrom(20), 1)
		wantOverload(t, <-displaced, "backends.portal.stranger_share_percent", 50)
		if b.openings.waiting.total != 2 || b.openings.waiting.strangers != 1 {
			t.Errorf("%d wait, %d of them strangers; want 2 and 1", b.openings.waiting.total, b.openings.waiting.strangers)
		}
		close(g.open)
		synctest.Wait()
		if b.openings.waiting.total != 0 || b.openings.held.total != 0 || b.openings.held.strangers != 0 || len(b.openings.held.by) != 0 {
			t.Errorf("something is counted still: %+v, %+v", b.openings.held, b.openings.waiting)
		}
	})
}
