package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestStreamLimits_Join_OncePerUser asks the store for a stream when a session has none of that user.
func TestStreamLimits_Join_OncePerUser(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		before := len(f.told().joined)
		for _, test := range []struct {
			user string
			want int // joins
		}{{"7", 0}, {"8", 1}, {"7", 1}} {
			d := *s.Decision()
			d.UserID = test.user
			if got := n.streams.join(t.Context(), s, time.Now(), &d, session.StreamActive); got != session.StreamActive {
				t.Errorf("user %s: %v, want active", test.user, got)
			}
			if got := len(f.told().joined) - before; got != test.want {
				t.Errorf("user %s: %d joins, want %d", test.user, got, test.want)
			}
		}
	})
}

// TestStreamLimits_OnDecision_Unverified: an outage ends no stream. A sibling that only its ticket admits is counted, once.
func TestStreamLimits_OnDecision_Unverified(t *testing.T) {
	t.Parallel()
	byTicket := backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket, UserID: "7", MaxSessions: 1}
	byPolicy := backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	sibling := &ticketUse{root: idOf(9), rootOpened: t0()}
	stream := &userStream{user: "portal\x00id\x007", hash: "portal\x00id\x007", maxStreams: 1}
	for name, test := range map[string]struct {
		use      *ticketUse
		before   *userStream
		decision backends.Decision
		want     bool
	}{
		"a viewer in an outage":              {nil, stream, byPolicy, true},
		"a viewer by ticket":                 {nil, nil, byTicket, false},
		"a sibling by ticket":                {sibling, nil, byTicket, true},
		"a sibling in an outage":             {sibling, stream, byPolicy, true},
		"a sibling of a user without limits": {sibling, nil, byPolicy, false},
	} {
		l := newStreamLimits(core{life: newLifecycle(), cluster: &clusterClient{Cluster: new(fakeCluster)}}, PerUserConfig{})
		s := bareSession(idOf(1))
		s.request.Store(openRequest(1).Request)
		s.ticketUse = test.use
		s.stream.Store(test.before)
		l.onDecision(s, &test.decision)
		if got := s.stream.Load(); (got != nil) != test.want || got != nil && *got != *stream {
			t.Errorf("%s: the stream is %+v, want one: %t", name, got, test.want)
		}
	}
}

// TestStreamLimits_DropEmpty forgets a user without sessions, unless something is still to be done for them.
func TestStreamLimits_DropEmpty(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		streams userStreams
		want    bool // forgotten
	}{
		"nothing left":           {userStreams{}, true},
		"a session":              {userStreams{sessions: map[*Session]bool{bareSession(idOf(1)): true}}, false},
		"a renewal in flight":    {userStreams{renewInFlight: true}, false},
		"a renewal by the clock": {userStreams{renewScheduled: true}, false},
	} {
		l := newStreamLimits(core{}, PerUserConfig{})
		l.users["17"] = &test.streams
		l.dropEmpty("17", &test.streams)
		if _, isKept := l.users["17"]; isKept == test.want {
			t.Errorf("%s: kept %t", name, isKept)
		}
	}
}

// TestStreamLimits_Denied_NoLimit_LeavesNothing frees no stream of a viewer who has none, and none that their limit took.
func TestStreamLimits_Denied_NoLimit_LeavesNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		f := &fakeLimits{fakeCluster: &fakeCluster{isShared: true}, join: stateOf(session.StreamActive), renew: stateOf(session.StreamActive)}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			if r.Session == idOf(2) {
				d.MaxSessions = 1
			}
			return d, nil
		}), f.fakeCluster, func(s *setup) { s.Cluster = f })
		defer n.closeAndDrain()
		for i, kind := range map[int]session.RevocationKind{1: session.RevokedKicked, 2: session.RevokedEvicted} {
			n.watch(t, openRequest(i))
			d := session.Kicked("")
			if kind == session.RevokedEvicted {
				d = evictedDecision(&backends.Decision{})
			}
			n.OnRevocation(session.Revocation{Kind: kind, Session: idOf(i), Opened: n.Find(idOf(i)).Ticket().Opened, Decision: d})
			synctest.Wait()
		}
		if told := f.told(); len(told.left) != 0 {
			t.Errorf("%v left, want none", told.left)
		}
	})
}
