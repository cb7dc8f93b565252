package actors

import (
	"testing"
	"testing/synctest"

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

// TestAddressLimit_Run_InUseAlone: the store is not called for a session whose addresses are all silent.
func TestAddressLimit_Run_InUseAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		store := &fakeCluster{}
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), store, nil)
		defer n.closeAndDrain()
		for shared, want := range map[int]int{0: 0, 1: 1} {
			s := bareSession(idOf(1))
			s.policy().Start = n.timers.epoch
			s.request.Store(openRequest(1).Request)
			s.decision.Store(new(allowedDecision()))
			s.ticketUse = &ticketUse{root: idOf(1), shared: []addressUse{{prefixOf(1), idOf(11), 0}}[:shared]}
			store.addresses.mu.Lock()
			store.addresses.renewals = 0
			store.addresses.mu.Unlock()
			n.addresses.queueRenewal(s)
			synctest.Wait()
			if got := store.addresses.renewals; got != want {
				t.Errorf("%d addresses in use: %d calls, want %d", shared, got, want)
			}
		}
	})
}
