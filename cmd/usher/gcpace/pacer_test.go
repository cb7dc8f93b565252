package gcpace

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 400}, {1, 400}, {4 * mb, 400}, {16 * mb, 400}, {32 * mb, 200}, {64 * mb, 100}, {128 * mb, 100}, {200 * mb, 100}, {400 * mb, 50}, {800 * mb, 25}, {801 * mb, 25}, {1000 * mb, 25}, {4000 * mb, 25},
	} {
		if got := percent(test.live); got != test.want {
			t.Errorf("%d MB: got %d, want %d", test.live/mb, got, test.want)
		}
	}
}

func TestIsOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		current, wanted int
		want            bool
	}{{100, 100, false}, {100, 109, false}, {100, 91, false}, {100, 400, true}, {400, 100, true}, {27, 25, false}, {28, 25, true}, {90, 100, true}} {
		if got := isOff(test.current, test.wanted); got != test.want {
			t.Errorf("%d, where %d is wanted: %t", test.current, test.wanted, got)
		}
	}
}

func current() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// withBallast looks at GOGC while the heap is large.
func withBallast(t *testing.T) {
	t.Helper()
	ballast := make([]byte, 1000<<20)
	runtime.GC()
	time.Sleep(interval)
	synctest.Wait()
	if got := current(); got != 25 {
		t.Errorf("GOGC is %d with %d MB, want 25", got, len(ballast)>>20)
	}
	runtime.KeepAlive(ballast)
}

// TestRun_FollowsTheHeap gives less room, in percent, to a heap that has grown.
func TestRun_FollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		runtime.GC()
		go Run(ctx)
		synctest.Wait()
		small := current()
		if small <= 100 {
			t.Errorf("GOGC is %d with a small heap, want more than 100", small)
		}
		withBallast(t)
		runtime.GC()
		time.Sleep(interval)
		synctest.Wait()
		if got := current(); got != small {
			t.Errorf("GOGC is %d after the heap has shrunk, want %d", got, small)
		}
	})
}

// TestRun_EnvironmentSetsIt leaves alone what an operator has set.
func TestRun_EnvironmentSetsIt(t *testing.T) {
	t.Setenv("GOGC", "73")
	before := debug.SetGCPercent(73)
	defer debug.SetGCPercent(before)
	Run(t.Context()) // returns at once
	if got := current(); got != 73 {
		t.Errorf("GOGC is %d, want 73", got)
	}
}
