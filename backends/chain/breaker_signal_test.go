package chain

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func TestChangedNeverLosesTheLastState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{now: yes}
		b := newTestBreaker(s)
		wake, stop := b.subscribe()
		defer stop()
		openIt(t, b, s)
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), running(1)) // half-open, closed: nobody fetched a wake since the start
		<-wake
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s at the wake, want closed", b.State())
		}
		select {
		case <-wake:
			t.Error("a second wake for what was seen already")
		default:
		}
		stop()
		openIt(t, b, s)
		select {
		case <-wake:
			t.Error("a wake after stop")
		default:
		}
	})
}

func TestOpenedIsClosedWhileTheBreakerIsNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{now: yes}
		b := newTestBreaker(s)
		opened := b.opened()
		select {
		case <-opened:
			t.Fatal("signalled while the breaker was closed")
		default:
		}
		openIt(t, b, s)
		<-opened
		<-b.opened()
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), running(1))
		select {
		case <-b.opened():
			t.Error("still signalled after the breaker closed")
		default:
		}
	})
}

func TestBreakerUnderFire(t *testing.T) {
	t.Parallel()
	s := &switchable{now: yes}
	cfg := DefaultBreakerConfig()
	cfg.OpenDuration = time.Millisecond
	b := newBreaker("b", testTimeout, cfg, s, nil)
	var group sync.WaitGroup
	for viewer := range 8 {
		group.Go(func() {
			for i := range 500 {
				if viewer == 0 {
					s.set([]backends.BackendFunc{yes, fails(backends.FailureTransport)}[i/50%2])
				}
				d, err := b.Check(t.Context(), running(viewer))
				if f := backends.AsFailure(err); (err == nil) != (d.Verdict == backends.Allowed) || (err == nil) != (f == nil) {
					t.Errorf("got %s and error %v, want a yes or a failure", d.Verdict, err)
				}
				<-b.wakersProbe()
			}
		})
	}
	group.Wait()
	if inTries := len(b.probes); inTries != 0 {
		t.Errorf("got %d tries under way after all were answered, want none", inTries)
	}
}

// wakersProbe subscribes and leaves again, so that the list changes while it is woken.
func (b *Breaker) wakersProbe() <-chan struct{} {
	wake, stop := b.subscribe()
	stop()
	return wake
}
