package chain

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

func newTestChain(policy backends.Policy, adapter backends.Backend) *Chain {
	cfg := DefaultConfig()
	cfg.OnFailure = policy
	return New("portal", cfg, adapter, Deps{Kind: "test"})
}

// A hanging backend costs viewers the timeout until the breaker opens, nothing after, and its recovery is noticed.
func TestChainThroughAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchable{now: yes}
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
		check(from(1), backends.FromBackend, 0)
		s.set(hangs)
		for i := range 5 {
			check(from(i), backends.FromFailOpen, testTimeout)
		}
		check(from(6), backends.FromFailOpen, 0)
		check(running(7), backends.FromCached, 0)
		time.Sleep(6500 * time.Millisecond) // beside the ticks of the clock
		if c.State() != backends.BreakerHalfOpen {
			t.Fatalf("got state %s, want half-open", c.State())
		}
		check(from(8), backends.FromFailOpen, 0) // the try, in the background
		s.set(yes)
		time.Sleep(8 * time.Second) // it times out; open again, then half-open
		check(running(9), backends.FromBackend, 0)
		check(from(10), backends.FromBackend, 0)
		if c.IsDown() {
			t.Error("still down after a good answer")
		}
	})
}

func TestANoStaysANoUnderEveryPolicy(t *testing.T) {
	t.Parallel()
	no := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
	for _, policy := range []backends.Policy{backends.PolicyAllow, backends.PolicyKeep, backends.PolicyDeny} {
		d, err := newTestChain(policy, answering(no)).Check(t.Context(), running(1))
		if diff := cmp.Diff(no, d); err != nil || diff != "" {
			t.Errorf("%s: error %v, decision (-want +got):\n%s", policy, err, diff)
		}
	}
}

func TestTheConfigWinsOverThePresetsPolicy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		preset backends.Policy
		policy backends.Policy
		want   backends.Policy
	}{
		"nothing said":              {backends.PolicyFromPreset, backends.PolicyFromPreset, backends.PolicyAllow},
		"astra and alta allow":      {backends.PolicyAllow, backends.PolicyFromPreset, backends.PolicyAllow},
		"flussonic keeps":           {backends.PolicyKeep, backends.PolicyFromPreset, backends.PolicyKeep},
		"auth-proxy denies":         {backends.PolicyDeny, backends.PolicyFromPreset, backends.PolicyDeny},
		"the config says otherwise": {backends.PolicyDeny, backends.PolicyAllow, backends.PolicyAllow},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.OnFailure = tt.policy
			c := New("portal", cfg, backends.BackendFunc(yes), Deps{DefaultPolicy: tt.preset})
			if got := c.FailOpen.Policy(); got != tt.want {
				t.Errorf("got policy %s, want %s", got, tt.want)
			}
		})
	}
}

func TestChainConfigInYAML(t *testing.T) {
	t.Parallel()
	got := DefaultConfig()
	err := yaml.UnmarshalWithOptions([]byte(`
timeout: 500ms
on_failure: keep
token_ttl: 5s
on_expired_token: deny
max_in_flight: 7
answer_deadline: 2s
breaker: { interval: 20s, open_duration: 1s }
`), &got, yaml.Strict())
	if err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := DefaultConfig()
	want.Timeout, want.OnFailure = 500*time.Millisecond, backends.PolicyKeep
	want.TokenTTL, want.OnExpiredToken = 5*time.Second, backends.DenyOnExpiredToken
	want.Bulkhead.MaxInFlight, want.Bulkhead.AnswerDeadline = 7, 2*time.Second
	want.Breaker.Interval, want.Breaker.OpenDuration = 20*time.Second, time.Second
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the config is invalid: %v", err)
	}
}

func TestChainConfigValidateReportsEverything(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Timeout, cfg.TokenTTL, cfg.Bulkhead.MaxInFlight, cfg.Breaker.OpenDuration = 0, -1, 0, 0
	want := "timeout: 0s must be above 0\ntoken_ttl: -1ns must be 0 (no end) or above\n" +
		"max_in_flight: 0 must be at least 1\nbreaker.open_duration: 0s must be above 0"
	if got := errorText(cfg.Validate()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWhatRequestsReadOfAChainAllocatesNothing(t *testing.T) {
	c := newTestChain(backends.PolicyAllow, backends.BackendFunc(yes))
	r := running(1)
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
	r := running(1)
	b.Run("healthy", func(b *testing.B) {
		c := newTestChain(backends.PolicyAllow, backends.BackendFunc(yes))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Check(b.Context(), r)
		}
	})
	b.Run("breaker open", func(b *testing.B) {
		cfg := DefaultConfig()
		cfg.Breaker.OpenDuration = time.Hour
		c := New("portal", cfg, fails(backends.FailureTransport), Deps{})
		for range 6 {
			_, _ = c.Check(b.Context(), r)
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Check(b.Context(), r)
		}
	})
}
