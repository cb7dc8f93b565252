package limits

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestExpiring_Silence_Forgotten removes what has expired though nothing else is set any more, and keeps the rest.
func TestExpiring_Silence_Forgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lock sync.Mutex
		x := newExpiring[int](&lock)
		length := func() int {
			lock.Lock()
			defer lock.Unlock()
			return len(x.entries)
		}
		lock.Lock()
		const many = 100_000
		for i := range many {
			x.set(strconv.Itoa(i), i, time.Minute)
		}
		x.set("ann", 1, time.Hour)
		lock.Unlock()
		time.Sleep(50 * time.Second)
		if got := length(); got != many+1 {
			t.Errorf("%d entries before they expire, want all of %d", got, many+1)
		}
		time.Sleep(10 * time.Minute)
		if got := length(); got != 1 || x.get("ann") != 1 {
			t.Errorf("%d entries, want the one that has not expired", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		lock.Lock()
		defer lock.Unlock()
		if len(x.entries) != 0 || x.isSwept {
			t.Errorf("%d entries, still swept: %t; want none", len(x.entries), x.isSwept)
		}
		x.set("bob", 2, time.Minute)
		if !x.isSwept {
			t.Error("what is set after all has expired is kept for ever")
		}
	})
}
