package session

import (
	"testing"
	"time"

	"usher/backends"
)

func onManyNodes(t *testSession) { t.policy.Shared = true }

// checkedHere makes this node the one that renews the session.
func checkedHere(t *testSession) {
	onManyNodes(t)
	t.checkedHere = true
}

func TestStep_Renewal_ManyNodes(t *testing.T) {
	t.Parallel()
	const s = time.Second
	look := Action{Lookup: LookupOnly, WakeAt: in(240 * s)}
	tellStories(t, map[string]story{
		"a decision that is not due is not looked up": {
			start: allowedFresh, given: onManyNodes,
			moves: []move{{179 * s, seen(179*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(180 * s)}}},
		},
		"another node's decision that is due is looked up": {
			start: allowedFresh, given: onManyNodes,
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), allowedLooking, look}},
		},
		"also while this node cannot ask": {
			start: allowedFresh, given: onManyNodes,
			moves: []move{{180 * s, seen(180*s, backends.BreakerOpen), allowedLooking, look}},
		},
		"this node's own is checked": {
			start: allowedFresh, given: checkedHere,
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), recheckQueued, Action{Enqueue: PriorityOverdue, WakeAt: in(240 * s)}}},
		},
		"this node's own is looked up while this node cannot ask": {
			start: allowedFresh, given: checkedHere,
			moves: []move{{180 * s, seen(180*s, backends.BreakerOpen), allowedLooking, look}},
		},
		"none is looked up once the token is spent": {
			start: allowedFresh, given: func(t *testSession) {
				onManyNodes(t)
				t.policy.TokenLife = s
			},
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), allowedFresh, Action{WakeAt: in(240 * s)}}},
		},
	})
}

func TestStep_Renewal_Outage(t *testing.T) {
	t.Parallel()
	const s = time.Second
	down := func(fallback backends.Decision) TimerFired {
		e := seen(180*s, backends.BreakerOpen)
		e.Fallback = fallback
		return e
	}
	queue := func(p QueuePriority) Action {
		return Action{Publish: true, Save: true, Enqueue: p, WakeAt: in(240 * s)}
	}
	tellStories(t, map[string]story{
		"the fallback takes the place of a decision that expires, once": {
			start: allowedFresh,
			moves: []move{
				{180 * s, down(cached()), recheckQueued, queue(PriorityOverdue)},
				{181 * s, down(cached()), recheckQueued, Action{WakeAt: in(240 * s)}},
			},
		},
		"a viewer who plays without an answer is queued first": {
			start: allowedFresh,
			moves: []move{{180 * s, down(letIn()), recheckQueued, queue(PriorityUnverified)}},
		},
		"a session that is queued is not queued twice": {
			start: recheckQueued,
			moves: []move{{180 * s, down(letIn()), recheckQueued, Action{Publish: true, Save: true, WakeAt: in(240 * s)}}},
		},
		"a policy that decides nothing leaves the decision": {
			start: allowedFresh,
			moves: []move{{180 * s, down(backends.Decision{}), recheckQueued, queue(PriorityOverdue)}},
		},
		"a policy that refuses cuts the viewer, and keeps the ticket": {
			start: allowedFresh,
			moves: []move{{180 * s, down(refusedByPolicy()), deniedRemembered, Action{Publish: true, WakeAt: in(195 * s)}}},
		},
		"a queued session whose backend is back waits for its slot": {
			start: recheckQueued,
			moves: []move{{180 * s, seen(180*s, backends.BreakerClosed), recheckQueued, Action{WakeAt: in(240 * s)}}},
		},
	})
}

// TestStep_Queued_LooksElsewhere shows which queued session is woken to see whether another node can ask.
func TestStep_Queued_LooksElsewhere(t *testing.T) {
	t.Parallel()
	const s = time.Second
	unverified := func(t *testSession) { t.policy.Validity, t.Decision = 20*s, letIn() }
	verified := func(t *testSession) { t.policy.Validity = 20 * s }
	for name, test := range map[string]struct {
		given func(*testSession)
		nodes bool
		want  time.Duration
	}{
		"an unverified one on many nodes": {unverified, true, 20 * s},
		"an unverified one on one node":   {unverified, false, 60 * s},
		"a verified one on many nodes":    {verified, true, 60 * s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session := sessionIn(recheckQueued)
			test.given(session)
			session.policy.Shared, session.checkedHere, session.Expires = test.nodes, true, time.Hour
			if got, want := session.step(seen(0, backends.BreakerClosed), 0), (Action{WakeAt: in(test.want)}); got != want {
				t.Errorf("action %+v, want %+v", got, want)
			}
		})
	}
}

// TestStep_ExtraLifetime has viewers of an edge, which asks again when a decision's validity of three minutes is over.
func TestStep_ExtraLifetime(t *testing.T) {
	t.Parallel()
	const s = time.Second
	atEdge := func(t *testSession) { t.extraLifetime = 60_000 }
	seldom := func(t *testSession) {
		atEdge(t)
		t.policy.IdleTimeout = 1000 * s
	}
	tellStories(t, map[string]story{
		"a viewer is gone a minute after the edge had to ask": {
			start: recheckChecking, given: atEdge,
			moves: []move{
				{239 * s, seen(0, backends.BreakerClosed), recheckChecking, Action{WakeAt: in(240 * s)}},
				{240 * s, seen(0, backends.BreakerClosed), closed, Action{Close: ClosedIdle}},
			},
		},
		"a longer idle timeout holds": {
			start: recheckChecking, given: seldom,
			moves: []move{
				{240 * s, seen(0, backends.BreakerClosed), recheckChecking, Action{WakeAt: in(1000 * s)}},
				{1000 * s, seen(0, backends.BreakerClosed), closed, Action{Close: ClosedIdle}},
			},
		},
		"a re-check does not count as the viewer's": {
			start: recheckChecking, given: atEdge,
			moves: []move{
				{100 * s, seen(100*s, backends.BreakerClosed), recheckChecking, Action{WakeAt: in(340 * s)}},
				{200 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(340 * s)}},
			},
		},
		"an opening does, as the timer has not told": {
			start: openingChecking, given: atEdge,
			moves: []move{{200 * s, &BackendAnswered{Decision: yes()}, allowedFresh, Action{Publish: true, Save: true, WakeAt: in(380 * s)}}},
		},
	})
}
