package admission

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRate_LimitsSubscriber(t *testing.T) {
	t.Parallel()
	type attempt struct {
		from string
		at   time.Duration
		want bool
	}
	cases := map[string][]attempt{ // one a second, three at once
		"a burst, then the rate": {
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 0, false},
			{"192.0.2.1", time.Second, true},
			{"192.0.2.1", time.Second, false},
		},
		"a refusal costs nothing": {
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 0, true},
			{"192.0.2.1", 999 * time.Millisecond, false},
			{"192.0.2.1", time.Second, true},
		},
		"idle time saves up one burst at most": {
			{"192.0.2.1", 0, true},
			{"192.0.2.1", time.Hour, true},
			{"192.0.2.1", time.Hour, true},
			{"192.0.2.1", time.Hour, true},
			{"192.0.2.1", time.Hour, false},
		},
		"another subscriber has a rate of its own": {
			{"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"192.0.2.1", 0, false}, {"192.0.2.2", 0, true},
		},
		"an IPv6 subscriber is a /64": {
			{"2001:db8::1", 0, true},
			{"2001:db8::2", 0, true},
			{"2001:db8::ffff:3", 0, true},
			{"2001:db8::4", 0, false},
			{"2001:db8:0:1::1", 0, true},
		},
		"an IPv4-mapped IPv6 address is the IPv4 address": {
			{"::ffff:192.0.2.1", 0, true}, {"192.0.2.1", 0, true}, {"::ffff:192.0.2.1", 0, true}, {"192.0.2.1", 0, false},
		},
		"a zone makes no difference": {
			{"fe80::1%eth0", 0, true}, {"fe80::2%eth1", 0, true}, {"fe80::3", 0, true}, {"fe80::4%eth2", 0, false},
		},
	}
	for name, attempts := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := PerSecond(start(), 1, 3)
			for i, attempt := range attempts {
				if got := a.AllowAddress(netip.MustParseAddr(attempt.from), start().Add(attempt.at)); got != attempt.want {
					t.Errorf("attempt %d, from %s at %v: %v, want %v", i, attempt.from, attempt.at, got, attempt.want)
				}
			}
		})
	}
}

func TestRate_NoAddress_OneSubscriber(t *testing.T) {
	t.Parallel()
	a := PerSecond(start(), 1, 1)
	if first, second := a.AllowAddress(netip.Addr{}, start()), a.AllowAddress(netip.Addr{}, start()); !first || second {
		t.Errorf("allowed %v, then %v; want true, then false", first, second)
	}
}

func TestRate_Concurrent_Exact(t *testing.T) {
	t.Parallel()
	a := PerSecond(start(), 1, 100)
	var in atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if a.AllowAddress(netip.MustParseAddr("192.0.2.1"), start()) {
					in.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got := in.Load(); got != 100 {
		t.Errorf("%d of 400 allowed, want 100", got)
	}
}

func TestPerSecond(t *testing.T) {
	t.Parallel()
	a := PerSecond(start(), 4, 1)
	for at, want := range []bool{true, false, true, false, true} { // every eighth of a second
		if got := a.AllowAddress(netip.MustParseAddr("192.0.2.1"), start().Add(time.Duration(at)*time.Second/8)); got != want {
			t.Errorf("after %d/8 s: %v, want %v", at, got, want)
		}
	}
}
