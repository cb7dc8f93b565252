package actors

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// saveRecorder is a store that keeps account of what is saved.
type saveRecorder struct {
	*fakeCluster

	mu    sync.Mutex
	saved []session.DecisionUpdate
}

func (r *saveRecorder) SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	r.mu.Lock()
	r.saved = append(r.saved, u)
	r.mu.Unlock()
	return r.fakeCluster.SaveDecision(ctx, u)
}

// TestSessionActor_SavesDecision stores what another node needs; where there is none, what a stream limit needs. Of a flood of
// denials it only releases the leases.
func TestSessionActor_SavesDecision(t *testing.T) {
	t.Parallel()
	limited := allowedDecision()
	limited.MaxSessions = 1
	for name, test := range map[string]struct {
		isShared bool
		isSpent  bool // the budget of denials
		decision backends.Decision
		want     []backends.Verdict
	}{
		"allowed in a cluster":               {true, false, allowedDecision(), []backends.Verdict{backends.Allowed}},
		"denied in a cluster":                {true, false, deniedDecision(), []backends.Verdict{backends.Denied}},
		"allowed in a flood of denials":      {true, true, allowedDecision(), []backends.Verdict{backends.Allowed}},
		"denied in a flood of denials":       {true, true, deniedDecision(), []backends.Verdict{backends.Pending}},
		"allowed on a single node":           {false, false, allowedDecision(), nil},
		"denied on a single node":            {false, false, deniedDecision(), nil},
		"a limited user, on a single node":   {false, false, limited, []backends.Verdict{backends.Allowed}},
		"a limited user, in a flood as well": {false, true, limited, []backends.Verdict{backends.Allowed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &saveRecorder{fakeCluster: &fakeCluster{isShared: test.isShared}}
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return test.decision, nil
				})
				n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster = store })
				defer n.closeAndDrain()
				if test.isSpent {
					for range maxStoredDenials {
						n.Registry.cluster.denials.allow(time.Now())
					}
				}
				n.watch(t, openRequest(1))
				synctest.Wait()
				store.mu.Lock()
				defer store.mu.Unlock()
				if len(store.saved) != len(test.want) {
					t.Fatalf("saved %+v, want %v", store.saved, test.want)
				}
				for i, want := range test.want {
					if r := store.saved[i].Record; r.Decision.Verdict != want || r.ID != idOf(1) || store.saved[i].RevokeTicket {
						t.Errorf("saved %+v, want %v", store.saved[i], want)
					}
				}
			})
		})
	}
}

// TestSessionActor_TicketNotRevoked_Logged warns where the ticket of a viewer who was denied while they watched stays good.
func TestSessionActor_TicketNotRevoked_Logged(t *testing.T) {
	t.Parallel()
	fail := func(context.Context) error { return errBroken }
	for name, test := range map[string]struct {
		save, revoke func(context.Context) error
		want         int
	}{
		"the store takes it":               {nil, nil, 0},
		"the revocation fails":             {nil, fail, 1},
		"only what was saved before fails": {fail, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, nil)
				store := &fakeCluster{isShared: true, beforeSave: test.save, beforeRevoke: test.revoke}
				n := newNode(b, store, func(s *setup) { s.rules.Validity = 10 * time.Second })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil })
				n.keepWatching(t, openRequest(1), 15*time.Second, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("%v by %v, want a denial", d.Verdict, d.Source)
				}
				if got := strings.Count(n.log.String(), "ticket of a denied session not revoked"); got != test.want {
					t.Errorf("%d warnings, want %d:\n%s", got, test.want, n.log.String())
				}
			})
		})
	}
}

// TestSessionActor_Denied_NamesUser has a denial that names nobody end a session whose user was known: the log, the session and its
// record name them still.
func TestSessionActor_Denied_NamesUser(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b, store := newFakeBackend(backends.PolicyAllow, nil), new(fakeCluster)
		var mu sync.Mutex // what has expired and what ends with the node is told by two goroutines
		var recorded []session.ClosingRecord
		n := newNode(b, store, func(s *setup) {
			s.rules.Validity = 10 * time.Second
			s.OnClosed = func(all []session.ClosingRecord) error {
				mu.Lock()
				defer mu.Unlock()
				recorded = append(recorded, all...)
				return nil
			}
		})
		n.watch(t, openRequest(1))
		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil })
		n.keepWatching(t, openRequest(1), 15*time.Second, nil)
		want := deniedDecision()
		want.UserID, want.User = allowedDecision().UserID, allowedDecision().User
		if d := n.watch(t, openRequest(1)); d != want {
			t.Errorf("decided %+v, want %+v", d, want)
		}
		n.closeAndDrain()
		mu.Lock()
		defer mu.Unlock()
		if len(recorded) != 1 || recorded[0].Record.Decision != want {
			t.Errorf("recorded %+v, want one session, with %+v", recorded, want)
		}
		if line := `msg="running session denied"`; !strings.Contains(n.log.String(), line) || !strings.Contains(n.log.String(), "user=Ann user_id=17 ") {
			t.Errorf("the log does not name the user:\n%s", n.log.String())
		}
	})
}

// TestSessionActor_Close_HandsOver hands over what this node counted of a session that others may know, and of no other.
func TestSessionActor_Close_HandsOver(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(1, 3)), &fakeCluster{isShared: true}, nil)
		defer n.closeAndDrain()
		for i := 1; i <= 3; i++ {
			n.watch(t, openRequest(i))
		}
		n.OnRevocation(session.Revocation{
			Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("shared"),
		})
		time.Sleep(5 * time.Minute) // all are silent
		log := n.log.String()
		for i, want := range map[int]int{1: 1, 2: 0, 3: 1} {
			if got := strings.Count(log, `msg="session closed" session=`+idOf(i).String()); got != want {
				t.Errorf("viewer %d: %d closing records, want %d:\n%s", i, got, want, log)
			}
		}
	})
}

// TestSessionActor_Close_Stores stores a session of a single node when it closes. The yes of an evicted session stays, and so
// does what other nodes share already.
func TestSessionActor_Close_Stores(t *testing.T) {
	t.Parallel()
	limited := allowedDecision()
	limited.MaxSessions = 1
	for name, test := range map[string]struct {
		isShared  bool
		isEvicted bool
		want      []backends.Verdict
	}{
		"on a single node":             {false, false, []backends.Verdict{backends.Allowed, backends.Allowed}},
		"in a cluster":                 {true, false, []backends.Verdict{backends.Allowed}},
		"on a single node, if evicted": {false, true, []backends.Verdict{backends.Allowed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &saveRecorder{fakeCluster: &fakeCluster{isShared: test.isShared}}
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return limited, nil
				})
				n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster = store })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				if test.isEvicted {
					n.OnRevocation(session.Revocation{
						Kind: session.RevokedEvicted, Session: idOf(1), Opened: n.Find(idOf(1)).Ticket().Opened,
						Decision: evictedDecision(&limited),
					})
				}
				time.Sleep(10 * time.Minute)
				if n.Find(idOf(1)) != nil {
					t.Fatal("the session has not closed")
				}
				store.mu.Lock()
				defer store.mu.Unlock()
				var got []backends.Verdict
				for _, u := range store.saved {
					got = append(got, u.Record.Decision.Verdict)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("saved %v, want %v", got, test.want)
				}
			})
		})
	}
}

// rememberingStore knows whether it has the record that it is asked about.
type rememberingStore struct{ *saveRecorder }

func (r rememberingStore) AcquireLease(ctx context.Context, q session.LeaseRequest) (session.LeaseResult, error) {
	result, err := r.saveRecorder.AcquireLease(ctx, q)
	if q.Known == nil || !result.Found {
		return result, err
	}
	if known := *q.Known; known.Decision == result.Record.Decision && known.Opened.Equal(result.Record.Opened) {
		result.Record, result.Fingerprint = known, 7
	}
	return result, err
}

// TestSessionActor_Recheck_Unchanged stores the record of a session again only if the answer is another one. Through an equal one
// requests read the same decision, and one request serves the whole re-check.
func TestSessionActor_Recheck_Unchanged(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := rememberingStore{&saveRecorder{fakeCluster: &fakeCluster{isShared: true}}}
		answers := []string{"Ann", "Ann", "Bob", "Bob"}
		checks := 0
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.User = answers[min(checks, len(answers)-1)]
			checks++
			return d, nil
		})
		n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster = store })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		synctest.Wait()
		first := n.Find(idOf(1)).Decision()
		for checked := 2; checked <= len(answers); checked++ {
			for i := range n.shown.recent { // so that no other session's decision is at hand
				n.shown.recent[i].Store(nil)
			}
			for len(b.requests()) < checked {
				time.Sleep(time.Second)
				n.watch(t, openRequest(1))
				synctest.Wait()
			}
			if isSame := n.Find(idOf(1)).Decision() == first; isSame != (checked == 2) {
				t.Errorf("check %d: requests read the same decision: %t", checked, isSame)
			}
		}
		store.mu.Lock()
		defer store.mu.Unlock()
		var got []uint64
		for _, saved := range store.saved {
			got = append(got, saved.Fingerprint)
		}
		if want := []uint64{0, 7, 0, 7}; !slices.Equal(got, want) {
			t.Errorf("saved with the fingerprints %v, want %v", got, want)
		}
	})
}

// TestIsSameRecord compares what the store holds of a session, and leaves out what is stored beside it.
func TestIsSameRecord(t *testing.T) {
	t.Parallel()
	record := session.Record{ID: backends.SessionID{1}, Opened: t0(), KeyID: "a", Decision: allowedDecision(), Request: new(backends.Request), Trace: "00-a-b-01"}
	for name, test := range map[string]struct {
		change func(r *session.Record)
		want   bool
	}{
		"the same":               {func(*session.Record) {}, true},
		"its time in other form": {func(r *session.Record) { r.Opened = r.Opened.In(time.FixedZone("", 3600)) }, true},
		"renewed": {func(r *session.Record) {
			r.CheckNumber, r.Expires, r.Revision, r.IsClosed = 7, t0().Add(time.Hour), 9, true
		}, true},
		"of another session":     {func(r *session.Record) { r.ID[1] = 1 }, false},
		"opened at another time": {func(r *session.Record) { r.Opened = r.Opened.Add(time.Second) }, false},
		"signed by another key":  {func(r *session.Record) { r.KeyID = "b" }, false},
		"with another decision":  {func(r *session.Record) { r.Decision.UserID = "another" }, false},
		"with another request":   {func(r *session.Record) { r.Request = new(backends.Request) }, false},
		"without a request":      {func(r *session.Record) { r.Request = nil }, false},
		"of another trace":       {func(r *session.Record) { r.Trace = "" }, false},
	} {
		other := record
		if test.change(&other); isSameRecord(&record, &other) != test.want || isSameRecord(&other, &record) != test.want {
			t.Errorf("%s: want %t", name, test.want)
		}
	}
}

// deferringCluster is a store that revokes a ticket only once it has recovered.
type deferringCluster struct {
	*fakeCluster

	outcome   session.UpdateOutcome
	announced atomic.Int32
}

func (c *deferringCluster) SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	outcome, err := c.fakeCluster.SaveDecision(ctx, u)
	if u.RevokeTicket {
		outcome = c.outcome
	}
	return outcome, err
}

func (c *deferringCluster) Revoke(context.Context, session.Revocation) error {
	c.announced.Add(1)
	return nil
}

// TestSessionActor_Denied_Announced announces the denial of a session that ran, unless the store does so later or has dropped it.
func TestSessionActor_Denied_Announced(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[session.UpdateOutcome]int32{
		session.OutcomeStored: 1, session.OutcomeKept: 1, session.OutcomeStale: 0, session.OutcomeDeferred: 0,
	} {
		t.Run(outcome.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &deferringCluster{fakeCluster: &fakeCluster{isShared: true}, outcome: outcome}
				b := newFakeBackend(backends.PolicyAllow, nil)
				n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster, s.rules.Validity = store, 10*time.Second })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return deniedDecision(), nil })
				n.keepWatching(t, openRequest(1), 10*time.Second+100*time.Millisecond, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("%v by %v, want a denial", d.Verdict, d.Source)
				}
				if got := store.announced.Load(); got != want {
					t.Errorf("announced %d times, want %d", got, want)
				}
			})
		})
	}
}

// leaseOnRecheck grants re-checks a lease, late.
type leaseOnRecheck struct {
	*saveRecorder
	asked, granted chan struct{}
}

func (s leaseOnRecheck) AcquireLease(ctx context.Context, q session.LeaseRequest) (session.LeaseResult, error) {
	result, err := s.saveRecorder.AcquireLease(ctx, q)
	if q.Known != nil {
		close(s.asked)
		<-s.granted
		result.Revision = 7
	}
	return result, err
}

// TestSessionActor_Stopped_ReleasesLease has a session end while the store grants it a lease. No other node waits for that lease.
func TestSessionActor_Stopped_ReleasesLease(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*node, *Session){
		"its actor stops": func(n *node, s *Session) { n.actors.stop(s) },
		"it has left the table": func(n *node, s *Session) {
			n.send(s, session.Revoked{Kind: session.RevokedSuperseded, Decision: supersededDecision()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := leaseOnRecheck{&saveRecorder{fakeCluster: &fakeCluster{isShared: true}}, make(chan struct{}), make(chan struct{})}
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) { s.Cluster = store })
				defer n.closeAndDrain()
				n.keepWatching(t, openRequest(1), 3*time.Minute, nil)
				<-store.asked
				end(n, n.table.find(idOf(1)))
				synctest.Wait()
				close(store.granted)
				synctest.Wait()
				store.mu.Lock()
				defer store.mu.Unlock()
				if last := store.saved[len(store.saved)-1].Record; last.Revision != 7 || last.Decision.Verdict != backends.Pending {
					t.Errorf("saved %+v at last, want the lease 7 released", last)
				}
			})
		})
	}
}

// TestSessionActor_Close_ReturnedAndRefused has a viewer come back to a session that the store knows, and be refused. The look-up told
// the store that they are back, so it learns of the end too. Of one that had closed there is nothing to tell.
func TestSessionActor_Close_ReturnedAndRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isShared, isClosed bool
		want               int
	}{
		"on a single node":         {false, false, 1},
		"in a cluster":             {true, false, 1},
		"one that has been closed": {true, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &saveRecorder{fakeCluster: &fakeCluster{isShared: test.isShared}}
				store.banned = func(_ *backends.Request, d *backends.Decision) (session.Ban, bool) { // a ban of a user whom the record names
					return session.Ban{ID: "b"}, d != nil
				}
				known := session.Record{
					ID: idOf(1), Opened: time.Now().Add(-time.Minute), Decision: allowedDecision(), Expires: time.Now().Add(time.Hour),
					Request: openRequest(1).Request, IsClosed: test.isClosed,
				}
				store.set(known)
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) {
					s.Cluster, s.OnClosed = store, func([]session.ClosingRecord) error { return nil }
				})
				handedOver := func() int {
					store.fakeCluster.mu.Lock()
					defer store.fakeCluster.mu.Unlock()
					return len(store.closing)
				}
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("%v, want denied", d.Verdict)
				}
				for n.Find(idOf(1)) != nil {
					time.Sleep(time.Second)
				}
				synctest.Wait()
				got := handedOver()
				n.closeAndDrain()
				if got != test.want {
					t.Errorf("%d hand-overs, want %d", got, test.want)
				}
				if r := store.get(idOf(1)); r.Decision != allowedDecision() {
					t.Errorf("the store has %+v, want the yes", r.Decision)
				}
			})
		})
	}
}

// handOverStore keeps in which order counters and decisions are stored. Once isSlow, it takes nearly as long for a last heartbeat as a
// write may.
type handOverStore struct {
	*fakeCluster

	orderMu sync.Mutex
	order   []string
	isSlow  atomic.Bool
}

func (h *handOverStore) note(what string) {
	h.orderMu.Lock()
	defer h.orderMu.Unlock()
	h.order = append(h.order, what)
}

func (h *handOverStore) AddCounters(ctx context.Context, id backends.SessionID, c session.Counters) error {
	h.note("counters")
	return h.fakeCluster.AddCounters(ctx, id, c)
}

func (h *handOverStore) SaveDecision(ctx context.Context, u session.DecisionUpdate) (session.UpdateOutcome, error) {
	h.note(u.Record.Decision.Verdict.String())
	return h.fakeCluster.SaveDecision(ctx, u)
}

func (h *handOverStore) RecordHeartbeats(context.Context, []session.Heartbeat) ([]backends.SessionID, error) {
	if h.isSlow.Load() {
		time.Sleep(writeTimeout - 100*time.Millisecond)
	}
	return nil, nil
}

// TestRegistry_Close_RecheckMeanwhile has a session be re-checked while the node that ends hands it over. The node stores no yes after
// the counters: the store would wait for counters that never come, and the session's record say that it is estimated.
func TestRegistry_Close_RecheckMeanwhile(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &handOverStore{fakeCluster: &fakeCluster{isShared: true}}
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster, s.rules.Validity = store, 10*time.Second })
		n.watch(t, openRequest(1))
		time.Sleep(8900 * time.Millisecond)
		store.isSlow.Store(true)
		n.closeAndDrain()
		handedOver := slices.Index(store.order, "counters")
		if handedOver < 0 || b.checks.Load() != 2 {
			t.Fatalf("%d checks, and stored %q; want two, the second one after the counters", b.checks.Load(), store.order)
		}
		if slices.Contains(store.order[handedOver:], backends.Allowed.String()) {
			t.Errorf("stored %q, want no yes after the counters", store.order)
		}
	})
}
