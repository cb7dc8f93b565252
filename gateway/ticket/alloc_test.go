//go:build !race

package ticket

import "testing"

// Allocations are counted without the race detector, under which pools drop items on purpose.

func TestSigner_Verify_DoesNotAllocate(t *testing.T) {
	c, s := someClaims()
	ring := newTestSigner("a")
	good := ring.Sign(c, s)
	for name, text := range map[string]string{"good": good, "forged": good[:len(good)-1] + "A", "foreign": "z" + good[1:]} {
		if n := testing.AllocsPerRun(1000, func() { ring.Verify(text, s) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
