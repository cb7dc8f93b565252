package cluster

import (
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRedis_SaveDecision_TTL remembers a session for as long as it may return, and the denial of one that never ran for a minute.
func TestRedis_SaveDecision_TTL(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, func(c *Config) { c.SessionTTL = 40 * time.Minute })
	s, o := n.a.(*Redis), openedAgo(5) //nolint:forcetypeassert // as made above
	fallback := fallbackRecord(4, o)
	fallback.Decision.Verdict = backends.Denied
	for i, test := range []struct {
		record  session.Record
		revokes bool
		want    time.Duration // beyond the decision's end
	}{
		{allowedRecord(0, o), false, 40 * time.Minute},
		{deniedRecord(1, o), false, denialTTL},
		{deniedRecord(2, o), true, 40 * time.Minute},
		{fallbackRecord(3, o), false, 40 * time.Minute},
		{fallback, false, 40 * time.Minute},
	} {
		test.record.ID, test.record.Expires = idOf(i), time.Now().Add(10*time.Minute)
		n.save(n.a, test.record, test.revokes, session.OutcomeStored)
		got := server.Client.PTTL(t.Context(), s.sessionKey(idOf(i))).Val() - 10*time.Minute
		if (got - test.want).Abs() > 30*time.Second {
			t.Errorf("%v by %v: kept for %v beyond its end, want %v", test.record.Decision.Verdict, test.record.Decision.Source, got, test.want)
		}
	}
}

// TestRedis_AddCounters_Rejected adds no counters again that may have been added already.
func TestRedis_AddCounters_Rejected(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	s := n.a.(*Redis) //nolint:forcetypeassert // as made above
	must(t, server.Client.Set(t.Context(), s.sessionKey(idOf(1)), "x", time.Hour).Err())
	for i, isRejected := range map[int]bool{1: true, 2: false} {
		if err := n.a.AddCounters(t.Context(), idOf(i), session.Counters{Requests: 3}); (err != nil) != isRejected {
			t.Errorf("session %d: error %v", i, err)
		}
	}
	if !s.deferred.isEmpty() {
		t.Error("counters are added once more later")
	}
}

// TestRedis_EndPeriod tells from when to when a session was seen, once.
func TestRedis_EndPeriod(t *testing.T) {
	t.Parallel()
	server, n, _ := newSingleStore(t, nil)
	ctx, lastSeen := t.Context(), openedAgo(5)
	n.save(n.a, allowedRecord(1, openedAgo(10)), false, session.OutcomeStored)
	began := server.Client.HSet(ctx, n.a.(*Redis).sessionKey(idOf(1)), "s", openedAgo(10).UnixMilli())
	must(t, began.Err())
	must(t, n.a.AddCounters(ctx, idOf(1), session.Counters{Requests: 3}))
	_, err := n.a.RecordHeartbeats(ctx, []session.Heartbeat{{ID: idOf(1), LastSeen: lastSeen}})
	must(t, err)
	closed, err := n.a.ExpireIdle(ctx, time.Minute, 10)
	if must(t, err); len(closed) != 1 {
		t.Fatalf("closed %+v, want the session", closed)
	}
	c := closed[0]
	if c.Since.Sub(openedAgo(10)).Abs() > 30*time.Second || c.LastSeen.Sub(lastSeen).Abs() > 30*time.Second || c.Counters.Requests != 3 {
		t.Errorf("seen from %v to %v, want from 10 minutes to 5 minutes ago", c.Since, c.LastSeen)
	}
	must(t, n.a.ConfirmClosed(ctx, closed))
	id := idOf(1)
	again, err := n.a.(*Redis).endPeriod(ctx, string(id[:]), 0, 1)
	if err != nil || again != nil {
		t.Errorf("closed once more: %+v and %v", again, err)
	}
	if odd, err := n.a.(*Redis).endPeriod(ctx, "no id", 0, 1); odd != nil || err != nil {
		t.Errorf("closed what is no session: %+v and %v", odd, err)
	}
}
