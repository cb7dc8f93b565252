package backends

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
)

const testTimeout = 2 * time.Second

func yes(context.Context, *Request) (Decision, error) {
	return Decision{Verdict: Allowed, Source: FromBackend}, nil
}

func fails(kind FailureKind) BackendFunc {
	return func(context.Context, *Request) (Decision, error) {
		return Decision{}, &Failure{Kind: kind, Backend: "b", Status: 503}
	}
}

// hangs waits for its context, as a well-made adapter does.
func hangs(ctx context.Context, _ *Request) (Decision, error) {
	<-ctx.Done()
	return Decision{}, ctx.Err()
}

// switchable is a backend that can be changed while it is asked.
type switchable struct {
	mu    sync.Mutex
	now   BackendFunc
	calls int
}

func (s *switchable) set(f BackendFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = f
}

func (s *switchable) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *switchable) Check(ctx context.Context, r *Request) (Decision, error) {
	s.mu.Lock()
	f := s.now
	s.calls++
	s.mu.Unlock()
	return f(ctx, r)
}

func newTestBreaker(next Backend) *Breaker {
	return NewBreaker("b", testTimeout, DefaultBreakerConfig(), next, nil)
}

// from is an opening by the viewer with that number, each at an IPv4 address of his own.
func from(viewer int) *Request {
	return &Request{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(viewer)})}
}

// running is a re-check of a session that was let in.
func running(viewer int) *Request {
	r := from(viewer)
	r.Number = 1
	r.Standing = Decision{Verdict: Allowed, Source: FromBackend, Reason: "paid", ValidFor: time.Minute}
	return r
}

func openIt(t *testing.T, b *Breaker, s *switchable) {
	t.Helper()
	before := s.now
	s.set(fails(FailureTransport))
	for i := range 5 {
		_, _ = b.Check(t.Context(), from(i))
	}
	s.set(before)
	if b.State() != BreakerOpen {
		t.Fatalf("got state %s after five failures, want open", b.State())
	}
}

func TestWhatMovesTheBreaker(t *testing.T) {
	t.Parallel()
	sameAddress := func(int) *Request { return from(1) }
	sameNetwork := func(i int) *Request {
		return &Request{Address: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))}
	}
	manyNetworks := func(i int) *Request {
		return &Request{Address: netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i+1))}
	}
	tests := map[string]struct {
		next BackendFunc
		by   func(int) *Request
		n    int
		want BreakerState
	}{
		"five transport failures of one viewer open it":             {fails(FailureTransport), sameAddress, 5, BreakerOpen},
		"five timeouts that the adapter reports open it":            {fails(FailureTimeout), sameAddress, 5, BreakerOpen},
		"four failures do not":                                      {fails(FailureTransport), from, 4, BreakerClosed},
		"a hundred status failures of one viewer do not":            {fails(FailureStatus), sameAddress, 100, BreakerClosed},
		"nor do they from all over one /64":                         {fails(FailureStatus), sameNetwork, 100, BreakerClosed},
		"status failures of five viewers open it":                   {fails(FailureStatus), from, 5, BreakerOpen},
		"status failures of five /64s open it":                      {fails(FailureStatus), manyNetworks, 5, BreakerOpen},
		"malformed answers to one viewer do not":                    {fails(FailureMalformed), sameAddress, 100, BreakerClosed},
		"viewers without an address count as one":                   {fails(FailureStatus), func(int) *Request { return &Request{} }, 100, BreakerClosed},
		"a No is a success":                                         {func(context.Context, *Request) (Decision, error) { return Decision{Verdict: Denied}, nil }, from, 50, BreakerClosed},
		"an overload does not count":                                {func(context.Context, *Request) (Decision, error) { return Decision{}, &Overload{"x", 1} }, from, 50, BreakerClosed},
		"an error outside the vocabulary counts as malformed":       {func(context.Context, *Request) (Decision, error) { return Decision{}, errors.New("?") }, from, 5, BreakerOpen},
		"an error outside the vocabulary of one viewer counts once": {func(context.Context, *Request) (Decision, error) { return Decision{}, errors.New("?") }, sameAddress, 50, BreakerClosed},
		"panics open it":                                            {func(context.Context, *Request) (Decision, error) { panic("boom") }, from, 5, BreakerOpen},
		"a viewer whose request panics each time does not":          {func(context.Context, *Request) (Decision, error) { panic("boom") }, sameAddress, 50, BreakerClosed},
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

func TestRatioOpensTheBreaker(t *testing.T) {
	t.Parallel()
	s := &switchable{}
	b := newTestBreaker(s)
	for i := range 20 { // yes, no answer, yes, no answer: never two failures in a row
		s.set(yes)
		if i%2 == 1 {
			s.set(fails(FailureTransport))
		}
		if b.State() != BreakerClosed {
			t.Fatalf("open after %d answers, want at least min_requests=20", i)
		}
		_, _ = b.Check(t.Context(), from(i))
	}
	if b.State() != BreakerOpen {
		t.Errorf("got state %s after 10 failures of 20, want open", b.State())
	}
}

func TestOneViewersStatusFailuresCountAgainInTheNextWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(fails(FailureStatus))
		for window := range 5 {
			if b.State() != BreakerClosed {
				t.Fatalf("open after %d windows, want closed until 5", window)
			}
			for range 10 {
				_, _ = b.Check(t.Context(), from(1))
			}
			time.Sleep(DefaultBreakerConfig().Interval)
		}
		if !b.Down() {
			t.Error("closed after a failure in each of five windows, want open")
		}
	})
}

func TestImpatientViewersDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(BackendFunc(hangs))
		for i := range 6 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err := b.Check(ctx, from(i))
			if !errors.Is(err, context.Canceled) || AsFailure(err) != nil {
				t.Fatalf("got %v for a viewer who left, want context.Canceled and no failure", err)
			}
		}
		if b.State() != BreakerClosed {
			t.Errorf("got state %s, want closed", b.State())
		}
	})
}

// One caller after another, each waiting out the whole timeout: in a rolling window of 10 s never five are seen.
func TestHangingBackendOpensTheBreakerEvenForOneCallerAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(BackendFunc(hangs))
		for i := range 5 {
			started := time.Now()
			_, err := b.Check(t.Context(), from(i))
			if f := AsFailure(err); f == nil || f.Kind != FailureTimeout {
				t.Fatalf("got %v, want a timeout", err)
			}
			if took := time.Since(started); took != testTimeout {
				t.Fatalf("the call ended after %s, want timeout=%s", took, testTimeout)
			}
		}
		if b.State() != BreakerOpen {
			t.Errorf("got state %s after five timeouts in a row, want open", b.State())
		}
	})
}

func TestOpenBreakerAsksNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{now: yes}
		b := newTestBreaker(s)
		openIt(t, b, s)
		asked := s.asked()
		_, err := b.Check(t.Context(), from(9))
		if f := AsFailure(err); f == nil || f.Kind != FailureBreakerOpen {
			t.Errorf("got %v, want a failure of kind breaker-open", err)
		}
		if s.asked() != asked {
			t.Error("the backend was asked while the breaker was open")
		}
	})
}

func TestPanicIsReportedWithoutTheViewersWords(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := NewBreaker("b", testTimeout, DefaultBreakerConfig(), BackendFunc(func(_ context.Context, r *Request) (Decision, error) {
		panic("cannot parse " + r.Query)
	}), slog.New(slog.NewTextHandler(&out, nil)))
	_, err := b.Check(t.Context(), &Request{Query: "token=5ecret"})
	if f := AsFailure(err); f == nil || f.Kind != FailureMalformed {
		t.Errorf("got %v, want a malformed failure", err)
	}
	if strings.Contains(out.String()+err.Error(), "5ecret") || !strings.Contains(out.String(), "breaker_test.go") {
		t.Errorf("want a stack and no token in the log, got %s", out.String())
	}
}

func BenchmarkBreaker(b *testing.B) {
	r := running(1)
	b.Run("closed", func(b *testing.B) {
		breaker := newTestBreaker(BackendFunc(yes))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breaker.Check(b.Context(), r)
		}
	})
	b.Run("open", func(b *testing.B) {
		cfg := DefaultBreakerConfig()
		cfg.OpenFor = time.Hour
		breaker := NewBreaker("b", testTimeout, cfg, fails(FailureTransport), nil)
		for range 5 {
			_, _ = breaker.Check(b.Context(), r)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breaker.Check(b.Context(), r)
		}
	})
}

func answering(d Decision) BackendFunc {
	return func(context.Context, *Request) (Decision, error) { return d, nil }
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
