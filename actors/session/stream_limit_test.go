package session

import (
	"testing"
	"time"
)

func TestZapTimeout(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		target     time.Duration
		isComplete bool
		want       time.Duration
	}{
		"short segments":          {time.Second, false, 6 * time.Second},
		"usual segments":          {6 * time.Second, false, 9 * time.Second},
		"a complete playlist":     {6 * time.Second, true, time.Minute},
		"complete, long segments": {time.Minute, true, 90 * time.Second},
	} {
		if got := ZapTimeout(test.target, test.isComplete); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
