package actors

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

func TestRegistry_IdleSession_RevivedFromStore(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, store, func(s *setup) { s.rules.Validity = time.Hour })
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), 10*time.Second, nil)
		before := n.Find(idOf(1))
		ticket := before.Ticket()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n.Find(idOf(1)) != nil || n.Len() != 0 {
			t.Fatalf("session still live after three idle minutes")
		}
		n.watch(t, ticketRequest(1, ticket.Opened))
		after := n.Find(idOf(1))
		if after == before || after.Ticket() != ticket {
			t.Errorf("revived with ticket %+v, want %+v", after.Ticket(), ticket)
		}
		if d := after.Decision(); *d != allowedDecision() || after.Request().Query != "token=s3cret" {
			t.Errorf("revived with %+v and query %q, want what was stored", *d, after.Request().Query)
		}
		if got := b.checks.Load(); got != 1 {
			t.Errorf("%d checks, want 1", got)
		}
		if log := n.log.String(); !strings.Contains(log, `msg="session closed"`) || !strings.Contains(log, "why=idle") ||
			!strings.Contains(log, "requests=10") {
			t.Errorf("no closing record of the idle session in:\n%s", log)
		}
	})
}

func TestRegistry_IdleSession_FoundUntilStored(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		save func(context.Context) error
		logs string
	}{
		"a store that hangs":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "closed session not stored"},
		"a store that fails":   {func(context.Context) error { return errBroken }, "closed session not stored"},
		"a store that is slow": {func(context.Context) error { time.Sleep(time.Second); return nil }, "session closed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				var saving atomic.Bool
				var n *node
				n = newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{beforeSave: func(ctx context.Context) error {
					saving.Store(n.Find(idOf(1)) != nil)
					return c.save(ctx)
				}}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if !saving.Load() {
					t.Error("session not found while it is stored")
				}
				if n.Find(idOf(1)) != nil {
					t.Error("session still found after it was stored")
				}
				if log := n.log.String(); !strings.Contains(log, c.logs) {
					t.Errorf("no %q in the log:\n%s", c.logs, log)
				}
			})
		})
	}
}

func TestRegistry_Restart_AdmitsYoungTickets(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		age    time.Duration
		policy func(*setup)
		want   backends.Verdict
		reason string
	}{
		"young":   {age: time.Hour, want: backends.Allowed},
		"too old": {age: 7 * time.Hour, want: backends.Denied, reason: "the ticket's session is unknown"},
		"young, but revival is denied": {
			age: time.Hour, policy: func(s *setup) { s.rules.ReviveDenied = true },
			want: backends.Denied, reason: "the ticket's session is unknown",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, nil)
				old := newNode(b, &fakeCluster{}, c.policy)
				opened := time.Now()
				old.watch(t, openRequest(1))
				old.closeAndDrain()
				time.Sleep(c.age)
				n := newNode(b, &fakeCluster{}, c.policy)
				defer n.closeAndDrain()
				d := n.watch(t, ticketRequest(1, opened))
				if d.Verdict != c.want || d.Source != backends.FromTicket || d.Reason != c.reason {
					t.Errorf("%v by %v (%q), want %v by ticket (%q)", d.Verdict, d.Source, d.Reason, c.want, c.reason)
				}
				if got := b.checks.Load(); got != 1 {
					t.Errorf("%d checks, want 1: before the restart", got)
				}
				synctest.Wait()
				if lives := n.Len() == 1; lives != (c.want == backends.Allowed) {
					t.Errorf("%d sessions live after %v", n.Len(), c.want)
				}
			})
		})
	}
}

func TestRegistry_TicketSession_CheckedOnceCredentialsArrive(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Query == "" {
				return deniedDecision(), nil // without credentials there must be no check
			}
			return allowedDecision(), nil
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		opened := time.Now().Add(-time.Hour)
		n.watch(t, ticketRequest(1, opened))
		n.keepWatching(t, ticketRequest(1, opened), 10*time.Minute, func(d backends.Decision) {
			if d.Source != backends.FromTicket {
				t.Fatalf("source %v, want ticket", d.Source)
			}
		})
		if got := b.checks.Load(); got != 0 {
			t.Fatalf("%d checks without credentials", got)
		}
		for range 3 {
			if _, err := n.Open(t.Context(), openRequest(1)); err != nil {
				t.Fatalf("open session: %v", err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if d := n.watch(t, ticketRequest(1, opened)); d != allowedDecision() {
			t.Errorf("decision %+v, want the backend's", d)
		}
		if got := n.Find(idOf(1)).Ticket(); !got.Opened.Equal(opened.Truncate(time.Second)) || got.KeyID != "a" {
			t.Errorf("ticket %+v, want the presented one", got)
		}
		if got := b.checks.Load(); got != 1 {
			t.Errorf("%d checks, want 1", got)
		}
		n.send(n.table.find(idOf(1)), sessionCreated{}) // panics; the rebuilt session must know that it has credentials
		n.keepWatching(t, ticketRequest(1, opened), 15*time.Second, nil)
		if got := b.checks.Load(); got != 2 {
			t.Errorf("%d checks after a panic, want 2", got)
		}
	})
}

func TestRegistry_DeniedSession_TicketRevoked(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number == 1 {
				return deniedDecision(), nil
			}
			return allowedDecision(), nil
		})
		n := newNode(b, store, nil)
		opened := time.Now()
		cut := false
		n.keepWatching(t, openRequest(1), 3*time.Minute, func(d backends.Decision) { cut = cut || d.Verdict == backends.Denied })
		if !cut {
			t.Fatal("viewer still allowed after the backend's denial")
		}
		if got := store.get(idOf(1)).RevokedBefore; !got.Equal(opened.Truncate(time.Second)) {
			t.Fatalf("revoked tickets up to %v, want %v", got, opened)
		}
		time.Sleep(5 * time.Minute) // the denial expires
		n.closeAndDrain()
		fresh := newNode(b, store, nil)
		defer fresh.closeAndDrain()
		if d := fresh.watch(t, ticketRequest(1, opened)); d.Verdict != backends.Denied {
			t.Errorf("the old ticket: %v, want denied", d.Verdict)
		}
		if d := fresh.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("credentials: %v, want allowed", d.Verdict)
		}
		again := fresh.Find(idOf(1)).Ticket().Opened
		if !again.After(opened) {
			t.Errorf("reopened with the opening time %v of the revoked ticket", again)
		}
		fresh.keepWatching(t, ticketRequest(1, again), time.Second, func(d backends.Decision) {
			if d.Verdict != backends.Allowed {
				t.Errorf("the new ticket: %v, want allowed", d.Verdict)
			}
		})
	})
}

func TestRegistry_Close_StoresRevocationInFlight(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		revoking := make(chan struct{})
		store := &fakeCluster{beforeRevoke: func(ctx context.Context) error {
			close(revoking)
			time.Sleep(500 * time.Millisecond)
			return ctx.Err()
		}}
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Number > 0 {
				return deniedDecision(), nil
			}
			return allowedDecision(), nil
		})
		n := newNode(b, store, func(s *setup) { s.Config.IdleTimeout = time.Hour })
		n.watch(t, openRequest(1))
		<-revoking
		n.closeAndDrain()
		if store.get(idOf(1)).RevokedBefore.IsZero() {
			t.Error("ticket of a session denied just before Close not revoked")
		}
	})
}

func TestRegistry_Close_StopsEverything(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	n := newNode(newFakeBackend(backends.PolicyAllow, func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.Session == idOf(0) {
			close(hanging)
			return hang(ctx, r)
		}
		return allowedDecision(), nil
	}), &fakeCluster{}, func(s *setup) { s.rules.AnswerDeadline = time.Hour })
	for i := range 100 {
		n.watch(t, openRequest(1+i))
	}
	waiting := make(chan error)
	go func() {
		_, err := n.Open(context.Background(), openRequest(0))
		waiting <- err
	}()
	<-hanging
	n.Close()
	if err := <-waiting; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("the waiting viewer got %v, want %v or a pending session", err, ErrClosed)
	}
	if _, err := n.Open(t.Context(), openRequest(999)); !errors.Is(err, ErrClosed) {
		t.Errorf("the late viewer got %v, want %v", err, ErrClosed)
	}
}

func TestRegistry_Close_WhileViewersOpen(t *testing.T) {
	t.Parallel()
	for round := range 20 {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		var all sync.WaitGroup
		for w := range 4 {
			all.Go(func() {
				for i := range 50 {
					s, err := n.Open(t.Context(), openRequest(w*1000+i))
					switch {
					case errors.Is(err, ErrClosed):
						return
					case err != nil:
						t.Errorf("open session: %v", err)
						return
					}
					s.Seen(time.Now(), true)
					n.Find(s.ID())
				}
			})
		}
		if round%2 == 0 {
			n.walk()
		}
		n.Close()
		all.Wait()
	}
}

// walk visits all sessions, as the admin API does.
func (n *node) walk() {
	n.Each(func(s session.Handle) bool {
		_ = s.Request().Channel
		return s.Requests() < 1000
	})
}

func TestSession_LastAsked_CoversRequestsInFlight(t *testing.T) {
	t.Parallel()
	s := bareSession(idOf(1))
	start := time.Now()
	s.policy().Start = start
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	s.Seen(at(1), false)
	s.Begin()
	s.Begin()
	s.End(at(5))
	if got := s.lastAsked(at(9)); !got.Equal(at(9)) {
		t.Errorf("with a request in flight: %v after the start, want 9s", got.Sub(start))
	}
	s.End(at(12))
	if got := s.lastAsked(at(20)); !got.Equal(at(12)) {
		t.Errorf("with none: %v after the start, want 12s", got.Sub(start))
	}
	s.Seen(at(30), false)
	if got := s.lastAsked(at(31)); !got.Equal(at(30)) {
		t.Errorf("with a new one: %v after the start, want 30s", got.Sub(start))
	}
}

func TestSession_Seen_UsesMonotonicClock(t *testing.T) {
	t.Parallel()
	s := bareSession(idOf(1))
	s.policy().Start = time.Now()
	s.Seen(s.policy().Start.Add(time.Minute), true)
	if got := s.LastSeen().Sub(s.policy().Start); got != time.Minute {
		t.Errorf("seen %v after the start, want 1m0s", got)
	}
	// The text of a time shows its monotonic reading, if it has one.
	if seen := s.LastSeen().String(); !strings.Contains(seen, " m=+") {
		t.Errorf("last seen at %s, which a stepped clock would move", seen)
	}
}
