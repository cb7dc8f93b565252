//go:build !race

package mac

import "testing"

// TestMAC_Sum_Allocations runs without the race detector, under which pools drop items on purpose.
func TestMAC_Sum_Allocations(t *testing.T) {
	p := NewPool[[4]byte]([]byte("a key"))
	if got := testing.AllocsPerRun(1000, func() {
		m := p.Get()
		m.In = append(m.In[:0], "some input"...)
		copy(m.Buffers[:], m.Sum(m.In))
		p.Put(m)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}
