package actors

import (
	"testing"

	"usher/backends"
)

// TestAddressLimit_QueueRenewal_Allowed: only the addresses of viewers who may play are kept.
func TestAddressLimit_QueueRenewal_Allowed(t *testing.T) {
	t.Parallel()
	l := newAddressLimit(core{}, t0())
	for name, test := range map[string]struct {
		of   *backends.Decision
		want int
	}{
		"allowed":   {new(allowedDecision()), 1},
		"denied":    {new(deniedDecision()), 0},
		"undecided": {nil, 0},
	} {
		s := bareSession(idOf(1))
		s.decision.Store(test.of)
		l.queueRenewal(s)
		if got := len(l.renewal); got != test.want {
			t.Errorf("%s: %d renewals are queued, want %d", name, got, test.want)
		}
		for len(l.renewal) > 0 {
			<-l.renewal
		}
	}
}
