package actors

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// panicsOnce makes a function that panics the first time it is called.
func panicsOnce() func() {
	var once sync.Once
	return func() { once.Do(func() { panic("a word of a viewer's: s3cret") }) }
}

func TestSessionActor_Panic_KeepsDecision(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), 10*time.Second, nil)
		s := n.Find(idOf(1))
		ticket := s.Ticket()
		n.send(s, sessionCreated{}) // its session is missing, so handling it panics
		synctest.Wait()
		checks := b.checks.Load()
		n.keepWatching(t, openRequest(1), 15*time.Second, func(d backends.Decision) {
			if d != allowedDecision() {
				t.Fatalf("decision %+v, want %+v", d, allowedDecision())
			}
		})
		if n.Find(idOf(1)) != s || s.Ticket() != ticket {
			t.Error("the viewer has another session or ticket than before the panic")
		}
		if got := b.checks.Load() - checks; got != 1 {
			t.Errorf("%d checks within %v of the panic, want 1", got, 15*time.Second)
		}
		if log := n.log.String(); strings.Count(log, "BUG: session actor panicked") != 1 || !strings.Contains(log, "session_actor.go") {
			t.Errorf("the log does not name the panic once, with its place:\n%s", log)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n.Len() != 0 {
			t.Error("the session does not end after the viewer left")
		}
	})
}

func TestSessionActor_PanicDuringOpening_Restarts(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit    func(*setup, *fakeBackend)
		arrival session.OpenRequest
		source  backends.Source
	}{
		"at its very start": {
			edit: func(s *setup, _ *fakeBackend) {
				boom := panicsOnce()
				s.SigningKey = func() string { boom(); return "a" }
			},
			arrival: openRequest(1), source: backends.FromBackend,
		},
		"of a viewer with a ticket alone": {
			edit: func(s *setup, _ *fakeBackend) {
				boom := panicsOnce()
				s.SigningKey = func() string { boom(); return "a" }
			},
			arrival: ticketRequest(1, time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC)), source: backends.FromTicket,
		},
		"when the policy is asked": {
			edit: func(_ *setup, b *fakeBackend) {
				b.beforeFallback = panicsOnce()
				b.check = hang
				b.health.Store(uint32(backends.BreakerOpen))
			},
			arrival: openRequest(1), source: backends.FromFailOpen,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, nil)
				n := newNode(b, &fakeCluster{}, func(s *setup) { c.edit(s, b) })
				defer n.closeAndDrain()
				start := time.Now()
				d := n.watch(t, c.arrival)
				if d.Verdict != backends.Allowed || d.Source != c.source || time.Since(start) != 0 {
					t.Errorf("%v by %v after %v, want allowed by %v at once", d.Verdict, d.Source, time.Since(start), c.source)
				}
				log := n.log.String()
				if !strings.Contains(log, "BUG: session actor panicked") || strings.Contains(log, "s3cret") {
					t.Errorf("the log does not name the panic, or quotes a viewer:\n%s", log)
				}
				if ticket := n.Find(idOf(1)).Ticket(); !c.arrival.Ticket.IsZero() && ticket != c.arrival.Ticket {
					t.Errorf("ticket %+v, want the one that the viewer has, %+v", ticket, c.arrival.Ticket)
				}
			})
		})
	}
}

func TestSessionActor_OpeningAlwaysPanics_GivesUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, hang)
		b.beforeFallback = func() { panic(errBroken) }
		b.health.Store(uint32(backends.BreakerOpen))
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		d := n.watch(t, openRequest(1))
		if d.Verdict != backends.Pending || d.Reason != session.ErrPanicked.Error() {
			t.Errorf("%v (%q), want pending (%q)", d.Verdict, d.Reason, session.ErrPanicked)
		}
		synctest.Wait()
		if got := b.checks.Load(); got != 1+maxRestarts {
			t.Errorf("the backend was asked %d times, want %d", got, 1+maxRestarts)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n.Len() != 0 {
			t.Error("the session does not end")
		}
	})
}

func TestSessionActor_BackendPanics_CheckFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			panic(r.Query)
		})
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Pending {
			t.Errorf("verdict %v, want pending", d.Verdict)
		}
		if log := n.log.String(); !strings.Contains(log, "BUG: backend check panicked") || strings.Contains(log, "s3cret") {
			t.Errorf("the log does not name the panic, or quotes a viewer:\n%s", log)
		}
	})
}
