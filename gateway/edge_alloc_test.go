//go:build !race

package gateway

import "testing"

func TestServe_EdgeCheckByFingerprint_Allocations(t *testing.T) {
	const most = 1
	g, v := newKnownViewer(t)
	var a Response
	n := testing.AllocsPerRun(1000, func() { serveEdgeCheck(t, g, v, &a) })
	if n > most {
		t.Errorf("%v allocations a check, want %d at most", n, most)
	}
	t.Logf("%v allocations a check", n)
}
