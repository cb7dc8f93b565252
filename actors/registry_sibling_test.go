package actors

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// siblingRequest returns the opening of the sibling of that number, by the ticket of viewer 1.
func siblingRequest(i int, opened time.Time) session.OpenRequest {
	o := ticketRequest(i, opened)
	o.Root = idOf(1)
	o.Request.Path = "/play/a001/seg-17.ts"
	return o
}

// byAddress answers by the address of the viewer of that number.
func byAddress(allowed ...int) func(context.Context, *backends.Request) (backends.Decision, error) {
	return func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		for _, i := range allowed {
			if r.Address == openRequest(i).Request.Address {
				return allowedDecision(), nil
			}
		}
		return deniedDecision(), nil
	}
}

func TestRegistry_Open_Sibling_AskedWithRootFacts(t *testing.T) {
	t.Parallel()
	for name, isLive := range map[string]bool{"of a live root": true, "of a root in the store": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b, store := newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: true}
				opened := time.Now()
				root := openRequest(1)
				root.Request.Group, root.Request.Device = idOf(7), "box"
				if !isLive {
					store.set(session.Record{
						ID: idOf(1), Opened: opened.Truncate(time.Second), Decision: allowedDecision(), Request: root.Request, Expires: opened.Add(time.Minute),
					})
				}
				n := newNode(b, store, nil)
				defer n.closeAndDrain()
				if isLive {
					n.watch(t, root)
				}
				before := len(b.requests())
				if d := n.watch(t, siblingRequest(2, opened)); d.Verdict != backends.Allowed || d.Source != backends.FromBackend {
					t.Fatalf("got %+v, want the backend's yes", d)
				}
				checks := b.requests()[before:]
				if len(checks) != 1 {
					t.Fatalf("%d checks, want one", len(checks))
				}
				got := checks[0].request
				want := *root.Request
				want.Session, want.Address = idOf(2), openRequest(2).Request.Address
				if got.Session != want.Session || got.Address != want.Address || got.Query != want.Query || got.Path != want.Path ||
					got.Group != want.Group || got.Device != want.Device || got.Number != 0 {
					t.Errorf("checked %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestRegistry_Open_Sibling_DecidedForItself(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		allowed       int
		root, sibling backends.Verdict
	}{
		"an allowed root admits no refused address":  {1, backends.Allowed, backends.Denied},
		"a refused root does not refuse the address": {2, backends.Denied, backends.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(tc.allowed)), &fakeCluster{isShared: true}, nil)
				defer n.closeAndDrain()
				for range 3 {
					if d := n.watch(t, openRequest(1)); d.Verdict != tc.root {
						t.Errorf("the root is %v, want %v", d.Verdict, tc.root)
					}
					if d := n.watch(t, siblingRequest(2, time.Now())); d.Verdict != tc.sibling {
						t.Errorf("the sibling is %v, want %v", d.Verdict, tc.sibling)
					}
				}
				if got := n.backend.checks.Load(); got != 2 {
					t.Errorf("%d checks, want one for each address", got)
				}
			})
		})
	}
}

// TestRegistry_Open_Sibling_Renewed counts the checks of a viewer who plays at two addresses.
func TestRegistry_Open_Sibling_Renewed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
			s.rules.Validity, s.Config.Recheck.Jitter = time.Minute, 0
		})
		defer n.closeAndDrain()
		opened := time.Now()
		for range 630 {
			n.watch(t, openRequest(1))
			n.watch(t, siblingRequest(2, opened))
			time.Sleep(time.Second)
		}
		for i := 1; i <= 2; i++ {
			checks := 0
			for _, c := range n.backend.requests() {
				if c.request.Session == idOf(i) {
					checks++
				}
			}
			if want := 1 + 630/60; checks != want {
				t.Errorf("session %d is checked %d times in 630 s, want %d", i, checks, want)
			}
		}
	})
}

func TestRegistry_Open_Sibling_SpentToken_AdmittedByTicket(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, nil)
		n := newNode(b, &fakeCluster{}, func(s *setup) {
			s.rules.TokenLife, s.Config.PerUser.MaxStreams = 5*time.Second, 1
		})
		defer n.closeAndDrain()
		opened := time.Now()
		n.watch(t, openRequest(1))
		time.Sleep(10 * time.Second)
		d := n.watch(t, siblingRequest(2, opened))
		if d.Verdict != backends.Allowed || d.Source != backends.FromTicket || d.UserID != "17" {
			t.Errorf("got %+v, want an admission by ticket of the root's user", d)
		}
		if got := b.checks.Load(); got != 1 {
			t.Errorf("%d checks, want the root's alone: the backend has forgotten the token", got)
		}
		if s, _ := n.Find(idOf(2)).(*Session); s.stream.Load() == nil {
			t.Error("the sibling is a free stream")
		}
	})
}

func TestRegistry_Open_Sibling_Outage_AskedWhenItEnds(t *testing.T) {
	t.Parallel()
	for policy, want := range map[backends.Policy]backends.Source{
		backends.PolicyAllow: backends.FromFailOpen, backends.PolicyKeep: backends.FromTicket,
	} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(policy, nil)
				n := newNode(b, &fakeCluster{}, nil)
				defer n.closeAndDrain()
				opened := time.Now()
				n.watch(t, openRequest(1))
				b.health.Store(uint32(backends.BreakerOpen))
				b.setCheck(breakerOpen)
				if d := n.watch(t, siblingRequest(2, opened)); d.Verdict != backends.Allowed || d.Source != want {
					t.Errorf("during the outage got %v from %v, want allowed from %v", d.Verdict, d.Source, want)
				}
				b.setCheck(byAddress(1))
				b.health.Store(uint32(backends.BreakerClosed))
				var last backends.Decision
				n.keepWatching(t, siblingRequest(2, opened), 15*time.Second, func(d backends.Decision) { last = d })
				if last.Verdict != backends.Denied || last.Source != backends.FromBackend {
					t.Errorf("after the outage got %+v, want the backend's no", last)
				}
			})
		})
	}
}

// TestRegistry_Open_Sibling_StoreUnavailable_AskedWhenItRecovers has a sibling whose root only the store knows.
func TestRegistry_Open_Sibling_StoreUnavailable_AskedWhenItRecovers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		var isDown atomic.Bool
		isDown.Store(true)
		store := &fakeCluster{isShared: true, beforeLease: func(context.Context) error {
			if isDown.Load() {
				return backends.ErrStoreUnavailable
			}
			return nil
		}}
		opened := time.Now()
		store.set(session.Record{
			ID: idOf(1), Opened: opened.Truncate(time.Second), Decision: allowedDecision(), Request: openRequest(1).Request, Expires: opened.Add(time.Hour),
		})
		n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(1)), store, nil)
		defer n.closeAndDrain()
		if d := n.watch(t, siblingRequest(2, opened)); d.Verdict != backends.Allowed || d.Source != backends.FromTicket {
			t.Errorf("without facts got %+v, want an admission by ticket", d)
		}
		isDown.Store(false)
		n.OnRedisRecovered()
		var last backends.Decision
		n.keepWatching(t, siblingRequest(2, opened), 10*time.Second, func(d backends.Decision) { last = d })
		if last.Verdict != backends.Denied || last.Source != backends.FromBackend {
			t.Errorf("with the root's facts got %+v, want the backend's no", last)
		}
	})
}

func TestRegistry_Open_Sibling_TooManyAddresses_Overload(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		n := newNode(newFakeBackend(backends.PolicyAllow, byAddress(1, 3, 4, 5, 6)), store, func(s *setup) { s.Config.MaxAddresses = 3 })
		defer n.closeAndDrain()
		opened := time.Now()
		n.watch(t, openRequest(1))
		if d := n.watch(t, siblingRequest(2, opened)); d.Verdict != backends.Denied {
			t.Fatalf("the refused address is %v", d.Verdict)
		}
		synctest.Wait() // its place is free
		for i := 3; i <= 7; i++ {
			d := n.watch(t, siblingRequest(i, opened))
			if want := i > 4; (d.Verdict == backends.Pending) != want || want && !strings.Contains(d.Reason, "sessions.max_addresses=3") {
				t.Errorf("address %d: got %+v, want it to retry: %v", i, d, want)
			}
		}
		if got := n.backend.checks.Load(); got != 4 {
			t.Errorf("%d checks, want those of the root, of one that was refused and of two that play", got)
		}
		if got := strings.Count(n.log.String(), "ticket used from too many addresses"); got != 1 {
			t.Errorf("%d warnings, want one for the ticket", got)
		}
		if got := store.addresses.count(idOf(1)); got != 3 {
			t.Errorf("%d addresses count, want 3: one that was refused uses nothing", got)
		}
	})
}

func TestRegistry_Open_Sibling_RouteRefuses_Denied(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, nil)
		defer n.closeAndDrain()
		opened := time.Now()
		n.watch(t, openRequest(1))
		o := siblingRequest(2, opened)
		o.MaxAddresses = 1
		if d := n.watch(t, o); d.Verdict != backends.Denied || !strings.Contains(d.Reason, "on_new_address") {
			t.Errorf("got %+v, want a denial that names the setting", d)
		}
	})
}

func TestRegistry_Open_Sibling_DrawsOnRates(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}, func(s *setup) {
			s.Config.MaxAddresses = 50
			s.Config.OpenRatePerAddress, s.Config.OpenBurstPerAddress = 1, 2
		})
		defer n.closeAndDrain()
		opened := time.Now()
		bound := func(o session.OpenRequest) string {
			_, err := n.Open(t.Context(), o)
			overload, _ := errors.AsType[*backends.Overload](err)
			if overload == nil {
				return ""
			}
			return overload.Setting
		}
		bound(openRequest(1))
		for i := 2; i < 2+maxNewAddresses; i++ {
			if got := bound(siblingRequest(i, opened)); got != "" {
				t.Fatalf("new address %d meets %s", i, got)
			}
		}
		if got := bound(siblingRequest(40, opened)); !strings.HasPrefix(got, "new addresses of a ticket") {
			t.Errorf("one address too many a minute meets %q", got)
		}
		time.Sleep(time.Minute / maxNewAddresses)
		if got := bound(siblingRequest(40, opened)); got != "" {
			t.Errorf("the next address meets %s after its share of a minute", got)
		}
		other := siblingRequest(50, opened)
		other.Root, other.Request.Address = idOf(60), netip.MustParseAddr("198.51.100.9")
		bound(other)
		for i := 51; i <= 52; i++ {
			o := other
			r := *other.Request
			o.Request, r.Session = &r, idOf(i)
			if got, want := bound(o), map[int]string{51: "", 52: "sessions.open_rate_per_address"}[i]; got != want {
				t.Errorf("sibling %d of one address meets %q, want %q", i, got, want)
			}
		}
	})
}

// TestRegistry_Open_Sibling_RefusedAddress_Outage has a route that refuses new addresses meet another one during an outage. Once the
// ticket's own address is silent the viewer has moved there.
func TestRegistry_Open_Sibling_RefusedAddress_Outage(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]backends.BreakerState{
		"of a part": backends.BreakerClosed, "of the backend": backends.BreakerOpen, "that may be over": backends.BreakerHalfOpen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b, store := newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{}
				n := newNode(b, store, nil)
				defer n.closeAndDrain()
				n.watch(t, openRequest(1))
				moved := siblingRequest(2, time.Now())
				moved.MaxAddresses = 1
				b.health.Store(uint32(state))
				b.isImpaired.Store(true)
				n.keepWatching(t, moved, 2*time.Minute, func(d backends.Decision) {
					if d.Verdict != backends.Denied || d.Reason != backends.ReasonNewAddress {
						t.Fatalf("got %+v while the ticket's own address counts", d)
					}
				})
				store.addresses.report([]session.StreamEntry{{User: idOf(1).String(), Session: idOf(1), IsLeaving: true}})
				n.keepWatching(t, moved, DefaultConfig().DenialTTL+time.Second, nil)
				if d := n.watch(t, moved); d.Verdict != backends.Allowed {
					t.Errorf("got %+v once the ticket's own address is silent", d)
				}
			})
		})
	}
}
