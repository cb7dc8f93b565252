package session

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// move is one event of a story, with what must follow from it.
type move struct {
	at    time.Duration // after t0
	event Event
	phase phase
	want  Action
}

type story struct {
	start phase
	given func(*testSession) // changes the session first; nil: nothing
	moves []move
}

// seen is the timer of a session whose viewer was last seen at that time.
func seen(at time.Duration, b backends.BreakerState) TimerFired {
	return TimerFired{LastSeen: in(at), Breaker: b}
}

// impaired is seen, while a part of a backend is down that is not.
func impaired(at time.Duration) TimerFired {
	return TimerFired{LastSeen: in(at), Breaker: backends.BreakerClosed, IsImpaired: true}
}

// inOutage is seen, while the backend is down and that holds in place of its answer.
func inOutage(at time.Duration, d backends.Decision) TimerFired {
	return TimerFired{LastSeen: in(at), Breaker: backends.BreakerOpen, IsImpaired: true, Fallback: d}
}

// local is a decision of a composite's own.
func local(v backends.Verdict) backends.Decision {
	return backends.Decision{Verdict: v, Source: backends.FromLocal, Reason: "rules[0]: " + v.String()}
}

// ministra gives the session a token that lives for seconds and a decision that holds for hours.
func ministra(p ExpiredTokenPolicy) func(*testSession) {
	return func(s *testSession) {
		s.policy.TokenLife, s.policy.Validity, s.policy.ExpiredToken = 5*time.Second, 10*time.Hour, p
	}
}

func TestStep_Opening(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tellStories(t, map[string]story{
		"a denied opening is remembered, then forgotten": {
			start: openingNew,
			moves: []move{
				{0, OpenRequested{}, openingLeasing, Action{Lookup: LookupForOpening}},
				{0, &LeaseAnswered{Kind: LookupForOpening}, openingChecking, Action{StartCheck: true}},
				{0, &BackendAnswered{Decision: no()}, deniedRemembered, Action{Publish: true, Save: true, WakeAt: in(15 * s)}},
				{15 * s, seen(15*s, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"an opening without a verdict is forgotten after retry_after": {
			start: openingChecking,
			moves: []move{
				{0, &BackendAnswered{Decision: PendingDecision(overload())}, retryLater, Action{Publish: true, WakeAt: in(s)}},
				{s, seen(0, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"a second record does not start a second check": {
			start: openingLeasing,
			moves: []move{
				{0, &LeaseAnswered{Kind: LookupForOpening}, openingChecking, Action{StartCheck: true}},
				{0, &LeaseAnswered{Kind: LookupForOpening}, openingChecking, Action{}},
			},
		},
		"the deadline passes, then an allowed answer comes late": {
			start: openingChecking,
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, allowedChecking, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{9 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(69 * s)}},
			},
		},
		"the deadline passes, then a denial comes late and cuts the viewer": {
			start: openingChecking,
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, allowedChecking, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{9 * s, &BackendAnswered{Decision: no()}, deniedRemembered, Action{Publish: true, RevokeTicket: true, WakeAt: in(24 * s)}},
				{24 * s, seen(24*s, backends.BreakerClosed), closed, Action{Close: closedDenied}},
			},
		},
		"a check that hangs for longer than its fallback holds keeps the timer slow": {
			start: openingChecking,
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, allowedChecking, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{61 * s, seen(60*s, backends.BreakerClosed), allowedChecking, Action{WakeAt: in(120 * s)}},
				{70 * s, &BackendAnswered{Decision: PendingDecision(overload())}, allowedFresh, Action{WakeAt: in(70 * s)}},
				{70 * s, seen(60*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityUnverified, WakeAt: in(120 * s)}},
			},
		},
		"the deadline passes in a queue of Usher, then an allowed answer comes late": {
			start: openingChecking,
			moves: []move{
				{s, WaitExpired{Fallback: PendingDecision(overload())}, retryLaterChecking, Action{Publish: true, WakeAt: in(2 * s)}},
				{2 * s, seen(2*s, backends.BreakerClosed), retryLaterChecking, Action{WakeAt: in(3 * s)}},
				{2 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(62 * s)}},
			},
		},
		"the policy refuses, then an allowed answer comes late": {
			start: openingChecking,
			moves: []move{
				{s, WaitExpired{Fallback: refusedByPolicy()}, deniedChecking, Action{Publish: true, WakeAt: in(16 * s)}},
				{2 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(62 * s)}},
			},
		},
		"a viewer admitted by the policy is queued first": {
			start: openingChecking,
			moves: []move{
				{0, &BackendAnswered{Decision: letIn(), IsBackendDown: true}, recheckQueued, Action{Publish: true, Save: true, Enqueue: PriorityUnverified, WakeAt: in(60 * s)}},
			},
		},
	})
}

func TestStep_Recheck(t *testing.T) {
	t.Parallel()
	const s = time.Second
	shared := func(s *testSession) { s.policy.Shared = true }
	tellStories(t, map[string]story{
		"an older check's answer is dropped, the newest counts however late": {
			start: recheckQueued, given: func(s *testSession) { s.CheckNumber = 4 },
			moves: []move{
				{0, RecheckGranted{}, recheckChecking, Action{StartCheck: true}}, // number 5
				{s, &BackendAnswered{Number: 4, Decision: no()}, recheckChecking, Action{}},
				{3600 * s, &BackendAnswered{Number: 5, Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(3660 * s)}},
				{3601 * s, &BackendAnswered{Number: 5, Decision: no()}, allowedFresh, Action{}},
			},
		},
		"an answer from before a panic is dropped": {
			start: recheckChecking,
			moves: []move{
				{0, Restored{Decision: yes()}, allowedFresh, Action{WakeAt: in(10 * s)}},
				{s, &BackendAnswered{Number: 0, Decision: no()}, allowedFresh, Action{}},
			},
		},
		"a decision is renewed in the background when it expires": {
			start: allowedFresh,
			moves: []move{
				{170 * s, seen(170*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(180 * s)}},
				{180 * s, seen(175*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityOverdue, WakeAt: in(235 * s)}},
				{181 * s, RecheckGranted{}, recheckChecking, Action{StartCheck: true}},
				{181 * s, RecheckGranted{}, recheckChecking, Action{ReturnSlot: true}},
				{182 * s, &BackendAnswered{Number: 1, Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(242 * s)}},
			},
		},
		"a re-check that was given up is made again after recheck.min": {
			start: recheckChecking,
			moves: []move{
				{0, &BackendAnswered{Decision: PendingDecision(overload())}, allowedFresh, Action{WakeAt: in(10 * s)}},
				{10 * s, seen(10*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityOverdue, WakeAt: in(70 * s)}},
			},
		},
		"a re-check answered with neither yes nor no cuts no viewer": {
			start: recheckChecking,
			moves: []move{{0, &BackendAnswered{}, allowedFresh, Action{WakeAt: in(10 * s)}}},
		},
		"a failed re-check is made again soon while the backend still counts as healthy": {
			start: recheckChecking,
			moves: []move{{0, &BackendAnswered{Decision: cached()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(10 * s)}}},
		},
		"while the backend is down the session waits for its return": {
			start: recheckChecking,
			moves: []move{
				{0, &BackendAnswered{Decision: cached(), IsBackendDown: true}, recheckQueued, Action{Publish: true, Save: true, Enqueue: PriorityOverdue, WakeAt: in(60 * s)}},
				{60 * s, seen(59*s, backends.BreakerOpen), recheckQueued, Action{WakeAt: in(119 * s)}},
				{7200 * s, RecheckGranted{}, recheckChecking, Action{StartCheck: true}},
			},
		},
		"what a composite allows itself holds in an outage as ever": {
			start: allowedFresh,
			moves: []move{
				{180 * s, inOutage(179*s, local(backends.Allowed)), allowedFresh, Action{Publish: true, Save: true, WakeAt: in(240 * s)}},
				{360 * s, inOutage(359*s, local(backends.Allowed)), allowedFresh, Action{Publish: true, Save: true, WakeAt: in(420 * s)}},
			},
		},
		"what it denies itself ends the session at once": {
			start: allowedFresh, given: func(s *testSession) { s.ValidUntil = 2 * time.Hour },
			moves: []move{
				{180 * s, inOutage(179*s, local(backends.Denied)), deniedRemembered, Action{Publish: true, RevokeTicket: true, WakeAt: in(195 * s)}},
			},
		},
		"an unverified session whose slot comes while it reloads is queued again": {
			start: openingChecking, given: shared,
			moves: []move{
				{0, &BackendAnswered{Decision: letIn(), IsBackendDown: true}, recheckQueued, Action{Publish: true, Save: true, Enqueue: PriorityUnverified, WakeAt: in(60 * s)}},
				{s, MustReload{}, recheckLooking, Action{Lookup: LookupOnly}},
				{s, RecheckGranted{}, recheckSlotMissed, Action{ReturnSlot: true}},
				{2 * s, &LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true}, Timer: seen(2*s, backends.BreakerClosed)}, recheckQueued, Action{Enqueue: PriorityUnverified, WakeAt: in(62 * s)}},
				{3 * s, RecheckGranted{}, recheckLeasing, Action{Lookup: LookupForRecheck}},
			},
		},
		"a ticket's session whose slot comes while its opening is still looked up is queued again": {
			start: openingLeasing, given: byTicketAlone,
			moves: []move{
				{s, WaitExpired{Ticket: Ticket{Opened: t0(), KeyID: "a"}}, allowedLooking, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{s, CredentialsArrived{}, recheckLooking, Action{Enqueue: PriorityUnverified, Save: true}},
				{s, RecheckGranted{}, recheckSlotMissed, Action{ReturnSlot: true}},
				{2 * s, &LeaseAnswered{Kind: LookupForOpening, IsUnavailable: true, Timer: seen(s, backends.BreakerClosed)}, recheckQueued, Action{Enqueue: PriorityUnverified, WakeAt: in(61 * s)}},
			},
		},
	})
}

func TestStep_Denial(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tellStories(t, map[string]story{
		"a backend's no is kept while the backend is down": {
			start: deniedRemembered,
			moves: []move{
				{15 * s, seen(15*s, backends.BreakerOpen), deniedRemembered, Action{WakeAt: in(30 * s)}},
				{30 * s, seen(0, backends.BreakerHalfOpen), deniedRemembered, Action{WakeAt: in(45 * s)}},
				{45 * s, seen(45*s, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"while a part of it is down, it is kept for as long as the viewer asks": {
			start: deniedRemembered,
			moves: []move{
				{15 * s, impaired(0), deniedRemembered, Action{WakeAt: in(30 * s)}},
				{30 * s, impaired(0), deniedRemembered, Action{WakeAt: in(45 * s)}},
				{60 * s, impaired(0), closed, Action{Close: closedForgotten}},
			},
		},
		"of a session that was cut as well": {
			start: deniedRemembered, given: func(s *testSession) { s.WasAllowed = true },
			moves: []move{
				{15 * s, impaired(14 * s), deniedRemembered, Action{WakeAt: in(30 * s)}},
				{90 * s, impaired(14 * s), closed, Action{Close: closedDenied}},
			},
		},
		"a viewer who was denied before is looked up, checked, and denied without an answer": {
			start: openingNew, given: wasDenied(nil),
			moves: []move{
				{0, OpenRequested{}, openingLeasing, Action{Lookup: LookupForOpening}},
				{0, &LeaseAnswered{Kind: LookupForOpening, LeaseResult: LeaseResult{Revision: 7}}, openingChecking, Action{StartCheck: true}},
				{s, &BackendAnswered{Decision: backends.Decision{Verdict: backends.Denied, Source: backends.FromCached}}, deniedRemembered, Action{Publish: true, ReleaseLease: true, Revision: 7, WakeAt: in(16 * s)}},
			},
		},
		"while they wait too long they are denied, and a late answer admits them": {
			start: openingChecking, given: wasDenied(nil),
			moves: []move{
				{s, WaitExpired{Fallback: letIn(), IsFailure: true}, deniedChecking, Action{Publish: true, WakeAt: in(16 * s)}},
				{2 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(62 * s)}},
			},
		},
		"while they wait for a check that takes long, none follows it": {
			start: openingChecking, given: func(s *testSession) { s.Decision, s.policy.LeaseTTL = no(), 40*time.Second },
			moves: []move{
				{s, WaitExpired{Fallback: letIn(), IsFailure: true}, deniedChecking, Action{Publish: true, WakeAt: in(16 * s)}},
				{16 * s, impaired(16 * s), deniedChecking, Action{WakeAt: in(17 * s)}},
				{20 * s, &BackendAnswered{Decision: PendingDecision(overload())}, deniedRemembered, Action{WakeAt: in(35 * s)}},
			},
		},
		"one whom nobody has allowed since is checked": {
			start: openingLeasing, given: func(s *testSession) { s.Decision, s.policy.Shared = no(), true },
			moves: []move{
				{0, remembered(Record{Opened: t0(), Decision: letIn(), Expires: in(60 * s), Revision: 3}), openingChecking, Action{StartCheck: true}},
				{s, &BackendAnswered{Decision: PendingDecision(overload())}, deniedRemembered, Action{Publish: true, WakeAt: in(16 * s)}},
			},
		},
		"one whom another node has allowed since is admitted by that": {
			start: openingLeasing, given: func(s *testSession) { s.Decision, s.policy.Shared = no(), true },
			moves: []move{
				{0, remembered(Record{Opened: t0(), Decision: yes(), Expires: in(60 * s), Revision: 3}), allowedFresh, Action{Publish: true, Revision: 3, WakeAt: in(60 * s)}},
			},
		},
		"the policy's refusal is not kept then either": {
			start: deniedRemembered, given: func(s *testSession) { s.Decision = refusedByPolicy() },
			moves: []move{{15 * s, impaired(14 * s), closed, Action{Close: closedForgotten}}},
		},
		"the policy's refusal is not kept, so that a retry finds the backend recovered": {
			start: deniedRemembered, given: func(s *testSession) { s.Decision = refusedByPolicy() },
			moves: []move{{15 * s, seen(15*s, backends.BreakerHalfOpen), closed, Action{Close: closedForgotten}}},
		},
		"the policy's refusal of a running viewer revokes no ticket": {
			start: recheckChecking,
			moves: []move{
				{0, &BackendAnswered{Decision: refusedByPolicy(), IsBackendDown: true}, deniedRemembered, Action{Publish: true, WakeAt: in(15 * s)}},
				{15 * s, seen(15*s, backends.BreakerOpen), closed, Action{Close: closedDenied}},
			},
		},
	})
}

func TestStep_SpentToken(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tellStories(t, map[string]story{
		"it is not checked; the decision is kept": {
			start: allowedFresh, given: ministra(keepOnExpiredToken),
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(240 * s)}}},
		},
		"it is checked while its life is not over": {
			start: allowedFresh, given: func(t *testSession) { t.policy.TokenLife = 180 * s },
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityOverdue, WakeAt: in(240 * s)}}},
		},
		"it ends the session by the config": {
			start: allowedFresh, given: ministra(denyOnExpiredToken),
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), deniedRemembered, Action{Publish: true, RevokeTicket: true, WakeAt: in(195 * s)}}},
		},
		"spent in the queue, it is not checked, and the slot is returned": {
			start: recheckQueued, given: func(s *testSession) { s.policy.TokenLife = time.Hour },
			moves: []move{{7200 * s, RecheckGranted{}, allowedFresh, Action{ReturnSlot: true, WakeAt: in(7260 * s)}}},
		},
		"spent in the queue, it ends the session by the config, and the slot is returned": {
			start: recheckQueued, given: ministra(denyOnExpiredToken),
			moves: []move{{7200 * s, RecheckGranted{}, deniedRemembered, Action{ReturnSlot: true, Publish: true, RevokeTicket: true, WakeAt: in(7215 * s)}}},
		},
		"an outage never ends in cutting a viewer of Ministra": {
			start: openingChecking, given: ministra(keepOnExpiredToken),
			moves: []move{
				{s, &BackendAnswered{Decision: letIn(), IsBackendDown: true}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(11 * s)}},
				{11 * s, seen(11*s, backends.BreakerOpen), allowedFresh, Action{WakeAt: in(71 * s)}},
				{36011 * s, seen(36011*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(36071 * s)}},
			},
		},
	})
}

func TestStep_Idle(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tellStories(t, map[string]story{
		"a silent viewer's session closes": {
			start: allowedFresh,
			moves: []move{
				{60 * s, seen(s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(61 * s)}},
				{61 * s, seen(s, backends.BreakerClosed), closed, Action{Close: ClosedIdle}},
			},
		},
		"a viewer who is silent during an outage leaves": {
			start: recheckQueued,
			moves: []move{{60 * s, seen(0, backends.BreakerOpen), closed, Action{Close: ClosedIdle}}},
		},
		"a session that closes while it asks for the lease keeps neither its slot nor the lease": {
			start: recheckLeasing,
			moves: []move{
				{60 * s, seen(0, backends.BreakerClosed), closed, Action{Close: ClosedIdle, ReturnSlot: true}},
				{61 * s, &LeaseAnswered{Kind: LookupForRecheck, LeaseResult: LeaseResult{Revision: 7}}, closed, Action{ReleaseLease: true, Revision: 7}},
			},
		},
	})
}

func TestStep_Credentials(t *testing.T) {
	t.Parallel()
	const s = time.Second
	lookup := func(q *backends.Request) *LeaseAnswered {
		return &LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true, Record: Record{Request: q}}, Timer: seen(0, backends.BreakerClosed)}
	}
	tellStories(t, map[string]story{
		"they arrive for a session that was admitted by its ticket": {
			start: allowedFresh, given: byTicketAlone,
			moves: []move{
				{180 * s, seen(180*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(240 * s)}}, // nothing to check with
				{181 * s, CredentialsArrived{}, recheckQueued, Action{Enqueue: PriorityUnverified, Save: true}},
				{182 * s, CredentialsArrived{}, recheckQueued, Action{}},
				{183 * s, RecheckGranted{}, recheckChecking, Action{StartCheck: true}},
			},
		},
		"a spent token does not get a ticket's viewer cut": {
			start: allowedFresh, given: func(s *testSession) {
				byTicketAlone(s)
				ministra(keepOnExpiredToken)(s)
			},
			moves: []move{{60 * s, CredentialsArrived{}, allowedFresh, Action{}}},
		},
		"the store knows them": {
			start: allowedLooking, given: byTicketAlone,
			moves: []move{{s, lookup(&backends.Request{}), recheckQueued, Action{Enqueue: PriorityUnverified, Save: true}}},
		},
		"the store does not know them": {
			start: allowedLooking, given: byTicketAlone,
			moves: []move{{s, lookup(nil), allowedFresh, Action{WakeAt: in(60 * s)}}},
		},
		"the session has them already": {
			start: allowedLooking,
			moves: []move{{s, lookup(&backends.Request{}), allowedFresh, Action{WakeAt: in(60 * s)}}},
		},
		"they cost no call while the backend's answer holds": {
			start: allowedFresh, given: func(s *testSession) { s.HasCredentials = false },
			moves: []move{
				{s, CredentialsArrived{}, allowedFresh, Action{}},
				{180 * s, seen(180*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityOverdue, WakeAt: in(240 * s)}},
			},
		},
		"a backend without a validity is not checked every tick": {
			start: allowedFresh, given: func(s *testSession) {
				byTicketAlone(s)
				s.policy.Validity = 0
			},
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(190 * s)}}},
		},
	})
}

// tellStories plays the moves of each story and compares after each move.
func tellStories(t *testing.T, stories map[string]story) {
	t.Helper()
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(story.start)
			if story.given != nil {
				story.given(s)
			}
			for i, m := range story.moves {
				got := s.step(m.event, m.at)
				if diff := cmp.Diff(m.want, got); diff != "" {
					t.Fatalf("move %d (%T at %v): action (-want +got):\n%s", i, m.event, m.at, diff)
				}
				if s.phase != m.phase {
					t.Fatalf("move %d (%T at %v): phase %v, want %v", i, m.event, m.at, s.phase, m.phase)
				}
			}
		})
	}
}
