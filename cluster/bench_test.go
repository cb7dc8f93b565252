package cluster

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"usher/backends"
)

// BenchmarkClaim claims a session and publishes a yes, as an opening does: two round trips.
func BenchmarkClaim(b *testing.B) {
	for name, start := range map[string]func(b *testing.B) Store{
		"memory": func(b *testing.B) Store {
			b.Helper()
			m := newMemory(b, 100_000)
			b.Cleanup(m.Close)
			return m
		},
		"redis": func(b *testing.B) Store {
			b.Helper()
			return newStore(b, testConfig(startRedis(b)), slog.New(slog.DiscardHandler))
		},
	} {
		var next atomic.Int64
		once := func(b *testing.B, s Store) {
			i := int(next.Add(1))
			got, err := s.Claim(b.Context(), backends.Claim{ID: idOf(i), Lease: leaseFor})
			if err == nil {
				_, err = s.Publish(b.Context(), backends.Publication{Record: under(got.Fence, yes(i, opened(1)))})
			}
			if err != nil {
				b.Error(err)
			}
		}
		b.Run(name+"/one", func(b *testing.B) {
			s := start(b)
			b.ReportAllocs()
			for b.Loop() {
				once(b, s)
			}
		})
		b.Run(name+"/256", func(b *testing.B) {
			s := start(b)
			b.ReportAllocs()
			b.SetParallelism(128)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					once(b, s)
				}
			})
		})
	}
}
