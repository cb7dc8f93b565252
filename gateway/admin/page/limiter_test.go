package page

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter_Fail(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_800_000_000, 0)
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	// fail returns how many attempts of an address were let through.
	fail := func(l *limiter, from netip.Addr, count int, now time.Time) (passed int) {
		for range count {
			if wait, _ := l.fail(from, now); wait == 0 {
				passed++
			}
		}
		return passed
	}
	t.Run("an address", func(t *testing.T) {
		t.Parallel()
		var l limiter
		if got := fail(&l, address(1), 50, start); got != maxFailures {
			t.Errorf("%d attempts, want %d", got, maxFailures)
		}
		if got := fail(&l, address(2), 1, start); got != 1 {
			t.Error("another address is refused")
		}
		if wait, _ := l.fail(address(1), start.Add(50*time.Second)); wait != 10*time.Second {
			t.Errorf("wait of %v, want 10s", wait)
		}
		if got := fail(&l, address(1), 50, start.Add(loginWindow)); got != maxFailures {
			t.Errorf("%d attempts in the next window, want %d", got, maxFailures)
		}
	})
	t.Run("addresses of one subscriber", func(t *testing.T) {
		t.Parallel()
		var l limiter
		a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		if got := fail(&l, a, 6, start) + fail(&l, b, 6, start); got != maxFailures {
			t.Errorf("%d attempts, want %d", got, maxFailures)
		}
	})
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		var l limiter
		passed := 0
		for i := range 1000 {
			passed += fail(&l, address(i), 1, start)
		}
		if passed != maxAllFailures || len(l.failures) > maxAllFailures {
			t.Errorf("%d attempts and %d addresses, want %d at most", passed, len(l.failures), maxAllFailures)
		}
	})
	t.Run("the first that is refused", func(t *testing.T) {
		t.Parallel()
		var l limiter
		for window := range 3 {
			now, firsts := start.Add(time.Duration(window)*loginWindow), 0
			for i := range 40 * maxFailures { // the last address is refused for the number of all
				if _, isFirst := l.fail(address(i/(3*maxFailures)), now); isFirst {
					firsts++
				}
			}
			if want := maxAllFailures / maxFailures; firsts != want {
				t.Errorf("window %d: %d are the first that are refused, want %d", window, firsts, want)
			}
		}
	})
	t.Run("the clock goes back", func(t *testing.T) {
		t.Parallel()
		var l limiter
		fail(&l, address(1), maxFailures, start)
		if got := fail(&l, address(1), 1, start.Add(-time.Hour)); got != 1 {
			t.Error("refused for an hour")
		}
	})
}
