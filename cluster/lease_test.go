package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// leaseModel is what must hold for one session's leases, whatever nodes do and whichever replies are lost.
type leaseModel struct {
	last    uint64   // the newest lease
	isHeld  bool     // it was not released
	granted []uint64 // all of them: some nodes save late, and some twice
	stored  uint64   // the revision of the decision that holds
}

// TestStore_AcquireLease_Random has nodes acquire leases, save late, twice or never, and lose replies. Leases outlive the
// test, so that only taking a lease over depends on the clock.
func TestStore_AcquireLease_Random(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shared := newStore(t, testConfig(server), slog.New(slog.DiscardHandler))
	sessions := 0
	for name, start := range map[string]func() Store{
		"memory": func() Store { return newMemory(t, 1_000_000) }, // more than rounds, so that none is forgotten
		"Redis":  func() Store { return shared },
	} {
		t.Run(name, func(t *testing.T) {
			store := start()
			rounds := 0
			rapid.Check(t, func(t *rapid.T) {
				if rounds++; name == "Redis" && rounds > 40 {
					return // each step is a round trip
				}
				sessions++
				runRandomSteps(t, store, sessions)
			})
			if m, ok := store.(*Memory); ok {
				m.Close()
			}
		})
	}
}

func runRandomSteps(t *rapid.T, store Store, number int) {
	m, ctx, o := new(leaseModel), context.Background(), openedAgo(5)
	for range rapid.IntRange(1, 30).Draw(t, "steps") {
		switch rapid.IntRange(0, 3).Draw(t, "step") {
		case 0, 1:
			m.acquire(t, store, session.LeaseRequest{
				ID: idOf(number), KnownRevision: rapid.SampledFrom(append([]uint64{0, m.stored}, m.granted...)).Draw(t, "known"),
				Lease: rapid.SampledFrom([]time.Duration{0, leaseFor}).Draw(t, "lease"),
				Wait:  rapid.SampledFrom([]time.Duration{0, time.Microsecond}).Draw(t, "wait"),
			})
		case 2:
			if len(m.granted) == 0 {
				continue
			}
			revision := rapid.SampledFrom(m.granted).Draw(t, "of")
			r := withRevision(revision, allowedRecord(number, o))
			if rapid.Bool().Draw(t, "releases") {
				r.Decision = backends.Decision{}
			}
			m.save(t, store, r)
		case 3:
			got, err := store.AcquireLease(ctx, session.LeaseRequest{ID: idOf(number)})
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			if got.Record.Revision != m.stored || got.HeldElsewhere && !m.isHeld {
				t.Fatalf("got %+v, want the decision with revision %d", got, m.stored)
			}
		}
	}
}

func (m *leaseModel) acquire(t *rapid.T, store Store, c session.LeaseRequest) {
	got, err := store.AcquireLease(context.Background(), c)
	if err != nil {
		t.Fatalf("acquire a lease: %v", err)
	}
	answers := m.stored > 0 && (c.KnownRevision == 0 || m.stored > c.KnownRevision)
	switch {
	case got.Revision == 0:
		if c.Lease > 0 && !answers {
			t.Fatalf("no lease: %+v by %+v", got, c) // a caller that waited takes it over
		}
		return
	case answers || c.Lease == 0:
		t.Fatalf("a lease without need: %+v by %+v, %+v", got, c, *m)
	case got.Revision <= m.last:
		t.Fatalf("the revision %d came after %d", got.Revision, m.last)
	}
	// A held lease is only taken over: by a caller that waited, or did not want to wait.
	m.last, m.isHeld = got.Revision, true
	m.granted = append(m.granted, got.Revision)
}

func (m *leaseModel) save(t *rapid.T, store Store, r session.Record) {
	outcome, err := store.SaveDecision(context.Background(), session.DecisionUpdate{Record: r})
	if err != nil {
		t.Fatalf("save: %v", err)
	}
	want := session.OutcomeStored
	if r.Revision < m.last {
		want = session.OutcomeStale
	}
	if outcome != want {
		t.Fatalf("saved with revision %d it is %v, want %v: %+v", r.Revision, outcome, want, *m)
	}
	if want == session.OutcomeStale {
		return
	}
	m.isHeld = false
	if r.Decision.Verdict != backends.Pending {
		m.stored = r.Revision
	}
}
