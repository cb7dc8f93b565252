package actors

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// fakeLimits is a store whose limit answers as a test says, and that keeps account of what it is told.
type fakeLimits struct {
	*fakeCluster

	mu     sync.Mutex
	joined []string // the users
	join   session.LimitResult
	// beforeRenew is called, without the lock, after a renewal is noted.
	beforeRenew func()
	renew       session.LimitResult // its one state is that of each stream
	renewed     []int               // the number of streams of each renewal
	evicted     []backends.SessionID
	revoked     []backends.SessionID
	left        []backends.SessionID
	messages    []session.Revocation
}

func (f *fakeLimits) ReportStreams(_ context.Context, of ...session.StreamEntry) session.LimitResult {
	f.mu.Lock()
	switch {
	case of[0].IsNew:
		defer f.mu.Unlock()
		f.joined = append(f.joined, of[0].User)
		return f.join
	case of[0].IsLeaving:
		defer f.mu.Unlock()
		f.left = append(f.left, of[0].Session)
		return session.LimitResult{States: make([]session.StreamState, 1)}
	}
	f.renewed = append(f.renewed, len(of))
	result, before := f.renew, f.beforeRenew
	f.mu.Unlock()
	if before != nil {
		before()
	}
	result.States = slices.Repeat(result.States[:1], len(of))
	return result
}

func (f *fakeLimits) SetEvicted(_ context.Context, id backends.SessionID, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.evicted = append(f.evicted, id)
	return nil
}

func (f *fakeLimits) RevokeSession(_ context.Context, id backends.SessionID, _ time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked = append(f.revoked, id)
	return nil
}

func (f *fakeLimits) Revoke(_ context.Context, v session.Revocation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages = append(f.messages, v)
	return nil
}

func stateOf(s session.StreamState) session.LimitResult {
	return session.LimitResult{States: []session.StreamState{s}}
}

// inLimitBubble runs the test with a node all of whose viewers are one user's, who may watch one stream.
func inLimitBubble(t *testing.T, test func(t *testing.T, n *node, f *fakeLimits), options ...func(*setup)) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		f := &fakeLimits{fakeCluster: &fakeCluster{isShared: true}, join: stateOf(session.StreamActive), renew: stateOf(session.StreamActive)}
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.UserID, d.MaxSessions = "7", 1
			return d, nil
		})
		n := newNode(b, f.fakeCluster, func(s *setup) {
			s.Cluster = f
			for _, edit := range options {
				edit(s)
			}
		})
		defer n.closeAndDrain()
		test(t, n, f)
	})
}

// told returns a copy of what the store was told, once all is quiet.
func (f *fakeLimits) told() *fakeLimits {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeLimits{joined: f.joined, renewed: f.renewed, evicted: f.evicted, revoked: f.revoked, left: f.left, messages: f.messages}
}

func (f *fakeLimits) answer(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
}

func TestStreamLimits_Join_OtherStreamEvicted(t *testing.T) {
	t.Parallel()
	for state, wantReason := range map[session.StreamState]string{
		session.StreamEvicted: evictedDecision(&backends.Decision{}).Reason, session.StreamSuperseded: supersededDecision().Reason,
	} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
				n.watch(t, openRequest(1))
				s := n.Find(idOf(1))
				f.answer(func() {
					f.join.Evicted = []session.EvictedStream{{Session: idOf(1), Opened: s.Ticket().Opened, State: state}}
				})
				if d := n.watch(t, openRequest(2)); d.Verdict != backends.Allowed {
					t.Errorf("the newer stream is %v", d.Verdict)
				}
				told := f.told()
				if d := s.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit || d.Reason != wantReason {
					t.Errorf("the other stream has %+v, want %q", d, wantReason)
				}
				isEvicted := state == session.StreamEvicted
				if (len(told.evicted) == 1) != isEvicted || (len(told.revoked) == 1) == isEvicted || len(told.messages) != 1 {
					t.Errorf("evicted %v, revoked %v, announced %v", told.evicted, told.revoked, told.messages)
				}
				if len(told.left) != 0 {
					t.Errorf("%v left, want none: the limit itself took the stream", told.left)
				}
			})
		})
	}
}

// TestStreamLimits_Join_Evicted has the limit refuse the joining stream: it is told so, not revoked everywhere.
func TestStreamLimits_Join_Evicted(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		f.join = stateOf(session.StreamEvicted)
		f.join.Evicted = []session.EvictedStream{{Session: idOf(1), State: session.StreamEvicted}}
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied || d.Source != backends.FromLimit || d.UserID != "7" {
			t.Errorf("the stream has %+v", d)
		}
		told := f.told()
		if len(told.messages) != 0 || len(told.left) != 0 {
			t.Errorf("announced %v, left %v; want nothing", told.messages, told.left)
		}
		if r := f.get(idOf(1)); r.Decision.Verdict != backends.Allowed {
			t.Errorf("the store has %+v, want the backend's yes for when a stream is free", r.Decision)
		}
	})
}

// TestStreamLimits_Evicted_PlaysAgain has a stream that was evicted play again within seconds once one is free, whatever denial_ttl is. Its
// retries call no middleware, and reach the store at most once in each evictionTTL of five seconds.
func TestStreamLimits_Evicted_PlaysAgain(t *testing.T) {
	t.Parallel()
	const retry, evicted = 5 * time.Second, time.Minute
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		f.answer(func() {
			f.join = stateOf(session.StreamEvicted)
			f.join.Evicted = []session.EvictedStream{{Session: idOf(1), Opened: n.Find(idOf(1)).Ticket().Opened, State: session.StreamEvicted}}
		})
		n.watch(t, openRequest(2))
		synctest.Wait()
		_ = f.fakeCluster.SetEvicted(t.Context(), idOf(1), true)
		asked := func() int {
			f.fakeCluster.mu.Lock()
			defer f.fakeCluster.mu.Unlock()
			return f.loads
		}
		before := asked()
		n.keepWatching(t, openRequest(1), evicted, func(d backends.Decision) {
			if d.Verdict != backends.Denied || d.Source != backends.FromLimit {
				t.Fatalf("decided %+v, want an eviction", d)
			}
		})
		if got, most := asked()-before, int(evicted/retry); got == 0 || got > most {
			t.Errorf("looked up %d times in %v, want some, and %d at most", got, evicted, most)
		}
		f.answer(func() { f.join, f.renew = stateOf(session.StreamActive), stateOf(session.StreamActive) })
		n.keepWatching(t, openRequest(1), retry+time.Second, nil)
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("decided %+v %v after a stream was free, want it to play", d, retry+time.Second)
		}
		if got := n.backend.checks.Load(); got != 2 {
			t.Errorf("%d checks, want one for each session", got)
		}
	}, func(s *setup) { s.Config.DenialTTL = 10 * time.Minute })
}

// TestStreamLimits_Join_CountedLocally: what one node counts in an outage ends no session of other nodes.
func TestStreamLimits_Join_CountedLocally(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		s := n.Find(idOf(1))
		f.answer(func() {
			f.join.IsLocal = true
			f.join.Evicted = []session.EvictedStream{{Session: idOf(1), Opened: s.Ticket().Opened, State: session.StreamEvicted}}
		})
		n.watch(t, openRequest(2))
		told := f.told()
		if d := s.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit {
			t.Errorf("the other stream has %+v", d)
		}
		if len(told.messages) != 0 {
			t.Errorf("announced %v, want nothing", told.messages)
		}
	})
}

// TestStreamLimits_Join_SupersededLocally: the channel that a device left in an outage is not revoked after it, because its viewer
// may have come back to that channel on another node.
func TestStreamLimits_Join_SupersededLocally(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		s := n.Find(idOf(1))
		f.answer(func() {
			f.join.IsLocal = true
			f.join.Evicted = []session.EvictedStream{{Session: idOf(1), Opened: s.Ticket().Opened, State: session.StreamSuperseded}}
		})
		n.watch(t, openRequest(2))
		told := f.told()
		if d := s.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit {
			t.Errorf("the other channel has %+v", d)
		}
		if len(told.revoked)+len(told.messages) != 0 {
			t.Errorf("revoked %v and announced %v, want nothing", told.revoked, told.messages)
		}
	})
}

// TestStreamLimits_Renewal_CountedLocally: what one node counted in an outage it reports as soon as the store is back, and nothing
// else.
func TestStreamLimits_Renewal_CountedLocally(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		f.answer(func() { f.renew.IsLocal = true })
		n.OnLimitExceeded(n.table.find(idOf(1)).stream.Load().user.hash)
		synctest.Wait()
		f.answer(func() { f.renew.IsLocal = false })
		before := len(f.told().renewed)
		for range 2 {
			n.OnRedisRecovered()
			synctest.Wait()
		}
		if renewed := len(f.told().renewed) - before; renewed != 1 {
			t.Errorf("%d renewals after the outage, want 1", renewed)
		}
	})
}

// TestStreamLimits_Denied_StreamLeaves frees the stream of a viewer whom anything but their limit denied.
func TestStreamLimits_Denied_StreamLeaves(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		n.OnRevocation(session.Revocation{
			Kind: session.RevokedKicked, Session: idOf(1), Opened: n.Find(idOf(1)).Ticket().Opened, Decision: session.Kicked(""),
		})
		if told := f.told(); len(told.left) != 1 || told.left[0] != idOf(1) {
			t.Errorf("%v left, want the kicked session", told.left)
		}
	})
}

// TestStreamLimits_Renewal_Evicted has a renewal learn that a stream was evicted, and renew again when the store says.
func TestStreamLimits_Renewal_Evicted(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		f.answer(func() { f.renew.RecheckIn = 2 * time.Second })
		n.OnLimitExceeded(s.stream.Load().user.hash)
		before := len(f.told().renewed)
		f.answer(func() { f.renew = stateOf(session.StreamEvicted) })
		time.Sleep(3 * time.Second)
		if told := f.told(); len(told.renewed) != before+1 {
			t.Errorf("%d renewals, want one more than %d", len(told.renewed), before)
		} else if len(told.evicted) != 1 || told.evicted[0] != idOf(1) {
			t.Errorf("%v marked as evicted, want the stream: another node must not let it play", told.evicted)
		}
		if d := s.Decision(); d.Verdict != backends.Denied || d.Source != backends.FromLimit {
			t.Errorf("the stream has %+v", d)
		}
	})
}

// TestStreamLimits_UserChanges has a re-check name another user: the session is a stream of theirs alone.
func TestStreamLimits_UserChanges(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, _ *fakeLimits) {
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		synctest.Wait()
		before := s.stream.Load().user
		d := *s.Decision()
		d.UserID = "8"
		n.streams.onDecision(s, s.Request(), &d)
		after := s.stream.Load()
		n.streams.mu.Lock()
		defer n.streams.mu.Unlock()
		users := &n.streams.users
		if after.user.hash == before.hash || users.find(before.hash) != nil || !slices.Equal(users.find(after.user.hash).all(), []*userStream{after}) {
			t.Errorf("a stream of %q, then of %q; users %v", before.hash, after.user.hash, users.numbers)
		}
	})
}

// TestStreamLimits_Renew_Left has a session change its user while it is due: it is renewed as a stream of the new one alone.
func TestStreamLimits_Renew_Left(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		var due []*userStream
		for i := range 3 {
			n.watch(t, openRequest(i))
			due = append(due, n.table.find(idOf(i)).stream.Load())
		}
		before, user := len(f.told().renewed), due[0].user.hash
		n.streams.set(due[1].session, streamFacts{hash: "8", maxStreams: 1})
		n.streams.renew(user, slices.Clone(due[1:2]))
		n.streams.renew(user, due)
		if got := f.told().renewed[before:]; len(got) != 1 || got[0] != 2 {
			t.Errorf("renewed %v streams, want the two that the user still has", got)
		}
	})
}

// TestStreamLimits_ZapTimeout_Edge: a viewer of an edge with sessions may be silent for as long as the edge does not ask, and a while
// longer. The other edges ask about each request.
func TestStreamLimits_ZapTimeout_Edge(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, _ *fakeLimits) {
		o := openRequest(1)
		o.ExtraLifetime, o.Request.Edge = time.Minute, &backends.EdgeReport{HasSession: true}
		n.watch(t, o)
		n.watch(t, openRequest(2))
		n.watch(t, edgeRequest(3))
		if got := n.streams.zapTimeout(n.table.find(idOf(1))); got != 4*time.Minute {
			t.Errorf("at an edge %v, want the validity of 3m and 1m more", got)
		}
		if got := n.streams.zapTimeout(n.table.find(idOf(2))); got != 0 {
			t.Errorf("before a playlist %v, want 0", got)
		}
		if got := n.streams.zapTimeout(n.table.find(idOf(3))); got != 0 {
			t.Errorf("at an edge that asks about each request %v, want 0", got)
		}
		c := DefaultConfig().PerUser
		c.ZapTimeout = 3 * time.Second
		n.streams.config.Store(&c)
		if got := n.streams.zapTimeout(n.table.find(idOf(3))); got != c.ZapTimeout {
			t.Errorf("at an edge that asks about each request %v, want zap_timeout", got)
		}
	})
}

func TestUserStreams_TakeDue_LiveInBatches(t *testing.T) {
	t.Parallel()
	const live, gone = 2*maxRenewed + 44, 30
	us := new(userStreams)
	for i, s := range bareSessions(live + gone) {
		s.flags.set(flagClosed, i >= live)
		u := &userStream{user: us, session: s}
		us.add(u)
		us.setDue(u)
	}
	var sizes []int
	for batch := us.takeDue(); len(batch) > 0; batch = us.takeDue() {
		sizes = append(sizes, len(batch))
	}
	if len(sizes) != 3 || sizes[0] != maxRenewed || sizes[1] != maxRenewed || sizes[2] != 44 {
		t.Errorf("batches of %v, want %d, %d and 44", sizes, maxRenewed, maxRenewed)
	}
}

func TestRootFacts_Judge(t *testing.T) {
	t.Parallel()
	evicted := evictedDecision(&backends.Decision{})
	byPolicy := backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
	for name, test := range map[string]struct {
		of                  backends.Decision
		isAllowed, isDenied bool
	}{
		"it plays":            {allowedDecision(), true, false},
		"its backend said no": {deniedDecision(), false, true},
		"it was kicked":       {session.Kicked(""), false, true},
		"its limit says no":   {evicted, false, false},
		"the outage policy":   {byPolicy, false, false},
		"it is undecided":     {backends.Decision{}, false, false},
	} {
		f := rootFacts{decision: test.of}
		if f.judge(); f.isAllowed != test.isAllowed || f.isDenied != test.isDenied {
			t.Errorf("%s: allowed %t, denied %t; want %t, %t", name, f.isAllowed, f.isDenied, test.isAllowed, test.isDenied)
		}
	}
}

// markRecorder is a store that keeps account of the marks of evicted sessions that are removed.
type markRecorder struct {
	*fakeLimits
	removed []backends.SessionID
}

func (f *markRecorder) SetEvicted(ctx context.Context, id backends.SessionID, isEvicted bool) error {
	f.mu.Lock()
	if !isEvicted {
		f.removed = append(f.removed, id)
	}
	f.mu.Unlock()
	return f.fakeCluster.SetEvicted(ctx, id, isEvicted)
}

// TestRegistry_RefusalOf_RunningSession_AsksLimit looks a running session up that the store holds for evicted: only its user's limit
// says whether that is over.
func TestRegistry_RefusalOf_RunningSession_AsksLimit(t *testing.T) {
	t.Parallel()
	for state, want := range map[session.StreamState]struct {
		verdict backends.Verdict
		removed int
	}{
		session.StreamEvicted:    {backends.Denied, 0},
		session.StreamSuperseded: {backends.Allowed, 0}, // its next renewal tells it
		session.StreamActive:     {backends.Allowed, 1},
	} {
		inBubble(t, func(t *testing.T) {
			f := &markRecorder{fakeLimits: &fakeLimits{fakeCluster: &fakeCluster{isShared: true}, join: stateOf(session.StreamActive)}}
			f.renew = stateOf(state)
			b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
				d := allowedDecision()
				d.UserID, d.MaxSessions = "7", 1
				return d, nil
			})
			n := newNode(b, f.fakeCluster, func(s *setup) { s.Cluster = f })
			defer n.closeAndDrain()
			n.watch(t, openRequest(1))
			synctest.Wait()
			r := f.get(idOf(1))
			r.IsEvicted = true
			f.set(r)
			n.OnTicketReplaced(idOf(1)) // looks it up
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := n.Find(idOf(1)).Decision(); got.Verdict != want.verdict || len(f.removed) != want.removed {
				t.Errorf("%v: %v by %v, mark removed %d times; want %v and %d", state, got.Verdict, got.Source, len(f.removed), want.verdict, want.removed)
			}
		})
	}
}
