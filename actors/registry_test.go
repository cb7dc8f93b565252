package actors

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestRegistry_Open_ConcurrentRequests_OneCheck(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
		<-release
		return allowedDecision(), nil
	})
	n := newNode(b, &fakeCluster{}, func(s *setup) {
		s.rules.AnswerDeadline = time.Minute
		s.Config.OpenRatePerAddress, s.Config.OpenBurstPerAddress = 1, 1 // one session counts once, however many requests open it
	})
	defer n.Close()
	const many = 1000
	sessions := make([]session.Handle, many)
	var all, started sync.WaitGroup
	started.Add(many)
	for i := range many {
		all.Go(func() {
			started.Done()
			s, err := n.Open(t.Context(), openRequest(1))
			if err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
			sessions[i] = s
		})
	}
	started.Wait()
	close(release)
	all.Wait()
	for i, s := range sessions {
		if s != sessions[0] {
			t.Fatalf("request %d got another session", i)
		}
	}
	if got := b.checks.Load(); got != 1 {
		t.Errorf("%d checks, want 1", got)
	}
	if got := sessions[0].Decision().UserID; got != "17" {
		t.Errorf("user %q, want 17", got)
	}
}

func TestRegistry_Open_DeniedRetries_NoCheck(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return deniedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, func(s *setup) { s.Config.DenialTTL = 5 * time.Second })
		defer n.closeAndDrain()
		for range 100 { // ten times a second for ten seconds
			if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
				t.Fatalf("verdict %v, want denied", d.Verdict)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := b.checks.Load(); got != 2 {
			t.Errorf("%d checks in ten seconds, want 2", got)
		}
	})
}

func TestRegistry_Open_ViewerLeaves_OthersKeepWaiting(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyKeep, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			select {
			case <-time.After(500 * time.Millisecond):
				return allowedDecision(), nil
			case <-ctx.Done():
				return backends.Decision{}, ctx.Err()
			}
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := n.Open(leaving, openRequest(1))
			left <- err
		}()
		synctest.Wait()
		leave()
		began := time.Now()
		if err := <-left; !errors.Is(err, context.Canceled) || time.Since(began) != watchDelay {
			t.Errorf("the leaving viewer got %v after %v, want %v after %v", err, time.Since(began), context.Canceled, watchDelay)
		}
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("the staying viewer got %v, want allowed", d.Verdict)
		}
		if got := b.checks.Load(); got != 1 {
			t.Errorf("%d checks, want 1", got)
		}
	})
}

func TestRegistry_Open_WaitsAnswerDeadline(t *testing.T) {
	t.Parallel()
	slowAnswer := func(d backends.Decision) func(context.Context, *backends.Request) (backends.Decision, error) {
		return func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			time.Sleep(5 * time.Second)
			return d, nil
		}
	}
	queued := func(ctx context.Context, _ *backends.Request) (backends.Decision, error) { // it never calls OnSent
		<-ctx.Done()
		return backends.Decision{}, ctx.Err()
	}
	hangingStore := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	cases := map[string]struct {
		policy   backends.Policy
		check    func(context.Context, *backends.Request) (backends.Decision, error)
		health   backends.BreakerState
		load     func(context.Context) error
		deadline time.Duration // 0: one second
		waits    time.Duration
		want     backends.Verdict
		source   backends.Source
		later    backends.Verdict // after ten seconds
	}{
		"a backend that hangs, and allow": {
			policy: backends.PolicyAllow, check: hang, waits: time.Second,
			want: backends.Allowed, source: backends.FromFailOpen, later: backends.Allowed,
		},
		"a backend that hangs, and keep": {
			policy: backends.PolicyKeep, check: hang, waits: time.Second,
			want: backends.Pending, later: backends.Pending,
		},
		"a backend that hangs, and deny": {
			policy: backends.PolicyDeny, check: hang, waits: time.Second,
			want: backends.Denied, source: backends.FromFailOpen, later: backends.Denied,
		},
		"a late allowed counts": {
			policy: backends.PolicyDeny, check: slowAnswer(allowedDecision()), waits: time.Second,
			want: backends.Denied, source: backends.FromFailOpen, later: backends.Allowed,
		},
		"a late denied counts": {
			policy: backends.PolicyAllow, check: slowAnswer(deniedDecision()), waits: time.Second,
			want: backends.Allowed, source: backends.FromFailOpen, later: backends.Denied,
		},
		"a store that hangs too is no overload": {
			policy: backends.PolicyAllow, check: hang, load: hangingStore, deadline: 500 * time.Millisecond,
			waits: 500 * time.Millisecond,
			want:  backends.Allowed, source: backends.FromFailOpen, later: backends.Allowed,
		},
		"a queue of this node is an overload": {
			policy: backends.PolicyAllow, check: queued, waits: time.Second,
			want: backends.Pending, later: backends.Pending,
		},
		"an open breaker: no viewer waits": {
			policy: backends.PolicyAllow, check: hang, health: backends.BreakerOpen, waits: 0,
			want: backends.Allowed, source: backends.FromFailOpen, later: backends.Allowed,
		},
		"a half-open breaker: no viewer waits": {
			policy: backends.PolicyKeep, check: hang, health: backends.BreakerHalfOpen, waits: 0,
			want: backends.Pending, later: backends.Pending,
		},
		"an open breaker: the check runs all the same": {
			policy: backends.PolicyAllow, check: slowAnswer(deniedDecision()), health: backends.BreakerHalfOpen, waits: 0,
			want: backends.Allowed, source: backends.FromFailOpen, later: backends.Denied,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(c.policy, c.check)
				b.health.Store(uint32(c.health))
				n := newNode(b, &fakeCluster{beforeLease: c.load}, func(s *setup) {
					s.rules.AnswerDeadline = cmp.Or(c.deadline, time.Second)
				})
				defer n.closeAndDrain()
				start := time.Now()
				d := n.watch(t, openRequest(1))
				if got := time.Since(start); got != c.waits {
					t.Errorf("waited %v, want %v", got, c.waits)
				}
				if d.Verdict != c.want || d.Source != c.source {
					t.Errorf("%v by %v, want %v by %v", d.Verdict, d.Source, c.want, c.source)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if d := n.watch(t, openRequest(1)); d.Verdict != c.later {
					t.Errorf("%v after ten seconds, want %v", d.Verdict, c.later)
				}
				if got := b.checks.Load(); got != 1 {
					t.Errorf("%d checks, want 1", got)
				}
			})
		})
	}
}

func TestSessionOpener_Await_BrokenActor_Overload(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, hang), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		g := n.Registry.backend("portal")
		s := n.opener.spawn(g, openRequest(1), admitted{}) // its actor gets no message
		start := time.Now()
		err := n.opener.await(t.Context(), g, s)
		n.actors.stop(s) // not in the table, so Close does not know it
		if !backends.IsOverload(err) || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v, want an overload after 2s", err, time.Since(start))
		}
	})
}

func TestRegistry_Renewal_ViewerNeverWaits(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number > 0 {
				time.Sleep(3 * time.Second) // no viewer waits for it
			}
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), time.Hour, func(d backends.Decision) {
			if d.Verdict != backends.Allowed || d.Source != backends.FromBackend {
				t.Fatalf("%v by %v, want allowed by the backend", d.Verdict, d.Source)
			}
		})
		asks := b.requests()
		if got := len(asks); got < 20 || got > 23 { // 3 minutes less up to 10 %
			t.Errorf("%d checks in an hour, want 20 to 23", got)
		}
		for i, a := range asks {
			current := backends.Decision{}
			if i > 0 {
				current = allowedDecision()
			}
			if a.request.Number != i || a.request.Current != current || a.request.Opened != asks[0].request.Opened {
				t.Fatalf("check %d: number %d, current %+v, opened %v", i, a.request.Number, a.request.Current, a.request.Opened)
			}
		}
		s := n.Find(idOf(1))
		if got := s.Requests(); got != 3600 {
			t.Errorf("%d requests counted, want 3600", got)
		}
	})
}

func TestRegistry_Open_BoundsReached_Overload(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit   func(*Config)
		before []session.OpenRequest
		then   session.OpenRequest
		want   string // empty: admitted
	}{
		"the node is full": {
			edit: func(c *Config) { c.Max = 2 }, before: []session.OpenRequest{openRequest(1), openRequest(2)}, then: openRequest(3),
			want: "overloaded: sessions.max=2 reached",
		},
		"the node is full, known viewer": {
			edit: func(c *Config) { c.Max = 2 }, before: []session.OpenRequest{openRequest(1), openRequest(2)}, then: openRequest(2),
		},
		"too many from one address": {
			edit: func(c *Config) { c.OpenRatePerAddress, c.OpenBurstPerAddress = 1, 2 }, before: []session.OpenRequest{sameAddress(1), sameAddress(2)}, then: sameAddress(3),
			want: "overloaded: sessions.open_rate_per_address=1 reached",
		},
		"a ticket is not counted": {
			edit: func(c *Config) { c.OpenRatePerAddress, c.OpenBurstPerAddress = 1, 2 }, before: []session.OpenRequest{sameAddress(1), sameAddress(2)}, then: ticketSameAddress(3),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) { c.edit(&s.Config) })
				defer n.closeAndDrain()
				for _, a := range c.before {
					n.watch(t, a)
				}
				got := ""
				if _, err := n.Open(t.Context(), c.then); err != nil {
					got = err.Error()
				}
				if got != c.want {
					t.Errorf("error %q, want %q", got, c.want)
				}
				if lives := n.Find(c.then.Request.Session) != nil; lives != (c.want == "") {
					t.Errorf("session lives: %v, want %v", lives, c.want == "")
				}
			})
		})
	}
}

// sameAddress returns the opening of a viewer; all have one address.
func sameAddress(i int) session.OpenRequest {
	a := openRequest(i)
	a.Request.Address = openRequest(0).Request.Address
	return a
}

func ticketSameAddress(i int) session.OpenRequest {
	a := sameAddress(i)
	a.HasCredentials, a.Ticket = false, session.Ticket{Opened: time.Now(), KeyID: "a"}
	return a
}

func TestRegistry_Open_TooManyPending_Overload(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, hang), &fakeCluster{}, func(s *setup) { s.Config.MaxPending, s.Config.StrangerShare = 3, 100 })
		defer n.closeAndDrain()
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() { n.watch(t, openRequest(i)) })
		}
		synctest.Wait()
		_, err := n.Open(t.Context(), openRequest(4))
		if err == nil || err.Error() != "overloaded: sessions.max_pending=3 reached" {
			t.Errorf("error %v, want overloaded: sessions.max_pending=3 reached", err)
		}
		all.Wait()
		n.watch(t, openRequest(5)) // a slot is free again
	})
}

func TestRegistry_Open_UnknownBackend_Error(t *testing.T) {
	t.Parallel()
	n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
	defer n.Close()
	unknown, noSession := openRequest(1), openRequest(1)
	unknown.Request.Backend = "elsewhere"
	noSession.Request.Session = backends.SessionID{}
	for name, a := range map[string]session.OpenRequest{"unknown backend": unknown, "no session": noSession} {
		if _, err := n.Open(t.Context(), a); !errors.Is(err, ErrUnknownBackend) {
			t.Errorf("%s: %v, want %v", name, err, ErrUnknownBackend)
		}
	}
	if got := n.Len(); got != 0 {
		t.Errorf("%d sessions, want none", got)
	}
}
