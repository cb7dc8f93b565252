package session

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// TestStep_OpeningOnOneOfManyNodes has a node open a session that another node has decided on.
func TestStep_OpeningOnOneOfManyNodes(t *testing.T) {
	t.Parallel()
	const h, s = time.Hour, time.Second
	now := in(2 * h)
	byRule := no()
	byRule.Source = backends.FromLocal
	record := func(opened time.Duration, d backends.Decision, expires time.Duration) Record {
		return Record{Opened: in(opened), KeyID: "old", Decision: d, Expires: now.Add(expires), Revision: 3}
	}
	revoked := func(before time.Duration, r Record) Record {
		r.RevokedBefore = in(before)
		return r
	}
	closed := func(r Record) Record {
		r.IsClosed = true
		return r
	}
	check := Action{StartCheck: true}
	watching := Action{Publish: true, Revision: 3, WakeAt: now.Add(10*s + peerRenewDelay)}
	admitted := Action{Publish: true, Save: true, WakeAt: now.Add(time.Minute)}
	knownAdmitted := admitted
	knownAdmitted.Revision = 3
	denied := Action{Publish: true, Revision: 3, WakeAt: now.Add(10 * s)}
	queued := Action{Publish: true, Revision: 3, Enqueue: PriorityOverdue, WakeAt: now.Add(time.Minute)}
	queuedFirst := queued
	queuedFirst.Enqueue = PriorityUnverified
	queuedBriefly := queued
	queuedBriefly.WakeAt = now.Add(10 * s) // an outage may have it end
	denying := func(t *testSession) { t.policy.ReviveDenied = true }
	lives := func(d time.Duration) func(*testSession) { return func(t *testSession) { t.policy.TokenLife = d } }
	alone := func(t *testSession) { t.policy.Shared = false }
	cases := map[string]struct {
		given  func(*testSession)
		record Record
		want   Action
		phase  phase
	}{
		"a denial is adopted":                                {nil, record(h, no(), 10*s), denied, deniedRemembered},
		"a denial by a rule is checked as of the ticket":     {nil, record(h, byRule, 10*s), check, openingChecking},
		"so it is where the policy wants an answer":          {denying, record(h, byRule, 10*s), check, openingChecking},
		"a denial that expires now is checked":               {nil, record(h, no(), 0), check, openingChecking},
		"a denial by the outage policy is checked":           {nil, record(h, refusedByPolicy(), 10*s), check, openingChecking},
		"a denial does not concern a ticket alone":           {byTicketAlone, record(h, no(), 10*s), admitted, allowedFresh},
		"a denial with a spent token leaves the ticket":      {lives(5 * s), record(h, no(), 10*s), knownAdmitted, allowedFresh},
		"a denial with a token that lives is adopted":        {lives(3 * h), record(h, no(), 10*s), denied, deniedRemembered},
		"a denial by a rule does not depend on the token":    {lives(5 * s), record(h, byRule, 10*s), denied, deniedRemembered},
		"a denial of the ticket's own opening is adopted":    {lives(5 * s), record(0, no(), 10*s), denied, deniedRemembered},
		"a denial is adopted whose ticket is revoked":        {lives(5 * s), revoked(0, record(h, no(), 10*s)), denied, deniedRemembered},
		"an allowed later opening is adopted":                {lives(5 * s), record(h, yes(), 10*s), watching, allowedFresh},
		"a decision that has just expired is being renewed":  {nil, record(0, yes(), -9*s), queued, recheckQueued},
		"a decision that expires now is being renewed":       {nil, record(0, yes(), 0), queued, recheckQueued},
		"a decision that nobody will renew is checked":       {nil, closed(record(0, yes(), -10*s)), check, openingChecking},
		"a decision waits elsewhere for its re-check":        {nil, record(0, yes(), -h), queued, recheckQueued},
		"so does what nobody answered":                       {nil, record(0, letIn(), -h), queuedFirst, recheckQueued},
		"but for an outage policy that admits nobody":        {denying, record(0, yes(), -10*s), check, openingChecking},
		"one that has just expired waits under any policy":   {denying, record(0, yes(), -9*s), queuedBriefly, recheckQueued},
		"a node without others renews for itself":            {alone, record(0, yes(), -9*s), check, openingChecking},
		"what nobody answered is checked once it has closed": {nil, closed(record(0, cached(), -9*s)), check, openingChecking},
		"what cannot be checked is not being renewed":        {byTicketAlone, record(0, yes(), -9*s), knownAdmitted, allowedFresh},
		"a node without others checks what its store denied": {alone, record(h, no(), 10*s), check, openingChecking},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &testSession{policy: plainPolicy(), State: NewState(Origin{HasCredentials: true, Opened: now, KeyID: "new"})}
			s.phase, s.policy.Shared = openingLeasing, true
			if c.given != nil {
				c.given(s)
			}
			e := remembered(c.record)
			e.Ticket = Ticket{Opened: t0(), KeyID: "t"}
			got := s.step(e, 2*h)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
			if s.phase != c.phase {
				t.Errorf("phase %v, want %v", s.phase, c.phase)
			}
		})
	}
}

// TestStep_LeaseAnswered_ClockSetBack has the store's clock be set back, so that a stored decision seems to hold for an hour: it holds for
// no longer than one that is taken now.
func TestStep_LeaseAnswered_ClockSetBack(t *testing.T) {
	t.Parallel()
	validFor := func(d time.Duration) backends.Decision {
		decision := yes()
		decision.ValidFor = d
		return decision
	}
	for name, test := range map[string]struct {
		decision backends.Decision
		phase    phase
		want     time.Duration // how long it is valid
	}{
		"as long as the backend says":             {validFor(5 * time.Minute), openingLeasing, 5 * time.Minute},
		"as long as the policy says":              {validFor(0), openingLeasing, 3 * time.Minute},
		"what nobody answered":                    {letIn(), openingLeasing, 3 * time.Minute},
		"two hours, of which an hour is left":     {validFor(2 * time.Hour), openingLeasing, time.Hour},
		"a denial":                                {no(), openingLeasing, 15 * time.Second},
		"a newer decision on a session that runs": {validFor(5 * time.Minute), allowedLooking, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(test.phase)
			s.policy.Shared, s.HasCredentials = true, true
			e := remembered(Record{Opened: in(-time.Minute), Decision: test.decision, Expires: in(time.Hour), Revision: s.Revision + 1})
			if test.phase == allowedLooking {
				e.Kind = LookupOnly
			}
			a := s.step(e, 0)
			if s.ValidUntil != test.want {
				t.Errorf("valid for %v, want %v", s.ValidUntil, test.want)
			}
			if a.WakeAt.After(in(test.want + peerRenewDelay)) {
				t.Errorf("wakes at %v, want %v at the latest", a.WakeAt, in(test.want+peerRenewDelay))
			}
		})
	}
}

// TestStep_DeniedSince has the store hold the denial of an opening that was later than the viewer's own ticket: it neither keeps the
// viewer from watching nor ends what they watch, and their yes takes its place.
func TestStep_DeniedSince(t *testing.T) {
	t.Parallel()
	const s = time.Second
	shared := func(s *testSession) { s.policy.Shared = true }
	byRule := no()
	byRule.Source = backends.FromLocal
	stored := LeaseResult{Found: true, Record: Record{Opened: in(60 * s), KeyID: "old", Decision: byRule, Expires: in(600 * s), Revision: 3}}
	look := func(at time.Duration) *LeaseAnswered {
		return &LeaseAnswered{Kind: LookupOnly, Timer: seen(at, backends.BreakerClosed), LeaseResult: stored}
	}
	tellStories(t, map[string]story{
		"an opening": {
			start: openingLeasing, given: shared,
			moves: []move{
				{120 * s, &LeaseAnswered{Kind: LookupForOpening, Ticket: Ticket{Opened: t0(), KeyID: "t"}, LeaseResult: stored}, openingChecking, Action{StartCheck: true}},
				{120 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, Revision: 3, WakeAt: in(180 * s)}},
				{120 * s, DecisionOutdated{}, allowedFresh, Action{WakeAt: in(121 * s)}},
				{121 * s, seen(121*s, backends.BreakerClosed), allowedLooking, Action{Lookup: LookupOnly, WakeAt: in(181 * s)}},
				{121 * s, look(121 * s), recheckQueued, Action{Enqueue: PriorityOverdue, Revision: 3, WakeAt: in(181 * s)}},
			},
		},
		"a session that runs": {
			start: allowedLooking, given: shared,
			moves: []move{
				{180 * s, look(180 * s), recheckQueued, Action{Enqueue: PriorityOverdue, Revision: 3, WakeAt: in(240 * s)}},
				{180 * s, RecheckGranted{}, recheckLeasing, Action{Lookup: LookupForRecheck}},
				{180 * s, &LeaseAnswered{Kind: LookupForRecheck, LeaseResult: stored}, recheckChecking, Action{StartCheck: true}},
				{180 * s, &BackendAnswered{Number: 1, Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, Revision: 3, WakeAt: in(240 * s)}},
			},
		},
	})
}

// TestStep_RevokedTicket_LateLookup has the store answer after the token's life: the revoked ticket still admits nobody.
func TestStep_RevokedTicket_LateLookup(t *testing.T) {
	t.Parallel()
	s := sessionIn(openingLeasing)
	s.policy.TokenLife = 5 * time.Second
	e := remembered(Record{RevokedBefore: in(-time.Minute)})
	e.Ticket = Ticket{Opened: in(-time.Hour), KeyID: "t"}
	if got, want := s.step(e, 10*time.Second), (Action{StartCheck: true}); got != want || s.phase != openingChecking {
		t.Errorf("action %+v, phase %v; want %+v, %v", got, s.phase, want, openingChecking)
	}
}

// TestStep_RevokedElsewhere_Reason shows what a viewer is told whose session another node has ended.
func TestStep_RevokedElsewhere_Reason(t *testing.T) {
	t.Parallel()
	stored, user := no(), yes()
	byLimit := backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "refused on another node"}
	stored.UserID, stored.User, byLimit.UserID, byLimit.User = user.UserID, user.User, user.UserID, user.User
	for name, test := range map[string]struct{ stored, want backends.Decision }{
		"the stored denial's": {no(), stored},
		"not that it played":  {yes(), byLimit},
		"nothing is stored":   {backends.Decision{}, byLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(allowedLooking)
			s.step(&LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true, Record: Record{
				Opened: t0(), Decision: test.stored, RevokedBefore: t0(), Expires: in(time.Hour),
			}}}, 0)
			if s.phase != deniedRemembered || s.Decision != test.want {
				t.Errorf("phase %v, decision %+v; want %v, %+v", s.phase, s.Decision, deniedRemembered, test.want)
			}
		})
	}
}

func TestKicked_Reason(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{"": "ended by an operator", "shared account": "ended by an operator: shared account"} {
		if got := Kicked(given); got.Reason != want || got.Verdict != backends.Denied || got.Source != backends.FromOperator {
			t.Errorf("with reason %q: %+v, want %q", given, got, want)
		}
	}
}
