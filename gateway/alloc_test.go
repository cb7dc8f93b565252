//go:build !race

package gateway

// Allocations are counted without the race detector, under which a pool forgets on purpose.

import "testing"

func TestVerifyDoesNotAllocate(t *testing.T) {
	c, s := someClaims()
	ring := ringOf("a")
	good := ring.mint(c, s)
	for name, text := range map[string]string{"good": good, "forged": good[:len(good)-1] + "A", "foreign": "z" + good[1:]} {
		if n := testing.AllocsPerRun(1000, func() { ring.verify(text, s) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
