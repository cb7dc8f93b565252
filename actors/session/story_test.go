package session

import (
	"testing"
	"time"

	"usher/backends"

	"github.com/google/go-cmp/cmp"
)

// move is one event of a story, with what must follow from it.
type move struct {
	at    time.Duration // after t0
	event any
	phase phase
	want  Action
}

// tell plays the moves and compares after each.
func tell(t *testing.T, s *State, moves []move) {
	t.Helper()
	for i, m := range moves {
		got := s.Step(m.event, in(m.at))
		if diff := cmp.Diff(m.want, got, cmp.AllowUnexported(Action{})); diff != "" {
			t.Fatalf("move %d (%T at %v): action (-want +got):\n%s", i, m.event, m.at, diff)
		}
		if s.Phase != m.phase {
			t.Fatalf("move %d (%T at %v): phase %v, want %v", i, m.event, m.at, s.Phase, m.phase)
		}
	}
}

func TestStepTellsStories(t *testing.T) {
	t.Parallel()
	const s = time.Second
	busy := func(at time.Duration, h backends.BreakerState) TimerFired {
		return TimerFired{LastSeen: in(at), Breaker: h}
	}
	ministra := func(p backends.ExpiredTokenPolicy) func(*State) {
		return func(s *State) {
			s.Policy.TokenLife, s.Policy.Validity, s.Policy.ExpiredToken = 5*time.Second, 10*time.Hour, p
		}
	}
	stories := map[string]struct {
		start *State
		given func(*State)
		moves []move
	}{
		"an opening that is denied is remembered, then forgotten": {
			start: sessionIn(Opening),
			moves: []move{
				{0, OpenRequested{}, Opening, Action{Lookup: LookupForOpening}},
				{0, LeaseAnswered{Kind: LookupForOpening}, Opening, Action{StartCheck: true}},
				{0, BackendAnswered{Decision: no()}, denied, Action{Publish: true, Save: true, WakeAt: in(15 * s)}},
				{15 * s, busy(15*s, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"an opening that nobody could decide is given up after retry_after": {
			start: asking(Opening),
			moves: []move{
				{0, BackendAnswered{Err: overload()}, undecided, Action{Publish: true, WakeAt: in(s)}},
				{s, busy(0, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"a second record does not start a second check": {
			start: sessionIn(Opening),
			moves: []move{
				{0, LeaseAnswered{Kind: LookupForOpening}, Opening, Action{StartCheck: true}},
				{0, LeaseAnswered{Kind: LookupForOpening}, Opening, Action{}},
			},
		},
		"the deadline passes, then a yes comes late": {
			start: asking(Opening),
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{9 * s, BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(69 * s)}},
			},
		},
		"the deadline passes, then a no comes late and cuts the viewer": {
			start: asking(Opening),
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{9 * s, BackendAnswered{Decision: no()}, denied, Action{Publish: true, RevokeTicket: true, WakeAt: in(24 * s)}},
				{24 * s, busy(24*s, backends.BreakerClosed), closed, Action{Close: ClosedDenied}},
			},
		},
		"a check that hangs longer than its stopgap holds keeps the timer slow": {
			start: asking(Opening),
			moves: []move{
				{s, WaitExpired{Fallback: letIn()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(61 * s)}},
				{61 * s, busy(60*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(120 * s)}},
				{70 * s, BackendAnswered{Err: overload()}, Allowed, Action{WakeAt: in(70 * s)}},
				{70 * s, busy(60*s, backends.BreakerClosed), Rechecking, Action{Enqueue: PriorityUnverified, WakeAt: in(120 * s)}},
			},
		},
		"the deadline passes in our own queue, then a yes comes late": {
			start: asking(Opening),
			moves: []move{
				{s, WaitExpired{Err: overload()}, undecided, Action{Publish: true, WakeAt: in(2 * s)}},
				{2 * s, busy(2*s, backends.BreakerClosed), undecided, Action{WakeAt: in(3 * s)}},
				{2 * s, BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(62 * s)}},
			},
		},
		"the policy refuses, then a yes comes late": {
			start: asking(Opening),
			moves: []move{
				{s, WaitExpired{Fallback: refusedByPolicy()}, denied, Action{Publish: true, WakeAt: in(16 * s)}},
				{2 * s, BackendAnswered{Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(62 * s)}},
			},
		},
		"an answer of an older check is dropped, the newest counts however late": {
			start: sessionIn(Rechecking), given: func(s *State) { s.CheckNumber = 4 },
			moves: []move{
				{0, RecheckGranted{}, Rechecking, Action{StartCheck: true}}, // number 5
				{s, BackendAnswered{Number: 4, Decision: no()}, Rechecking, Action{}},
				{3600 * s, BackendAnswered{Number: 5, Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(3660 * s)}},
				{3601 * s, BackendAnswered{Number: 5, Decision: no()}, Allowed, Action{}},
			},
		},
		"an answer from before a panic is dropped": {
			start: asking(Rechecking),
			moves: []move{
				{0, Restored{}, Allowed, Action{WakeAt: in(10 * s)}},
				{s, BackendAnswered{Number: 0, Decision: no()}, Allowed, Action{}},
			},
		},
		"a decision is renewed in the background when it ran out": {
			start: sessionIn(Allowed),
			moves: []move{
				{170 * s, busy(170*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(180 * s)}},
				{180 * s, busy(175*s, backends.BreakerClosed), Rechecking, Action{Enqueue: PriorityOverdue, WakeAt: in(235 * s)}},
				{181 * s, RecheckGranted{}, Rechecking, Action{StartCheck: true}},
				{181 * s, RecheckGranted{}, Rechecking, Action{ReturnSlot: true}},
				{182 * s, BackendAnswered{Number: 1, Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(242 * s)}},
			},
		},
		"a re-check that was given up is made again after recheck.min_interval": {
			start: asking(Rechecking),
			moves: []move{
				{0, BackendAnswered{Err: overload()}, Allowed, Action{WakeAt: in(10 * s)}},
				{10 * s, busy(10*s, backends.BreakerClosed), Rechecking, Action{Enqueue: PriorityOverdue, WakeAt: in(70 * s)}},
			},
		},
		"a re-check answered with neither yes nor no cuts nobody": {
			start: asking(Rechecking),
			moves: []move{{0, BackendAnswered{}, Allowed, Action{WakeAt: in(10 * s)}}},
		},
		"a failed re-check while the backend still counts as healthy is made again soon": {
			start: asking(Rechecking),
			moves: []move{{0, BackendAnswered{Decision: lastKnown()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(10 * s)}}},
		},
		"while the backend is down the session waits for its return": {
			start: asking(Rechecking),
			moves: []move{
				{0, BackendAnswered{Decision: lastKnown(), Down: true}, Rechecking, Action{Publish: true, Save: true, Enqueue: PriorityOverdue, WakeAt: in(60 * s)}},
				{60 * s, busy(59*s, backends.BreakerOpen), Rechecking, Action{WakeAt: in(119 * s)}},
				{7200 * s, RecheckGranted{}, Rechecking, Action{StartCheck: true}},
			},
		},
		"who was let in by the policy is asked about first": {
			start: asking(Opening),
			moves: []move{
				{0, BackendAnswered{Decision: letIn(), Down: true}, Rechecking, Action{Publish: true, Save: true, Enqueue: PriorityUnverified, WakeAt: in(60 * s)}},
			},
		},
		"somebody's no is kept while the backend is down": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerOpen), denied, Action{WakeAt: in(30 * s)}},
				{30 * s, busy(30*s, backends.BreakerOpen), denied, Action{WakeAt: in(45 * s)}},
				{45 * s, busy(45*s, backends.BreakerClosed), closed, Action{Close: closedForgotten}},
			},
		},
		"a denied player who keeps trying is what a backend under trial is asked about": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, Action{StartCheck: true, WakeAt: in(30 * s)}},
				{30 * s, busy(30*s, backends.BreakerHalfOpen), denied, Action{WakeAt: in(31 * s)}},
				{31 * s, BackendAnswered{Number: 1, Decision: no()}, denied, Action{Publish: true, Save: true, WakeAt: in(46 * s)}},
			},
		},
		"a denied player who paid meanwhile gets in by that": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, Action{StartCheck: true, WakeAt: in(30 * s)}},
				{16 * s, BackendAnswered{Number: 1, Decision: yes()}, Allowed, Action{Publish: true, Save: true, WakeAt: in(76 * s)}},
			},
		},
		"a denied viewer who left is not asked about": {
			start: sessionIn(denied),
			moves: []move{{90 * s, busy(10*s, backends.BreakerHalfOpen), denied, Action{WakeAt: in(105 * s)}}},
		},
		"a session that was cut is not asked about, as its ticket is buried": {
			start: sessionIn(denied), given: func(s *State) { s.WasAllowed = true },
			moves: []move{{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, Action{WakeAt: in(30 * s)}}},
		},
		"the policy's refusal is not kept, so that somebody finds the backend back": {
			start: sessionIn(denied), given: func(s *State) { s.Decision = refusedByPolicy() },
			moves: []move{{15 * s, busy(15*s, backends.BreakerHalfOpen), closed, Action{Close: closedForgotten}}},
		},
		"the policy's refusal of a running viewer buries no ticket": {
			start: asking(Rechecking),
			moves: []move{
				{0, BackendAnswered{Decision: refusedByPolicy(), Down: true}, denied, Action{Publish: true, WakeAt: in(15 * s)}},
				{15 * s, busy(15*s, backends.BreakerOpen), closed, Action{Close: ClosedDenied}},
			},
		},
		"a spent token is not asked about; the decision is kept": {
			start: sessionIn(Allowed), given: ministra(backends.KeepOnExpiredToken),
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(240 * s)}}},
		},
		"a spent token ends the session where the config says so": {
			start: sessionIn(Allowed), given: ministra(backends.DenyOnExpiredToken),
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), denied, Action{Publish: true, RevokeTicket: true, WakeAt: in(195 * s)}}},
		},
		"a token whose life ended while its session waited for a turn is not asked about": {
			start: sessionIn(Rechecking), given: func(s *State) { s.Policy.TokenLife = time.Hour },
			moves: []move{{7200 * s, RecheckGranted{}, Allowed, Action{WakeAt: in(7260 * s)}}},
		},
		"a token whose life ended while its session waited ends it where the config says so": {
			start: sessionIn(Rechecking), given: ministra(backends.DenyOnExpiredToken),
			moves: []move{{7200 * s, RecheckGranted{}, denied, Action{Publish: true, RevokeTicket: true, WakeAt: in(7215 * s)}}},
		},
		"an outage never ends in cutting a viewer of Ministra": {
			start: asking(Opening), given: ministra(backends.KeepOnExpiredToken),
			moves: []move{
				{s, BackendAnswered{Decision: letIn(), Down: true}, Allowed, Action{Publish: true, Save: true, WakeAt: in(11 * s)}},
				{11 * s, busy(11*s, backends.BreakerOpen), Allowed, Action{WakeAt: in(71 * s)}},
				{36011 * s, busy(36011*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(36071 * s)}},
			},
		},
		"a silent viewer's session closes": {
			start: sessionIn(Allowed),
			moves: []move{
				{60 * s, busy(s, backends.BreakerClosed), Allowed, Action{WakeAt: in(61 * s)}},
				{61 * s, busy(s, backends.BreakerClosed), closed, Action{Close: ClosedIdle}},
			},
		},
		"a viewer who is silent during an outage is let go": {
			start: sessionIn(Rechecking),
			moves: []move{{60 * s, busy(0, backends.BreakerOpen), closed, Action{Close: ClosedIdle}}},
		},
		"credentials turn up for a session that stands on its ticket": {
			start: byTicket(Allowed),
			moves: []move{
				{180 * s, busy(180*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(240 * s)}}, // nobody to ask about
				{181 * s, CredentialsArrived{}, Rechecking, Action{Enqueue: PriorityUnverified, Save: true}},
				{182 * s, CredentialsArrived{}, Rechecking, Action{}},
				{183 * s, RecheckGranted{}, Rechecking, Action{StartCheck: true}},
			},
		},
		"credentials with a spent token do not get a ticket's viewer cut": {
			start: byTicket(Allowed), given: ministra(backends.KeepOnExpiredToken),
			moves: []move{{60 * s, CredentialsArrived{}, Allowed, Action{}}},
		},
		"credentials that turn up while the backend's answer holds cost no call": {
			start: byTicket(Allowed), given: func(s *State) { s.Decision = yes() },
			moves: []move{
				{s, CredentialsArrived{}, Allowed, Action{}},
				{180 * s, busy(180*s, backends.BreakerClosed), Rechecking, Action{Enqueue: PriorityOverdue, WakeAt: in(240 * s)}},
			},
		},
		"a backend without a validity of its own is not asked every tick": {
			start: byTicket(Allowed), given: func(s *State) { s.Policy.Validity = 0 },
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), Allowed, Action{WakeAt: in(190 * s)}}},
		},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if story.given != nil {
				story.given(story.start)
			}
			tell(t, story.start, story.moves)
		})
	}
}
