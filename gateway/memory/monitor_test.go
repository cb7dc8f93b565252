package memory

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestReading_Level(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		highWater, used int
		before, want    level
	}{
		"far below":                                {80, 10, nothing, nothing},
		"just below the high water":                {80, 79, nothing, nothing},
		"at the high water":                        {80, 80, nothing, strangers},
		"half way to the limit":                    {80, 90, nothing, everybody},
		"beyond the limit":                         {80, 120, strangers, everybody},
		"strangers are shed until it has fallen":   {80, 76, strangers, strangers},
		"it has fallen":                            {80, 74, strangers, nothing},
		"all are shed until it has fallen":         {80, 86, everybody, everybody},
		"then strangers":                           {80, 84, everybody, strangers},
		"then nobody":                              {80, 70, everybody, nothing},
		"strangers do not become all for less":     {80, 89, strangers, strangers},
		"no bound":                                 {0, 99, everybody, nothing},
		"the lowest high water has its hysteresis": {20, 16, strangers, strangers},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Reading{Live: int64(tt.used) << 20, Limit: 100 << 20}
			if got := r.level(tt.highWater, tt.before); got != tt.want {
				t.Errorf("sheds %v, want %v", got, tt.want)
			}
			r.Limit = 0
			if got := r.level(tt.highWater, tt.before); got != nothing {
				t.Errorf("sheds %v without a limit", got)
			}
		})
	}
}

// TestMonitor_Run has memory fill up, hover and empty again.
func TestMonitor_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var live atomic.Int64
		live.Store(50)
		m := NewMonitor(DefaultLimits(), func() Reading { return Reading{Live: live.Load(), Limit: 100} }, slog.New(slog.NewTextHandler(&log, nil)))
		if m.Shed(true) != nil || m.Stats() != (Stats{}) {
			t.Error("something is shed before memory was read")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(ctx)
		}()
		step := func(now int64, wantStrangers, wantAll bool) {
			t.Helper()
			synctest.Wait()
			live.Store(now)
			time.Sleep(interval)
			synctest.Wait()
			if m.Shed(true) != nil != wantStrangers || m.Shed(false) != nil != wantAll {
				t.Errorf("at %d: strangers %v, all %v", now, m.Shed(true), m.Shed(false))
			}
			want := Stats{Reading: Reading{now, 100}, ShedsStrangers: wantStrangers, ShedsAll: wantAll}
			if got := m.Stats(); got != want {
				t.Errorf("at %d: %+v", now, got)
			}
		}
		step(79, false, false)
		step(81, true, false)
		for range 20 { // it hovers about the high water
			step(79, true, false)
			step(82, true, false)
		}
		if err := m.Shed(true); err.Error() != "overloaded: limits.memory_high_water_percent=80 reached" {
			t.Errorf("the error is %v", err)
		}
		step(91, true, true)
		step(50, false, false)
		m.Follow(Limits{HighWater: 40})
		step(50, true, false)
		m.Follow(Limits{})
		step(99, false, false)
		cancel()
		<-ended
		if got := strings.Count(log.String(), "level=WARN msg=\"memory short"); got != 3 {
			t.Errorf("%d warnings, want one for each of 3 transitions:\n%s", got, log.String())
		}
		if got := strings.Count(log.String(), "memory recovered"); got != 2 {
			t.Errorf("told %d times of the end, want 2:\n%s", got, log.String())
		}
	})
}

// TestRead_CountsWhatLives allocates memory that cannot be collected, and memory that can.
func TestRead_CountsWhatLives(t *testing.T) {
	const size = 64 << 20
	runtime.GC()
	before := Read()
	kept := make([]byte, size)
	runtime.GC()
	with := Read()
	if grown := with.Live - before.Live; grown < size-size/8 || grown > size+size/2 {
		t.Errorf("%d bytes more live, want about %d", grown, size)
	}
	runtime.KeepAlive(kept)
	runtime.GC()
	for range size >> 20 {
		runtime.KeepAlive(make([]byte, 1<<20)) // garbage at once, also for a collection that begins meanwhile
	}
	if after := Read(); after.Live > before.Live+size/2 {
		t.Errorf("%d bytes live after they were given up, before it were %d", after.Live, before.Live)
	}
	if before.Limit != Limit() {
		t.Errorf("the limit is %d, want %d", before.Limit, Limit())
	}
}

func TestLimits_Validate(t *testing.T) {
	t.Parallel()
	for highWater, want := range map[int]bool{0: true, 20: true, 80: true, 95: true, -1: false, 1: false, 19: false, 96: false} {
		if err := (Limits{HighWater: highWater}).Validate(); err == nil != want {
			t.Errorf("%d: %v", highWater, err)
		}
	}
}
