package viewer

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/wire"
)

// newMillion returns a million viewers in light mode, each with the URL of their media playlist. With two URLs they reload the
// multivariant playlist too. They are due in the next two seconds.
func newMillion(b *testing.B, urls int) *engine {
	b.Helper()
	const viewers = 1_000_000
	c := oneTarget(viewers)
	c.Light = true
	e := newEngine(b.Context(), c, record.New(time.Now()), wire.Config{})
	for number := range viewers {
		slot, ok := e.takeSlot()
		if !ok {
			b.Fatal("no slot")
		}
		v := &e.viewers[slot]
		v.number, v.phase, v.period = uint32(number), playing, 2*time.Second
		v.due = time.Duration(number) * 2 * time.Microsecond
		// As long as Usher's: a ticket of 90 characters.
		url := fmt.Appendf(nil, "http://tv/play/channel%03d/high.m3u8?ticket=%090d", number%500, number)
		ok = e.store(url, &v.mediaOrigin, &v.media) && (urls == 1 || e.store(url, &v.multivariantOrigin, &v.multivariant))
		if !ok {
			b.Fatal("the URL is not kept")
		}
		e.wheel.add(slot)
	}
	return e
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// BenchmarkEngine_Memory measures what a viewer at rest takes, and how long the collector takes with a million of them.
func BenchmarkEngine_Memory(b *testing.B) {
	for _, urls := range []int{1, 2} {
		b.Run(fmt.Sprintf("%d URLs", urls), func(b *testing.B) {
			for b.Loop() {
				before := heapInUse()
				e := newMillion(b, urls)
				after := heapInUse()
				began := time.Now()
				runtime.GC()
				b.ReportMetric(float64(after-before)/float64(len(e.viewers)), "B/viewer")
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/collection")
				runtime.KeepAlive(e)
			}
		})
	}
}

// BenchmarkWheel measures a turn's bookkeeping among a million viewers: due, and due again after two seconds.
func BenchmarkWheel(b *testing.B) {
	e := newMillion(b, 1)
	now := time.Duration(0)
	var due []uint32
	b.ReportAllocs()
	for b.Loop() {
		for len(due) == 0 {
			now += tick
			due = e.wheel.advance(now, due)
		}
		last := due[len(due)-1]
		due = due[:len(due)-1]
		e.viewers[last].due += 2 * time.Second
		e.wheel.add(last)
	}
}
