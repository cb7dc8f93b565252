package timeline_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"usher/actors/timeline"
	"usher/backends"
)

// BenchmarkLog_Memory measures what a session's log holds after its opening, and after so many re-checks.
func BenchmarkLog_Memory(b *testing.B) {
	const sessions = 100_000
	for _, rechecks := range []int{0, 1, 5, 15, 30} {
		b.Run(fmt.Sprintf("%d re-checks", rechecks), func(b *testing.B) {
			for b.Loop() {
				logs := make([]timeline.Log, sessions)
				before := heap()
				for i := range logs {
					fill(&logs[i], rechecks)
				}
				held := float64(heap()-before) / sessions
				b.ReportMetric(held+float64(unsafe.Sizeof(logs[0])), "bytes/session")
				runtime.KeepAlive(logs)
			}
		})
	}
}

// fill adds an opening and re-checks, one of them in an outage.
func fill(l *timeline.Log, rechecks int) {
	at := t0()
	l.Add(check(timeline.Opening, backends.FromBackend, 12*time.Millisecond), at)
	for i := range rechecks {
		at = at.Add(173 * time.Second)
		e := check(timeline.Recheck, backends.FromBackend, 9*time.Millisecond)
		if i == 4 {
			e.Source, e.Error = backends.FromCached, "timeout: no answer within timeout=2s: context deadline exceeded"
		}
		l.Add(e, at)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLog_Add measures an entry in a log that is full, as after each check of a session that has lived for long.
func BenchmarkLog_Add(b *testing.B) {
	var l timeline.Log
	e := check(timeline.Recheck, backends.FromBackend, 9*time.Millisecond)
	at := t0()
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(173 * time.Second)
		l.Add(e, at)
	}
}
