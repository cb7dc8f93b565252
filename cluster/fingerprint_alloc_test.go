//go:build !race

package cluster

import (
	"log/slog"
	"testing"

	"usher/cluster/redistest"
)

// TestRedis_Fingerprint_NoAllocations compares records without garbage: each re-check does.
func TestRedis_Fingerprint_NoAllocations(t *testing.T) {
	r := newStore(t, testConfig(redistest.Start(t)), slog.New(slog.DiscardHandler))
	record := allowedRecord(1, openedAgo(5))
	if n := testing.AllocsPerRun(100, func() { r.fingerprint(&record) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestRedis_Renew_Allocations bounds what the store allocates for a re-check that changes nothing: two calls, replies included.
func TestRedis_Renew_Allocations(t *testing.T) {
	const most = 90
	s := newStore(t, testConfig(redistest.Start(t)), slog.New(slog.DiscardHandler))
	record := allowedRecord(1, openedAgo(5))
	got := testing.AllocsPerRun(1000, func() {
		if err := renew(t, s, &record, true); err != nil {
			t.Fatal(err)
		}
	})
	if got > most {
		t.Errorf("%v allocations, want at most %v", got, most)
	}
	t.Logf("%v allocations", got)
}
