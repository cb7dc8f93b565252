package actors

import (
	"maps"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRegistry_FindRoot_Stored shows what a sibling learns of a root that this node does not have.
func TestRegistry_FindRoot_Stored(t *testing.T) {
	t.Parallel()
	opened := t0()
	allowed := session.Record{ID: idOf(1), Opened: opened, Decision: allowedDecision(), Request: openRequest(1).Request}
	edited := func(edit func(*session.Record)) session.Record {
		r := allowed
		edit(&r)
		return r
	}
	for name, test := range map[string]struct {
		record                         session.Record
		isAlone                        bool
		isAllowed, isDenied, isPlaying bool
	}{
		"it is unknown":          {},
		"it plays":               {record: allowed, isAllowed: true, isPlaying: true},
		"it is idle":             {record: edited(func(r *session.Record) { r.IsClosed = true }), isAllowed: true},
		"no other node plays it": {record: allowed, isAlone: true, isAllowed: true},
		"it was denied":          {record: edited(func(r *session.Record) { r.Decision = deniedDecision() }), isDenied: true},
		"its ticket was revoked": {record: edited(func(r *session.Record) { r.RevokedBefore = opened }), isDenied: true},
		"an older one was":       {record: edited(func(r *session.Record) { r.RevokedBefore = opened.Add(-time.Second) }), isAllowed: true, isPlaying: true},
		"its limit evicted it":   {record: edited(func(r *session.Record) { r.Decision = evictedDecision(&r.Decision) })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &fakeCluster{isShared: !test.isAlone}
			if !test.record.ID.IsZero() {
				store.set(test.record)
			}
			n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
			defer n.Close()
			f := n.findRoot(t.Context(), &ticketUse{root: idOf(1), rootOpened: opened})
			if f.isAllowed != test.isAllowed || f.isDenied != test.isDenied || f.isPlaying != test.isPlaying {
				t.Errorf("got %+v, want allowed %t, denied %t, playing %t", f, test.isAllowed, test.isDenied, test.isPlaying)
			}
			if f.request != test.record.Request || f.request != nil && f.address != f.request.Address {
				t.Errorf("got the request %v at %v, want the stored one", f.request, f.address)
			}
		})
	}
}

// TestSession_FactsOfRoot_Playing shows for how long the address of a live root counts.
func TestSession_FactsOfRoot_Playing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(1)), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		n.watch(t, openRequest(2))
		plays, denied, now := n.table.find(idOf(1)), n.table.find(idOf(2)), time.Now()
		idle := plays.policy().IdleTimeout
		for at, want := range map[time.Duration]bool{0: true, idle: true, idle + time.Second: false} {
			if f := plays.factsOfRoot(now.Add(at)); f.isPlaying != want || !f.isAllowed || f.request == nil {
				t.Errorf("silent for %v: got %+v, want playing %t", at, f, want)
			}
		}
		if f := denied.factsOfRoot(now); f.isPlaying || f.isAllowed || !f.isDenied {
			t.Errorf("a denied root: got %+v", f)
		}
	})
}

// TestRegistry_ApplyRoot_StoredCredentials: credentials that a sibling's own record holds are not replaced by its root's.
func TestRegistry_ApplyRoot_StoredCredentials(t *testing.T) {
	t.Parallel()
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
	defer n.Close()
	for name, own := range map[string]*backends.Request{"it has none": nil, "it has its own": openRequest(2).Request} {
		s := bareSession(idOf(2))
		s.request.Store(openRequest(2).Request)
		s.ticketUse = &ticketUse{root: idOf(1), rootOpened: t0()}
		e := &session.LeaseAnswered{Kind: session.LookupOnly, LeaseResult: session.LeaseResult{Record: session.Record{Request: own}}}
		n.applyRoot(t.Context(), s, rootFacts{request: openRequest(1).Request, isAllowed: true, decision: allowedDecision()}, e)
		if e.HasRootFacts != (own == nil) || s.flags.has(flagCredentials) != (own == nil) {
			t.Errorf("%s: root's facts %t, credentials %t", name, e.HasRootFacts, s.flags.has(flagCredentials))
		}
		if got := n.cluster.addresses.count(idOf(1)); got != 0 {
			t.Errorf("%s: %d addresses are added by a look-up of a session that is open", name, got)
		}
		if want := (backends.Decision{UserID: "17", User: "Ann"}); e.Root != want || !e.IsRootAllowed {
			t.Errorf("%s: the root's user is %+v, want %+v", name, e.Root, want)
		}
	}
}

func TestPendingOpening_NeedsTicket(t *testing.T) {
	t.Parallel()
	ticket := session.Ticket{Opened: t0(), KeyID: "a"}
	for name, test := range map[string]struct {
		opening        *pendingOpening
		hasCredentials bool
		tokenLife      time.Duration
		want           bool
	}{
		"a ticket alone":                      {&pendingOpening{ticket: ticket}, false, 0, true},
		"a ticket with credentials":           {&pendingOpening{ticket: ticket}, true, 0, false},
		"a ticket with a token that may die":  {&pendingOpening{ticket: ticket}, true, time.Minute, true},
		"no ticket":                           {new(pendingOpening), false, time.Minute, false},
		"an opening that has ended meanwhile": {nil, false, 0, false},
	} {
		s := bareSession(idOf(1))
		s.policy().TokenLife = test.tokenLife
		s.flags.set(flagCredentials, test.hasCredentials)
		if got := test.opening.needsTicket(s); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
}

// TestAddressLimit_Entries_InUse reports the addresses of a shared session that were used within the idle timeout, and the lower one of
// the two bounds.
func TestAddressLimit_Entries_InUse(t *testing.T) {
	t.Parallel()
	l := newAddressLimit(core{}, t0())
	l.most.Store(5)
	s := bareSession(idOf(1))
	s.request.Store(openRequest(1).Request)
	s.ticketUse = &ticketUse{root: idOf(1), maxAddresses: 3, shared: []addressUse{
		{prefixOf(1), idOf(11), 0}, {prefixOf(2), idOf(12), 1}, {prefixOf(3), idOf(13), 60},
	}}
	now := in(61 * time.Second)
	got := map[backends.SessionID]time.Duration{}
	for _, e := range l.entries(s, now) {
		got[e.Session] = e.LastSeen.Sub(t0())
		if e.MaxStreams != 3 {
			t.Errorf("entry %+v", e)
		}
	}
	if want := map[backends.SessionID]time.Duration{idOf(12): time.Second, idOf(13): time.Minute}; !maps.Equal(got, want) {
		t.Errorf("reported %v, want the two that are in use, %v", got, want)
	}
}

// TestRegistry_ApplyRoot_Refused adds no address of a viewer who is refused anyway.
func TestRegistry_ApplyRoot_Refused(t *testing.T) {
	t.Parallel()
	store := &fakeCluster{}
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
	defer n.Close()
	for refused, want := range map[bool]int{true: 0, false: 1} {
		s := bareSession(idOf(2))
		s.request.Store(openRequest(2).Request)
		s.ticketUse = &ticketUse{root: idOf(1), rootOpened: t0(), maxAddresses: 3}
		e := &session.LeaseAnswered{Kind: session.LookupForOpening}
		if refused {
			e.Refused = new(policyDenial())
		}
		n.applyRoot(t.Context(), s, rootFacts{}, e)
		if got := store.addresses.count(idOf(1)); got != want {
			t.Errorf("refused %t: %d addresses, want %d", refused, got, want)
		}
		store.addresses.report([]session.StreamEntry{{User: idOf(1).String(), Session: idOf(2), IsLeaving: true}})
	}
}
