package cluster

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"usher/actors/session"
	"usher/cluster/redistest"
)

// BenchmarkStore_AcquireLease acquires a lease and saves an allowed decision, as an opening does: two
// round trips.
func BenchmarkStore_AcquireLease(b *testing.B) {
	var next atomic.Int64
	open := func(b *testing.B, s Store) {
		b.Helper()
		i := int(next.Add(1))
		got, err := s.AcquireLease(b.Context(), session.LeaseRequest{ID: idOf(i), Lease: leaseFor})
		if err == nil {
			_, err = s.SaveDecision(b.Context(), session.DecisionUpdate{Record: withRevision(got.Revision, allowedRecord(i, openedAgo(1)))})
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

// BenchmarkRedis_Renew asks for the lease of a re-check and stores an equal decision: with the fingerprint of the record, and as a node
// without it does.
func BenchmarkRedis_Renew(b *testing.B) {
	for name, isKnown := range map[string]bool{"fingerprint": true, "record": false} {
		b.Run(name, func(b *testing.B) {
			server := redistest.Start(b)
			s := newStore(b, testConfig(server), slog.New(slog.DiscardHandler))
			record := allowedRecord(1, openedAgo(1))
			b.ReportAllocs()
			for b.Loop() {
				if err := renew(b, s, &record, isKnown); err != nil {
					b.Fatal(err)
				}
			}
			server.ReportScriptTime(b)
		})
	}
}

// renew renews a session, and notes its revision.
func renew(t testing.TB, s Store, record *session.Record, isKnown bool) error {
	q := session.LeaseRequest{ID: record.ID, KnownRevision: max(1, record.Revision), Lease: leaseFor}
	if isKnown {
		q.Known = record
	}
	got, err := s.AcquireLease(t.Context(), q)
	if err != nil {
		return err
	}
	record.Revision = got.Revision
	_, err = s.SaveDecision(t.Context(), session.DecisionUpdate{Record: *record, Fingerprint: got.Fingerprint})
	return err
}

// BenchmarkRedis_RecordHeartbeats reports a thousand sessions.
func BenchmarkRedis_RecordHeartbeats(b *testing.B) {
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
