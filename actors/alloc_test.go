//go:build !race

package actors

import "testing"

// Allocations are counted without the race detector, under which pools drop items on purpose.

// TestRegistry_Open_Allocations bounds what an opening allocates, the test's own backend, store and request included.
func TestRegistry_Open_Allocations(t *testing.T) {
	const most = 35
	n := newBenchNode()
	defer n.Close()
	opened := 0
	got := testing.AllocsPerRun(2000, func() {
		if _, err := n.Open(t.Context(), openRequest(opened)); err != nil {
			t.Fatal(err)
		}
		opened++
	})
	if got > most {
		t.Errorf("%v allocations, want at most %v", got, most)
	}
	t.Logf("%v allocations", got)
}
