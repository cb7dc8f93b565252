package cluster

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"usher/actors/session"
	"usher/cluster/redistest"
)

// BenchmarkClaim claims a session and publishes a yes, as an opening does: two round trips.
func BenchmarkClaim(b *testing.B) {
	var next atomic.Int64
	open := func(b *testing.B, s Store) {
		b.Helper()
		i := int(next.Add(1))
		got, err := s.AcquireLease(b.Context(), session.LeaseRequest{ID: idOf(i), Lease: leaseFor})
		if err == nil {
			_, err = s.SaveDecision(b.Context(), session.DecisionUpdate{Record: under(got.Revision, yes(i, opened(1)))})
		}
		if err != nil {
			b.Error(err)
		}
	}
	one := func(b *testing.B, s Store) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			open(b, s)
		}
	}
	many := func(b *testing.B, s Store) {
		b.Helper()
		b.ReportAllocs()
		b.SetParallelism(128)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				open(b, s)
			}
		})
	}
	for name, run := range map[string]func(*testing.B, Store){"one": one, "256": many} {
		b.Run("memory/"+name, func(b *testing.B) {
			m := newMemory(b, 100_000)
			b.Cleanup(m.Close)
			run(b, m)
		})
		b.Run("redis/"+name, func(b *testing.B) {
			server := redistest.Start(b)
			run(b, newStore(b, testConfig(server), slog.New(slog.DiscardHandler)))
			server.ReportScriptTime(b)
		})
	}
}

// BenchmarkBeat tells Redis of a thousand viewers that were seen.
func BenchmarkBeat(b *testing.B) {
	server := redistest.Start(b)
	s := newStore(b, testConfig(server), slog.New(slog.DiscardHandler))
	seen := make([]session.Heartbeat, 1000)
	b.ReportAllocs()
	for b.Loop() {
		for i := range seen {
			seen[i] = session.Heartbeat{ID: idOf(i), LastSeen: time.Now()}
		}
		if _, err := s.RecordHeartbeats(b.Context(), seen); err != nil {
			b.Fatal(err)
		}
	}
	server.ReportScriptTime(b)
}
