package cluster

import (
	"log/slog"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// TestRedis_WaitForLease returns the decision of another node as soon as it is stored, however long the caller would wait, and
// passes the lease on when that node gives up.
func TestRedis_WaitForLease(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	a, b := newStore(t, c, slog.New(slog.DiscardHandler)), newStore(t, c, slog.New(slog.DiscardHandler))
	n := storePair{t, a, b}
	for i, test := range []struct {
		saved session.Record // by the holder of the lease
		want  backends.Verdict
	}{
		{allowedRecord(0, openedAgo(1)), backends.Allowed},
		{deniedRecord(1, openedAgo(1)), backends.Denied},
		{session.Record{ID: idOf(2)}, backends.Pending}, // it only releases the lease
	} {
		revision := n.lease(a, i, 0)
		answered := make(chan session.LeaseResult, 1)
		go func() {
			result, err := b.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(i), Lease: leaseFor, Wait: time.Hour})
			if err != nil {
				t.Error(err)
			}
			answered <- result
		}()
		redistest.Eventually(t, "the call waits", func() bool {
			b.waiters.mu.Lock()
			defer b.waiters.mu.Unlock()
			return len(b.waiters.waiting) == 1
		})
		n.save(a, withRevision(revision, test.saved), false, session.OutcomeStored)
		redistest.Eventually(t, "the call returns", func() bool { return len(answered) == 1 })
		got := <-answered
		if got.Record.Decision.Verdict != test.want || (got.Revision > revision) != (test.want == backends.Pending) {
			t.Errorf("session %d: got %+v, want %v", i, got, test.want)
		}
		if len(b.waiters.waiting) != 0 {
			t.Errorf("session %d: still waits", i)
		}
	}
}
