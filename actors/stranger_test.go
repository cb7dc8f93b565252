package actors

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// unknown returns the opening of a viewer with a token that nobody else has.
func unknown(i int) session.OpenRequest {
	o := openRequest(i)
	o.Request.Query = fmt.Sprintf("token=made-up-%d", i)
	return o
}

// wantOver opens a session, which must meet the bound.
func wantOver(t *testing.T, n *node, o session.OpenRequest, want string) {
	t.Helper()
	_, err := n.Open(t.Context(), o)
	if over := (*backends.Overload)(nil); !errors.As(err, &over) || err.Error() != want {
		t.Errorf("session %v: got %v, want %s", o.Request.Session, err, want)
	}
}

// denyMadeUp denies all but the token of openRequest.
func denyMadeUp(_ context.Context, r *backends.Request) (backends.Decision, error) {
	d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, ValidFor: time.Minute}
	if r.Query != "token=s3cret" {
		d.Verdict = backends.Denied
	}
	return d, nil
}

func TestRegistry_Open_DeniedStrangers_Bounded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denyMadeUp)
		n := newNode(b, new(fakeCluster), func(s *setup) { s.Config.DeniedRatePerNetwork = 2 })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		for i := range 20 {
			if d := n.watch(t, unknown(2+i)); d.Verdict != backends.Denied {
				t.Fatalf("stranger %d: %v", i, d)
			}
		}
		for i := range 50 {
			wantOver(t, n, unknown(100+i), "overloaded: sessions.denied_rate_per_network=2 reached")
		}
		if asked := len(b.requests()); asked != 21 {
			t.Errorf("the backend was asked %d times, want 21", asked)
		}
		if n.Len() != 21 {
			t.Errorf("%d sessions, want 21: who is refused costs none", n.Len())
		}
		// At the same address: the same credentials on other channels, a ticket, and the session that plays.
		for i := range 50 {
			if d := n.watch(t, openRequest(200+i)); d.Verdict != backends.Allowed {
				t.Fatalf("a viewer who was allowed before: %v", d)
			}
		}
		if d := n.watch(t, ticketRequest(300, time.Now())); d.Verdict != backends.Allowed {
			t.Errorf("a viewer with a ticket: %v", d)
		}
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("the viewer who plays: %v", d)
		}
		time.Sleep(time.Second)
		n.watch(t, unknown(400))
	})
}

func TestRegistry_Open_IsStranger(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denyMadeUp)
		store := new(fakeCluster)
		n := newNode(b, store, nil)
		defer n.closeAndDrain()
		elsewhere := unknown(5)
		elsewhere.Request.Query = "token=of-another-node"
		n.OnKnown(n.opener.keyOf(n.Registry.backend("portal"), elsewhere.Request), time.Now())
		withBoth := ticketRequest(6, time.Now())
		withBoth.HasCredentials, withBoth.Request.Query = true, "token=with-a-ticket"
		for _, o := range []session.OpenRequest{openRequest(1), openRequest(2), unknown(3), unknown(4), elsewhere, withBoth} {
			n.watch(t, o)
		}
		var strangers []string
		for _, r := range b.requests() {
			if r.request.IsStranger {
				strangers = append(strangers, r.request.Query)
			}
		}
		if want := []string{"token=s3cret", "token=made-up-3", "token=made-up-4"}; !slices.Equal(strangers, want) {
			t.Errorf("asked about the strangers %q, want %q", strangers, want)
		}
		if want := []uint64{n.opener.keyOf(n.Registry.backend("portal"), openRequest(1).Request)}; !slices.Equal(store.told(), want) {
			t.Errorf("the other nodes were told of %v, want %v", store.told(), want)
		}
	})
}

// TestRegistry_Open_DeniedViewer_IsStrangerAgain has the account of a known viewer end.
func TestRegistry_Open_DeniedViewer_IsStrangerAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denyMadeUp)
		n := newNode(b, new(fakeCluster), nil)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
		})
		n.watch(t, openRequest(2))
		n.watch(t, openRequest(3))
		all := b.requests()
		if last := all[len(all)-1]; !last.request.IsStranger {
			t.Error("a viewer who was denied is known")
		}
	})
}

// TestRegistry_Open_TokensThatEnd_AddressIsKnown has each opening show a token of its own, as after a Ministra portal's.
func TestRegistry_Open_TokensThatEnd_AddressIsKnown(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, ValidFor: time.Minute}, nil
		})
		n := newNode(b, new(fakeCluster), func(s *setup) { s.rules.TokenLife = 5 * time.Second })
		defer n.closeAndDrain()
		for i, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"} {
			o := unknown(i)
			o.Request.Address = netip.MustParseAddr(address)
			n.watch(t, o)
		}
		var got []bool
		for _, r := range b.requests() {
			got = append(got, r.request.IsStranger)
		}
		if want := []bool{true, false, true, true, false}; !slices.Equal(got, want) {
			t.Errorf("strangers: %v, want %v", got, want)
		}
	})
}

// TestRegistry_Open_StrangersWhoWait_LeavePlaces has a backend hang while strangers come.
func TestRegistry_Open_StrangersWhoWait_LeavePlaces(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyKeep, denyMadeUp)
		n := newNode(b, new(fakeCluster), func(s *setup) { s.Config.MaxPending, s.Config.StrangerShare = 10, 30 })
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		b.setCheck(hang)
		results := make(chan error, 10)
		for i := range 3 {
			go func() {
				_, err := n.Open(t.Context(), unknown(10+i))
				results <- err
			}()
		}
		time.Sleep(time.Millisecond)
		sessions := n.Len()
		wantOver(t, n, unknown(20), "overloaded: sessions.stranger_share_percent=30 reached")
		wantOver(t, n, unknown(10), "overloaded: sessions.stranger_share_percent=30 reached") // waits for a session that others open
		if n.Len() != sessions {
			t.Errorf("%d sessions, want %d: who is refused costs none", n.Len(), sessions)
		}
		b.setCheck(denyMadeUp)
		if d := n.watch(t, openRequest(30)); d.Verdict != backends.Allowed {
			t.Errorf("a viewer who was allowed before: %v", d)
		}
		for range 3 {
			<-results //nolint:errcheck // who leaves last is not asked about
		}
	})
}

// TestRegistry_Open_Shed has memory run out for strangers, then for all.
func TestRegistry_Open_Shed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, denyMadeUp)
		var strangers, all bool
		n := newNode(b, new(fakeCluster), func(s *setup) {
			s.Shed = func(isStranger bool) error {
				if all || strangers && isStranger {
					return backends.NewOverload("limits.memory_high_water_percent", 80)
				}
				return nil
			}
		})
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		strangers = true
		wantOver(t, n, unknown(2), "overloaded: limits.memory_high_water_percent=80 reached")
		n.watch(t, openRequest(3))
		all = true
		wantOver(t, n, openRequest(4), "overloaded: limits.memory_high_water_percent=80 reached")
		wantOver(t, n, ticketRequest(5, time.Now()), "overloaded: limits.memory_high_water_percent=80 reached")
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Allowed {
			t.Errorf("the viewer who plays: %v", d)
		}
		strangers, all = false, false
		n.watch(t, unknown(6))
	})
}

// TestRegistry_Open_StrangerAllowedLate_GivenBack has a slow backend allow strangers after they were told to retry. What they drew on
// is there for others then.
func TestRegistry_Open_StrangerAllowedLate_GivenBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyKeep, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			time.Sleep(1500 * time.Millisecond)
			return allowedDecision(), nil
		})
		n := newNode(b, new(fakeCluster), func(s *setup) { s.Config.DeniedRatePerNetwork = 1 })
		defer n.closeAndDrain()
		var viewers sync.WaitGroup
		for i := range 10 {
			viewers.Go(func() {
				if d := n.watch(t, unknown(1+i)); d.Verdict != backends.Pending {
					t.Errorf("stranger %d: %v, want pending", i, d.Verdict)
				}
			})
		}
		viewers.Wait()
		time.Sleep(time.Second)
		for i := range 10 {
			viewers.Go(func() {
				if _, err := n.Open(t.Context(), unknown(100+i)); err != nil {
					t.Errorf("stranger %d: %v, want that the ones before take no place", i, err)
				}
			})
		}
		viewers.Wait()
	})
}

// TestRegistry_Open_SlowBackend_BoundsStrangers has a backend deny strangers whom the outage policy has admitted meanwhile. It is asked
// about no more of them than where it answers at once.
func TestRegistry_Open_SlowBackend_BoundsStrangers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			r.OnSent()
			time.Sleep(1500 * time.Millisecond)
			return deniedDecision(), nil
		})
		n := newNode(b, new(fakeCluster), func(s *setup) { s.Config.DeniedRatePerNetwork = 2 })
		defer n.closeAndDrain()
		const seconds, each = 10, 20
		for i := range seconds {
			for j := range each {
				go func() { _, _ = n.Open(t.Context(), unknown(1+i*each+j)) }()
			}
			time.Sleep(time.Second)
		}
		if got, most := b.checks.Load(), int64(2*(10+seconds)); got > most {
			t.Errorf("the backend was asked about %d strangers, want %d at most", got, most)
		}
	})
}

// TestRegistry_Open_DeniedSibling_RootStaysKnown has a ticket be refused at another address. Its own viewer is no stranger for that.
func TestRegistry_Open_DeniedSibling_RootStaysKnown(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]int{"by the backend": 0, "by the route": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				b := newFakeBackend(backends.PolicyAllow, byAddress(1))
				n := newNode(b, new(fakeCluster), nil)
				defer n.closeAndDrain()
				opened := time.Now()
				n.watch(t, openRequest(1))
				o := siblingRequest(2, opened)
				o.MaxAddresses = most
				n.watch(t, o)
				zap := openRequest(1)
				zap.Request.Session, zap.Request.Channel = idOf(3), "a002"
				n.watch(t, zap)
				all := b.requests()
				if last := all[len(all)-1].request; last.Channel != "a002" || last.IsStranger {
					t.Errorf("asked at last about %+v, want the other channel of a viewer who is known", last)
				}
			})
		})
	}
}
