package actors

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
	want  action
}

// tell plays the moves and compares after each.
func tell(t *testing.T, s *session, moves []move) {
	t.Helper()
	for i, m := range moves {
		got := s.step(m.event, in(m.at))
		if diff := cmp.Diff(m.want, got, cmp.AllowUnexported(action{})); diff != "" {
			t.Fatalf("move %d (%T at %v): action (-want +got):\n%s", i, m.event, m.at, diff)
		}
		if s.phase != m.phase {
			t.Fatalf("move %d (%T at %v): phase %v, want %v", i, m.event, m.at, s.phase, m.phase)
		}
	}
}

func TestStepTellsStories(t *testing.T) {
	t.Parallel()
	const s = time.Second
	busy := func(at time.Duration, h backends.BreakerState) timerFired {
		return timerFired{lastSeen: in(at), health: h}
	}
	ministra := func(p ExpiredTokenPolicy) func(*session) {
		return func(s *session) {
			s.rules.tokenLife, s.rules.validity, s.rules.expiredToken = 5*time.Second, 10*time.Hour, p
		}
	}
	stories := map[string]struct {
		start *session
		given func(*session)
		moves []move
	}{
		"an opening that is denied is remembered, then forgotten": {
			start: sessionIn(opening),
			moves: []move{
				{0, opened{}, opening, action{claim: openClaim}},
				{0, claimed{kind: openClaim}, opening, action{ask: true}},
				{0, backendAnswered{decision: no()}, denied, action{publish: true, save: true, wake: in(15 * s)}},
				{15 * s, busy(15*s, backends.BreakerClosed), closed, action{ending: endedForgotten}},
			},
		},
		"an opening that nobody could decide is given up after retry_after": {
			start: asking(opening),
			moves: []move{
				{0, backendAnswered{err: overload()}, undecided, action{publish: true, wake: in(s)}},
				{s, busy(0, backends.BreakerClosed), closed, action{ending: endedForgotten}},
			},
		},
		"a second record does not start a second check": {
			start: sessionIn(opening),
			moves: []move{
				{0, claimed{kind: openClaim}, opening, action{ask: true}},
				{0, claimed{kind: openClaim}, opening, action{}},
			},
		},
		"the deadline passes, then a yes comes late": {
			start: asking(opening),
			moves: []move{
				{s, answerOverdue{instead: letIn()}, allowed, action{publish: true, save: true, wake: in(61 * s)}},
				{9 * s, backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(69 * s)}},
			},
		},
		"the deadline passes, then a no comes late and cuts the viewer": {
			start: asking(opening),
			moves: []move{
				{s, answerOverdue{instead: letIn()}, allowed, action{publish: true, save: true, wake: in(61 * s)}},
				{9 * s, backendAnswered{decision: no()}, denied, action{publish: true, bury: true, wake: in(24 * s)}},
				{24 * s, busy(24*s, backends.BreakerClosed), closed, action{ending: endedDenied}},
			},
		},
		"a check that hangs longer than its stopgap holds keeps the timer slow": {
			start: asking(opening),
			moves: []move{
				{s, answerOverdue{instead: letIn()}, allowed, action{publish: true, save: true, wake: in(61 * s)}},
				{61 * s, busy(60*s, backends.BreakerClosed), allowed, action{wake: in(120 * s)}},
				{70 * s, backendAnswered{err: overload()}, allowed, action{wake: in(70 * s)}},
				{70 * s, busy(60*s, backends.BreakerClosed), rechecking, action{queue: stopgapLane, wake: in(120 * s)}},
			},
		},
		"the deadline passes in our own queue, then a yes comes late": {
			start: asking(opening),
			moves: []move{
				{s, answerOverdue{err: overload()}, undecided, action{publish: true, wake: in(2 * s)}},
				{2 * s, busy(2*s, backends.BreakerClosed), undecided, action{wake: in(3 * s)}},
				{2 * s, backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(62 * s)}},
			},
		},
		"the policy refuses, then a yes comes late": {
			start: asking(opening),
			moves: []move{
				{s, answerOverdue{instead: refusedByPolicy()}, denied, action{publish: true, wake: in(16 * s)}},
				{2 * s, backendAnswered{decision: yes()}, allowed, action{publish: true, save: true, wake: in(62 * s)}},
			},
		},
		"an answer of an older check is dropped, the newest counts however late": {
			start: sessionIn(rechecking), given: func(s *session) { s.check = 4 },
			moves: []move{
				{0, turnCame{}, rechecking, action{ask: true}}, // number 5
				{s, backendAnswered{number: 4, decision: no()}, rechecking, action{}},
				{3600 * s, backendAnswered{number: 5, decision: yes()}, allowed, action{publish: true, save: true, wake: in(3660 * s)}},
				{3601 * s, backendAnswered{number: 5, decision: no()}, allowed, action{}},
			},
		},
		"an answer from before a panic is dropped": {
			start: asking(rechecking),
			moves: []move{
				{0, rebuilt{}, allowed, action{wake: in(10 * s)}},
				{s, backendAnswered{number: 0, decision: no()}, allowed, action{}},
			},
		},
		"a decision is renewed in the background when it ran out": {
			start: sessionIn(allowed),
			moves: []move{
				{170 * s, busy(170*s, backends.BreakerClosed), allowed, action{wake: in(180 * s)}},
				{180 * s, busy(175*s, backends.BreakerClosed), rechecking, action{queue: overdueLane, wake: in(235 * s)}},
				{181 * s, turnCame{}, rechecking, action{ask: true}},
				{181 * s, turnCame{}, rechecking, action{refund: true}},
				{182 * s, backendAnswered{number: 1, decision: yes()}, allowed, action{publish: true, save: true, wake: in(242 * s)}},
			},
		},
		"a re-check that was given up is made again after recheck.min": {
			start: asking(rechecking),
			moves: []move{
				{0, backendAnswered{err: overload()}, allowed, action{wake: in(10 * s)}},
				{10 * s, busy(10*s, backends.BreakerClosed), rechecking, action{queue: overdueLane, wake: in(70 * s)}},
			},
		},
		"a re-check answered with neither yes nor no cuts nobody": {
			start: asking(rechecking),
			moves: []move{{0, backendAnswered{}, allowed, action{wake: in(10 * s)}}},
		},
		"a failed re-check while the backend still counts as healthy is made again soon": {
			start: asking(rechecking),
			moves: []move{{0, backendAnswered{decision: lastKnown()}, allowed, action{publish: true, save: true, wake: in(10 * s)}}},
		},
		"while the backend is down the session waits for its return": {
			start: asking(rechecking),
			moves: []move{
				{0, backendAnswered{decision: lastKnown(), down: true}, rechecking, action{publish: true, save: true, queue: overdueLane, wake: in(60 * s)}},
				{60 * s, busy(59*s, backends.BreakerOpen), rechecking, action{wake: in(119 * s)}},
				{7200 * s, turnCame{}, rechecking, action{ask: true}},
			},
		},
		"who was let in by the policy is asked about first": {
			start: asking(opening),
			moves: []move{
				{0, backendAnswered{decision: letIn(), down: true}, rechecking, action{publish: true, save: true, queue: stopgapLane, wake: in(60 * s)}},
			},
		},
		"somebody's no is kept while the backend is down": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerOpen), denied, action{wake: in(30 * s)}},
				{30 * s, busy(30*s, backends.BreakerOpen), denied, action{wake: in(45 * s)}},
				{45 * s, busy(45*s, backends.BreakerClosed), closed, action{ending: endedForgotten}},
			},
		},
		"a denied player who keeps trying is what a backend under trial is asked about": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, action{ask: true, wake: in(30 * s)}},
				{30 * s, busy(30*s, backends.BreakerHalfOpen), denied, action{wake: in(31 * s)}},
				{31 * s, backendAnswered{number: 1, decision: no()}, denied, action{publish: true, save: true, wake: in(46 * s)}},
			},
		},
		"a denied player who paid meanwhile gets in by that": {
			start: sessionIn(denied),
			moves: []move{
				{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, action{ask: true, wake: in(30 * s)}},
				{16 * s, backendAnswered{number: 1, decision: yes()}, allowed, action{publish: true, save: true, wake: in(76 * s)}},
			},
		},
		"a denied viewer who left is not asked about": {
			start: sessionIn(denied),
			moves: []move{{90 * s, busy(10*s, backends.BreakerHalfOpen), denied, action{wake: in(105 * s)}}},
		},
		"a session that was cut is not asked about, as its ticket is buried": {
			start: sessionIn(denied), given: func(s *session) { s.ran = true },
			moves: []move{{15 * s, busy(15*s, backends.BreakerHalfOpen), denied, action{wake: in(30 * s)}}},
		},
		"the policy's refusal is not kept, so that somebody finds the backend back": {
			start: sessionIn(denied), given: func(s *session) { s.decision = refusedByPolicy() },
			moves: []move{{15 * s, busy(15*s, backends.BreakerHalfOpen), closed, action{ending: endedForgotten}}},
		},
		"the policy's refusal of a running viewer buries no ticket": {
			start: asking(rechecking),
			moves: []move{
				{0, backendAnswered{decision: refusedByPolicy(), down: true}, denied, action{publish: true, wake: in(15 * s)}},
				{15 * s, busy(15*s, backends.BreakerOpen), closed, action{ending: endedDenied}},
			},
		},
		"a spent token is not asked about; the decision is kept": {
			start: sessionIn(allowed), given: ministra(KeepOnExpiredToken),
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), allowed, action{wake: in(240 * s)}}},
		},
		"a spent token ends the session where the config says so": {
			start: sessionIn(allowed), given: ministra(DenyOnExpiredToken),
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), denied, action{publish: true, bury: true, wake: in(195 * s)}}},
		},
		"a token whose life ended while its session waited for a turn is not asked about": {
			start: sessionIn(rechecking), given: func(s *session) { s.rules.tokenLife = time.Hour },
			moves: []move{{7200 * s, turnCame{}, allowed, action{wake: in(7260 * s)}}},
		},
		"a token whose life ended while its session waited ends it where the config says so": {
			start: sessionIn(rechecking), given: ministra(DenyOnExpiredToken),
			moves: []move{{7200 * s, turnCame{}, denied, action{publish: true, bury: true, wake: in(7215 * s)}}},
		},
		"an outage never ends in cutting a viewer of Ministra": {
			start: asking(opening), given: ministra(KeepOnExpiredToken),
			moves: []move{
				{s, backendAnswered{decision: letIn(), down: true}, allowed, action{publish: true, save: true, wake: in(11 * s)}},
				{11 * s, busy(11*s, backends.BreakerOpen), allowed, action{wake: in(71 * s)}},
				{36011 * s, busy(36011*s, backends.BreakerClosed), allowed, action{wake: in(36071 * s)}},
			},
		},
		"a silent viewer's session closes": {
			start: sessionIn(allowed),
			moves: []move{
				{60 * s, busy(s, backends.BreakerClosed), allowed, action{wake: in(61 * s)}},
				{61 * s, busy(s, backends.BreakerClosed), closed, action{ending: endedIdle}},
			},
		},
		"a viewer who is silent during an outage is let go": {
			start: sessionIn(rechecking),
			moves: []move{{60 * s, busy(0, backends.BreakerOpen), closed, action{ending: endedIdle}}},
		},
		"credentials turn up for a session that stands on its ticket": {
			start: byTicket(allowed),
			moves: []move{
				{180 * s, busy(180*s, backends.BreakerClosed), allowed, action{wake: in(240 * s)}}, // nobody to ask about
				{181 * s, credentialsCame{}, rechecking, action{queue: stopgapLane, save: true}},
				{182 * s, credentialsCame{}, rechecking, action{}},
				{183 * s, turnCame{}, rechecking, action{ask: true}},
			},
		},
		"credentials with a spent token do not get a ticket's viewer cut": {
			start: byTicket(allowed), given: ministra(KeepOnExpiredToken),
			moves: []move{{60 * s, credentialsCame{}, allowed, action{}}},
		},
		"credentials that turn up while the backend's answer holds cost no call": {
			start: byTicket(allowed), given: func(s *session) { s.decision = yes() },
			moves: []move{
				{s, credentialsCame{}, allowed, action{}},
				{180 * s, busy(180*s, backends.BreakerClosed), rechecking, action{queue: overdueLane, wake: in(240 * s)}},
			},
		},
		"a backend without a validity of its own is not asked every tick": {
			start: byTicket(allowed), given: func(s *session) { s.rules.validity = 0 },
			moves: []move{{180 * s, busy(180*s, backends.BreakerClosed), allowed, action{wake: in(190 * s)}}},
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
