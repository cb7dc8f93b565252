package matches

import (
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// BenchmarkSharing stores and finds the ticket of a viewer under two keys, as an opening at an edge does: of their credentials, and of their
// address and player.
func BenchmarkSharing(b *testing.B) {
	const ticket = "a.0123456789abcdef0123456789abcdef0123456789abcdef"
	server := redistest.Start(b)
	config := redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 2}
	client, err := redisclient.New(config, 5*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	cipher, err := redisclient.NewCipher([]setting.Key{{ID: "a", Secret: "a secret of the benchmark"}})
	if err != nil {
		b.Fatal(err)
	}
	s, viewer := New(client, cipher, slog.New(slog.DiscardHandler)), uint64(0)
	keysOf := func(n uint64) [][16]byte {
		keys := make([][16]byte, 2)
		for i := range keys {
			binary.LittleEndian.PutUint64(keys[i][:], n)
			keys[i][15] = byte(i)
		}
		return keys
	}
	b.Run("Add", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			viewer++
			s.Add(b.Context(), keysOf(viewer), backends.SessionID{1}, opened, ticket)
		}
		server.ReportScriptTime(b)
		used := server.Client.MemoryUsage(b.Context(), s.name(keysOf(1)[0])).Val()
		b.ReportMetric(float64(2*used), "redis-B/op")
	})
	b.Run("Find", func(b *testing.B) {
		s.Add(b.Context(), keysOf(1), backends.SessionID{1}, opened, ticket)
		server.Client.ConfigResetStat(b.Context())
		b.ReportAllocs()
		for b.Loop() {
			if found, err := s.Find(b.Context(), keysOf(1)); err != nil || len(found[0]) != 1 {
				b.Fatal(found, err)
			}
		}
		server.ReportScriptTime(b)
	})
}
