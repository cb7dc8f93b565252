package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/backends"
)

// TestStep_TicketElsewhere has a look find the session with the ticket of another node's opening.
func TestStep_TicketElsewhere(t *testing.T) {
	t.Parallel()
	mine, later, earlier := Ticket{t0().UTC(), "a"}, Ticket{in(time.Minute).UTC(), "b"}, Ticket{in(-time.Minute).UTC(), "b"}
	cases := map[string]struct {
		theirs        Ticket
		decision      backends.Decision
		revokedBefore time.Time
		want          Ticket
		saved         bool
		published     bool
	}{
		"the same":                         {theirs: mine, want: mine},
		"a later one":                      {theirs: later, want: later, published: true},
		"an earlier one":                   {theirs: earlier, want: mine, saved: true},
		"of the same second, a later key":  {theirs: Ticket{mine.Opened, "b"}, want: Ticket{mine.Opened, "b"}, published: true},
		"of the same second, an older key": {theirs: Ticket{mine.Opened, "A"}, want: mine, saved: true},
		"of a session that is denied":      {theirs: later, decision: no(), want: mine},
		"that is revoked":                  {theirs: earlier, revokedBefore: earlier.Opened, want: mine},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.decision.Verdict == backends.Pending {
				c.decision = yes()
			}
			for _, p := range []phase{allowedLooking, recheckLooking, recheckSlotMissed} {
				s := sessionIn(p)
				a := s.step(&LeaseAnswered{Kind: LookupOnly, Timer: TimerFired{LastSeen: t0()}, LeaseResult: LeaseResult{Found: true, Record: Record{
					Opened: c.theirs.Opened, KeyID: c.theirs.KeyID, Decision: c.decision, RevokedBefore: c.revokedBefore, Expires: in(time.Hour),
				}}}, 0)
				if got := (Ticket{s.Opened(), s.KeyID}); got != c.want || a.Save != c.saved || a.Publish != c.published {
					t.Errorf("%v: ticket %v, want %v; action %+v", p, got, c.want, a)
				}
			}
		})
	}
}

// TestStep_TicketElsewhere_Recheck has a re-check under a lease find it: the check stores the ticket.
func TestStep_TicketElsewhere_Recheck(t *testing.T) {
	t.Parallel()
	s := sessionIn(recheckLeasing)
	a := s.step(&LeaseAnswered{Kind: LookupForRecheck, LeaseResult: LeaseResult{Found: true, Revision: 7, Record: Record{
		Opened: in(time.Minute), KeyID: "b", Decision: yes(),
	}}}, 0)
	if want := (Action{StartCheck: true, Publish: true}); a != want || !s.Opened().Equal(in(time.Minute)) || s.KeyID != "b" {
		t.Errorf("ticket %v %s, action %+v", s.Opened(), s.KeyID, a)
	}
}

// TestStep_TicketElsewhere_RecheckedThere has another node renew the decision, under the ticket of its own opening.
func TestStep_TicketElsewhere_RecheckedThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		theirs   time.Time
		want     time.Time
		isSaved  bool
		decision backends.Decision
	}{
		"a later one":                   {in(time.Minute), in(time.Minute), false, yes()},
		"an earlier one":                {in(-time.Minute), t0(), true, yes()},
		"an earlier one that is denied": {in(-time.Minute), t0(), false, no()},
	} {
		s := sessionIn(recheckLeasing)
		a := s.step(&LeaseAnswered{Kind: LookupForRecheck, LeaseResult: LeaseResult{Found: true, Record: Record{
			Opened: c.theirs, KeyID: "b", Decision: c.decision, Revision: 7, Expires: in(time.Hour),
		}}}, 0)
		if !s.Opened().Equal(c.want) || a.Save != c.isSaved || !a.ReturnSlot || !a.Publish {
			t.Errorf("%s: opened %v, action %+v", name, s.Opened(), a)
		}
		if a.Save && a.Revision != 7 {
			t.Errorf("%s: saved with revision %d, want that of the decision", name, a.Revision)
		}
	}
}

// TestStep_TicketElsewhere_RevokedOwn: a node whose own copy of the session was denied elsewhere does not adopt the ticket of
// the next opening.
func TestStep_TicketElsewhere_RevokedOwn(t *testing.T) {
	t.Parallel()
	s := sessionIn(allowedLooking)
	s.step(&LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true, Record: Record{
		Opened: in(time.Minute), KeyID: "b", Decision: yes(), RevokedBefore: t0(), Expires: in(time.Hour),
	}}}, 0)
	if s.phase != deniedRemembered {
		t.Errorf("phase %v", s.phase)
	}
}

// TestStep_TicketElsewhere_Converges has nodes that opened a session apart look in any order. They end with the latest ticket.
func TestStep_TicketElsewhere_Converges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stored := Record{Decision: yes(), Expires: in(time.Hour)}
		isStored := false
		var nodes []*testSession
		latest := Ticket{}
		for range rapid.IntRange(2, 4).Draw(t, "nodes") {
			s := sessionIn(allowedFresh)
			s.opened += uint32(rapid.IntRange(-2, 2).Draw(t, "opened"))
			s.KeyID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			if got := (Ticket{s.Opened(), s.KeyID}); latest.IsZero() || got.Opened.After(latest.Opened) || got.Opened.Equal(latest.Opened) && got.KeyID > latest.KeyID {
				latest = got
			}
			nodes = append(nodes, s)
		}
		look := func(s *testSession) {
			s.phase = allowedLooking
			a := s.step(&LeaseAnswered{Kind: LookupOnly, Timer: TimerFired{LastSeen: t0()}, LeaseResult: LeaseResult{Found: isStored, Record: stored}}, 0)
			if a.Save {
				stored.Opened, stored.KeyID, isStored = s.Opened(), s.KeyID, true
			}
		}
		for range rapid.IntRange(0, 6).Draw(t, "looks") {
			look(rapid.SampledFrom(nodes).Draw(t, "node"))
		}
		for range 2 {
			for _, s := range nodes {
				look(s)
			}
		}
		for _, s := range nodes {
			if got := (Ticket{s.Opened(), s.KeyID}); got != latest {
				t.Fatalf("a node has %v, want %v", got, latest)
			}
		}
	})
}
