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
			if got := n.streams.join(t.Context(), s, s.Request(), time.Now(), &d); got != session.StreamActive {
				t.Errorf("user %s: %v, want active", test.user, got)
			}
			if got := len(f.told().joined) - before; got != test.want {
				t.Errorf("user %s: %d joins, want %d", test.user, got, test.want)
			}
		}
	})
}

// supersededOnce supersedes the first stream that joins.
type supersededOnce struct {
	*fakeLimits
	opened []time.Time // of the streams that joined
}

func (f *supersededOnce) ReportStreams(ctx context.Context, of ...session.StreamEntry) session.LimitResult {
	if !of[0].IsNew {
		return f.fakeLimits.ReportStreams(ctx, of...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened = append(f.opened, of[0].Opened); len(f.opened) == 1 {
		return stateOf(session.StreamSuperseded)
	}
	return stateOf(session.StreamActive)
}

// TestRegistry_Open_ZapBack_OpensAnew has viewers return to a session that their device has left for another channel, of which the
// store does not know.
func TestRegistry_Open_ZapBack_OpensAnew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		device         string
		hasTicket      bool
		revokedBefore  bool
		joins, revokes int
		isAnew         bool
	}{
		"by credentials":              {device: "box", joins: 2, revokes: 1, isAnew: true},
		"by credentials and a ticket": {device: "box", hasTicket: true},
		"without a device":            {},
		"of which the store knows":    {device: "box", revokedBefore: true, joins: 1, isAnew: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				f := &supersededOnce{fakeLimits: &fakeLimits{fakeCluster: &fakeCluster{isShared: true}, renew: stateOf(session.StreamActive)}}
				d := allowedDecision()
				d.UserID, d.MaxSessions = "7", 1
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil })
				n := newNode(b, f.fakeCluster, func(s *setup) { s.Cluster = f })
				defer n.closeAndDrain()
				before := time.Now().Add(-20 * time.Second).Truncate(time.Second)
				record := session.Record{ID: idOf(1), Opened: before, KeyID: "a", Decision: d, Expires: time.Now().Add(time.Hour), Revision: 1}
				if test.revokedBefore {
					record.RevokedBefore = before
				}
				f.set(record)
				request := openRequest(1)
				request.Request.Device = test.device
				if test.hasTicket {
					request.Ticket = session.Ticket{Opened: before, KeyID: "a"}
				}
				if got := n.watch(t, request); got.Verdict != backends.Allowed {
					t.Fatalf("refused: %+v", got)
				}
				if isAnew := n.table.find(idOf(1)).Ticket().Opened.After(before); isAnew != test.isAnew {
					t.Errorf("opened anew: %t, want %t", isAnew, test.isAnew)
				}
				if told := f.told(); len(f.opened) != test.joins || len(told.revoked) != test.revokes {
					t.Errorf("%d joins and %d tickets revoked, want %d and %d", len(f.opened), len(told.revoked), test.joins, test.revokes)
				}
			})
		})
	}
}

// TestStreamLimits_OnDecision_Unverified: an outage ends no stream. A sibling that only its ticket admits is counted, once.
func TestStreamLimits_OnDecision_Unverified(t *testing.T) {
	t.Parallel()
	byTicket := backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket, UserID: "7", MaxSessions: 1}
	byPolicy := backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	sibling := &ticketUse{root: idOf(9), rootOpened: t0()}
	stream := streamFacts{hash: hashPrefix + "portal\x00id\x007", maxStreams: 1}
	for name, test := range map[string]struct {
		use      *ticketUse
		before   streamFacts
		decision backends.Decision
		want     bool
	}{
		"a viewer in an outage":              {nil, stream, byPolicy, true},
		"a viewer by ticket":                 {nil, streamFacts{}, byTicket, false},
		"a sibling by ticket":                {sibling, streamFacts{}, byTicket, true},
		"a sibling in an outage":             {sibling, stream, byPolicy, true},
		"a sibling of a user without limits": {sibling, streamFacts{}, byPolicy, false},
	} {
		life := newLifecycle()
		l := newStreamLimits(core{life: life, cluster: &clusterClient{Cluster: new(fakeCluster)}}, PerUserConfig{})
		s := bareSession(idOf(1))
		s.request.Store(openRequest(1).Request)
		s.ticketUse = test.use
		l.set(s, test.before)
		l.onDecision(s, s.Request(), &test.decision)
		if got := s.stream.Load(); (got != nil) != test.want || got != nil && got.facts() != stream {
			t.Errorf("%s: the stream is %+v, want one: %t", name, got, test.want)
		}
		life.cancel()
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
		"a session":              {userStreams{first: new(userStream)}, false},
		"a renewal in flight":    {userStreams{renewInFlight: true}, false},
		"a renewal by the clock": {userStreams{renewScheduled: true}, false},
	} {
		l := newStreamLimits(core{}, PerUserConfig{})
		test.streams.hash = "17"
		l.users.add(&test.streams)
		l.dropEmpty(&test.streams)
		if isKept := l.users.find("17") != nil; isKept == test.want {
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

// TestStreamLimits_Renewed_ByHeartbeats keeps a stream counted for as long as its viewer plays.
func TestStreamLimits_Renewed_ByHeartbeats(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.keepWatching(t, openRequest(1), 2*time.Second, nil) // it begins to play, which is a renewal
		before := len(f.told().renewed)
		if before != 1 {
			t.Errorf("%d renewals when it begins to play, want one", before)
		}
		n.keepWatching(t, openRequest(1), time.Minute, nil) // three heartbeats
		if got := len(f.told().renewed) - before; got != 3 {
			t.Errorf("%d renewals in a minute, want one with each heartbeat", got)
		}
	})
}

// TestStreamLimits_Silent_NotRenewed tells the store of a viewer's silence, and then no more until they ask again: a million who are
// silent cost it nothing.
func TestStreamLimits_Silent_NotRenewed(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.keepWatching(t, openRequest(1), 2*time.Second, nil)
		before := len(f.told().renewed)
		s := n.table.find(idOf(1))
		silence := time.Duration(0)
		for range 12 { // a minute, until its playlist is unknown for longer than any is watched; then two heartbeats
			time.Sleep(20 * time.Second)
			if silence += 20 * time.Second; len(f.told().renewed) == before {
				break
			}
			before = len(f.told().renewed)
		}
		if s.flags.has(flagClosed) || silence < 80*time.Second || silence > 140*time.Second {
			t.Errorf("renewed for %s of silence, want for one to two minutes; closed: %t", silence, s.flags.has(flagClosed))
		}
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		if got := len(f.told().renewed) - before; got != 3 {
			t.Errorf("%d renewals in a minute of a viewer who is back, want one with each heartbeat", got)
		}
	}, func(s *setup) { s.Config.IdleTimeout, s.HeartbeatInterval = time.Hour, 20*time.Second })
}

// TestStreamLimits_SlowStore_FewCalls lets users wait for a slow store without a goroutine each, and renews all of them then.
func TestStreamLimits_SlowStore_FewCalls(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		f := &fakeLimits{fakeCluster: &fakeCluster{isShared: true}, join: stateOf(session.StreamActive), renew: stateOf(session.StreamActive)}
		n := newNode(newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.UserID, d.MaxSessions = r.Session.String(), 1
			return d, nil
		}), f.fakeCluster, func(s *setup) { s.Cluster = f })
		defer n.closeAndDrain()
		const users = maxRenewing + 100
		for i := range users {
			n.watch(t, openRequest(i))
		}
		release := make(chan struct{})
		before := len(f.told().renewed)
		f.answer(func() { f.beforeRenew = func() { <-release } })
		for i := range users {
			n.OnLimitExceeded(n.table.find(idOf(i)).stream.Load().user.hash)
		}
		if got := len(f.told().renewed) - before; got != maxRenewing {
			t.Errorf("%d calls of the store at once, want %d", got, maxRenewing)
		}
		f.answer(func() { f.beforeRenew = nil })
		close(release)
		if got := len(f.told().renewed) - before; got != users {
			t.Errorf("%d users renewed, want %d", got, users)
		}
	})
}

// TestStreamLimits_MarkDue_OneTask renews a user's streams by one task, however often they become due.
func TestStreamLimits_MarkDue_OneTask(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		for i := range 3 {
			n.watch(t, openRequest(i))
		}
		hash := n.table.find(idOf(1)).stream.Load().user.hash
		synctest.Wait()
		release := make(chan struct{})
		f.answer(func() { f.beforeRenew = func() { <-release } })
		before := len(f.told().renewed)
		for range 3 {
			n.OnLimitExceeded(hash)
			synctest.Wait()
		}
		if got := len(f.told().renewed) - before; got != 1 {
			t.Errorf("%d calls of the store at once, want one", got)
		}
		f.answer(func() { f.beforeRenew = nil })
		close(release)
		if got := f.told().renewed[before:]; len(got) != 2 || got[0] != 3 || got[1] != 3 {
			t.Errorf("renewed %v streams, want all three twice", got)
		}
	})
}

// TestStreamLimits_ApplyResult_ScheduledOnce looks again once at the time that the store says, if the user still has streams
// here.
func TestStreamLimits_ApplyResult_ScheduledOnce(t *testing.T) {
	t.Parallel()
	inLimitBubble(t, func(t *testing.T, n *node, f *fakeLimits) {
		n.watch(t, openRequest(1))
		u := n.table.find(idOf(1)).stream.Load().user.hash
		before := len(f.told().renewed)
		result := session.LimitResult{RecheckIn: time.Second}
		for range 3 {
			n.streams.applyResult(u, result, backends.SessionID{})
		}
		n.streams.applyResult("gone", result, backends.SessionID{})
		n.streams.applyResult(u, session.LimitResult{}, backends.SessionID{})
		time.Sleep(1500 * time.Millisecond)
		if got := len(f.told().renewed) - before; got != 1 {
			t.Errorf("%d renewals, want one", got)
		}
		time.Sleep(3 * time.Second)
		if got := len(f.told().renewed) - before; got != 1 {
			t.Errorf("%d renewals later, want no more", got)
		}
	})
}

// frozenEvictions is a store that takes no eviction.
type frozenEvictions struct{ *fakeLimits }

func (frozenEvictions) freeze(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (f frozenEvictions) SetEvicted(ctx context.Context, _ backends.SessionID, _ bool) error {
	return f.freeze(ctx)
}

func (f frozenEvictions) RevokeSession(ctx context.Context, _ backends.SessionID, _ time.Time) error {
	return f.freeze(ctx)
}

func (f frozenEvictions) Revoke(ctx context.Context, _ session.Revocation) error {
	return f.freeze(ctx)
}

// TestRegistry_Open_EvictsOthers_WaitsForNoWrite answers a viewer whose stream ends others before the store has taken that.
func TestRegistry_Open_EvictsOthers_WaitsForNoWrite(t *testing.T) {
	t.Parallel()
	for _, state := range []session.StreamState{session.StreamEvicted, session.StreamSuperseded} {
		inBubble(t, func(t *testing.T) {
			f := frozenEvictions{&fakeLimits{fakeCluster: &fakeCluster{isShared: true}, renew: stateOf(session.StreamActive)}}
			f.join = stateOf(session.StreamActive)
			for i := range 3 {
				f.join.Evicted = append(f.join.Evicted, session.EvictedStream{Session: idOf(1 + i), State: state, Opened: time.Now()})
			}
			b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
				d := allowedDecision()
				d.UserID, d.MaxSessions = "7", 1
				return d, nil
			})
			n := newNode(b, f.fakeCluster, func(s *setup) { s.Cluster = f })
			defer n.closeAndDrain()
			began := time.Now()
			d := n.watch(t, openRequest(9))
			if took := time.Since(began); took != 0 || d.Verdict != backends.Allowed {
				t.Errorf("%v after %v, want allowed at once", d.Verdict, took)
			}
		})
	}
}
