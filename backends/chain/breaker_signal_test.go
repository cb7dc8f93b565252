package chain

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func TestBreaker_Subscribe_NeverLosesTheLastState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		changes, cancel := b.subscribe()
		defer cancel()
		openBreaker(t, b, s)
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), recheckFrom(1)) // half-open, closed: no signal received since the start
		<-changes
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s after the signal, want closed", b.State())
		}
		select {
		case <-changes:
			t.Error("a second signal without a change")
		default:
		}
		cancel()
		openBreaker(t, b, s)
		select {
		case <-changes:
			t.Error("a signal after cancel")
		default:
		}
	})
}

func TestBreaker_Subscribe_EverySubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		first, cancelFirst := b.subscribe()
		second, cancelSecond := b.subscribe()
		third, cancelThird := b.subscribe()
		for _, changes := range []<-chan struct{}{first, second, third} {
			<-changes // of the start
		}
		cancelSecond()
		openBreaker(t, b, s)
		<-first
		<-third
		select {
		case <-second:
			t.Error("a signal after cancel")
		default:
		}
		cancelFirst()
		cancelThird()
	})
}

func TestBreaker_Opened_ClosedWhileTheBreakerIsNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		opened := b.opened()
		select {
		case <-opened:
			t.Fatal("signalled while the breaker was closed")
		default:
		}
		openBreaker(t, b, s)
		<-opened
		<-b.opened()
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), recheckFrom(1))
		select {
		case <-b.opened():
			t.Error("still signalled after the breaker closed")
		default:
		}
	})
}

func TestBreaker_ConcurrentChecks(t *testing.T) {
	t.Parallel()
	s := &switchable{current: allow}
	cfg := DefaultBreakerConfig()
	cfg.OpenDuration = time.Millisecond
	b := newBreaker("b", testTimeout, cfg, s, Deps{})
	var group sync.WaitGroup
	for viewer := range 8 {
		group.Go(func() {
			for i := range 500 {
				if viewer == 0 {
					s.setBackend([]backends.BackendFunc{allow, failWith(backends.FailureTransport)}[i/50%2])
				}
				d, err := b.Check(t.Context(), recheckFrom(viewer))
				if f := backends.AsFailure(err); (err == nil) != (d.Verdict == backends.Allowed) || (err == nil) != (f == nil) {
					t.Errorf("got %s and error %v, want allowed or a failure", d.Verdict, err)
				}
				<-b.subscribeOnce()
			}
		})
	}
	group.Wait()
	if inTries := len(b.probes); inTries != 0 {
		t.Errorf("got %d tries under way after all were answered, want none", inTries)
	}
}

// subscribeOnce subscribes and cancels, so that the list changes during notify.
func (b *Breaker) subscribeOnce() <-chan struct{} {
	changes, cancel := b.subscribe()
	cancel()
	return changes
}
