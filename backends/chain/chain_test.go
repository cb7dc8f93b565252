package chain

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/cmd/usher/config"
)

func newTestChain(policy backends.Policy, adapter backends.Backend) *Chain {
	cfg := DefaultConfig()
	cfg.OnFailure = policy
	return New("portal", cfg, adapter, Deps{Kind: "test"})
}

// A hanging backend delays viewers by the timeout until the breaker opens, and not after. Its recovery closes the breaker.
func TestChain_Outage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{current: allow}
		c := newTestChain(backends.PolicyAllow, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = c.Run(ctx) }()
		check := func(r *backends.Request, want backends.Source, took time.Duration) {
			t.Helper()
			started := time.Now()
			d, err := c.Check(t.Context(), r)
			if err != nil || d.Verdict != backends.Allowed || d.Source != want || time.Since(started) != took {
				t.Fatalf("got %s from %s, error %v, after %s; want allowed from %s after %s",
					d.Verdict, d.Source, err, time.Since(started), want, took)
			}
		}
		check(openingFrom(1), backends.FromBackend, 0)
		s.setBackend(hang)
		for i := range 5 {
			check(openingFrom(i), backends.FromFailOpen, testTimeout)
		}
		check(openingFrom(6), backends.FromFailOpen, 0)
		check(recheckFrom(7), backends.FromCached, 0)
		time.Sleep(6500 * time.Millisecond) // between the ticks of the breaker's clock
		if c.State() != backends.BreakerHalfOpen {
			t.Fatalf("got state %s, want half-open", c.State())
		}
		check(openingFrom(8), backends.FromFailOpen, 0) // the probe, in the background
		s.setBackend(allow)
		time.Sleep(8 * time.Second) // it times out; open again, then half-open
		check(recheckFrom(9), backends.FromBackend, 0)
		check(openingFrom(10), backends.FromBackend, 0)
		if c.IsDown() {
			t.Error("still down after a good answer")
		}
	})
}

func TestChain_DenialUnchangedUnderEveryPolicy(t *testing.T) {
	t.Parallel()
	no := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
	for _, policy := range []backends.Policy{backends.PolicyAllow, backends.PolicyKeep, backends.PolicyDeny} {
		d, err := newTestChain(policy, answerWith(no)).Check(t.Context(), recheckFrom(1))
		if diff := cmp.Diff(no, d); err != nil || diff != "" {
			t.Errorf("%s: error %v, decision (-want +got):\n%s", policy, err, diff)
		}
	}
}

func TestNew_OnFailureWinsOverTheDefaultPolicy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		preset backends.Policy
		policy backends.Policy
		want   backends.Policy
	}{
		"nothing said":              {backends.Policy(0), backends.Policy(0), backends.PolicyAllow},
		"astra and alta allow":      {backends.PolicyAllow, backends.Policy(0), backends.PolicyAllow},
		"flussonic keeps":           {backends.PolicyKeep, backends.Policy(0), backends.PolicyKeep},
		"auth-proxy denies":         {backends.PolicyDeny, backends.Policy(0), backends.PolicyDeny},
		"the config says otherwise": {backends.PolicyDeny, backends.PolicyAllow, backends.PolicyAllow},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.OnFailure = tt.policy
			c := New("portal", cfg, backends.BackendFunc(allow), Deps{DefaultPolicy: tt.preset})
			if got := c.FailOpen.Policy(); got != tt.want {
				t.Errorf("got policy %s, want %s", got, tt.want)
			}
		})
	}
}

func TestConfig_YAML(t *testing.T) {
	t.Parallel()
	got := DefaultConfig()
	err := config.Decode([]byte(`
timeout: 500ms
on_failure: keep
max_in_flight: 7
answer_deadline: 2s
breaker: { interval: 20s, open_duration: 1s }
`), &got)
	if err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := DefaultConfig()
	want.Timeout, want.OnFailure = 500*time.Millisecond, backends.PolicyKeep
	want.Bulkhead.MaxInFlight, want.Bulkhead.AnswerDeadline = 7, 2*time.Second
	want.Breaker.Interval, want.Breaker.OpenDuration = 20*time.Second, time.Second
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the config is invalid: %v", err)
	}
}

func TestConfig_Validate_ReportsEverything(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Timeout, cfg.Bulkhead.MaxInFlight, cfg.Breaker.OpenDuration = 0, 0, 0
	want := "timeout: 0s must be above 0\n" +
		"max_in_flight: 0 must be at least 1\nbreaker.open_duration: 0s must be above 0"
	if got := errorText(cfg.Validate()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestChain_State_NoAllocations(t *testing.T) {
	c := newTestChain(backends.PolicyAllow, backends.BackendFunc(allow))
	r := recheckFrom(1)
	failure := error(&backends.Failure{Kind: backends.FailureBreakerOpen})
	if n := testing.AllocsPerRun(100, func() {
		_ = c.IsDown()
		_ = c.State()
		_, _ = c.Fallback(r, failure)
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkChain(b *testing.B) {
	r := recheckFrom(1)
	b.Run("healthy", func(b *testing.B) {
		c := newTestChain(backends.PolicyAllow, backends.BackendFunc(allow))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Check(b.Context(), r)
		}
	})
	b.Run("breaker open", func(b *testing.B) {
		cfg := DefaultConfig()
		cfg.Breaker.OpenDuration = time.Hour
		c := New("portal", cfg, failWith(backends.FailureTransport), Deps{})
		for range 6 {
			_, _ = c.Check(b.Context(), r)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Check(b.Context(), r)
		}
	})
}
