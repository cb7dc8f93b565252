package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

const testTimeout = 2 * time.Second

func allow(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
}

func failWith(kind backends.FailureKind) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) {
		return backends.Decision{}, &backends.Failure{Kind: kind, Backend: "b", Status: 503}
	}
}

func answerNotFound(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 404}
}

func refuseOwnCredentials(context.Context, *backends.Request) (backends.Decision, error) {
	return backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "b", Status: 401, MayBeDenial: true}
}

// sessionOf returns an opening check of a session of its own. All come from one address.
func sessionOf(n int) *backends.Request {
	r := openingFrom(1)
	r.Session[0] = byte(n)
	return r
}

// hang waits for its context, as a correct adapter does.
func hang(ctx context.Context, _ *backends.Request) (backends.Decision, error) {
	<-ctx.Done()
	return backends.Decision{}, ctx.Err()
}

// switchable is a backend that can be replaced during a call.
type switchable struct {
	mu      sync.Mutex
	current backends.BackendFunc
	count   int
}

func (s *switchable) setBackend(f backends.BackendFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = f
}

func (s *switchable) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *switchable) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	s.mu.Lock()
	f := s.current
	s.count++
	s.mu.Unlock()
	return f(ctx, r)
}

func newTestBreaker(next backends.Backend) *Breaker {
	return newBreaker("b", testTimeout, DefaultBreakerConfig(), next, Deps{})
}

// openingFrom returns an opening check of the viewer with that number. Each has an IPv4 address of their own.
func openingFrom(viewer int) *backends.Request {
	return &backends.Request{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(viewer)})}
}

// recheckFrom returns a re-check of a session that is allowed.
func recheckFrom(viewer int) *backends.Request {
	r := openingFrom(viewer)
	r.Number, r.IsRecheck = 1, true
	r.Current = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "paid", ValidFor: time.Minute}
	return r
}

func openBreaker(t *testing.T, b *Breaker, s *switchable) {
	t.Helper()
	before := s.current
	s.setBackend(failWith(backends.FailureTransport))
	for i := range 5 {
		_, _ = b.Check(t.Context(), openingFrom(i))
	}
	s.setBackend(before)
	if b.State() != backends.BreakerOpen {
		t.Fatalf("got state %s after five failures, want open", b.State())
	}
}

func TestBreaker_CountsFailures(t *testing.T) {
	t.Parallel()
	sameAddress := func(int) *backends.Request { return openingFrom(1) }
	sameNetwork := func(i int) *backends.Request {
		return &backends.Request{Address: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))}
	}
	manyNetworks := func(i int) *backends.Request {
		return &backends.Request{Address: netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i+1))}
	}
	tests := map[string]struct {
		next backends.BackendFunc
		by   func(int) *backends.Request
		n    int
		want backends.BreakerState
	}{
		"five failures to connect for one viewer open it":  {failWith(backends.FailureTransport), sameAddress, 5, backends.BreakerOpen},
		"five timeouts before the connection open it":      {failWith(backends.FailureTimeout), sameAddress, 5, backends.BreakerOpen},
		"four failures do not":                             {failWith(backends.FailureTransport), openingFrom, 4, backends.BreakerClosed},
		"where nobody was answered, five of one viewer do": {failWith(backends.FailureStatus), sameAddress, 5, backends.BreakerOpen},
		"and five of one /64":                              {failWith(backends.FailureMalformed), sameNetwork, 5, backends.BreakerOpen},
		"and five without an address":                      {failWith(backends.FailureStatus), func(int) *backends.Request { return &backends.Request{} }, 5, backends.BreakerOpen},
		"a hundred 404s of one session do not":             {answerNotFound, func(int) *backends.Request { return sessionOf(1) }, 100, backends.BreakerClosed},
		"nor do 401s that may refuse Usher itself":         {refuseOwnCredentials, func(int) *backends.Request { return sessionOf(1) }, 100, backends.BreakerClosed},
		"those of five viewers do":                         {refuseOwnCredentials, openingFrom, 5, backends.BreakerOpen},
		"404s of five sessions at one address do":          {answerNotFound, sessionOf, 5, backends.BreakerOpen},
		"status failures of five viewers open it":          {failWith(backends.FailureStatus), openingFrom, 5, backends.BreakerOpen},
		"status failures of five /64s open it":             {failWith(backends.FailureStatus), manyNetworks, 5, backends.BreakerOpen},
		"an error outside the vocabulary counts as malformed": {func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.Decision{}, errors.New("?")
		}, openingFrom, 5, backends.BreakerOpen},
		"panics open it": {func(context.Context, *backends.Request) (backends.Decision, error) { panic("boom") }, openingFrom, 5, backends.BreakerOpen},
		"a denial is a success": {func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.Decision{Verdict: backends.Denied}, nil
		}, openingFrom, 50, backends.BreakerClosed},
		"an overload does not count": {func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.Decision{}, backends.NewOverload("x", 1)
		}, openingFrom, 50, backends.BreakerClosed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTestBreaker(tt.next)
			for i := range tt.n {
				_, _ = b.Check(t.Context(), tt.by(i))
			}
			if b.State() != tt.want {
				t.Errorf("got state %s after %d checks, want %s", b.State(), tt.n, tt.want)
			}
		})
	}
}

// Usher's own bounds are told as they are, or an overload would look like an answer without an opinion.
func TestBreaker_Overload_PassedOn(t *testing.T) {
	t.Parallel()
	b := newTestBreaker(backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) {
		return backends.Decision{}, fmt.Errorf("wait: %w", backends.NewOverload("backends.portal.max_in_flight", 2))
	}))
	for _, r := range []*backends.Request{openingFrom(1), recheckFrom(1)} {
		if d, err := b.Check(t.Context(), r); !backends.IsOverload(err) || d != (backends.Decision{}) {
			t.Errorf("check %d: got %+v and error %v, want the overload", r.Number, d, err)
		}
	}
}

func TestBreaker_OpensByRatio(t *testing.T) {
	t.Parallel()
	s := &switchable{}
	b := newTestBreaker(s)
	for i := range 20 { // answers and failures alternate: never two failures in a row
		s.setBackend(allow)
		if i%2 == 1 {
			s.setBackend(failWith(backends.FailureTransport))
		}
		if b.State() != backends.BreakerClosed {
			t.Fatalf("open after %d answers, want at least min_requests=20", i)
		}
		_, _ = b.Check(t.Context(), openingFrom(i))
	}
	if b.State() != backends.BreakerOpen {
		t.Errorf("got state %s after 10 failures of 20, want open", b.State())
	}
}

// TestBreaker_FailuresBelowRatio_StaysClosed has two failures in five checks, and never three in a row.
func TestBreaker_FailuresBelowRatio_StaysClosed(t *testing.T) {
	t.Parallel()
	s := &switchable{}
	b := newTestBreaker(s)
	for i := range 100 {
		s.setBackend(allow)
		if i%5 == 1 || i%5 == 3 {
			s.setBackend(failWith(backends.FailureTransport))
		}
		_, _ = b.Check(t.Context(), openingFrom(i))
		if b.State() != backends.BreakerClosed {
			t.Fatalf("got state %s after %d checks, 40 %% of which failed, want closed below failure_ratio=0.5", b.State(), i+1)
		}
	}
}

func TestBreaker_ViewersWhoLeave_NotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(backends.BackendFunc(hang))
		for i := range 6 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err := b.Check(ctx, openingFrom(i))
			if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
				t.Fatalf("got %v for a viewer who left, want context.Canceled and no failure", err)
			}
		}
		if b.State() != backends.BreakerClosed {
			t.Errorf("got state %s, want closed", b.State())
		}
	})
}

// One caller after another waits for the whole timeout, so a rolling window of 10 s never holds five failures.
func TestBreaker_OpensForAHangWithOneCallerAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(backends.BackendFunc(hang))
		for i := range 5 {
			started := time.Now()
			_, err := b.Check(t.Context(), openingFrom(i))
			if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureTimeout {
				t.Fatalf("got %v, want a timeout", err)
			}
			if took := time.Since(started); took != testTimeout {
				t.Fatalf("the call ended after %s, want timeout=%s", took, testTimeout)
			}
		}
		if b.State() != backends.BreakerOpen {
			t.Errorf("got state %s after five timeouts in a row, want open", b.State())
		}
	})
}

func TestBreaker_Open_CallsNoBackend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		b := newTestBreaker(s)
		openBreaker(t, b, s)
		before := s.calls()
		_, err := b.Check(t.Context(), openingFrom(9))
		if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureBreakerOpen {
			t.Errorf("got %v, want a failure of kind breaker-open", err)
		}
		if s.calls() != before {
			t.Error("the backend was called while the breaker was open")
		}
	})
}

func TestBreaker_Panic_LoggedWithoutCredentials(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBreaker("b", testTimeout, DefaultBreakerConfig(), backends.BackendFunc(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		panic("cannot parse " + r.Query)
	}), Deps{Log: slog.New(slog.NewTextHandler(&out, nil))})
	_, err := b.Check(t.Context(), &backends.Request{Query: "token=5ecret"})
	if f := backends.AsFailure(err); f == nil || f.Kind != backends.FailureMalformed {
		t.Errorf("got %v, want a malformed failure", err)
	}
	if strings.Contains(out.String()+err.Error(), "5ecret") || !strings.Contains(out.String(), "breaker_test.go") {
		t.Errorf("want a stack and no token in the log, got %s", out.String())
	}
}

// A runtime error holds nothing of a viewer's, and is shown.
func TestBreaker_Panic_ShowsRuntimeErrors(t *testing.T) {
	t.Parallel()
	for want, next := range map[string]backends.BackendFunc{
		"panic: runtime error: index out of range": func(context.Context, *backends.Request) (backends.Decision, error) {
			few := make([]backends.Decision, 1)
			return few[len(few)], nil
		},
		"panic of type *errors.errorString": func(context.Context, *backends.Request) (backends.Decision, error) {
			panic(errors.New("5ecret"))
		},
	} {
		_, err := newTestBreaker(next).Check(t.Context(), openingFrom(1))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "5ecret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func BenchmarkBreaker(b *testing.B) {
	r := recheckFrom(1)
	b.Run("closed", func(b *testing.B) {
		breaker := newTestBreaker(backends.BackendFunc(allow))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breaker.Check(b.Context(), r)
		}
	})
	b.Run("open", func(b *testing.B) {
		cfg := DefaultBreakerConfig()
		cfg.OpenDuration = time.Hour
		breaker := newBreaker("b", testTimeout, cfg, failWith(backends.FailureTransport), Deps{})
		for range 5 {
			_, _ = breaker.Check(b.Context(), r)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breaker.Check(b.Context(), r)
		}
	})
}

func answerWith(d backends.Decision) backends.BackendFunc {
	return func(context.Context, *backends.Request) (backends.Decision, error) { return d, nil }
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
