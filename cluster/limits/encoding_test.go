package limits

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
)

func FuzzDecode(f *testing.F) {
	set, _ := streamSet(nil).apply([]report{plays(1, 100, 1).on("box")}, testStart, new(rulesInMillis(testRules(session.EvictOldest))))
	f.Add(set.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(set.encode())
		if diff := cmp.Diff(set, again, cmp.AllowUnexported(stream{})); diff != "" || err != nil {
			t.Errorf("decoded again: %v\n%s", err, diff)
		}
	})
}
