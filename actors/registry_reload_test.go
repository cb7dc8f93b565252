package actors

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// options returns a backend with rules such as a reload gives it.
func (n *node) options(b *fakeBackend, validity time.Duration) BackendOptions {
	return BackendOptions{Backend: b, Rules: BackendRules{Validity: validity, RecheckRate: 200, AnswerDeadline: time.Second}}
}

// TestRegistry_Reload_KeepsDecisions: a reload causes no check, and the next one is made by the new settings.
func TestRegistry_Reload_KeepsDecisions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		backends map[string]bool // by name; true: another one than before
		instead  string          // the route's, of "portal"
		want     string          // the backend that is asked next
	}{
		"the same settings":          {map[string]bool{"portal": false}, "", "old"},
		"other settings":             {map[string]bool{"portal": true}, "", "new"},
		"another backend":            {map[string]bool{"portal": false, "other": true}, "other", "new"},
		"another and the old gone":   {map[string]bool{"other": true}, "other", "new"},
		"the route is gone":          {map[string]bool{"portal": false}, "", "old"},
		"route and backend are gone": {map[string]bool{"other": true}, "", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				was, next := newFakeBackend(backends.PolicyKeep, nil), newFakeBackend(backends.PolicyKeep, nil)
				n := newNode(was, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				s := n.table.find(idOf(1))
				all := map[string]BackendOptions{}
				for name, isNew := range test.backends {
					all[name] = n.options(was, 2*time.Minute)
					if isNew {
						all[name] = n.options(next, 2*time.Minute)
					}
				}
				n.Reload(DefaultConfig(), all, insteadOf("portal", test.instead))()
				synctest.Wait()
				if d := s.Decision(); was.checks.Load() != 1 || next.checks.Load() != 0 || d.Verdict != backends.Allowed {
					t.Fatalf("after the reload: %d and %d checks, %v", was.checks.Load(), next.checks.Load(), d.Verdict)
				}
				n.watchFor(s, 3*time.Minute)
				got := map[[2]bool]string{{true, false}: "old", {false, true}: "new", {false, false}: "none"}[[2]bool{was.checks.Load() > 1, next.checks.Load() > 0}]
				if got != test.want {
					t.Errorf("asked %q next, want %q", got, test.want)
				}
				if d := s.Decision(); d.Verdict != backends.Allowed {
					t.Errorf("got %v, want allowed", d.Verdict)
				}
			})
		})
	}
}

// insteadOf returns that the route has a backend in place of another one.
func insteadOf(old, now string) func(route, backend string) string {
	return func(route, backend string) string {
		if route == "play" && backend == old {
			return now
		}
		return ""
	}
}

// watchFor has the session's viewer ask for something each second.
func (n *node) watchFor(s interface {
	Seen(now time.Time, isPlaylist bool)
}, d time.Duration,
) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.Seen(time.Now(), true)
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

// TestRegistry_Reload_QueueOfMoved: sessions that wait for a backend that is down are checked by the one that replaces it.
func TestRegistry_Reload_QueueOfMoved(t *testing.T) {
	t.Parallel()
	for name, replaced := range map[string]string{"by another name": "other", "by the same name": "portal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				down, next := newFakeBackend(backends.PolicyAllow, nil), newFakeBackend(backends.PolicyAllow, nil)
				n := newNode(down, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				s := n.table.find(idOf(1))
				down.health.Store(uint32(backends.BreakerOpen))
				n.watchFor(s, 4*time.Minute)
				if got := n.RechecksWaiting("portal"); got != 1 {
					t.Fatalf("%d sessions wait, want 1", got)
				}
				all := map[string]BackendOptions{"portal": n.options(down, time.Minute)}
				all[replaced] = n.options(next, time.Minute)
				n.Reload(DefaultConfig(), all, insteadOf("portal", replaced))()
				n.watchFor(s, 2*time.Second)
				if next.checks.Load() != 1 || n.RechecksWaiting("portal")+n.RechecksWaiting(replaced) != 0 {
					t.Errorf("%d checks, want 1; %d wait", next.checks.Load(), n.RechecksWaiting("portal"))
				}
				if d := s.Decision(); d.Source != backends.FromBackend || s.Request().Backend != replaced {
					t.Errorf("got %v of %q, want a backend's answer of %q", d.Source, s.Request().Backend, replaced)
				}
			})
		})
	}
}

// TestRegistry_Reload_PolicyDeny: an outage policy that denies reaches also those whom the outage has kept or let in.
func TestRegistry_Reload_PolicyDeny(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		replacement string
		isShared    bool
	}{
		"on_failure has changed":               {replacement: "portal"},
		"on_failure has changed on many nodes": {replacement: "portal", isShared: true},
		"the route has another backend":        {replacement: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b, strict := newFakeBackend(backends.PolicyAllow, nil), newFakeBackend(backends.PolicyDeny, breakerOpen)
				n := newNode(b, &fakeCluster{isShared: test.isShared}, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				b.setCheck(breakerOpen)
				for _, down := range []*fakeBackend{b, strict} {
					down.health.Store(uint32(backends.BreakerOpen))
				}
				of := func(i int, backend string) session.OpenRequest {
					o := openRequest(i)
					o.Request.Backend = backend
					return o
				}
				watchBoth := func(backend string, want backends.Verdict) {
					t.Helper()
					n.keepWatching(t, of(1, backend), 4*time.Minute, func(backends.Decision) { n.watch(t, of(2, backend)) })
					for i := 1; i <= 2; i++ {
						if d := n.watch(t, of(i, backend)); d.Verdict != want {
							t.Errorf("viewer %d: %v by %v, want %v", i, d.Verdict, d.Source, want)
						}
					}
				}
				watchBoth("portal", backends.Allowed)
				all := map[string]BackendOptions{"portal": n.options(b, time.Minute)}
				o := n.options(strict, time.Minute)
				o.Rules.ReviveDenied = true
				all[test.replacement] = o
				n.Reload(DefaultConfig(), all, insteadOf("portal", test.replacement))()
				watchBoth(test.replacement, backends.Denied)
			})
		})
	}
}

// TestRegistry_Reload_Bounds: the bounds of sessions are those of the new settings.
func TestRegistry_Reload_Bounds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		c := DefaultConfig()
		c.Max = 1
		n.Reload(c, map[string]BackendOptions{"portal": n.options(b, time.Minute)}, insteadOf("", ""))()
		if _, err := n.Open(t.Context(), openRequest(2)); !backends.IsOverload(err) {
			t.Errorf("got %v, want an overload of sessions.max", err)
		}
		c.Max = 2
		n.Reload(c, map[string]BackendOptions{"portal": n.options(b, time.Minute)}, insteadOf("", ""))()
		n.watch(t, openRequest(2))
	})
}

// TestRegistry_Reload_Unfinished: while requests are served by the old settings, they open sessions of their backends.
func TestRegistry_Reload_Unfinished(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		was, next := newFakeBackend(backends.PolicyDeny, nil), newFakeBackend(backends.PolicyDeny, nil)
		n := newNode(was, &fakeCluster{}, nil)
		defer n.closeAndDrain()
		finish := n.Reload(DefaultConfig(), map[string]BackendOptions{"other": n.options(next, time.Minute)}, insteadOf("portal", "other"))
		n.watch(t, openRequest(1))
		s := n.table.find(idOf(1))
		if was.checks.Load()+next.checks.Load() != 1 || s.Decision().Verdict != backends.Allowed {
			t.Fatalf("%d and %d checks, %v", was.checks.Load(), next.checks.Load(), s.Decision().Verdict)
		}
		finish()
		synctest.Wait()
		if got := s.Request().Backend; got != "other" {
			t.Errorf("the session is of %q, want other", got)
		}
	})
}

// TestRegistry_Reload_WhileOpening: viewers come while the settings are reloaded, and each is checked once and admitted.
func TestRegistry_Reload_WhileOpening(t *testing.T) {
	t.Parallel()
	answer := func(context.Context, *backends.Request) (backends.Decision, error) { return allowedDecision(), nil }
	was, next := newFakeBackend(backends.PolicyDeny, answer), newFakeBackend(backends.PolicyDeny, answer)
	n := newNode(was, &fakeCluster{}, nil)
	defer n.Close()
	ended := make(chan error, 1)
	const viewers = 500
	go func() {
		var failed error
		for i := range viewers {
			s, err := n.Open(t.Context(), openRequest(i+1))
			if err != nil || s.Decision().Verdict != backends.Allowed {
				failed = err
			}
		}
		ended <- failed
	}()
	for i := 0; ; i++ {
		of := []*fakeBackend{was, next}[i%2]
		n.Reload(DefaultConfig(), map[string]BackendOptions{"portal": n.options(of, time.Minute)}, insteadOf("", ""))()
		select {
		case err := <-ended:
			if got := was.checks.Load() + next.checks.Load(); err != nil || got != viewers {
				t.Errorf("%d checks of %d viewers, %v", got, viewers, err)
			}
			n.table.each(func(s *Session) bool {
				if s.backend.Load() != n.Registry.backend("portal") {
					t.Error("a session follows settings that are not in force")
				}
				return true
			})
			return
		default:
		}
	}
}

// movedObserver counts sessions by backend and verdict, as metrics do.
type movedObserver struct {
	noObserver

	mu        sync.Mutex
	counts    map[string]int
	decisions int
}

func (o *movedObserver) Decided(r *backends.Request, before, after *backends.Decision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before != nil {
		o.counts[r.Backend+" "+before.Verdict.String()]--
	}
	if after != nil {
		o.counts[r.Backend+" "+after.Verdict.String()]++
		o.decisions++
	}
}

func (o *movedObserver) Moved(r *backends.Request, from string, d *backends.Decision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[from+" "+d.Verdict.String()]--
	o.counts[r.Backend+" "+d.Verdict.String()]++
}

// TestRegistry_Reload_CountsMoved: what is counted of a session by its backend moves with it, whether it is decided on anew
// before it is renamed, shows credentials meanwhile, or closes. Only what was decided counts as a decision.
func TestRegistry_Reload_CountsMoved(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		byTicket  bool
		do        func(t *testing.T, n *node)
		want      map[string]int
		decisions int
	}{
		"it plays on": {false, func(*testing.T, *node) {}, map[string]int{"other allowed": 1}, 1},
		"it is kicked": {false, func(_ *testing.T, n *node) {
			n.OnRevocation(session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("")})
		}, map[string]int{"other denied": 1}, 2},
		"it shows its credentials": {true, func(t *testing.T, n *node) {
			n.watch(t, openRequest(1))
		}, map[string]int{"other allowed": 1}, 1},
		"it closes": {false, func(*testing.T, *node) { time.Sleep(5 * time.Minute) }, map[string]int{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				o := &movedObserver{counts: map[string]int{}}
				was, next := newFakeBackend(backends.PolicyAllow, nil), newFakeBackend(backends.PolicyAllow, nil)
				n := newNode(was, &fakeCluster{}, func(s *setup) { s.Observer = o })
				defer n.closeAndDrain()
				first := openRequest(1)
				if test.byTicket {
					first = ticketRequest(1, time.Now())
				}
				n.watch(t, first)
				finish := n.Reload(DefaultConfig(), map[string]BackendOptions{"other": n.options(next, time.Minute)}, insteadOf("portal", "other"))
				test.do(t, n)
				finish()
				synctest.Wait()
				got := map[string]int{}
				for key, count := range o.counts {
					if count != 0 {
						got[key] = count
					}
				}
				if !maps.Equal(got, test.want) || o.decisions != test.decisions {
					t.Errorf("counted %v by %d decisions, want %v by %d", got, o.decisions, test.want, test.decisions)
				}
			})
		})
	}
}

// TestRegistry_Reload_RemovedBackend_DenialEnds has a backend go with its route. Nobody asks for the sessions that it denied, so none
// stays.
func TestRegistry_Reload_RemovedBackend_DenialEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, byAddress()) // it denies all
		n := newNode(b, new(fakeCluster), nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		other := n.options(newFakeBackend(backends.PolicyAllow, nil), time.Minute)
		n.Reload(DefaultConfig(), map[string]BackendOptions{"other": other}, insteadOf("x", "y"))()
		time.Sleep(time.Minute)
		if got := n.Len(); got != 0 {
			t.Errorf("%d sessions a minute later, want none", got)
		}
	})
}
