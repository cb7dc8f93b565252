package admission

import (
	"net/netip"
	"testing"
	"time"

	"usher/backends"
)

func start() time.Time { return time.Unix(1_700_000_000, 0) }

// wide are limits that nobody meets.
func wide() Limits {
	const many = 1_000_000
	return Limits{
		Rate: many, Burst: many, RatePerAddress: many, BurstPerAddress: many, RatePerNetwork: many, BurstPerNetwork: many,
		DeniedRate: many, DeniedRatePerNetwork: many, StrangerShare: 50,
	}
}

func viewerAt(address string) Viewer { return Viewer{Address: netip.MustParseAddr(address)} }

func strangerAt(address string) Viewer {
	v := viewerAt(address)
	v.IsStranger = true
	return v
}

func ticketAt(address string) Viewer {
	v := viewerAt(address)
	v.HasTicket = true
	return v
}

// open opens so many sessions at once, and returns how many passed, and the last bound that was met.
func open(g *Gate, n int, v Viewer, now time.Time) (passed int, over string) {
	for range n {
		if _, o := g.Open(v, now); o != nil {
			over = o.Error()
			continue
		}
		passed++
	}
	return passed, over
}

func TestGate_Open_EachBound(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		edit   func(*Limits)
		viewer Viewer
		passed int
		over   string
	}{
		"an address": {
			func(l *Limits) { l.RatePerAddress, l.BurstPerAddress = 1, 10 }, viewerAt("192.0.2.1"), 10, "overloaded: sessions.open_rate_per_address=1 reached",
		},
		"a network": {
			func(l *Limits) { l.RatePerNetwork, l.BurstPerNetwork = 2, 10 }, viewerAt("192.0.2.1"), 10, "overloaded: sessions.open_rate_per_network=2 reached",
		},
		"the node": {
			func(l *Limits) { l.Rate, l.Burst = 3, 10 }, viewerAt("192.0.2.1"), 10, "overloaded: sessions.open_rate=3 reached",
		},
		"strangers of a network have their share": {
			func(l *Limits) { l.RatePerNetwork, l.BurstPerNetwork = 2, 10 }, strangerAt("192.0.2.1"), 5, "overloaded: sessions.open_rate_per_network=2 reached",
		},
		"strangers of the node have their share": {
			func(l *Limits) { l.Rate, l.Burst = 3, 10 }, strangerAt("192.0.2.1"), 5, "overloaded: sessions.open_rate=3 reached",
		},
		"strangers of a network who are not allowed": {
			func(l *Limits) { l.DeniedRatePerNetwork = 2 }, strangerAt("192.0.2.1"), 20, "overloaded: sessions.denied_rate_per_network=2 reached",
		},
		"strangers of the node who are not allowed": {
			func(l *Limits) { l.DeniedRate = 2 }, strangerAt("192.0.2.1"), 10, "overloaded: sessions.denied_rate=2 reached",
		},
		"others do not draw on what strangers draw on": {
			func(l *Limits) { l.DeniedRate, l.DeniedRatePerNetwork = 1, 1 }, viewerAt("192.0.2.1"), 100, "",
		},
		"a ticket passes them all": {
			func(l *Limits) { *l = Limits{1, 1, 1, 1, 1, 1, 1, 1, 1} }, ticketAt("192.0.2.1"), 100, "",
		},
		"a sibling has the rate of its address": {
			func(l *Limits) { l.RatePerAddress, l.BurstPerAddress, l.Rate, l.Burst = 1, 10, 1, 1 },
			Viewer{Address: netip.MustParseAddr("192.0.2.1"), HasTicket: true, IsSibling: true},
			10, "overloaded: sessions.open_rate_per_address=1 reached",
		},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := wide()
			tt.edit(&l)
			if passed, over := open(NewGate(start(), l), 100, tt.viewer, start()); passed != tt.passed || over != tt.over {
				t.Errorf("%d of 100 passed, %q; want %d, %q", passed, over, tt.passed, tt.over)
			}
		})
	}
}

// TestGate_Flood_KnownViewersPass has a hundred times as many strangers as the node may open come for a minute, from one network
// and from a thousand, beside viewers who were allowed before, in the same networks.
func TestGate_Flood_KnownViewersPass(t *testing.T) {
	t.Parallel()
	for name, networks := range map[string]int{"one network": 1, "a thousand networks": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := wide()
			l.Rate, l.Burst, l.RatePerNetwork, l.BurstPerNetwork = 100, 400, 100, 400
			l.DeniedRate, l.DeniedRatePerNetwork = 20, 20
			g := NewGate(start(), l)
			asked, refused := 0, 0
			for ms := range 60_000 {
				now := start().Add(time.Duration(ms) * time.Millisecond)
				address := netip.AddrFrom4([4]byte{10, byte(ms % networks >> 8), byte(ms % networks), 7})
				for range 10 {
					if _, over := g.Open(Viewer{Address: address, IsStranger: true}, now); over == nil {
						asked++
					}
				}
				if ms%20 == 0 { // 50 a second
					if _, over := g.Open(Viewer{Address: address}, now); over != nil {
						refused++
					}
				}
			}
			if refused > 0 {
				t.Errorf("%d viewers who were allowed before were refused", refused)
			}
			if most := 20 * (60 + deniedSeconds); asked > most {
				t.Errorf("a backend was asked about %d strangers, want at most %d", asked, most)
			}
		})
	}
}

// TestPass_GiveBack_AllowedStrangersAreNotBounded has a thousand times as many new customers as strangers may be denied.
func TestPass_GiveBack_AllowedStrangersAreNotBounded(t *testing.T) {
	t.Parallel()
	l := wide()
	l.DeniedRate, l.DeniedRatePerNetwork = 1, 1
	g := NewGate(start(), l)
	for i := range 10_000 {
		p, over := g.Open(strangerAt("192.0.2.1"), start())
		if over != nil {
			t.Fatalf("new customer %d: %v", i, over)
		}
		p.GiveBack()
	}
	if passed, _ := open(g, 100, strangerAt("192.0.2.1"), start()); passed != deniedSeconds*noisyShare/100 {
		t.Errorf("%d of those who are denied passed, want %d", passed, deniedSeconds*noisyShare/100)
	}
	new(Pass).GiveBack() // of nobody
}

// TestGate_RefusedStranger_GivesBack has strangers refused by another bound.
func TestGate_RefusedStranger_GivesBack(t *testing.T) {
	t.Parallel()
	l := wide()
	l.DeniedRate, l.DeniedRatePerNetwork, l.RatePerAddress, l.BurstPerAddress = 1, 1, 1, 1
	g := NewGate(start(), l)
	open(g, 1000, strangerAt("192.0.2.1"), start())
	if passed, over := open(g, 9, strangerAt("192.0.2.2"), start()); passed != 1 {
		t.Errorf("%d passed at another address, %s; want 1 by its own rate", passed, over)
	}
}

// TestGate_NetworkWithoutDenial_GoesFirst has a flood from many networks meet new customers of others. A few of those share a cell
// with a network of the flood.
func TestGate_NetworkWithoutDenial_GoesFirst(t *testing.T) {
	t.Parallel()
	l := wide()
	l.DeniedRate = 100
	l.DeniedRatePerNetwork = 1
	g, now := NewGate(start(), l), start()
	for second := range 20 {
		now = start().Add(time.Duration(second) * time.Second)
		for network := range 1000 {
			open(g, 1, Viewer{Address: netip.AddrFrom4([4]byte{10, byte(network >> 8), byte(network), 7}), IsStranger: true}, now)
		}
	}
	const others, least = 20, 15
	passed := 0
	for i := range others {
		if _, over := g.Open(Viewer{Address: netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), IsStranger: true}, now); over == nil {
			passed++
		}
	}
	if passed < least {
		t.Errorf("new customers of %d networks of %d passed, want %d", passed, others, least)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.9": "192.0.2.0/24", "::ffff:192.0.2.9": "192.0.2.0/24", "2001:db8:7:8::1": "2001:db8:7::/48",
		"fe80::1%eth0": "fe80::/48",
	} {
		if got := Network(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("the network of %s is %s, want %s", address, got, want)
		}
	}
	if got := Network(netip.Addr{}); got.IsValid() {
		t.Errorf("no address has the network %v", got)
	}
}

func TestGate_Open_AllocatesNothing(t *testing.T) {
	g, v := NewGate(start(), wide()), strangerAt("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() {
		p, _ := g.Open(v, start())
		p.GiveBack()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkGate_Open_Refused(b *testing.B) {
	l := wide()
	l.DeniedRate = 1
	g, v := NewGate(start(), l), strangerAt("192.0.2.1")
	var over *backends.Overload
	for b.Loop() {
		_, over = g.Open(v, start())
	}
	if over == nil {
		b.Fatal("not refused")
	}
}
