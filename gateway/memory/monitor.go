package memory

import (
	"context"
	"log/slog"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"usher/backends"
)

// interval is how often the memory is read.
const interval = time.Second

// hysteresis is how far memory must fall below what began to shed, in percent of the limit, before that ends.
const hysteresis = 5

// level is what is shed.
type level int32

const (
	nothing level = iota
	strangers
	everybody
)

func (l level) String() string { return [...]string{"nothing", "strangers", "all new sessions"}[l] }

// Reading is how much memory there is.
type Reading struct {
	// Live is what cannot be collected, and Limit what may be used, in bytes; a Limit of 0 is none.
	Live, Limit int64
}

// Stats are what a monitor knows.
type Stats struct {
	Reading

	// ShedsStrangers and ShedsAll report that no sessions are opened, of strangers or of anybody.
	ShedsStrangers, ShedsAll bool
}

// Monitor says whether memory is too short for new sessions. It is safe for concurrent use.
type Monitor struct {
	read      func() Reading
	log       *slog.Logger
	highWater atomic.Int64
	level     atomic.Int32
	last      atomic.Pointer[Reading]
}

// NewMonitor returns a monitor that [Monitor.Run] runs. read, usually [Read], is called once a second.
func NewMonitor(l Limits, read func() Reading, log *slog.Logger) *Monitor {
	m := &Monitor{read: read, log: log}
	m.last.Store(new(Reading))
	m.Follow(l)
	return m
}

// Follow sets the limits, also of a monitor that runs.
func (m *Monitor) Follow(l Limits) { m.highWater.Store(int64(l.HighWater)) }

// Run watches the memory until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		m.look()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look reads the memory, and decides what is shed.
func (m *Monitor) look() {
	r, highWater := m.read(), int(m.highWater.Load())
	m.last.Store(&r)
	before := level(m.level.Load())
	next := r.level(highWater, before)
	if next == before {
		return
	}
	m.level.Store(int32(next))
	facts := []any{
		slog.String("shed", next.String()), slog.Int("memory_high_water_percent", highWater),
		slog.Int64("live_bytes", r.Live), slog.Int64("limit_bytes", r.Limit),
	}
	if next == nothing {
		m.log.Info("memory recovered, opening sessions again", facts...)
		return
	}
	m.log.Warn("memory short, shedding new sessions; add memory or nodes, or lower sessions.max and cache.max_size", facts...)
}

// level returns what is shed, where before was shed until now.
func (r Reading) level(highWater int, before level) level {
	if highWater == 0 || r.Limit == 0 {
		return nothing
	}
	begins := [...]int{nothing: 0, strangers: highWater, everybody: (highWater + 100) / 2}
	used := float64(r.Live) * 100 / float64(r.Limit)
	for l := everybody; l > nothing; l-- {
		least := begins[l]
		if l <= before {
			least -= hysteresis
		}
		if used >= float64(least) {
			return l
		}
	}
	return nothing
}

// Shed returns the bound for which no session of a stranger, or of anybody, may be opened now, or nil. It neither blocks nor locks.
func (m *Monitor) Shed(isStranger bool) error {
	switch l := level(m.level.Load()); {
	case l == everybody, l == strangers && isStranger:
		return backends.NewOverload("limits.memory_high_water_percent", m.highWater.Load())
	}
	return nil
}

// Stats returns the last reading, and what is shed.
func (m *Monitor) Stats() Stats {
	l := level(m.level.Load())
	return Stats{Reading: *m.last.Load(), ShedsStrangers: l >= strangers, ShedsAll: l == everybody}
}

// Read returns the memory of this process: what the last collection found alive, and all that is no heap.
func Read() Reading {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	bytes := func(i int) int64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // a runtime that does not know it
		}
		return int64(samples[i].Value.Uint64())
	}
	live := bytes(0)
	for i, sign := range []int64{1, -1, -1, -1, -1} {
		live += sign * bytes(i+1)
	}
	return Reading{Live: live, Limit: Limit()}
}
