package cluster

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redistest"
)

const closingIdle = time.Minute

// closingPair is two nodes on one Redis, whose session 1 is to be closed.
type closingPair struct {
	storePair

	server *redistest.Server
}

func newClosingPair(t *testing.T) closingPair {
	t.Helper()
	server := redistest.Start(t)
	c, log := testConfig(server), slog.New(slog.DiscardHandler)
	return closingPair{storePair{t, newStore(t, c, log), newStore(t, c, log)}, server}
}

// seen reports that the viewer was last seen so long ago.
func (p closingPair) seen(s Store, ago time.Duration) {
	p.t.Helper()
	_, err := s.RecordHeartbeats(p.t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now().Add(-ago)}})
	must(p.t, err)
}

// age makes the list of the session's bucket show it as idle, as it is once a node has not confirmed for long enough.
func (p closingPair) age() {
	p.t.Helper()
	key, id := DefaultConfig().Redis.KeyPrefix+":last-seen:{1}", idOf(1)
	for _, k := range p.server.Client.Keys(p.t.Context(), "*last-seen*").Val() {
		key = k
	}
	add := p.server.Client.Do(p.t.Context(), "ZADD", key, "XX", time.Now().Add(-2*closingIdle).UnixMilli(), string(id[:]))
	must(p.t, add.Err())
}

func (p closingPair) expire(s Store) []session.ClosingRecord {
	p.t.Helper()
	closed, err := s.ExpireIdle(p.t.Context(), closingIdle, 10)
	must(p.t, err)
	return closed
}

// one expires the session, and fails without exactly one record.
func (p closingPair) one(s Store, requests int64) session.ClosingRecord {
	p.t.Helper()
	closed := p.expire(s)
	if len(closed) != 1 || closed[0].Counters.Requests != requests {
		p.t.Fatalf("closed %+v, want one with %d requests", closed, requests)
	}
	return closed[0]
}

func (p closingPair) report(s Store, requests int64) {
	p.t.Helper()
	must(p.t, s.AddCounters(p.t.Context(), idOf(1), session.Counters{Requests: requests}))
}

// TestRedis_ExpireIdle_Unconfirmed_ReturnedAgain shows that a node that ends between closing a session and keeping its record
// loses neither that record nor the next one.
func TestRedis_ExpireIdle_Unconfirmed_ReturnedAgain(t *testing.T) {
	t.Parallel()
	p := newClosingPair(t)
	p.save(p.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
	p.report(p.a, 3)
	p.seen(p.a, 2*closingIdle)
	first := p.one(p.a, 3)
	if closed := p.expire(p.b); len(closed) != 0 {
		t.Errorf("closed %+v while the first node may still confirm", closed)
	}
	p.age()
	again := p.one(p.b, 3)
	if again.Period != first.Period || again.LastSeen.Sub(first.LastSeen).Abs() > time.Second {
		t.Errorf("returned again as period %d, seen %v, want %d, %v", again.Period, again.LastSeen, first.Period, first.LastSeen)
	}

	p.read(p.b, 1) // the viewer is back
	p.report(p.b, 5)
	p.age()
	again = p.one(p.a, 3)
	if again.Period != first.Period || !again.HasReturned || first.HasReturned {
		t.Errorf("period %d, returned %t, want the earlier one, %d, first, whose viewer has returned", again.Period, again.HasReturned, first.Period)
	}
	must(t, p.a.ConfirmClosed(t.Context(), []session.ClosingRecord{again}))
	p.age()
	second := p.one(p.a, 5)
	if second.Period == first.Period {
		t.Errorf("both periods are %d", second.Period)
	}
	must(t, p.a.ConfirmClosed(t.Context(), []session.ClosingRecord{first})) // late
	must(t, p.a.ConfirmClosed(t.Context(), []session.ClosingRecord{second}))
	if closed := p.expire(p.b); len(closed) != 0 {
		t.Errorf("closed %+v after all was confirmed", closed)
	}
	for _, key := range p.server.Client.Keys(t.Context(), "*session*").Val() {
		fields := p.server.Client.HKeys(t.Context(), key).Val()
		for _, f := range fields {
			if f == "p" || f == "n" || f == "nr" {
				t.Errorf("the session keeps the field %s", f)
			}
		}
	}
}

// TestRedis_ExpireIdle_NodeEndedWithoutReport_Estimated shows which records are estimated.
func TestRedis_ExpireIdle_NodeEndedWithoutReport_Estimated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		play func(p closingPair)
		want bool
	}{
		"the only node reported": {func(p closingPair) { p.report(p.a, 1) }, false},
		"the only node did not":  {func(closingPair) {}, true},
		"the viewer moved, and both nodes reported": {func(p closingPair) {
			p.read(p.b, 1)
			p.report(p.a, 1)
			p.report(p.b, 1)
		}, false},
		"the viewer moved, and the first node was killed": {func(p closingPair) {
			p.read(p.b, 1)
			p.report(p.b, 1)
		}, true},
		"the viewer moved, and the second node was killed": {func(p closingPair) {
			p.report(p.a, 1)
			p.read(p.b, 1)
		}, true},
		"the viewer came back to the node that had reported": {func(p closingPair) {
			p.report(p.a, 1)
			p.read(p.a, 1)
			p.read(p.a, 1)
			p.report(p.a, 1)
		}, false},
		"an operator looked": {func(p closingPair) {
			p.report(p.a, 1)
			p.acquire(p.b, session.LeaseRequest{ID: idOf(1), KnownRevision: 1})
		}, false},
		"another node knew the denial": {func(p closingPair) {
			denied := allowedRecord(1, openedAgo(4))
			denied.Decision = backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
			p.save(p.a, denied, true, session.OutcomeStored)
			p.read(p.b, 1)
			p.report(p.a, 1)
		}, false},
		"another node checked it too": {func(p closingPair) {
			p.save(p.b, withRevision(p.lease(p.b, 1, 1), allowedRecord(1, openedAgo(5))), false, session.OutcomeStored)
			p.report(p.a, 1)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newClosingPair(t)
			p.save(p.a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
			test.play(p)
			p.seen(p.a, 2*closingIdle)
			closed := p.expire(p.b)
			got := []bool{}
			for _, c := range closed {
				got = append(got, c.IsEstimated)
			}
			if diff := cmp.Diff([]bool{test.want}, got); diff != "" {
				t.Errorf("estimated (-want +got):\n%s", diff)
			}
		})
	}
}
