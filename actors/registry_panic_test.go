package actors

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// panicOnce returns a function that panics at its first call.
func panicOnce() func() {
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
		s := n.table.find(idOf(1))
		ticket := s.Ticket()
		n.send(s, sessionCreated{}) // its session is missing, so handling it panics
		synctest.Wait()
		checks := b.checks.Load()
		n.keepWatching(t, openRequest(1), 15*time.Second, func(d backends.Decision) {
			if d != allowedDecision() {
				t.Fatalf("decision %+v, want %+v", d, allowedDecision())
			}
		})
		if n.table.find(idOf(1)) != s || s.Ticket() != ticket {
			t.Error("another session or ticket than before the panic")
		}
		if got := b.checks.Load() - checks; got != 1 {
			t.Errorf("%d checks within %v of the panic, want 1", got, 15*time.Second)
		}
		if log := n.log.String(); strings.Count(log, "BUG: session actor panicked") != 1 || !strings.Contains(log, "session_actor.go") {
			t.Errorf("the log does not name the panic once, with its source line:\n%s", log)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n.Len() != 0 {
			t.Error("session still live after the viewer left")
		}
	})
}

func TestSessionActor_PanicDuringOpening_Restarts(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit    func(*setup, *fakeBackend)
		request session.OpenRequest
		source  backends.Source
	}{
		"at the start": {
			edit: func(s *setup, _ *fakeBackend) {
				boom := panicOnce()
				s.SigningKey = func() string { boom(); return "a" }
			},
			request: openRequest(1), source: backends.FromBackend,
		},
		"of a viewer with a ticket alone": {
			edit: func(s *setup, _ *fakeBackend) {
				boom := panicOnce()
				s.SigningKey = func() string { boom(); return "a" }
			},
			request: ticketRequest(1, time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC)), source: backends.FromTicket,
		},
		"in the outage policy": {
			edit: func(_ *setup, b *fakeBackend) {
				b.beforeFallback = panicOnce()
				b.check = hang
				b.health.Store(uint32(backends.BreakerOpen))
			},
			request: openRequest(1), source: backends.FromFailOpen,
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
				d := n.watch(t, c.request)
				if d.Verdict != backends.Allowed || d.Source != c.source || time.Since(start) != 0 {
					t.Errorf("%v by %v after %v, want allowed by %v at once", d.Verdict, d.Source, time.Since(start), c.source)
				}
				log := n.log.String()
				if !strings.Contains(log, "BUG: session actor panicked") || strings.Contains(log, "s3cret") {
					t.Errorf("the log does not name the panic, or quotes a viewer:\n%s", log)
				}
				if ticket := n.Find(idOf(1)).Ticket(); !c.request.Ticket.IsZero() && ticket != c.request.Ticket {
					t.Errorf("ticket %+v, want the presented one, %+v", ticket, c.request.Ticket)
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
			t.Errorf("%d checks, want %d", got, 1+maxRestarts)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n.Len() != 0 {
			t.Error("session still live")
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

// brokenObserver panics when it is told of a decision, while it is broken.
type brokenObserver struct {
	noObserver
	isBroken atomic.Bool
}

func (o *brokenObserver) Decided(*backends.Request, *backends.Decision, *backends.Decision) {
	if o.isBroken.Load() {
		panic(errBroken)
	}
}

// TestSessionActor_AlwaysPanics_Dropped drops a session whose state cannot be rebuilt. It counts nowhere any more, and its viewer can
// open it again.
func TestSessionActor_AlwaysPanics_Dropped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		o := new(brokenObserver)
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			d := allowedDecision()
			d.MaxSessions = 1
			return d, nil
		})
		n := newNode(b, new(fakeCluster), func(s *setup) { s.Observer = o })
		defer n.closeAndDrain()
		n.keepWatching(t, openRequest(1), 10*time.Second, nil)
		s := n.table.find(idOf(1))
		s.decision.Store(nil)       // what it would be rebuilt from
		n.send(s, sessionCreated{}) // its session is missing, so handling it panics
		synctest.Wait()
		channel, all := n.Viewers("a001")
		if n.Len() != 0 || channel != 0 || all != 0 {
			t.Errorf("%d sessions, %d viewers of the channel and %d in all, want none", n.Len(), channel, all)
		}
		if s.stream.Load() != nil {
			t.Error("the session has a stream")
		}
		o.isBroken.Store(true)
		start := time.Now()
		if d := n.watch(t, openRequest(2)); d.Verdict != backends.Pending || time.Since(start) != 0 {
			t.Errorf("a viewer whose opening always panics: %v after %v, want pending at once", d.Verdict, time.Since(start))
		}
		o.isBroken.Store(false)
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("the viewer who comes back: %v", d.Verdict)
		}
	})
}
