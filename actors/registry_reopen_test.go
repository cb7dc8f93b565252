package actors

import (
	"cmp"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRegistry_Open_Reopens admits a viewer by their ticket whom the backend denied for a token that it has forgotten, and
// nobody else.
func TestRegistry_Open_Reopens(t *testing.T) {
	t.Parallel()
	const life = 5 * time.Second
	for name, test := range map[string]struct {
		tokenLife time.Duration
		age       time.Duration // of the ticket; 0: none is presented
		allow     bool
		isKicked  bool
		want      backends.Source
	}{
		"a token that is forgotten":            {tokenLife: life, age: life + time.Second, want: backends.FromTicket},
		"a token that the backend still knows": {tokenLife: life, age: life, want: backends.FromBackend},
		"a backend that never forgets a token": {age: time.Hour, want: backends.FromBackend},
		"no ticket":                            {tokenLife: life, want: backends.FromBackend},
		"a viewer who plays":                   {tokenLife: life, age: time.Minute, allow: true, want: backends.FromBackend},
		"a viewer who was kicked":              {tokenLife: life, age: time.Minute, allow: true, isKicked: true, want: backends.FromOperator},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					if test.allow {
						return allowedDecision(), nil
					}
					return deniedDecision(), nil
				})
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.TokenLife, s.Config.DenialTTL = test.tokenLife, time.Hour })
				defer n.closeAndDrain()
				first := n.watch(t, openRequest(1))
				if test.isKicked {
					n.OnRevocation(session.Revocation{
						Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("shared"),
					})
					synctest.Wait()
				}
				again := openRequest(1)
				if test.age > 0 {
					again = ticketRequest(1, time.Now().Add(-test.age))
				}
				s, err := n.Open(t.Context(), again)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				d := s.Decision()
				if d.Source != test.want {
					t.Errorf("after %v by %v, now %v by %v; want it by %v", first.Verdict, first.Source, d.Verdict, d.Source, test.want)
				}
				if got := b.checks.Load(); got != 1 {
					t.Errorf("%d checks, want the one that denied", got)
				}
				if isAllowed := d.Verdict == backends.Allowed; isAllowed != (test.want == backends.FromTicket || test.allow && !test.isKicked) {
					t.Errorf("now %v by %v", d.Verdict, d.Source)
				}
			})
		})
	}
}

// TestRegistry_Open_RevokedTicket_ReopensOnce has a viewer show credentials that are denied beside a ticket that is revoked: each further
// request costs neither a check nor a look-up. A newer ticket opens the session once more.
func TestRegistry_Open_RevokedTicket_ReopensOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tokenLife time.Duration
		denial    backends.Decision
	}{
		"by a rule":                     {denial: backends.LocalDecision(backends.Denied, "the account is disabled")},
		"for a token that is forgotten": {tokenLife: 5 * time.Second, denial: deniedDecision()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return test.denial, nil
				})
				store := &fakeCluster{}
				n := newNode(b, store, func(s *setup) { s.rules.TokenLife = test.tokenLife })
				defer n.closeAndDrain()
				revoked := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
				store.set(session.Record{ID: idOf(1), RevokedBefore: revoked.Add(time.Minute)})
				ask := func(opened time.Time) backends.Verdict {
					o := openRequest(1)
					o.Ticket = session.Ticket{Opened: opened, KeyID: "a"}
					s, err := n.Open(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					return s.Decision().Verdict
				}
				for range 50 {
					if got := ask(revoked); got != backends.Denied {
						t.Fatalf("%v, want it denied", got)
					}
				}
				ask(revoked.Add(-time.Minute))
				if checks := b.checks.Load(); checks > 2 || store.loads > 2 {
					t.Errorf("%d checks and %d look-ups, want two at most", checks, store.loads)
				}
				b.setCheck(nil)
				if got := ask(revoked.Add(2 * time.Minute)); got != backends.Allowed {
					t.Errorf("with a newer ticket %v, want it allowed", got)
				}
			})
		})
	}
}

// TestRegistry_Open_BannedNotReopened has a banned viewer show a ticket that the denial of their token spares.
func TestRegistry_Open_BannedNotReopened(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denying(deniedDecision()))
		isBanned, store := false, &fakeCluster{}
		store.banned = func(*backends.Request, *backends.Decision) (session.Ban, bool) { return session.Ban{}, isBanned }
		n := newNode(b, store, func(s *setup) { s.rules.TokenLife, s.Config.DenialTTL = 5*time.Second, time.Hour })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		isBanned = true
		before := store.loads
		s, err := n.Open(t.Context(), ticketRequest(1, time.Now().Add(-time.Minute)))
		if err != nil {
			t.Fatal(err)
		}
		if d := s.Decision(); d.Verdict != backends.Denied || store.loads != before {
			t.Errorf("%v by %v after %d look-ups, want the denial and no look-up", d.Verdict, d.Source, store.loads-before)
		}
		isBanned = false
		s, err = n.Open(t.Context(), ticketRequest(1, time.Now().Add(-time.Minute)))
		if err != nil {
			t.Fatal(err)
		}
		if d := s.Decision(); d.Verdict != backends.Allowed {
			t.Errorf("%v by %v once the ban is over, want the ticket to admit", d.Verdict, d.Source)
		}
	})
}

// TestSessionActor_ForgetDeniedBefore_NoAnswer has an answer come that the session does not wait for, and one that says nothing.
func TestSessionActor_ForgetDeniedBefore_NoAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isOld bool
		d     backends.Decision
	}{
		"an old answer":     {isOld: true, d: allowedDecision()},
		"without a verdict": {d: backends.Decision{Source: backends.FromBackend}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				n := newNode(newFakeBackend(backends.PolicyAllow, hang), &fakeCluster{}, nil)
				defer n.closeAndDrain()
				ctx, leave := context.WithCancel(t.Context())
				left := make(chan struct{})
				go func() {
					defer close(left)
					_, _ = n.Open(ctx, openRequest(1))
				}()
				synctest.Wait()
				s := n.table.find(idOf(1))
				s.flags.set(flagDeniedBefore, true)
				number := int(s.checkNumber.Load())
				if test.isOld {
					number--
				}
				n.send(s, &session.BackendAnswered{Number: number, Decision: test.d})
				synctest.Wait()
				if !s.flags.has(flagDeniedBefore) {
					t.Error("it counts as an answer")
				}
				leave()
				<-left
			})
		})
	}
}

// TestSessionActor_Reopen_CheckInFlight has a denied viewer show an older ticket again while the check is in flight for which it opened the
// session before. Its answer is in the timeline.
func TestSessionActor_Reopen_CheckInFlight(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denying(backends.LocalDecision(backends.Denied, "signed link has expired")))
		var isDown atomic.Bool
		store := &fakeCluster{beforeLease: func(context.Context) error {
			if isDown.Load() {
				return backends.ErrStoreUnavailable
			}
			return nil
		}}
		n := newNode(b, store, func(s *setup) { s.Config.DenialTTL = time.Hour })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		isDown.Store(true)
		b.health.Store(uint32(backends.BreakerHalfOpen))
		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(5 * time.Second)
			return allowedDecision(), nil
		})
		n.showTicket(t, session.Ticket{Opened: time.Now().Add(-time.Hour), KeyID: "a"}, 3*time.Second, wantDenied(t))
		time.Sleep(5 * time.Second)
		entries, _ := n.Timeline(idOf(1))
		last := entries[len(entries)-1]
		if d := n.Find(idOf(1)).Decision(); d.Verdict != backends.Allowed || last.Verdict != backends.Allowed || b.checks.Load() != 2 {
			t.Errorf("%v after %d checks, the timeline ends with %+v; want allowed by the second one", d.Verdict, b.checks.Load(), last)
		}
	})
}

// TestRegistry_Open_ReopensAfterFailedLookup has the store fail while a ticket opens a denied session again, in an outage of the backend.
// Nobody could say whether the ticket is revoked, so that it is asked about again once the store answers.
func TestRegistry_Open_ReopensAfterFailedLookup(t *testing.T) {
	t.Parallel()
	rule := backends.LocalDecision(backends.Denied, "signed link has expired")
	for name, test := range map[string]struct {
		denial    backends.Decision
		tokenLife time.Duration
		hangs     bool // longer than the viewer waits
		state     backends.BreakerState
		want      backends.Source
	}{
		"for a forgotten token":               {denial: deniedDecision(), tokenLife: 5 * time.Second, state: backends.BreakerOpen, want: backends.FromTicket},
		"for a forgotten token, half-open":    {denial: deniedDecision(), tokenLife: 5 * time.Second, state: backends.BreakerHalfOpen, want: backends.FromTicket},
		"for a forgotten token, a slow store": {denial: deniedDecision(), tokenLife: 5 * time.Second, hangs: true, want: backends.FromTicket},
		"by a rule":                           {denial: rule, state: backends.BreakerOpen, want: backends.FromFailOpen},
		"by a rule, half-open":                {denial: rule, state: backends.BreakerHalfOpen, want: backends.FromFailOpen},
		"by a rule, a slow store":             {denial: rule, hangs: true, want: backends.FromFailOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, denying(test.denial))
				var isDown atomic.Bool
				store := &fakeCluster{beforeLease: func(ctx context.Context) error {
					if isDown.Load() && test.hangs {
						<-ctx.Done()
					}
					if isDown.Load() {
						return backends.ErrStoreUnavailable
					}
					return nil
				}}
				n := newNode(b, store, func(s *setup) {
					s.rules.TokenLife, s.Config.DenialTTL, s.StoreTimeout = test.tokenLife, time.Hour, 10*time.Second
				})
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				isDown.Store(true)
				b.setCheck(breakerOpen)
				b.health.Store(uint32(test.state))
				ticket := session.Ticket{Opened: time.Now().Add(-time.Minute).Truncate(time.Second), KeyID: "a"}
				n.showTicket(t, ticket, 5*time.Second, wantDenied(t))
				b.health.Store(uint32(backends.BreakerOpen))
				isDown.Store(false)
				n.showTicket(t, ticket, 5*time.Second, func(d backends.Decision) {
					if d.Verdict != backends.Allowed || d.Source != test.want {
						t.Fatalf("%v by %v, want it allowed by %v", d.Verdict, d.Source, test.want)
					}
				})
			})
		})
	}
}

// TestRegistry_Open_ReopensOnce_StoreUnavailable has a denied viewer show an older ticket while only the store is down. The backend denies
// them again, once.
func TestRegistry_Open_ReopensOnce_StoreUnavailable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		denial    backends.Decision
		tokenLife time.Duration
	}{
		"by a rule":             {denial: backends.LocalDecision(backends.Denied, "the account is disabled")},
		"for a forgotten token": {denial: deniedDecision(), tokenLife: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, denying(test.denial))
				var lookups atomic.Int32
				store := &fakeCluster{beforeLease: func(context.Context) error {
					lookups.Add(1)
					return backends.ErrStoreUnavailable
				}}
				n := newNode(b, store, func(s *setup) { s.rules.TokenLife, s.Config.DenialTTL = test.tokenLife, time.Hour })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				n.showTicket(t, session.Ticket{Opened: time.Now().Add(-time.Minute).Truncate(time.Second), KeyID: "a"}, time.Minute, wantDenied(t))
				if checks := b.checks.Load(); checks > 2 || lookups.Load() > 2 {
					t.Errorf("%d checks and %d look-ups, want two at most", checks, lookups.Load())
				}
			})
		})
	}
}

// TestRegistry_Open_ReopensKept has two requests of one viewer come during an outage: one opens the session again by its ticket, and the
// other would open another session in its place. Both wait for the same answer.
func TestRegistry_Open_ReopensKept(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denying(backends.LocalDecision(backends.Denied, "signed link has expired")))
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.isImpaired.Store(true)
		time.Sleep(DefaultConfig().DenialTTL + time.Second)
		b.setCheck(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			time.Sleep(300 * time.Millisecond)
			return allowedDecision(), nil
		})
		got := make(chan error)
		var s session.Handle
		go func() {
			var err error
			s, err = n.Open(t.Context(), ticketRequest(1, time.Now().Add(-time.Hour)))
			got <- err
		}()
		synctest.Wait()
		again, err := n.Open(t.Context(), openRequest(1))
		if err = cmp.Or(err, <-got); err != nil {
			t.Fatal(err)
		}
		if again != s || s.Decision().Verdict != backends.Allowed || b.checks.Load() != 2 {
			t.Errorf("%+v after %d checks, one session %t; want both allowed by the second check", s.Decision(), b.checks.Load(), again == s)
		}
	})
}

// TestRegistry_Reopen_Replaced has a ticket open a denied session again just before, or just after, another session takes its place. No
// request waits for an answer then that nobody brings.
func TestRegistry_Reopen_Replaced(t *testing.T) {
	t.Parallel()
	for name, isClosed := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, denying(backends.LocalDecision(backends.Denied, "signed link has expired")))
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				b.isImpaired.Store(true)
				b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
					time.Sleep(300 * time.Millisecond)
					return allowedDecision(), nil
				})
				s, ticket := n.table.find(idOf(1)), session.Ticket{Opened: time.Now().Add(-time.Hour), KeyID: "a"}
				if !isClosed {
					n.reopen(s, ticket)
				}
				n.actors.sendReplaced(s)
				synctest.Wait()
				if isClosed {
					n.reopen(s, ticket)
				}
				if s.opening.Load() != nil || !s.flags.has(flagClosed) {
					t.Errorf("closed %t, a request waits %t", s.flags.has(flagClosed), s.opening.Load() != nil)
				}
			})
		})
	}
}

// TestRegistry_Open_AddressOfShared counts an address only where the route shares the session and says which address it is.
func TestRegistry_Open_AddressOfShared(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
		defer n.closeAndDrain()
		n.watch(t, sharedRequest(1))
		unnamed := sharedRequest(2)
		unnamed.AddressID = backends.SessionID{}
		n.watch(t, openRequest(2)) // of one address
		named := openRequest(2)
		named.AddressID = idOf(1000)
		for _, o := range []session.OpenRequest{unnamed, named} {
			if _, err := n.Open(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		if shared, own := store.addresses.count(idOf(1)), store.addresses.count(idOf(2)); shared != 1 || own != 0 {
			t.Errorf("%d addresses of the shared session and %d of the other, want 1 and 0", shared, own)
		}
	})
}

// TestRegistry_LeaseTTL: a lease outlives the longest check, and an opening waits for another node's for less than its viewer
// does.
func TestRegistry_LeaseTTL(t *testing.T) {
	t.Parallel()
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
		s.rules.Timeout, s.rules.AnswerDeadline = 10*time.Second, 4*time.Second
	})
	defer n.Close()
	p := n.Registry.backend("portal").policy
	if p.LeaseTTL != 15*time.Second || p.LeaseWait != 3*time.Second {
		t.Errorf("a lease for %v, a wait for %v; want 15s and 3s", p.LeaseTTL, p.LeaseWait)
	}
}

func TestRegistry_Open_LogsNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: true}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		n.watch(t, siblingRequest(2, time.Now()))
		if log := n.log.String(); log != "" {
			t.Errorf("logged:\n%s", log)
		}
	})
}

// TestRegistry_Open_ReturningViewer_AskedAsOpening has the backend tell a viewer who waits from a re-check, also where their session
// was checked before.
func TestRegistry_Open_ReturningViewer_AskedAsOpening(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), 4*time.Minute, nil) // longer than the answer holds
		time.Sleep(10 * time.Minute)                          // the session closes, and the answer expires
		n.watch(t, openRequest(1))
		all := b.requests()
		if len(all) < 3 {
			t.Fatalf("%d checks, want an opening, re-checks, and another opening", len(all))
		}
		for i, r := range all {
			if isOpening := i == 0 || i == len(all)-1; r.request.IsRecheck == isOpening {
				t.Errorf("check %d, number %d: re-check %v, want %v", i, r.request.Number, r.request.IsRecheck, !isOpening)
			}
		}
		if last := all[len(all)-1]; last.request.Number == 0 {
			t.Error("the session that returns does not continue its numbers")
		}
	})
}
