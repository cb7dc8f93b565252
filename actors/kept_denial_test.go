package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestRegistry_KeptDenial_PaidSince has viewers who were denied while a part of their backend is down pay, and ask on. The part that is
// left allows them.
func TestRegistry_KeptDenial_PaidSince(t *testing.T) {
	t.Parallel()
	for name, hasWatched := range map[string]bool{"they watched before": true, "they did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var isUnpaid atomic.Bool
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					if isUnpaid.Load() {
						return deniedDecision(), nil
					}
					return allowedDecision(), nil
				})
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				b.isImpaired.Store(true)
				isUnpaid.Store(!hasWatched)
				n.watch(t, openRequest(1))
				isUnpaid.Store(true)
				n.keepWatching(t, openRequest(1), 4*time.Minute, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
					t.Fatalf("got %+v, want denied", d)
				}
				n.keepWatching(t, openRequest(1), time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied {
						t.Fatalf("got %+v while they have not paid", d)
					}
				})
				isUnpaid.Store(false)
				n.keepWatching(t, openRequest(1), 2*DefaultConfig().DenialTTL, nil)
				if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
					t.Errorf("got %+v, want allowed", d)
				}
			})
		})
	}
}

// watchAll has one viewer make a request to each node every second for the given time, and calls each with each decision.
func watchAll(t *testing.T, nodes []*node, during time.Duration, each func(node int, d backends.Decision)) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Second) {
		for i, n := range nodes {
			each(i, n.watch(t, openRequest(1)))
		}
	}
}

// TestRegistry_KeptDenial_CheckedByOneNode has a denied viewer ask on five nodes while a part of their backend is down. The part that is
// left denies them too, or is not enough to say: then each node finds that out for itself, as it may be the only one with an outage.
func TestRegistry_KeptDenial_CheckedByOneNode(t *testing.T) {
	t.Parallel()
	for name, isUnanswered := range map[string]bool{"denied again": false, "without an answer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
					time.Sleep(100 * time.Millisecond)
					if isUnanswered && !r.IsUnknown() {
						return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
					}
					return deniedDecision(), nil
				})
				b.isImpaired.Store(true)
				store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
				var nodes []*node
				for range 5 {
					nodes = append(nodes, newNode(b, store, nil))
				}
				const during = 10 * time.Minute
				watchAll(t, nodes, during, func(_ int, d backends.Decision) {
					if d.Verdict != backends.Denied {
						t.Fatalf("got %+v, want denied", d)
					}
				})
				most := int64(during/DefaultConfig().DenialTTL) + 1
				if isUnanswered {
					most *= int64(len(nodes))
				}
				if got := b.checks.Load(); got > most {
					t.Errorf("%d checks of one viewer on five nodes, want at most %d", got, most)
				}
				for _, n := range nodes {
					n.closeAndDrain()
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_OutageOfOneNode has a denied viewer pay and ask on two nodes, of which one alone cannot reach a part of the
// backend, so that it gets no answer on who was denied. What it keeps is its own.
func TestRegistry_KeptDenial_OutageOfOneNode(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isPaid atomic.Bool
		answer := func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if isPaid.Load() {
				return allowedDecision(), nil
			}
			return deniedDecision(), nil
		}
		inOutage := newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if !r.IsUnknown() {
				return backends.Decision{}, &backends.Failure{Kind: backends.FailureBreakerOpen, Backend: "portal"}
			}
			return deniedDecision(), nil
		})
		inOutage.isImpaired.Store(true)
		store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
		nodes := []*node{newNode(inOutage, store, nil), newNode(newFakeBackend(backends.PolicyAllow, answer), store, nil)}
		watch := func(during time.Duration) []backends.Decision {
			last := make([]backends.Decision, len(nodes))
			watchAll(t, nodes, during, func(node int, d backends.Decision) { last[node] = d })
			return last
		}
		for i, d := range watch(time.Minute) {
			if d.Verdict != backends.Denied {
				t.Errorf("node %d: %+v before they have paid", i, d)
			}
		}
		isPaid.Store(true)
		for i, d := range watch(3 * DefaultConfig().DenialTTL) {
			if d.Verdict != backends.Allowed {
				t.Errorf("node %d: %+v, want allowed by the node that can ask", i, d)
			}
		}
		for _, n := range nodes {
			n.closeAndDrain()
		}
	})
}

// TestRegistry_KeptDenial_CutOnce has a viewer who was cut ask on while a part of their backend is down, and the part that is left denies
// them each time. Their ticket is revoked once: other nodes would look all their sessions up if they were told too often.
func TestRegistry_KeptDenial_CutOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isCut atomic.Bool
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			if isCut.Load() {
				return deniedDecision(), nil
			}
			return allowedDecision(), nil
		})
		b.isImpaired.Store(true)
		store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}}
		n := newNode(b, store, nil)
		n.watch(t, openRequest(1))
		isCut.Store(true)
		n.keepWatching(t, openRequest(1), 10*time.Minute, nil)
		n.closeAndDrain()
		if got := b.checks.Load(); got < 20 {
			t.Errorf("%d checks, want one after each denial_ttl", got)
		}
		if got := len(store.announced); got != 1 {
			t.Errorf("%d revocations are announced, want 1", got)
		}
	})
}

// TestRegistry_KeptDenial_NotOpenedAnew has a viewer ask on who shows nothing that a backend could be asked about, or other credentials
// beside the session's ticket, or whom a bound keeps from opening the session anew. They stay denied.
func TestRegistry_KeptDenial_NotOpenedAnew(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*session.OpenRequest, *Config){
		"a ticket alone": func(r *session.OpenRequest, _ *Config) {
			r.HasCredentials, r.Ticket = false, session.Ticket{Opened: time.Now().Add(-time.Minute), KeyID: "a"}
		},
		"other credentials beside the ticket": func(r *session.OpenRequest, _ *Config) {
			r.Request.Group, r.Ticket = idOf(9), session.Ticket{Opened: time.Now().Add(-time.Minute), KeyID: "a"}
		},
		"too many denied viewers": func(_ *session.OpenRequest, c *Config) { c.DeniedRate, c.DeniedRatePerNetwork = 1, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return deniedDecision(), nil
				})
				b.isImpaired.Store(true)
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				again := openRequest(1)
				c := *n.opener.config.Load()
				edit(&again, &c)
				n.opener.follow(c)
				spend := func() {
					for i := 100; c.DeniedRate == 1 && i < 120; i++ {
						_, _ = n.Open(t.Context(), openRequest(i))
					}
				}
				for range 5 * 60 {
					spend()
					before := b.checks.Load()
					if d := n.watch(t, again); d.Verdict != backends.Denied || d.Source != backends.FromBackend {
						t.Fatalf("got %+v, want the denial", d)
					}
					if got := b.checks.Load() - before; got != 0 {
						t.Fatalf("%d checks", got)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_OldYes has a viewer denied who watched once, or whom another node admits in an outage of its own. As long as
// nobody allows them the outage does not let them in.
func TestRegistry_KeptDenial_OldYes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		isShared, isClosed, isHalfOpen bool
		source                         backends.Source
		expires                        time.Duration
		after                          bool // it is stored after the denial
	}{
		"one node, closed":                 {isClosed: true, expires: -time.Minute, source: backends.FromBackend},
		"one node, closed, half-open":      {isClosed: true, isHalfOpen: true, expires: -time.Minute, source: backends.FromBackend},
		"one node, not closed":             {expires: -time.Minute, source: backends.FromBackend},
		"of many, closed":                  {isShared: true, isClosed: true, expires: -time.Minute, source: backends.FromBackend, after: true},
		"of many, not closed":              {isShared: true, expires: -time.Minute, source: backends.FromBackend, after: true},
		"of many, another's outage":        {isShared: true, expires: time.Hour, source: backends.FromFailOpen, after: true},
		"of many, another's ticket":        {isShared: true, expires: time.Hour, source: backends.FromTicket, after: true},
		"of many, another's half of a yes": {isShared: true, expires: time.Hour, source: backends.FromCached, after: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
					return deniedDecision(), nil
				})
				store := &fakeCluster{isShared: test.isShared, leases: map[backends.SessionID]time.Time{}}
				storeYes := func() {
					d := allowedDecision()
					d.Source = test.source
					store.set(session.Record{
						ID: idOf(1), Opened: time.Now().Add(-time.Hour), KeyID: "a", Decision: d, Expires: time.Now().Add(test.expires), IsClosed: test.isClosed,
					})
				}
				if !test.after {
					storeYes()
				}
				n := newNode(b, store, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				if test.after {
					storeYes()
				}
				b.setCheck(breakerOpen)
				b.isImpaired.Store(true)
				if test.isHalfOpen {
					b.health.Store(uint32(backends.BreakerHalfOpen))
				}
				n.keepWatching(t, openRequest(1), 2*time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied {
						t.Fatalf("got %+v, want denied", d)
					}
				})
			})
		})
	}
}

// denying answers with the denial.
func denying(d backends.Decision) func(context.Context, *backends.Request) (backends.Decision, error) {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil }
}

// showTicket has the viewer make a request every second for the given time, with credentials and a ticket, and calls each with each
// decision.
func (n *node) showTicket(t *testing.T, ticket session.Ticket, during time.Duration, each func(backends.Decision)) {
	t.Helper()
	o := openRequest(1)
	o.Ticket = ticket
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Second) {
		s, err := n.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Seen(time.Now(), true)
		each(*s.Decision())
	}
}

func wantDenied(t *testing.T) func(backends.Decision) {
	t.Helper()
	return func(d backends.Decision) {
		t.Helper()
		if d.Verdict != backends.Denied {
			t.Fatalf("got %+v, want denied", d)
		}
	}
}

// TestRegistry_KeptDenial_RevokedTicket has a viewer be cut, and show the revoked ticket beside their credentials during an outage.
func TestRegistry_KeptDenial_RevokedTicket(t *testing.T) {
	t.Parallel()
	byRule := backends.LocalDecision(backends.Denied, "the account is disabled")
	for name, test := range map[string]struct {
		denial    backends.Decision
		tokenLife time.Duration
		// isReplaced: another session takes the place of the one that was cut, as a part of the backend is down first.
		isReplaced, isHalfOpen bool
		panics                 bool // the actor does so as the ticket opens the session again
	}{
		"by a rule":                                 {denial: byRule},
		"by a rule, panics":                         {denial: byRule, panics: true},
		"by a rule, replaced":                       {denial: byRule, isReplaced: true},
		"by a rule, replaced, half-open":            {denial: byRule, isReplaced: true, isHalfOpen: true},
		"for a forgotten token":                     {denial: deniedDecision(), tokenLife: 4 * time.Minute},
		"for a forgotten token, half-open":          {denial: deniedDecision(), tokenLife: 4 * time.Minute, isHalfOpen: true},
		"for a forgotten token, replaced":           {denial: deniedDecision(), tokenLife: 4 * time.Minute, isReplaced: true},
		"for a forgotten token, replaced half-open": {denial: deniedDecision(), tokenLife: 4 * time.Minute, isReplaced: true, isHalfOpen: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, nil)
				var isArmed atomic.Bool
				b.beforeFallback = func() {
					if isArmed.CompareAndSwap(true, false) {
						panic("once")
					}
				}
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.TokenLife = test.tokenLife })
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				revoked := n.Find(idOf(1)).Ticket()
				b.setCheck(denying(test.denial))
				b.isImpaired.Store(test.isReplaced)
				n.keepWatching(t, openRequest(1), 5*time.Minute, nil)
				b.setCheck(breakerOpen)
				b.health.Store(uint32(backends.BreakerOpen))
				if test.isHalfOpen {
					b.health.Store(uint32(backends.BreakerHalfOpen))
				}
				n.keepWatching(t, openRequest(1), time.Minute, wantDenied(t))
				b.health.Store(uint32(backends.BreakerOpen))
				isArmed.Store(test.panics)
				n.showTicket(t, revoked, time.Minute, wantDenied(t))
				if isArmed.Load() {
					t.Error("no panic")
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_SpentMeanwhile has the token of a ticket that was denied expire while an outage keeps the denial. The backend knew
// the token when it denied that, so the ticket admits nobody.
func TestRegistry_KeptDenial_SpentMeanwhile(t *testing.T) {
	t.Parallel()
	for name, isAlone := range map[string]bool{"shown always": false, "shown first and last": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, denying(deniedDecision()))
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.TokenLife = time.Hour })
				defer n.closeAndDrain()
				ticket := session.Ticket{Opened: time.Now().Add(-59 * time.Minute).Truncate(time.Second), KeyID: "a"}
				n.showTicket(t, ticket, time.Second, wantDenied(t))
				b.isImpaired.Store(true)
				b.setCheck(breakerOpen)
				if isAlone {
					n.keepWatching(t, openRequest(1), 3*time.Minute, wantDenied(t))
				}
				n.showTicket(t, ticket, 5*time.Minute, wantDenied(t))
				b.setCheck(nil)
				var last backends.Decision
				n.showTicket(t, ticket, 2*DefaultConfig().DenialTTL, func(d backends.Decision) { last = d })
				if last.Verdict != backends.Allowed || last.Source != backends.FromBackend {
					t.Errorf("got %+v, want the answer of the part that is left", last)
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_OlderTicket has a viewer show a ticket from before the denial, of which that says nothing: the session was lost
// since, and the backend has forgotten its token. So it is in an outage, too.
func TestRegistry_KeptDenial_OlderTicket(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]time.Duration{"at once": 0, "after other openings": 5 * DefaultConfig().DenialTTL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, denying(deniedDecision()))
				n := newNode(b, &fakeCluster{}, func(s *setup) { s.rules.TokenLife = time.Hour })
				defer n.closeAndDrain()
				b.isImpaired.Store(true)
				n.watch(t, openRequest(1))
				n.keepWatching(t, openRequest(1), asked, wantDenied(t))
				time.Sleep(20 * time.Second)
				n.showTicket(t, session.Ticket{Opened: time.Now().Add(-2 * time.Hour), KeyID: "a"}, 2*time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Allowed || d.Source != backends.FromTicket {
						t.Fatalf("got %+v, want admitted by the ticket", d)
					}
				})
			})
		})
	}
}

// TestRegistry_KeptDenial_RevokedTicket_StoreUnavailable has a viewer be cut on one node, and show the revoked ticket on another that has
// denied them as well, while nobody can tell that it is revoked.
func TestRegistry_KeptDenial_RevokedTicket_StoreUnavailable(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const life = 4 * time.Minute
		b := newFakeBackend(backends.PolicyAllow, nil)
		var isDown atomic.Bool
		store := &fakeCluster{isShared: true, leases: map[backends.SessionID]time.Time{}, beforeLease: func(context.Context) error {
			if isDown.Load() {
				return backends.ErrStoreUnavailable
			}
			return nil
		}}
		short := func(s *setup) { s.rules.TokenLife = life }
		n1, n2 := newNode(b, store, short), newNode(b, store, short)
		defer n1.closeAndDrain()
		defer n2.closeAndDrain()
		n1.watch(t, openRequest(1))
		revoked := n1.Find(idOf(1)).Ticket()
		b.setCheck(denying(deniedDecision()))
		for n1.watch(t, openRequest(1)).Verdict != backends.Denied {
			time.Sleep(time.Second)
		}
		n2.keepWatching(t, openRequest(1), life, wantDenied(t))
		isDown.Store(true)
		n2.showTicket(t, revoked, 3*time.Second, wantDenied(t))
	})
}

// TestRegistry_KeptDenial_Kicked has an operator end the session of a viewer whom a backend has denied in an outage. They stay denied once
// the kick is over.
func TestRegistry_KeptDenial_Kicked(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denying(deniedDecision()))
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(breakerOpen)
		b.health.Store(uint32(backends.BreakerOpen))
		n.keepWatching(t, openRequest(1), time.Minute, wantDenied(t))
		n.OnRevocation(session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("")})
		n.keepWatching(t, openRequest(1), 5*time.Minute, wantDenied(t))
	})
}

// TestRegistry_KeptDenial_Sibling has a ticket be used at an address that the backend denies while a part of it is down, and allows since.
// The viewer shows the ticket alone there, and their session has the root's credentials, also once the root is gone.
func TestRegistry_KeptDenial_Sibling(t *testing.T) {
	t.Parallel()
	for name, isRootGone := range map[string]bool{"of a root that plays": false, "of a root that is gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, byAddress(1))
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				opened := time.Now()
				b.isImpaired.Store(true)
				n.watch(t, openRequest(1))
				during := func(span time.Duration, each func(backends.Decision)) {
					n.keepWatching(t, siblingRequest(2, opened), span, func(d backends.Decision) {
						if !isRootGone {
							n.watch(t, openRequest(1))
						}
						each(d)
					})
				}
				during(5*time.Minute, wantDenied(t))
				b.setCheck(breakerOpen)
				during(time.Minute, wantDenied(t))
				b.setCheck(nil)
				var last backends.Decision
				during(2*DefaultConfig().DenialTTL, func(d backends.Decision) { last = d })
				if last.Verdict != backends.Allowed || last.Source != backends.FromBackend {
					t.Errorf("got %+v, want the answer of the part that is left", last)
				}
			})
		})
	}
}

// TestRegistry_KeptDenial_SlowYes has a viewer pay whom the backend allows later than denials are remembered.
func TestRegistry_KeptDenial_SlowYes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.DenialTTL, s.rules.Timeout = 5*time.Second, 10*time.Second })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.isImpaired.Store(true)
		b.setCheck(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			time.Sleep(8 * time.Second)
			return allowedDecision(), nil
		})
		n.keepWatching(t, openRequest(1), 20*time.Second, nil)
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed || b.checks.Load() != 2 {
			t.Errorf("got %+v after %d checks, want allowed by the second one", d, b.checks.Load())
		}
	})
}

// TestRegistry_KeptDenial_FullNode has viewers who are denied fill a node whose breaker is half-open. Their sessions may be replaced.
func TestRegistry_KeptDenial_FullNode(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.Max = 1 })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.health.Store(uint32(backends.BreakerHalfOpen))
		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) { return allowedDecision(), nil })
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed || n.Len() != 1 {
			t.Errorf("got %+v, %d sessions, want the half-open breaker's probe to allow them", d, n.Len())
		}
	})
}

// panicsOnce panics when it is told that a session has ended.
type panicsOnce struct {
	noObserver

	isArmed atomic.Bool
}

func (o *panicsOnce) Decided(_ *backends.Request, _, after *backends.Decision) {
	if after == nil && o.isArmed.CompareAndSwap(true, false) {
		panic("once")
	}
}

// TestRegistry_KeptDenial_Panic has the actor of a session that was replaced panic as it ends. It ends all the same, or Close would wait.
func TestRegistry_KeptDenial_Panic(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		b.isImpaired.Store(true)
		o := new(panicsOnce)
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Observer = o })
		n.watch(t, openRequest(1))
		o.isArmed.Store(true)
		n.keepWatching(t, openRequest(1), time.Minute, nil)
		if o.isArmed.Load() {
			t.Error("no session was replaced")
		}
		n.closeAndDrain()
	})
}

// TestRegistry_KeptDenial_NotInOutage has a denied viewer ask on without pause, and their backend fail before it is known to be down. Once
// denial_ttl is over they are a new viewer.
func TestRegistry_KeptDenial_NotInOutage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(breakerOpen)
		for end := time.Now().Add(2 * DefaultConfig().DenialTTL); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			n.watch(t, openRequest(1))
		}
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed || d.Source != backends.FromFailOpen {
			t.Errorf("got %+v, want admitted by the outage policy", d)
		}
	})
}

// TestRegistry_KeptDenial_DeniedRate has many denied viewers ask while a part of their backend is down. Each check costs a look-up in the
// store, where there is one.
func TestRegistry_KeptDenial_DeniedRate(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]*fakeCluster{
		"one node": {}, "one of many": {isShared: true, leases: map[backends.SessionID]time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testKeptDenialDeniedRate(t, store)
		})
	}
}

func testKeptDenialDeniedRate(t *testing.T, store *fakeCluster) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		b.isImpaired.Store(true)
		const rate, seconds = 20, 120
		n := newNode(b, store, func(s *setup) { s.Config.DeniedRate = rate })
		defer n.closeAndDrain()
		for range seconds {
			for i := range 500 {
				if s, err := n.Open(t.Context(), openRequest(i)); err == nil {
					s.Seen(time.Now(), true)
				}
			}
			time.Sleep(time.Second)
		}
		const saved = 10 * rate // seconds of it are saved up
		if got := b.checks.Load(); got > rate*seconds+saved {
			t.Errorf("%d checks in %d s, want at most %d a second after %d", got, seconds, rate, saved)
		}
		store.mu.Lock()
		lookups := store.loads
		store.mu.Unlock()
		if lookups > rate*seconds+saved {
			t.Errorf("%d look-ups in %d s, want at most %d a second after %d", lookups, seconds, rate, saved)
		}
		for _, r := range b.requests() {
			if r.request.IsRecheck || r.request.Current.Verdict == backends.Denied && !r.request.IsStranger {
				t.Fatalf("a viewer who is denied waits as %+v, want as a stranger", r.request)
			}
		}
	})
}

// TestRegistry_KeptDenial_AllowedAtRecovery has more viewers who were denied pay during an outage than strangers may be denied. A half-open
// breaker's probes allow them all: what each of them drew on is given back, though the answer comes after their denial was shown.
func TestRegistry_KeptDenial_AllowedAtRecovery(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denying(deniedDecision()))
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		const viewers = 50
		for i := range viewers {
			n.watch(t, unknown(i))
		}
		c := *n.opener.config.Load()
		c.DeniedRate, c.DeniedRatePerNetwork = 1, 1
		n.opener.follow(c)
		b.health.Store(uint32(backends.BreakerHalfOpen))
		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(50 * time.Millisecond)
			return allowedDecision(), nil
		})
		time.Sleep(DefaultConfig().DenialTTL + time.Second)
		for i := range viewers {
			n.watch(t, unknown(i))
			time.Sleep(100 * time.Millisecond)
			if d := n.watch(t, unknown(i)); d.Verdict != backends.Allowed {
				t.Fatalf("viewer %d: %+v, want allowed", i, d)
			}
		}
	})
}
