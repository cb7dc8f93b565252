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

// leaseModel is what must be true of one session's leases, whatever nodes do and whichever answers are lost.
type leaseModel struct {
	last    uint64   // the newest lease
	live    bool     // nobody has given it back
	granted []uint64 // all of them: some nodes publish late, and some twice
	stored  uint64   // the number of the decision that holds
}

// TestLeases has nodes claim, publish late, twice or never, and lose the store's answers. Leases outlive the test, so that
// nothing depends on the clock but what insists.
func TestLeases(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shared := newStore(t, testConfig(server), slog.New(slog.DiscardHandler))
	sessions := 0
	for name, start := range map[string]func() Store{
		"memory": func() Store { return newMemory(t, 10_000) },
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
				walkLeases(t, store, sessions)
			})
			if m, ok := store.(*Memory); ok {
				m.Close()
			}
		})
	}
}

func walkLeases(t *rapid.T, store Store, number int) {
	m, ctx, o := new(leaseModel), context.Background(), opened(5)
	for range rapid.IntRange(1, 30).Draw(t, "steps") {
		switch rapid.IntRange(0, 3).Draw(t, "step") {
		case 0, 1:
			m.claim(t, store, session.LeaseRequest{
				ID: idOf(number), KnownRevision: rapid.SampledFrom(append([]uint64{0, m.stored}, m.granted...)).Draw(t, "known"),
				Lease: rapid.SampledFrom([]time.Duration{0, leaseFor}).Draw(t, "lease"),
				Wait:  rapid.SampledFrom([]time.Duration{0, time.Microsecond}).Draw(t, "wait"),
			})
		case 2:
			if len(m.granted) == 0 {
				continue
			}
			fence := rapid.SampledFrom(m.granted).Draw(t, "of")
			r := under(fence, yes(number, o))
			if rapid.Bool().Draw(t, "gives it back") {
				r.Decision = backends.Decision{}
			}
			m.publish(t, store, r)
		case 3:
			got, err := store.AcquireLease(ctx, session.LeaseRequest{ID: idOf(number)})
			if err != nil {
				t.Fatalf("look: %v", err)
			}
			if got.Record.Revision != m.stored || got.HeldElsewhere && !m.live {
				t.Fatalf("it says %+v, want the decision under %d", got, m.stored)
			}
		}
	}
}

func (m *leaseModel) claim(t *rapid.T, store Store, c session.LeaseRequest) {
	got, err := store.AcquireLease(context.Background(), c)
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	answers := m.stored > 0 && (c.KnownRevision == 0 || m.stored > c.KnownRevision)
	switch {
	case got.Revision == 0:
		if c.Lease > 0 && !answers {
			t.Fatalf("nobody may ask: %+v by %+v", got, c) // whoever waited long enough may
		}
		return
	case answers || c.Lease == 0:
		t.Fatalf("a lease for nothing: %+v by %+v, %+v", got, c, *m)
	case got.Revision <= m.last:
		t.Fatalf("the number %d came after %d", got.Revision, m.last)
	}
	// A live lease is taken by force alone: by who waited, or did not want to.
	m.last, m.live = got.Revision, true
	m.granted = append(m.granted, got.Revision)
}

func (m *leaseModel) publish(t *rapid.T, store Store, r session.Record) {
	outcome, err := store.SaveDecision(context.Background(), session.DecisionUpdate{Record: r})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	want := session.OutcomeStored
	if r.Revision < m.last {
		want = session.OutcomeStale
	}
	if outcome != want {
		t.Fatalf("published under %d it is %v, want %v: %+v", r.Revision, outcome, want, *m)
	}
	if want == session.OutcomeStale {
		return
	}
	m.live = false
	if r.Decision.Verdict != backends.Pending {
		m.stored = r.Revision
	}
}
