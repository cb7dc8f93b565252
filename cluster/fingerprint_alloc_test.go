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
