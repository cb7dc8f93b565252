package session

import (
	"testing"
	"time"

	"usher/backends"
)

// rootTicket is the ticket of a root that was opened so long before its sibling.
func rootTicket(age time.Duration) Ticket { return Ticket{Opened: in(-age), KeyID: "r"} }

// asSibling makes the session the sibling of a root that was opened so long before.
func asSibling(age time.Duration, edits ...func(*testSession)) func(*testSession) {
	return func(s *testSession) {
		s.rootOpened, s.HasCredentials = uint32(in(-age).Unix()), false
		for _, edit := range edits {
			edit(s)
		}
	}
}

func withCredentials(s *testSession) { s.HasCredentials = true }

func rootAllowed(s *testSession) { s.IsRootAllowed = true }

func rootDenied(s *testSession) { s.isRootDenied = true }

func revivalDenied(s *testSession) { s.policy.ReviveDenied = true }

func tokenLives(d time.Duration) func(*testSession) {
	return func(s *testSession) { s.policy.TokenLife = d }
}

// siblingOpening is the answer to the opening lookup of a sibling whose root was opened an hour before.
func siblingOpening(edit func(*LeaseAnswered)) *LeaseAnswered {
	e := &LeaseAnswered{Kind: LookupForOpening, Ticket: rootTicket(time.Hour)}
	if edit != nil {
		edit(e)
	}
	return e
}

func siblingRows() []row {
	hour := asSibling(time.Hour)
	admitted := Action{Publish: true, Save: true, WakeAt: in(time.Minute)}
	unasked := Action{Publish: true, Save: true, WakeAt: in(10 * time.Second)}
	retry := Action{Publish: true, WakeAt: in(time.Second)}
	check := Action{StartCheck: true}
	facts := siblingOpening(func(e *LeaseAnswered) { e.IsRootAllowed, e.HasRootFacts = true, true })
	alive := siblingOpening(func(e *LeaseAnswered) { e.IsRootAllowed = true })
	denied := siblingOpening(func(e *LeaseAnswered) { e.IsRootDenied = true })
	deniedFacts := siblingOpening(func(e *LeaseAnswered) { e.IsRootDenied, e.HasRootFacts = true, true })
	full := siblingOpening(func(e *LeaseAnswered) { e.Overload, e.Revision = "sessions.max_addresses", 7 })
	own := siblingOpening(func(e *LeaseAnswered) { e.Found, e.Record.RevokedBefore = true, t0() })
	old := func(e *LeaseAnswered) *LeaseAnswered {
		e = new(*e)
		e.Ticket = rootTicket(7 * time.Hour)
		return e
	}
	adopted := new(*facts) // a record that another node made of the ticket alone
	adopted.Found, adopted.Record = true, Record{
		Opened: t0(), KeyID: "r", Expires: in(time.Hour), Decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket},
	}
	look := &LeaseAnswered{Kind: LookupOnly, HasRootFacts: true, Timer: TimerFired{LastSeen: t0()}}
	failed := &BackendAnswered{Decision: PendingDecision(&backends.Failure{Kind: backends.FailureTransport}), IsFailure: true}
	overloaded := &BackendAnswered{Decision: PendingDecision(overload())}
	late := WaitExpired{Fallback: failed.Decision, IsFailure: true, Ticket: rootTicket(time.Hour)}
	busy := WaitExpired{Fallback: PendingDecision(overload()), Ticket: rootTicket(time.Hour)}
	refused := Action{Publish: true, Close: closedDenied}
	kicked := siblingOpening(func(e *LeaseAnswered) { e.Refused = new(Kicked("")) })
	return []row{
		{story: "a sibling is asked about with its root's facts", phase: openingLeasing, event: facts, next: openingChecking, given: hour, want: check},
		{story: "a sibling is asked about with credentials of its own", phase: openingLeasing, event: siblingOpening(nil), next: openingChecking, given: asSibling(time.Hour, withCredentials), want: check},
		{story: "a sibling without facts is admitted by the ticket", phase: openingLeasing, event: siblingOpening(nil), next: allowedFresh, given: hour, want: admitted},
		{story: "a sibling of a spent token is admitted by the ticket", phase: openingLeasing, event: facts, next: allowedFresh, given: asSibling(time.Hour, tokenLives(time.Minute)), want: admitted},
		{story: "a sibling of a token that lives is asked about", phase: openingLeasing, event: facts, next: openingChecking, given: asSibling(time.Hour, tokenLives(2*time.Hour)), want: check},
		{story: "a sibling of an old ticket is unknown", phase: openingLeasing, event: old(siblingOpening(nil)), next: closed, given: asSibling(7 * time.Hour), want: Action{Publish: true, Close: closedUnknownTicket}},
		{story: "a root that lives keeps its ticket valid", phase: openingLeasing, event: old(alive), next: allowedFresh, given: asSibling(7 * time.Hour), want: admitted},
		{story: "a root that lives speaks also where no ticket does", phase: openingLeasing, event: alive, next: allowedFresh, given: asSibling(time.Hour, revivalDenied), want: admitted},
		{story: "a ticket without its root admits none where no ticket does", phase: openingLeasing, event: siblingOpening(nil), next: closed, given: asSibling(time.Hour, revivalDenied), want: Action{Publish: true, Close: closedUnknownTicket}},
		{story: "a sibling of a denied root is refused if nobody can be asked", phase: openingLeasing, event: denied, next: closed, given: hour, want: refused},
		{story: "a sibling of a denied root is asked about", phase: openingLeasing, event: deniedFacts, next: openingChecking, given: hour, want: check},
		{story: "a sibling that was denied itself is refused", phase: openingLeasing, event: own, next: closed, given: hour, want: refused},
		{story: "a sibling of a kicked root is refused", phase: openingLeasing, event: kicked, next: deniedRemembered, given: hour, want: Action{Publish: true, WakeAt: in(15 * time.Second)}},
		{story: "a sibling beyond a bound is to retry, and returns its lease", phase: openingLeasing, event: full, next: retryLater, given: hour, want: Action{Publish: true, WakeAt: in(time.Second), ReleaseLease: true, Revision: 7}},
		{story: "a sibling about which nobody answers is admitted", phase: openingChecking, event: failed, next: allowedFresh, given: asSibling(time.Hour, withCredentials, rootAllowed), want: unasked},
		{story: "a sibling of a denied root is not, if nobody answers", phase: openingChecking, event: failed, next: retryLater, given: asSibling(time.Hour, withCredentials, rootDenied), want: retry},
		{story: "a sibling whose check met a bound is to retry", phase: openingChecking, event: overloaded, next: retryLater, given: asSibling(time.Hour, withCredentials, rootAllowed), want: retry},
		{story: "a sibling about which nobody answers at last is admitted", phase: retryLaterChecking, event: failed, next: allowedFresh, given: asSibling(time.Hour, withCredentials, rootAllowed), want: unasked},
		{story: "a sibling whose backend is down is admitted, and its check continues", phase: openingChecking, event: late, next: allowedChecking, given: asSibling(time.Hour, withCredentials, rootAllowed), want: admitted},
		{story: "a sibling whose backend is down before the store answers is admitted", phase: openingLeasing, event: late, next: allowedLooking, given: asSibling(time.Hour, withCredentials), want: admitted},
		{story: "a sibling that waited for a bound is to retry", phase: openingChecking, event: busy, next: retryLaterChecking, given: asSibling(time.Hour, withCredentials, rootAllowed), want: retry},
		{story: "a sibling that was admitted by the ticket on another node is asked about with its root's facts", phase: openingLeasing, event: adopted, next: recheckQueued, given: hour, want: Action{Publish: true, Enqueue: PriorityUnverified, WakeAt: in(time.Minute)}},
		{story: "a root's facts get an unverified sibling asked about", phase: allowedLooking, event: look, next: recheckQueued, given: asSibling(time.Hour, byTicketAlone), want: Action{Enqueue: PriorityUnverified, Save: true}},
	}
}

func TestState_Sibling_KeepsItsOwnOpening(t *testing.T) {
	t.Parallel()
	s := sessionIn(openingLeasing)
	asSibling(time.Hour)(s)
	e := siblingOpening(func(e *LeaseAnswered) {
		e.IsRootAllowed, e.Root = true, backends.Decision{UserID: "17", User: "Ann", MaxSessions: 1, Unique: true}
	})
	s.step(e, 0)
	if !s.Opened().Equal(t0()) {
		t.Errorf("opened at %v, want %v: streams are ordered by it", s.Opened(), t0())
	}
	want := backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromTicket, UserID: "17", User: "Ann", MaxSessions: 1, Unique: true,
	}
	if s.Decision != want {
		t.Errorf("decision %+v, want %+v: the stream counts for the root's user", s.Decision, want)
	}
	if got := s.CurrentDecision(); got != want {
		t.Errorf("current decision %+v", got)
	}
}

// TestState_Sibling_NewerDecision_KeepsRootFacts keeps the root's facts also where another node has decided on the sibling: they are told
// once.
func TestState_Sibling_NewerDecision_KeepsRootFacts(t *testing.T) {
	t.Parallel()
	s := sessionIn(allowedLooking)
	asSibling(time.Hour, byTicketAlone)(s)
	s.step(&LeaseAnswered{Kind: LookupOnly, HasRootFacts: true, LeaseResult: LeaseResult{
		Found: true, Record: Record{Opened: t0(), Revision: 3, Decision: yes(), Expires: in(time.Hour)},
	}}, 0)
	if s.phase != allowedFresh || s.Decision != yes() || !s.HasCredentials {
		t.Errorf("%v with %+v, credentials %t; want the newer decision, and the credentials", s.phase, s.Decision, s.HasCredentials)
	}
}
