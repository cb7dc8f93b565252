package timeline

import (
	"testing"
	"time"

	"usher/backends"
)

// TestLog_Add_UsualLife_FewBytes bounds what a million sessions hold that are checked every three minutes.
func TestLog_Add_UsualLife_FewBytes(t *testing.T) {
	t.Parallel()
	var l Log
	e := Entry{Backend: "portal", Verdict: backends.Allowed, Source: backends.FromBackend, Duration: 9 * time.Millisecond}
	at := time.Date(2026, 3, 1, 20, 0, 0, 0, time.UTC)
	for checks, most := range map[int]int{1: 16, 2: 16, MaxEntries: 112, 10_000: 120} {
		l = Log{}
		for i := range checks {
			if e.Trigger = Recheck; i == 0 {
				e.Trigger = Opening
			}
			l.Add(e, at.Add(time.Duration(i)*173*time.Second))
		}
		if got := len(l.data); got > most {
			t.Errorf("%d bytes after %d checks, want at most %d", got, checks, most)
		}
	}
}
