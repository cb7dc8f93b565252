package chain

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

func TestBreaker_Run_BecomesHalfOpenWithoutACheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = b.Run(ctx) }()
		changes, unsubscribe := b.subscribe()
		defer unsubscribe()
		<-changes // the first signal, for the present state
		openBreaker(t, b, s)
		<-changes
		for b.State() != backends.BreakerHalfOpen {
			<-changes // blocks for ever, which synctest reports, unless the ticker moves the breaker
		}
	})
}

func TestBreaker_ProbesWithoutRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		openBreaker(t, b, s)
		time.Sleep(6 * time.Second)
		d, err := b.Check(t.Context(), recheckFrom(1))
		if err != nil || d.Verdict != backends.Allowed {
			t.Errorf("got %s and error %v for the re-check that tries, want the backend's yes", d.Verdict, err)
		}
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s after a good probe, want closed", b.State())
		}
	})
}

func TestBreaker_Probe_NoOpeningWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		openBreaker(t, b, s)
		s.setBackend(hang)
		before := s.calls()
		time.Sleep(6 * time.Second)
		for i := range 100 {
			started := time.Now()
			_, err := b.Check(t.Context(), openingFrom(i))
			if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureBreakerOpen {
				t.Fatalf("got %v, want a failure of kind breaker-open", err)
			}
			if time.Since(started) != 0 {
				t.Fatal("an opening waited for the probe")
			}
		}
		synctest.Wait()
		if got := s.calls() - before; got != 1 {
			t.Errorf("got %d tries at once, want half_open_probes=1", got)
		}
		time.Sleep(testTimeout)
		synctest.Wait()
		if b.State() != backends.BreakerOpen {
			t.Errorf("got state %s after a probe that hung, want open", b.State())
		}
	})
}

// What was known of the streak that opened the breaker does not excuse a probe: the address is wrong still.
func TestBreaker_Probe_WrongAddress_OpensAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(backends.BackendFunc(answerNotFound))
		for i := range DefaultBreakerConfig().ConsecutiveFailures {
			_, _ = b.Check(t.Context(), sessionOf(i))
		}
		time.Sleep(DefaultBreakerConfig().Interval + time.Second)
		_, err := b.Check(t.Context(), sessionOf(0))
		if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureBreakerOpen {
			t.Errorf("got %v, want a failure of kind breaker-open", err)
		}
		synctest.Wait()
		if b.State() != backends.BreakerOpen {
			t.Errorf("got state %s after a probe that got 404, want open", b.State())
		}
	})
}

// A probe outlives its caller, whose OnSent it must not call, and a caller who leaves does not wait for it.
func TestBreaker_Probe_IsNotItsCallers(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*backends.Request{"an opening": openingFrom(1), "a re-check": recheckFrom(1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &switchable{current: allow}
				b := newTestBreaker(s)
				openBreaker(t, b, s)
				probed := make(chan backends.Request, 1)
				s.setBackend(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
					probed <- *r
					return hang(ctx, r)
				})
				time.Sleep(6 * time.Second)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				asked := *r
				asked.OnSent = func() {}
				_, err := b.Check(ctx, &asked)
				if got := <-probed; got.OnSent != nil || got.Address != asked.Address {
					t.Errorf("the probe is %+v, want the caller's request without OnSent", got)
				}
				if isOpening := asked.IsUnknown(); !isOpening && (!errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil) {
					t.Errorf("got %v, want context.Canceled and no failure", err)
				}
				time.Sleep(2 * testTimeout) // until the probe has ended
			})
		})
	}
}

func TestBreaker_Probe_ClosesAfterItsViewerLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		openBreaker(t, b, s)
		s.setBackend(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			select {
			case <-ctx.Done():
				return backends.Decision{}, ctx.Err()
			case <-time.After(time.Second):
				return allow(ctx, r)
			}
		})
		time.Sleep(6 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		_, _ = b.Check(ctx, openingFrom(1))
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s, want closed", b.State())
		}
	})
}

func TestBreaker_Probe_BadOneDoesNotBlockRecovery(t *testing.T) {
	t.Parallel()
	tests := map[string]backends.BackendFunc{
		"a probe that ignores its context": func(context.Context, *backends.Request) (backends.Decision, error) {
			time.Sleep(time.Hour)
			return backends.Decision{}, nil
		},
		"a probe that ends its goroutine": func(context.Context, *backends.Request) (backends.Decision, error) {
			runtime.Goexit()
			return backends.Decision{}, nil
		},
		"a probe that panics": func(context.Context, *backends.Request) (backends.Decision, error) { panic("boom") },
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &switchable{current: allow}
				b := newTestBreaker(s)
				openBreaker(t, b, s)
				s.setBackend(bad)
				time.Sleep(6 * time.Second)
				start := time.Now()
				_, _ = b.Check(t.Context(), recheckFrom(99))
				if took, want := time.Since(start), testTimeout+testTimeout/2; took != 0 && took != want {
					t.Errorf("the probe was given up after %s, want one and a half timeouts, %s", took, want)
				}
				if b.State() != backends.BreakerOpen {
					t.Fatalf("got state %s after a bad probe, want open", b.State())
				}
				s.setBackend(allow)
				time.Sleep(6 * time.Second)
				if _, err := b.Check(t.Context(), recheckFrom(98)); err != nil || b.IsDown() {
					t.Errorf("got error %v and state %s, want a closed breaker", err, b.State())
				}
				time.Sleep(2 * time.Hour) // let the call that ignored its context end
			})
		})
	}
}

// The viewer whose request failed the last probe must not keep the breaker open by failing the next one too.
func TestBreaker_Probe_OneViewerCannotKeepItOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		openBreaker(t, b, s)
		s.setBackend(failWith(backends.FailureStatus))
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), recheckFrom(66))
		if b.State() != backends.BreakerOpen {
			t.Fatalf("got state %s after a failed probe, want open", b.State())
		}
		time.Sleep(6 * time.Second)
		_, _ = b.Check(t.Context(), recheckFrom(66))
		if b.State() != backends.BreakerHalfOpen {
			t.Fatalf("got state %s after the same viewer's next failure, want half-open", b.State())
		}
		s.setBackend(allow)
		_, _ = b.Check(t.Context(), recheckFrom(67))
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s after another viewer's yes, want closed", b.State())
		}
	})
}
