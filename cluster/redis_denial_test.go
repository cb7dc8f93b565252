package cluster

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

// deferDenial has a store deny a session as in an outage, so long ago.
func deferDenial(s *Redis, u session.DecisionUpdate, ago time.Duration) {
	s.deferred.edit(u.Record.ID, func(w *deferredWrite) { w.revokedTicket = &deferredDenial{u, time.Now().Add(-ago)} })
}

// TestRedis_FlushDeferred_Denial has node a, which allowed a session an hour ago, deny it in an outage of its own, while node b
// reaches Redis. The denial counts unless b was granted a lease after it, under which the viewer was allowed.
func TestRedis_FlushDeferred_Denial(t *testing.T) {
	t.Parallel()
	o, later := openedAgo(5), openedAgo(4)
	for name, test := range map[string]struct {
		onOther       func(n storePair, known uint64)
		ago           time.Duration
		want          backends.Verdict
		wantRevoked   time.Time
		isUnannounced bool
	}{
		"nothing was stored since": {
			onOther: func(storePair, uint64) {},
			want:    backends.Denied, wantRevoked: o,
		},
		"the other node asks": {
			onOther: func(n storePair, known uint64) { n.lease(n.b, 1, known) },
			want:    backends.Denied, wantRevoked: o,
		},
		"the other node got no answer": {
			onOther: func(n storePair, known uint64) {
				n.save(n.b, session.Record{ID: idOf(1), Revision: n.lease(n.b, 1, known)}, false, session.OutcomeStored)
			},
			ago: time.Minute, want: backends.Denied, wantRevoked: o,
		},
		"the other node failed open": {
			onOther: func(n storePair, known uint64) {
				expired := withRevision(n.lease(n.b, 1, known), allowedRecord(1, o))
				expired.Expires = time.Now()
				n.save(n.b, expired, false, session.OutcomeStored)
				n.save(n.b, withRevision(n.lease(n.b, 1, expired.Revision), fallbackRecord(1, o)), false, session.OutcomeStored)
			},
			ago: time.Minute, want: backends.Denied, wantRevoked: o,
		},
		"the other node was allowed before": {
			onOther: func(n storePair, known uint64) {
				n.save(n.b, withRevision(n.lease(n.b, 1, known), allowedRecord(1, o)), false, session.OutcomeStored)
			},
			want: backends.Denied, wantRevoked: o,
		},
		"the other node was allowed since": {
			onOther: func(n storePair, known uint64) {
				n.save(n.b, withRevision(n.lease(n.b, 1, known), allowedRecord(1, o)), false, session.OutcomeStored)
			},
			ago: time.Minute, want: backends.Allowed, isUnannounced: true,
		},
		"the other node has opened it anew since": {
			onOther: func(n storePair, known uint64) {
				n.save(n.b, withRevision(n.lease(n.b, 1, known), allowedRecord(1, later)), false, session.OutcomeStored)
			},
			ago: time.Minute, want: backends.Allowed, isUnannounced: true,
		},
		"the other node had opened it anew": {
			onOther: func(n storePair, known uint64) {
				n.save(n.b, withRevision(n.lease(n.b, 1, known), allowedRecord(1, later)), false, session.OutcomeStored)
			},
			want: backends.Allowed, wantRevoked: o,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, n, _ := newSingleStore(t, nil)
			a := n.a.(*Redis) //nolint:forcetypeassert // as made above
			a.stop()          // so that this test alone flushes
			a.background.Wait()
			known := uint64(time.Now().Add(-time.Hour).UnixMilli())
			n.save(n.a, withRevision(known, allowedRecord(1, o)), false, session.OutcomeStored)
			announced := 0
			a.onDenied = func(context.Context, session.Revocation) { announced++ }
			test.onOther(n, known)
			deferDenial(a, session.DecisionUpdate{Record: withRevision(known, deniedRecord(1, o)), RevokeTicket: true}, test.ago)
			a.flushDeferred(t.Context())
			got := n.read(n.b, 1).Record
			if got.Decision.Verdict != test.want || !got.RevokedBefore.Equal(test.wantRevoked) {
				t.Errorf("%v, revoked before %v; want %v, %v", got.Decision.Verdict, got.RevokedBefore, test.want, test.wantRevoked)
			}
			if announced > 0 == test.isUnannounced || announced > 1 {
				t.Errorf("announced %d times, unwanted: %t", announced, test.isUnannounced)
			}
		})
	}
}

// TestNode_Flush_Denial announces what was denied in an outage after Redis has stored it, and what is outdated by then not at all.
func TestNode_Flush_Denial(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	c.RedisTimeout = time.Second
	a, _ := startPeer(t, c, "a", nil)
	b, _ := startPeer(t, c, "b", nil)
	redistest.Eventually(t, "the nodes know each other", func() bool { return a.Live() == 2 && b.Live() == 2 })
	n, ctx, o := storePair{t, a, b}, t.Context(), openedAgo(5)
	revoke := func(i int) session.DecisionUpdate {
		return session.DecisionUpdate{Record: deniedRecord(i, o), RevokeTicket: true}
	}
	for i := 1; i <= 2; i++ {
		n.save(n.b, withRevision(n.lease(n.b, i, 0), allowedRecord(i, o)), false, session.OutcomeStored)
	}
	deferDenial(a.redis, revoke(1), time.Minute) // before b asked
	a.redis.flushDeferred(ctx)

	server.Signal(syscall.SIGSTOP)
	redistest.Eventually(t, "redis is unavailable", func() bool {
		_, err := a.AcquireLease(ctx, session.LeaseRequest{ID: idOf(1)})
		return errors.Is(err, backends.ErrStoreUnavailable) && a.RedisDown()
	})
	n.save(n.a, deniedRecord(2, o), true, session.OutcomeDeferred)
	if got := a.received(); len(got) > 0 {
		t.Errorf("announced before it is stored: %q", got)
	}
	server.Signal(syscall.SIGCONT)
	wantAllReceive(t, []*peer{a, b}, "denied "+idOf(2).String())
	if got := n.read(n.b, 2).Record; got.Decision.Verdict != backends.Denied || !got.RevokedBefore.Equal(o) {
		t.Errorf("announced, and stored as %v, revoked before %v", got.Decision.Verdict, got.RevokedBefore)
	}
	for _, p := range []*peer{a, b} {
		if slices.Contains(p.received(), "denied "+idOf(1).String()) {
			t.Errorf("%s was told of a denial that is older than the viewer's yes", p.Name())
		}
	}
	n.want(n.b, 1, backends.Allowed, backends.FromBackend)
}
