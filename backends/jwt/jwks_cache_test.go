package jwt

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// fakeFetches is a cache whose fetches take a set time and end with a set error, for tests in a synctest bubble.
type fakeFetches struct {
	*jwksCache

	mu      sync.Mutex
	take    time.Duration
	err     error
	started []time.Duration
}

func newFakeFetches(t *testing.T) *fakeFetches {
	f := &fakeFetches{}
	start := time.Now()
	f.jwksCache = newJWKSCache("tokens", DefaultConfig(), func(ctx context.Context) (keySet, error) {
		f.mu.Lock()
		f.started = append(f.started, time.Since(start))
		take, err := f.take, f.err
		f.mu.Unlock()
		select {
		case <-time.After(take):
			return keySet{{id: "1", value: []byte(testSecret)}}, err
		case <-ctx.Done():
			return nil, &backends.Failure{Kind: backends.FailureTimeout, Backend: "tokens", Err: ctx.Err()}
		}
	}, slog.New(slog.DiscardHandler))
	t.Cleanup(f.close)
	return f
}

func (f *fakeFetches) setNext(take time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.take, f.err = take, err
}

func (f *fakeFetches) startTimes() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.started)
}

func TestJWKSCache_RunKeepsIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.run(ctx)
		}()
		time.Sleep(time.Minute)
		f.setNext(0, &backends.Failure{Kind: backends.FailureTransport})
		time.Sleep(4*time.Minute + 15*time.Second)
		f.setNext(0, nil)
		time.Sleep(10 * time.Minute)
		cancel()
		<-ended
		wanted := []time.Duration{0, 300 * time.Second, 310 * time.Second, 320 * time.Second, 620 * time.Second}
		if diff := cmp.Diff(wanted, f.startTimes()); diff != "" {
			t.Errorf("fetches (-want +got):\n%s", diff)
		}
	})
}

func TestJWKSCache_RunAfterViewersFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		if _, _, err := f.keys(t.Context(), "HS256", "1"); err != nil {
			t.Fatalf("keys: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
		defer cancel()
		f.run(ctx)
		if diff := cmp.Diff([]time.Duration{0, 5 * time.Minute}, f.startTimes()); diff != "" {
			t.Errorf("fetches (-want +got):\n%s", diff)
		}
	})
}

func TestJWKSCache_RunEndsDuringFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		f.setNext(time.Second, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		f.run(ctx)
		if took := time.Since(start); took != time.Millisecond {
			t.Errorf("got the end after %s, want 1ms", took)
		}
		if _, _, err := f.keys(t.Context(), "HS256", "1"); err != nil || len(f.startTimes()) != 1 {
			t.Errorf("got error %v after fetches at %v, want the keys of the fetch in flight", err, f.startTimes())
		}
	})
}

// jwks_timeout ends a hanging fetch, a viewer with an unknown key waits half a second, and a leaving viewer does not
// wait.
func TestJWKSCache_ViewerWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		f.setNext(time.Hour, nil)
		start := time.Now()
		_, _, err := f.keys(t.Context(), "HS256", "1")
		failure := backends.AsFailure(err)
		if failure == nil || failure.Kind != backends.FailureTimeout || time.Since(start) != 2*time.Second {
			t.Errorf("no keys: got %v after %s, want a timeout after 2s", err, time.Since(start))
		}

		time.Sleep(failureTTL)
		f.setNext(900*time.Millisecond, nil)
		if _, _, err := f.keys(t.Context(), "HS256", "1"); err != nil {
			t.Fatalf("keys: %v", err)
		}
		start = time.Now()
		_, _, err = f.keys(t.Context(), "HS256", "2")
		if !backends.IsOverload(err) || time.Since(start) != 500*time.Millisecond {
			t.Errorf("unknown key: got %v after %s, want an overload after 500ms", err, time.Since(start))
		}
		for _, id := range []string{"3", "4"} { // shares what is left of the fetch, and needs none
			_, _, err = f.keys(t.Context(), "HS256", id)
			if !errors.Is(err, errUnknownKey) || time.Since(start) != 900*time.Millisecond {
				t.Errorf("unknown key: got %v after %s, want %v after 900ms", err, time.Since(start), errUnknownKey)
			}
		}
		time.Sleep(freshFor - 900*time.Millisecond)
		_, _, err = f.keys(t.Context(), "HS256", "5")
		if !backends.IsOverload(err) || time.Since(start) != freshFor {
			t.Errorf("another: got %v after %s, want an overload at once: the fetch began a second ago", err, time.Since(start))
		}

		time.Sleep(suspectInterval)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, _, err = f.keys(ctx, "HS256", "6")
		if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
			t.Errorf("left: got %v, want context.Canceled", err)
		}
		if n := len(f.startTimes()); n != 4 {
			t.Errorf("got %d fetches, want 4", n)
		}
		time.Sleep(time.Second) // until the abandoned fetch has ended
	})
}

// A failure stands for a second, but a viewer prefers a fetch that is in flight.
func TestJWKSCache_FetchInFlightAfterFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		f.setNext(0, &backends.Failure{Kind: backends.FailureTransport})
		for range 2 {
			if err := f.waitForKeys(t.Context()); backends.AsFailure(err) == nil || len(f.startTimes()) != 1 {
				t.Fatalf("got %v after %d fetches, want the failure of one", err, len(f.startTimes()))
			}
		}
		f.setNext(failureTTL/4, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go f.run(ctx)
		synctest.Wait()
		if _, _, err := f.keys(t.Context(), "HS256", "1"); err != nil || len(f.startTimes()) != 2 {
			t.Errorf("got error %v after %d fetches, want the keys of the second", err, len(f.startTimes()))
		}
	})
}

func TestJWKSCache_FetchEndsDuringLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFetches(t)
		if err := f.waitForKeys(t.Context()); err != nil {
			t.Fatalf("first: %v", err)
		}
		if err := f.waitForKeys(t.Context()); err != nil {
			t.Fatalf("first again: %v", err)
		}
		if _, err := f.refresh(t.Context(), nil); err != nil { // the viewer saw no keys, and now there are some
			t.Fatalf("refresh: %v", err)
		}
		if n := len(f.startTimes()); n != 1 {
			t.Errorf("got %d fetches, want 1", n)
		}
	})
}

// TestJWKSCache_Run_AfterTakeOver: the keys of a replaced backend are fetched anew when they are due, as if nothing had been replaced.
func TestJWKSCache_Run_AfterTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		replaced := newFakeFetches(t)
		if _, _, err := replaced.keys(t.Context(), "HS256", "1"); err != nil {
			t.Fatalf("keys: %v", err)
		}
		time.Sleep(4 * time.Minute)
		f := newFakeFetches(t)
		f.takeOver(replaced.jwksCache, []string{"HS256"})
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Minute)
		defer cancel()
		f.run(ctx)
		if diff := cmp.Diff([]time.Duration{time.Minute, 6 * time.Minute}, f.startTimes()); diff != "" {
			t.Errorf("fetches (-want +got):\n%s", diff)
		}
	})
}
