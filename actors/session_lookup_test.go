package actors

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// leaseRecorder is a store that keeps account of what it is asked.
type leaseRecorder struct {
	*fakeCluster

	mu    sync.Mutex
	asked []session.LeaseRequest
}

func (r *leaseRecorder) AcquireLease(ctx context.Context, q session.LeaseRequest) (session.LeaseResult, error) {
	r.mu.Lock()
	r.asked = append(r.asked, q)
	r.mu.Unlock()
	return r.fakeCluster.AcquireLease(ctx, q)
}

// take returns what was asked since the last call, once all is quiet.
func (r *leaseRecorder) take() []session.LeaseRequest {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// TestSessionActor_LookUp_Lease asks for a lease where other nodes share the store, the backend may be asked and its answer is
// wanted.
func TestSessionActor_LookUp_Lease(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isShared         bool
		breaker          backends.BreakerState
		opening, recheck time.Duration // of the lease
	}{
		"a single node":                         {false, backends.BreakerClosed, 0, 0},
		"a cluster":                             {true, backends.BreakerClosed, 2 * time.Second, 2 * time.Second},
		"a cluster whose backend is down here":  {true, backends.BreakerOpen, 0, 2 * time.Second},
		"a cluster whose backend is just tried": {true, backends.BreakerHalfOpen, 0, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				store := &leaseRecorder{fakeCluster: &fakeCluster{isShared: test.isShared}}
				b := newFakeBackend(backends.PolicyAllow, nil)
				b.health.Store(uint32(test.breaker))
				n := newNode(b, store.fakeCluster, func(s *setup) { s.Cluster, s.rules.Validity = store, 10*time.Second })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				asked := store.take()
				if len(asked) != 1 || asked[0].Lease != test.opening || asked[0].KnownRevision != 0 {
					t.Errorf("opening: asked %+v, want one lease of %v", asked, test.opening)
				}
				wait := 750 * time.Millisecond // three quarters of the answer deadline
				if test.opening == 0 {
					wait = 0
				}
				if asked[0].Wait != wait {
					t.Errorf("opening: waits for %v, want %v", asked[0].Wait, wait)
				}
				b.health.Store(uint32(backends.BreakerClosed))
				n.keepWatching(t, openRequest(1), 15*time.Second, nil)
				for _, q := range store.take() {
					if q.Lease != test.recheck || q.Wait != test.recheck || q.KnownRevision == 0 {
						t.Errorf("re-check: asked %+v, want a lease of %v and what is newer than it has", q, test.recheck)
					}
				}
				n.OnTicketReplaced(idOf(1))
				asked = store.take()
				if len(asked) != 1 || asked[0].Lease != 0 || asked[0].KnownRevision == 0 {
					t.Errorf("look-up: asked %+v, want what is newer than it has, without a lease", asked)
				}
			})
		})
	}
}

// TestRegistry_AnswerLookup_AwaitsBans waits for the bans to be known only where nothing but the ticket speaks for the viewer.
func TestRegistry_AnswerLookup_AwaitsBans(t *testing.T) {
	t.Parallel()
	isBanned := func(*backends.Request, *backends.Decision) (session.Ban, bool) { return session.Ban{ID: "b"}, true }
	for name, test := range map[string]struct {
		request  func() session.OpenRequest
		isStored bool
		err      error
		banned   func(*backends.Request, *backends.Decision) (session.Ban, bool)
		want     int64
	}{
		"an unknown session with a ticket":     {request: func() session.OpenRequest { return ticketRequest(2, time.Now()) }, want: 1},
		"a stored session with a ticket":       {request: func() session.OpenRequest { return ticketRequest(2, time.Now()) }, isStored: true},
		"a ticket while the store fails":       {request: func() session.OpenRequest { return ticketRequest(2, time.Now()) }, err: errBroken},
		"an unknown session with credentials":  {request: func() session.OpenRequest { return openRequest(2) }},
		"a sibling of an unknown root":         {request: func() session.OpenRequest { return siblingRequest(2, time.Now()) }, want: 1},
		"a sibling that is known to be banned": {request: func() session.OpenRequest { return siblingRequest(2, time.Now()) }, banned: isBanned},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var waits atomic.Int64
				store := &fakeCluster{isShared: true}
				store.awaitBans = func(context.Context) error { waits.Add(1); return nil }
				store.beforeLease = func(context.Context) error {
					store.mu.Lock()
					defer store.mu.Unlock()
					store.banned = test.banned // the opening itself does not see the ban
					return test.err
				}
				if test.isStored {
					store.set(session.Record{
						ID: idOf(2), Opened: time.Now(), Decision: allowedDecision(), Request: openRequest(2).Request, Expires: time.Now().Add(time.Minute),
					})
				}
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
				defer n.closeAndDrain()
				n.watch(t, test.request())
				if got := waits.Load(); got != test.want {
					t.Errorf("waited for the bans %d times, want %d", got, test.want)
				}
			})
		})
	}
}

func TestRegistry_AwaitBans(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err         error
		isBanned    bool
		mayBeBanned bool
	}{
		"all are known, and none is of the viewer":    {nil, false, false},
		"all are known, and one is of the viewer":     {nil, true, false},
		"one that is known is of the viewer":          {context.DeadlineExceeded, true, false},
		"not all are known":                           {context.DeadlineExceeded, false, true},
		"the store fails, which says nothing of bans": {backends.ErrStoreUnavailable, false, false},
	} {
		store := &fakeCluster{awaitBans: func(context.Context) error { return test.err }}
		store.banned = func(*backends.Request, *backends.Decision) (session.Ban, bool) {
			return session.Ban{ID: "b"}, test.isBanned
		}
		r := &Registry{core: core{cluster: &clusterClient{Cluster: store}}}
		s, opening := bareSession(idOf(1)), new(pendingOpening)
		s.request.Store(openRequest(1).Request)
		refused, mayBeBanned := r.awaitBans(t.Context(), s, opening)
		if (refused != nil) != test.isBanned || mayBeBanned != test.mayBeBanned {
			t.Errorf("%s: refused by %+v, may be banned %t; want %t and %t", name, refused, mayBeBanned, test.isBanned, test.mayBeBanned)
		}
		if !test.isBanned && opening.awaitsBans.Load() != test.mayBeBanned {
			t.Errorf("%s: the opening waits on: %t", name, !test.mayBeBanned)
		}
	}
}

// TestRegistry_SaveAndLookupFail_StoredLater keeps trying to store a session until the store takes it.
func TestRegistry_SaveAndLookupFail_StoredLater(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isDown atomic.Bool
		fail := func(context.Context) error {
			if isDown.Load() {
				return backends.ErrStoreUnavailable
			}
			return nil
		}
		store := &fakeCluster{isShared: true, beforeSave: fail, beforeLease: fail}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, func(s *setup) {
			s.HeartbeatInterval, s.Config.IdleTimeout = 20*time.Second, time.Hour
		})
		defer n.closeAndDrain()
		isDown.Store(true)
		n.watch(t, openRequest(1))
		time.Sleep(50 * time.Second) // two heartbeats, whose look-ups fail
		isDown.Store(false)
		time.Sleep(21 * time.Second)
		if got := store.get(idOf(1)); got.Decision.Verdict != backends.Allowed {
			t.Errorf("stored %+v, want the session", got)
		}
	})
}

func TestRegistry_RefusalOf_ReturnsEvicted(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errBroken} {
		var text lockedBuffer
		log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := core{cluster: &clusterClient{Cluster: &brokenCluster{err: err}}, log: log}
		r := &Registry{core: c, streams: newStreamLimits(c, PerUserConfig{})}
		s := bareSession(idOf(1))
		s.request.Store(openRequest(1).Request)
		record := session.Record{ID: idOf(1), Decision: allowedDecision(), IsEvicted: true}
		if d := r.refusalOf(t.Context(), s, &record); d != nil {
			t.Errorf("refused by %+v, though the user has no limit any more", d)
		}
		if hasLogged := strings.Contains(text.String(), "eviction mark not removed"); hasLogged != (err != nil) {
			t.Errorf("the store says %v; logged:\n%s", err, text.String())
		}
	}
}

// TestRegistry_Open_Sibling_WithCredentials counts the address of a sibling that shows credentials of its own, and asks nothing
// of its root once it is open.
func TestRegistry_Open_Sibling_WithCredentials(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &leaseRecorder{fakeCluster: &fakeCluster{isShared: true}}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store.fakeCluster, func(s *setup) { s.Cluster = store })
		defer n.closeAndDrain()
		sibling := openRequest(2)
		sibling.Root, sibling.Ticket = idOf(1), session.Ticket{Opened: time.Now(), KeyID: "a"}
		n.watch(t, sibling)
		if got := store.addresses.count(idOf(1)); got != 1 {
			t.Errorf("%d addresses use the ticket, want 1", got)
		}
		store.take()
		n.OnTicketReplaced(idOf(2))
		if asked := store.take(); len(asked) != 1 || asked[0].ID != idOf(2) {
			t.Errorf("asked %+v, want the session alone", asked)
		}
	})
}

// TestSessionActor_CheckFails_SiblingAdmitted admits a sibling whose backend does not answer, and not one that this node had no
// time for.
func TestSessionActor_CheckFails_SiblingAdmitted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want backends.Verdict
	}{
		"the backend fails":     {&backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"}, backends.Allowed},
		"this node is overrun":  {backends.NewOverload("backends.portal.max_in_flight", 1), backends.Pending},
		"the check panicked":    {session.ErrPanicked, backends.Pending},
		"the breaker is closed": {&backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}, backends.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyKeep, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
					if r.Session == idOf(1) {
						return allowedDecision(), nil
					}
					return backends.Decision{}, test.err
				})
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				s, err := n.Open(t.Context(), siblingRequest(2, time.Now()))
				if err != nil {
					t.Fatal(err)
				}
				if d := s.Decision(); d.Verdict != test.want {
					t.Errorf("%v by %v, want %v", d.Verdict, d.Source, test.want)
				}
			})
		})
	}
}

// TestSessionActor_CheckFails_Queued has a session wait for its backend where that is known to be down, and else try again
// later.
func TestSessionActor_CheckFails_Queued(t *testing.T) {
	t.Parallel()
	for breaker, want := range map[backends.BreakerState]backends.Source{
		backends.BreakerOpen: backends.FromBackend, backends.BreakerClosed: backends.FromFailOpen,
	} {
		inBubble(t, func(t *testing.T) {
			b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureTimeout, Backend: "portal"}
			})
			b.health.Store(uint32(breaker))
			n := newNode(b, &fakeCluster{}, nil)
			defer n.closeAndDrain()
			if d := n.watch(t, openRequest(1)); d.Source != backends.FromFailOpen {
				t.Fatalf("%v by %v, want it by fail-open", d.Verdict, d.Source)
			}
			time.Sleep(2 * time.Second)
			b.setCheck(nil)
			b.health.Store(uint32(backends.BreakerClosed))
			time.Sleep(time.Second)
			if d := n.watch(t, openRequest(1)); d.Source != want {
				t.Errorf("breaker %v: a second after it recovered %v by %v, want it by %v", breaker, d.Verdict, d.Source, want)
			}
		})
	}
}
