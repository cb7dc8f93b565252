package actors

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"usher/backends"
)

const million = 1_000_000

// BenchmarkRegistry_Find measures what a segment of one of a million viewers costs before its bytes are sent. The order is
// random, so that caches are as cold as on a real node.
func BenchmarkRegistry_Find(b *testing.B) {
	var tab sessionTable
	r := &backendRuntime{policy: plainPolicy()}
	all := make([]backends.SessionID, million)
	for i := range all {
		all[i] = idOf(i)
		tab.findOrAdd(all[i], func() *Session {
			s := &Session{id: all[i]}
			s.backend.Store(r)
			d := allowedDecision()
			s.decision.Store(&d)
			return s
		})
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(million, func(i, j int) { all[i], all[j] = all[j], all[i] })
	now := t0()
	b.Run("find", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if tab.find(all[i%million]) == nil {
				b.Fatal("session not found")
			}
		}
	})
	b.Run("find and decide", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if tab.find(all[i%million]).Decision().Verdict != backends.Allowed {
				b.Fatal("viewer not allowed")
			}
		}
	})
	b.Run("find, decide and count", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if !hotPath(&tab, all[i%million], now) {
				b.Fatal("viewer not admitted")
			}
		}
	})
	b.Run("find the unknown", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			id := all[i%million]
			id[0]++
			tab.find(id)
		}
	})
}

// BenchmarkRegistry_Open opens sessions end to end: actor, look-up, check, publication.
func BenchmarkRegistry_Open(b *testing.B) {
	n := newBenchNode()
	defer n.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := n.Open(b.Context(), openRequest(rand.IntN(1<<40))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPlaces_Collect is a cycle of the collector over a million sessions that each have a decision and a request: found by their
// places, in the order in which they were made, and in that of their hashes, as a table of pointers finds them.
func BenchmarkPlaces_Collect(b *testing.B) {
	fill := func(b *testing.B, order []int) *places[Session] {
		b.Helper()
		made := make([]*Session, million)
		for i := range made {
			made[i] = bareSession(idOf(i))
			made[i].decision.Store(new(allowedDecision()))
			made[i].request.Store(openRequest(i).Request)
		}
		p := new(places[Session])
		for _, i := range order {
			p.take(made[i])
		}
		return p
	}
	inOrder := make([]int, million)
	for i := range inOrder {
		inOrder[i] = i
	}
	for name, order := range map[string][]int{"as made": inOrder, "by hash": rand.New(rand.NewPCG(1, 1)).Perm(million)} {
		b.Run(name, func(b *testing.B) {
			p := fill(b, order)
			runtime.GC()
			for b.Loop() {
				runtime.GC()
			}
			runtime.KeepAlive(p)
		})
	}
}

// BenchmarkSession_IdleMemory measures what a session holds while it is idle, with its request, decision and timer.
func BenchmarkSession_IdleMemory(b *testing.B) {
	const sessions = 100_000
	for b.Loop() {
		before := heap()
		n := newBenchNode()
		for i := range sessions {
			if _, err := n.Open(b.Context(), openRequest(i)); err != nil {
				b.Fatal(err)
			}
		}
		n.backend.history = nil
		b.ReportMetric(float64(heap()-before)/sessions, "bytes/session")
		n.Close()
	}
	b.ReportMetric(float64(unsafe.Sizeof(Session{})), "Session-bytes")
	b.ReportMetric(float64(unsafe.Sizeof(sessionActor{})), "actor-bytes")
	b.ReportMetric(float64(unsafe.Sizeof(backends.Request{})), "request-bytes")
	b.ReportMetric(float64(unsafe.Sizeof(backends.Decision{})), "decision-bytes")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func newBenchNode() *node {
	return newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
		c := &s.Config
		c.Max, c.OpenRatePerAddress, c.OpenBurstPerAddress = 10_000_000, 1_000_000_000, 1_000_000_000
		c.OpenRatePerNetwork, c.OpenBurstPerNetwork, c.OpenRate, c.OpenBurst = 1_000_000_000, 1_000_000_000, 1_000_000_000, 1_000_000_000
		s.Logger = nil
	})
}

// BenchmarkTimerWheel_Advance advances the wheel of a million sessions by one tick, with one timer per session and minute.
func BenchmarkTimerWheel_Advance(b *testing.B) {
	const million = 1_000_000
	now := t0()
	var w *testWheel
	delivered := 0
	w = newTestWheel(t0(), func(s *Session) {
		delivered++
		w.arm(s, now.Add(time.Minute))
	})
	for i := range million {
		w.arm(bareSession(idOf(i)), t0().Add(time.Minute*time.Duration(i)/million))
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(wheelTick)
		w.advance(now)
	}
	b.ReportMetric(float64(delivered)/float64(b.N), "timers/op")
}
