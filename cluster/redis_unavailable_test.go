package cluster

import (
	"errors"
	"slices"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/cluster/events"
	"usher/cluster/redistest"
)

// newStoreWithoutRedis returns a store whose Redis is not there, and which knows that.
func newStoreWithoutRedis(t *testing.T) (*Redis, *redistest.Log) {
	t.Helper()
	c, log := DefaultConfig(), new(redistest.Log)
	c.Redis.Addresses, c.EncryptionKeys = []string{"127.0.0.1:1"}, []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
	r := newStore(t, c, log.Logger())
	awaitRedisDown(t, r, r.IsDown)
	return r, log
}

// awaitRedisDown asks a store, of a session that no test has, until it takes Redis for unavailable.
func awaitRedisDown(t *testing.T, s Store, isDown func() bool) {
	t.Helper()
	redistest.Eventually(t, "redis is unavailable", func() bool {
		_, _ = s.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(9999)})
		return isDown()
	})
}

// TestRedis_Unavailable_ServesFromHere keeps here what denies and counts viewers while Redis is unavailable, and says which
// writes the caller must make again.
func TestRedis_Unavailable_ServesFromHere(t *testing.T) {
	t.Parallel()
	r, _ := newStoreWithoutRedis(t)
	ctx, o := t.Context(), openedAgo(5)
	isUnavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, backends.ErrStoreUnavailable) {
			t.Errorf("%s: error %v, want that redis is unavailable", what, err)
		}
	}
	known := func(i int) session.Record {
		t.Helper()
		result, err := r.AcquireLease(ctx, session.LeaseRequest{ID: idOf(i), Lease: leaseFor, Wait: time.Minute})
		isUnavailable("a look-up", err)
		if result.Revision != 0 {
			t.Errorf("session %d: a lease that no other node knows of", i)
		}
		return result.Record
	}
	_, err := r.SaveDecision(ctx, session.DecisionUpdate{Record: withRevision(7, allowedRecord(1, o))})
	isUnavailable("a decision", err)
	isUnavailable("an eviction", r.SetEvicted(ctx, idOf(1), true))
	if got := known(1); got.Decision.Verdict != backends.Allowed || !got.IsEvicted {
		t.Errorf("the evicted session is %+v", got)
	}
	_, err = r.SaveDecision(ctx, session.DecisionUpdate{Record: session.Record{ID: idOf(1), Revision: 7}})
	isUnavailable("a release", err)
	if got := known(1); got.Decision.Verdict != backends.Allowed {
		t.Errorf("after the release of its lease the session is %+v", got)
	}
	outcome, err := r.SaveDecision(ctx, session.DecisionUpdate{Record: deniedRecord(2, o), RevokeTicket: true})
	if err != nil || outcome != session.OutcomeDeferred {
		t.Errorf("a revoked ticket, which is written later: %v, %v", outcome, err)
	}
	isUnavailable("a tombstone", r.RevokeSession(ctx, idOf(3), o))
	for _, i := range []int{2, 3} {
		if got := known(i); !got.RevokedBefore.Equal(o) {
			t.Errorf("session %d: its tickets are revoked until %v, want %v", i, got.RevokedBefore, o)
		}
	}
	if err := r.AddCounters(ctx, idOf(4), session.Counters{Requests: 3}); err != nil {
		t.Errorf("counters, which are written later: %v", err)
	}
	seen := []session.Heartbeat{{ID: idOf(4), LastSeen: o}, {ID: idOf(5), LastSeen: o}}
	unknown, err := r.RecordHeartbeats(ctx, seen)
	if isUnavailable("heartbeats", err); len(unknown) != 0 {
		t.Errorf("%v are unknown, which nobody can say", unknown)
	}
	_, err = r.ExpireIdle(ctx, time.Minute, 10)
	isUnavailable("expiry", err)

	writes, _ := r.deferred.takeAll()
	if len(writes) != 3 || writes[idOf(2)].revokedTicket == nil || !writes[idOf(3)].revokedBefore.Equal(o) ||
		writes[idOf(4)].counters.Requests != 3 || !writes[idOf(4)].lastSeen.Equal(o) {
		t.Errorf("deferred %+v, want the ticket of 2, the tombstone of 3, and the counters of 4 with when it was last seen", writes)
	}
}

// TestRedis_FlushDeferred_StaysDeferred keeps what cannot be written yet, and says how much found no room.
func TestRedis_FlushDeferred_StaysDeferred(t *testing.T) {
	t.Parallel()
	r, log := newStoreWithoutRedis(t)
	r.stop() // so that this test alone flushes
	r.background.Wait()
	ctx, o := t.Context(), openedAgo(5)
	r.deferred.deferRevokedTicket(session.DecisionUpdate{Record: deniedRecord(1, o), RevokeTicket: true})
	r.deferred.deferTombstone(idOf(2), o)
	r.deferred.deferCounters(idOf(3), session.Counters{Requests: 3})
	r.deferred.dropped = 7
	for range 2 {
		r.flushDeferred(ctx)
		if log.Count("deferred writes dropped") != 1 || log.Count("sessions=7") != 1 {
			t.Errorf("want one warning of what was dropped:\n%s", log)
		}
	}
	writes, dropped := r.deferred.takeAll()
	if len(writes) != 3 || dropped != 0 || writes[idOf(1)].revokedTicket == nil || writes[idOf(2)].revokedBefore.IsZero() || !writes[idOf(3)].hasCounters {
		t.Errorf("deferred %+v, want all three", writes)
	}
	if log.Count("deferred writes failed") != 2 || log.Count("deferred writes stored") != 0 {
		t.Errorf("logged:\n%s", log)
	}
}

// TestRedis_FlushDeferred_Stored says what was stored, if anything was, and forgets what it had here meanwhile.
func TestRedis_FlushDeferred_Stored(t *testing.T) {
	t.Parallel()
	_, n, log := newSingleStore(t, nil)
	r, ctx := n.a.(*Redis), t.Context() //nolint:forcetypeassert // as made above
	r.flushDeferred(ctx)
	if log.Count("deferred writes") != 0 {
		t.Errorf("nothing was deferred:\n%s", log)
	}
	must(t, r.local.RevokeSession(ctx, idOf(2), openedAgo(5)))
	r.deferred.deferTombstone(idOf(1), openedAgo(5))
	r.deferred.deferCounters(idOf(1), session.Counters{Requests: 3})
	r.flushDeferred(ctx)
	if log.Count("deferred writes stored") != 1 || log.Count("sessions=1") != 1 {
		t.Errorf("want one line of one session:\n%s", log)
	}
	if !r.local.lastRevoked(idOf(2)).IsZero() {
		t.Error("what redis has is kept here as well")
	}
}

// TestRedis_FlushOne_CountersRejected gives up counters that Redis may have added, and keeps those that it cannot have.
func TestRedis_FlushOne_CountersRejected(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	up := n.a.(*Redis) //nolint:forcetypeassert // as made above
	must(t, server.Client.Set(t.Context(), up.sessionKey(idOf(1)), "x", time.Hour).Err())
	down, _ := newStoreWithoutRedis(t)
	for r, isKept := range map[*Redis]bool{up: false, down: true} {
		w := &deferredWrite{hasCounters: true, counters: session.Counters{Requests: 3}}
		if err := r.flushOne(t.Context(), idOf(1), w); err == nil || w.hasCounters != isKept {
			t.Errorf("redis down %t: error %v, counters kept %t", isKept, err, w.hasCounters)
		}
	}
}

// TestRedis_DenyAgain_Kinds writes again what denies viewers, of the revocations that Redis lost.
func TestRedis_DenyAgain_Kinds(t *testing.T) {
	t.Parallel()
	r, _ := newStoreWithoutRedis(t)
	r.stop()
	r.background.Wait()
	at, o := openedAgo(1), openedAgo(5)
	var recent []events.Issued
	for kind := session.RevokedDenied; kind <= session.RevokedUnbanned; kind++ {
		recent = append(recent, events.Issued{At: at, Revocation: session.Revocation{Kind: kind, Session: idOf(int(kind)), Opened: o}})
	}
	recent = append(recent, events.Issued{At: at, Revocation: session.Revocation{Kind: session.RevokedKicked, Session: idOf(100)}})
	for len(r.flushRequested) > 0 {
		<-r.flushRequested
	}
	r.denyAgain(recent)
	if len(r.flushRequested) != 1 {
		t.Error("they are not written soon")
	}
	writes, _ := r.deferred.takeAll()
	want := map[backends.SessionID]time.Time{
		idOf(int(session.RevokedDenied)): o, idOf(int(session.RevokedKicked)): o, idOf(int(session.RevokedSuperseded)): o, idOf(100): at,
	}
	if len(writes) != len(want) {
		t.Errorf("%d are written, want %d", len(writes), len(want))
	}
	for id, before := range want {
		if w := writes[id]; w == nil || !w.revokedBefore.Equal(before) {
			t.Errorf("session %s: writes %+v, want a tombstone until %v", id, w, before)
		}
	}
}

// TestDeferredWrites_LatestCounts keeps the latest of what is deferred twice.
func TestDeferredWrites_LatestCounts(t *testing.T) {
	t.Parallel()
	d, o := newDeferredWrites(), openedAgo(5)
	for _, at := range []time.Time{o, o.Add(time.Second), o.Add(-time.Second)} {
		d.deferTombstone(idOf(1), at)
		d.deferCounters(idOf(1), session.Counters{Requests: 1})
		d.deferHeartbeats([]session.Heartbeat{{ID: idOf(1), LastSeen: at}})
	}
	before := time.Now()
	d.deferTombstone(idOf(2), time.Time{}) // all tickets that exist
	d.deferHeartbeats([]session.Heartbeat{{ID: idOf(2), LastSeen: o}})
	w, all := d.writes[idOf(1)], d.writes[idOf(2)]
	if !w.revokedBefore.Equal(o.Add(time.Second)) || !w.lastSeen.Equal(o.Add(time.Second)) || w.counters.Requests != 3 {
		t.Errorf("deferred %+v", w)
	}
	if all.revokedBefore.Before(before) || !all.lastSeen.IsZero() || all.hasCounters {
		t.Errorf("deferred %+v, want all tickets until now, and nothing else", all)
	}
	if d.isEmpty() || !newDeferredWrites().isEmpty() {
		t.Error("it counts as empty, or an empty one does not")
	}
	var ids []backends.SessionID
	for id := range d.writes {
		ids = append(ids, id)
	}
	if !slices.Contains(ids, idOf(1)) || len(ids) != 2 {
		t.Errorf("deferred of %v", ids)
	}
}
