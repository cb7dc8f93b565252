//go:build !race

package reference

import (
	"strings"
	"testing"
)

// Allocations are counted without the race detector, under which pools drop items on purpose.

func TestSealer_DoesNotAllocate(t *testing.T) {
	s := newTestSealer("a", "b")
	target, scope := someTarget(), someScope()
	var buf Buffer
	text, later := seal(s, "a", target, scope), seal(s, "b", target, scope)
	longScope := Scope{Name: strings.Repeat("n", 500)}
	long := seal(s, "a", Target{Path: "/" + longScope.Name}, longScope)
	var longBuf Buffer
	forged := text[:len(text)-4] + "AAAA"
	for name, open := range map[string]func(){
		"good":              func() { s.Open(&buf, "a", text, &scope) },
		"of the second key": func() { s.Open(&buf, "a", later, &scope) },
		"without a key id":  func() { s.Open(&buf, "", later, &scope) },
		"of a long name":    func() { s.Open(&longBuf, "a", long, &longScope) },
		"forged":            func() { s.Open(&buf, "a", forged, &scope) },
		"no reference":      func() { s.Open(&buf, "a", "user", &scope) },
	} {
		if n := testing.AllocsPerRun(1000, open); n != 0 {
			t.Errorf("open, %s: %v allocations, want none", name, n)
		}
	}
	dst := make([]byte, 0, MaxChars)
	if n := testing.AllocsPerRun(1000, func() { s.AppendSealed(dst, "a", &target, &scope) }); n != 0 {
		t.Errorf("seal: %v allocations, want none", n)
	}
}
