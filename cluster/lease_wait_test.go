package cluster

import (
	"context"
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
		if got := n.acquire(b, session.LeaseRequest{ID: idOf(i), KnownRevision: revision}); !got.HeldElsewhere {
			t.Errorf("session %d: a reader is told %+v, want that another node has the lease", i, got)
		}
		if server.Client.HExists(t.Context(), a.sessionKey(idOf(i)), "w").Val() {
			t.Errorf("session %d: a reader counts as one who waits", i)
		}
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
		redistest.Eventually(t, "the holder of the lease is told that somebody waits", func() bool {
			return server.Client.HExists(t.Context(), a.sessionKey(idOf(i)), "w").Val()
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

// TestRedis_AcquireLease_Free grants a free lease at once, and returns a decision that holds at once, whatever the caller would
// wait for.
func TestRedis_AcquireLease_Free(t *testing.T) {
	t.Parallel()
	_, n, _ := newSingleStore(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	q := session.LeaseRequest{ID: idOf(1), Lease: leaseFor, Wait: time.Hour}
	got, err := n.a.AcquireLease(ctx, q)
	if err != nil || got.Revision == 0 || got.HeldElsewhere {
		t.Fatalf("got %+v and %v, want a lease", got, err)
	}
	n.save(n.a, withRevision(got.Revision, allowedRecord(1, openedAgo(1))), false, session.OutcomeStored)
	if got, err := n.a.AcquireLease(ctx, q); err != nil || got.Record.Decision.Verdict != backends.Allowed || got.Revision != 0 {
		t.Errorf("got %+v and %v, want the decision", got, err)
	}
}
