package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// renewal is a session that a node has stored under a lease and asks for again, with the record that it has.
type renewal struct {
	storePair
	server *redistest.Server
	key    string
	record session.Record
}

func newRenewal(t *testing.T) *renewal {
	t.Helper()
	server, n, _ := newSingleStore(t, nil)
	r := &renewal{storePair: n, server: server, key: redisclient.Keyspace{Prefix: "usher"}.Session(idOf(1))}
	r.record = withRevision(n.lease(n.a, 1, 0), allowedRecord(1, openedAgo(5)))
	n.save(n.a, r.record, false, session.OutcomeStored)
	return r
}

// ask asks for the lease of a re-check.
func (r *renewal) ask() session.LeaseResult {
	r.t.Helper()
	return r.acquire(r.a, session.LeaseRequest{ID: idOf(1), KnownRevision: r.record.Revision, Lease: leaseFor, Known: &r.record})
}

// TestRedis_AcquireLease_Known tells a node that the store has the record which it has, in place of the record.
func TestRedis_AcquireLease_Known(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(r *renewal)
		isSame bool
	}{
		"nothing has changed": {func(*renewal) {}, true},
		"the node has counted another check": {func(r *renewal) {
			r.record.CheckNumber++
		}, true},
		"the node has another decision": {func(r *renewal) {
			r.record.Decision.MaxSessions = 2
		}, false},
		"the node has another request": {func(r *renewal) {
			other := *r.record.Request
			other.Query = "token=another"
			r.record.Request = &other
		}, false},
		"the node has another ticket": {func(r *renewal) {
			r.record.Opened = r.record.Opened.Add(time.Second)
		}, false},
		"the session is evicted": {func(r *renewal) {
			must(r.t, r.b.SetEvicted(r.t.Context(), idOf(1), true))
		}, false},
		"its ticket is revoked": {func(r *renewal) {
			must(r.t, r.b.RevokeSession(r.t.Context(), idOf(1), time.Time{}))
		}, false},
		"an earlier version of Usher has stored another record": {func(r *renewal) {
			must(r.t, r.server.Client.HSet(r.t.Context(), r.key, "f", r.record.Revision+1).Err())
		}, false},
		"a newer version has": {func(r *renewal) {
			must(r.t, r.server.Client.HSet(r.t.Context(), r.key, "v", recordVersion+1).Err())
		}, false},
		"it was stored without a lease": {func(r *renewal) {
			must(r.t, r.server.Client.Del(r.t.Context(), r.key).Err())
			r.record.Revision = 0
			r.save(r.a, r.record, false, session.OutcomeStored)
		}, false},
		"Redis has lost it": {func(r *renewal) {
			must(r.t, r.server.Client.Del(r.t.Context(), r.key).Err())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewal(t)
			test.change(r)
			got := r.ask()
			if isSame := got.Fingerprint != 0; isSame != test.isSame {
				t.Fatalf("got %+v, the same: %t", got, isSame)
			}
			if !test.isSame {
				return
			}
			soon := cmpopts.EquateApproxTime(time.Minute)
			if diff := cmp.Diff(r.record, got.Record, soon, cmp.Comparer(func(a, b *backends.Request) bool { return a == b })); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			if got.Revision == 0 || !got.Found {
				t.Errorf("got %+v, want a lease", got)
			}
		})
	}
}

// TestRedis_SaveDecision_Fingerprint renews a decision without its record. All nodes find it renewed, and in no case another one.
func TestRedis_SaveDecision_Fingerprint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(r *renewal)
		isStored  bool // again
		want      session.UpdateOutcome
	}{
		"as usual": {func(*renewal) {}, false, session.OutcomeStored},
		"another node has stored another decision": {func(r *renewal) {
			other := fallbackRecord(1, r.record.Opened)
			must(r.t, r.server.Client.HSet(r.t.Context(), r.key, "e", 1).Err()) // ours has expired
			r.save(r.b, other, false, session.OutcomeStored)
		}, true, session.OutcomeStored},
		"Redis has lost the session": {func(r *renewal) {
			must(r.t, r.server.Client.Del(r.t.Context(), r.key).Err())
		}, true, session.OutcomeStored},
		"another node has taken the lease over": {func(r *renewal) {
			r.acquire(r.b, session.LeaseRequest{ID: idOf(1), KnownRevision: r.record.Revision, Lease: leaseFor})
		}, false, session.OutcomeStale},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewal(t)
			stored := func() string { return r.server.Client.HGet(t.Context(), r.key, "r").Val() }
			before, got := stored(), r.ask()
			test.meanwhile(r)
			renewed := r.record
			renewed.Revision, renewed.CheckNumber, renewed.Expires = got.Revision, r.record.CheckNumber+5, time.Now().Add(2*holdFor)
			outcome, err := r.a.SaveDecision(t.Context(), session.DecisionUpdate{Record: renewed, Fingerprint: got.Fingerprint})
			if err != nil || outcome != test.want {
				t.Fatalf("saved: %v, %v; want %v", outcome, err, test.want)
			}
			if isStored := stored() != before; isStored != test.isStored {
				t.Errorf("the record was stored again: %t", isStored)
			}
			if test.want != session.OutcomeStored {
				return
			}
			found := r.want(r.b, 1, backends.Allowed, backends.FromBackend)
			if found.Revision != got.Revision || found.CheckNumber != renewed.CheckNumber || found.Decision != renewed.Decision ||
				time.Until(found.Expires) < holdFor || found.Request.Query != r.record.Request.Query {
				t.Errorf("the other node finds %+v, want %+v", found, renewed)
			}
			r.record = renewed
			if again := r.ask(); again.Fingerprint != got.Fingerprint {
				t.Errorf("asked again: %+v, want the same fingerprint", again)
			}
		})
	}
}
