package rules

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/chain"
)

// newChains joins members as the program does: each in its own chain, all in one chain without breaker and bulkhead.
func newChains(t testing.TB, policy backends.Policy, change func(*chain.Config), config string,
	adapters ...backends.Backend,
) (*chain.Chain, []*chain.Chain) {
	t.Helper()
	var (
		members []backends.Backend
		chains  []*chain.Chain
	)
	for i, a := range adapters {
		cfg := chain.DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		c := chain.New(string(rune('a'+i)), cfg, a, chain.Deps{Kind: "test"})
		chains, members = append(chains, c), append(members, c.WithoutFailOpen())
	}
	joined := newBackend(t, config, members...)
	return chain.NewLocal("gate", policy, joined, chains, chain.Deps{Kind: "rules"}), chains
}

func recheck(verdict backends.Verdict) *backends.Request {
	r := backendtest.NewRequest("123")
	r.Number = 1
	r.Current = backends.Decision{
		Verdict: verdict, Source: backends.FromBackend, Reason: "as before", UserID: "u1", ValidFor: time.Hour,
	}
	return r
}

// on_failure of a rule selects what decides when its backend fails: the outage policy, the next rules, or the rule.
func TestBackend_OnFailure(t *testing.T) {
	t.Parallel()
	const keptAllowed = "allowed cached as before"
	const keptDenied = "denied cached as before"
	const deniedByPolicy = "denied fail-open backends.gate.on_failure=deny"
	tests := map[string]struct {
		config  string
		failure backends.FailureKind
		// The outcomes for an unknown, an allowed and a denied viewer, under each policy.
		allow, keep, deny [3]string
	}{
		"fail leaves it to the policy": {
			`{ rules: [{ backend: a }], default: allow }`, backends.FailureTransport,
			[3]string{"allowed fail-open no answer: transport", keptAllowed, keptDenied},
			[3]string{"failure transport", keptAllowed, keptDenied},
			[3]string{deniedByPolicy, deniedByPolicy, deniedByPolicy},
		},
		"fail by viewer input": {
			`{ rules: [{ backend: a }], default: allow }`, backends.FailureStatus,
			[3]string{"failure status", keptAllowed, keptDenied},
			[3]string{"failure status", keptAllowed, keptDenied},
			[3]string{deniedByPolicy, deniedByPolicy, deniedByPolicy},
		},
		"pass leaves it to the next rule, which keeps decisions": {
			`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.FailureTransport,
			[3]string{"allowed fail-open default: allow; a did not answer", keptAllowed, keptDenied},
			[3]string{"allowed fail-open default: allow; a did not answer", keptAllowed, keptDenied},
			[3]string{"allowed fail-open default: allow; a did not answer", keptAllowed, keptDenied},
		},
		"pass to a default that denies": {
			`{ rules: [{ backend: a, on_failure: pass }] }`, backends.FailureTransport,
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
		},
		"pass does not apply to viewer input": {
			`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.FailureMalformed,
			[3]string{"failure malformed", keptAllowed, keptDenied},
			[3]string{"failure malformed", keptAllowed, keptDenied},
			[3]string{deniedByPolicy, deniedByPolicy, deniedByPolicy},
		},
		"deny denies, whatever the policy": {
			`{ rules: [{ backend: a, on_failure: deny }], default: allow }`, backends.FailureTransport,
			[3]string{"denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport"},
			[3]string{"denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport"},
			[3]string{"denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport", "denied fail-open rules[0].on_failure=deny; a did not answer: transport"},
		},
	}
	for name, tt := range tests {
		for policy, want := range map[backends.Policy][3]string{
			backends.PolicyAllow: tt.allow, backends.PolicyKeep: tt.keep, backends.PolicyDeny: tt.deny,
		} {
			t.Run(name+", under "+policy.String(), func(t *testing.T) {
				t.Parallel()
				c, _ := newChains(t, policy, nil, tt.config, failingWith(tt.failure))
				var got [3]string
				for i, r := range []*backends.Request{
					backendtest.NewRequest("123"), recheck(backends.Allowed), recheck(backends.Denied),
				} {
					got[i] = describeOutcome(c.Check(t.Context(), r))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("unknown, watching, denied (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A list is down with its backends only if each viewer's decision is one of theirs.
func TestBackend_DecidesAlone(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]bool{
		`rules: [{ backend: a }]`: false,
		`{ rules: [{ backend: a }, { addresses: [192.0.2.0/24], action: allow }], default: allow }`:   false,
		`{ rules: [{ channels: [x], action: pass }, { channels: [x], backend: b }, { backend: a }] }`: false,
		`{ rules: [{ backend: b, on_failure: pass }, { backend: a }] }`:                               false,
		`rules: [{ addresses: [192.0.2.0/24], action: allow }, { backend: a }]`:                       true,
		`rules: [{ user_agents: ["*bot*"], action: deny }, { backend: a }]`:                           true,
		`rules: [{ backend: a, on_failure: deny }]`:                                                   true,
		`{ rules: [{ backend: a, on_failure: pass }], default: allow }`:                               true,
		`{ rules: [{ channels: [x], backend: a }], default: allow }`:                                  true,
		`rules: [{ channels: [x], backend: b }, { backend: a }, { channels: [y], action: deny }]`:     false,
	} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			c, members := newChains(t, backends.PolicyAllow, nil, config, pendingBackend(), pendingBackend())
			for _, m := range members {
				order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
				if err := m.Force(order); err != nil {
					t.Fatal(err)
				}
			}
			if got := !c.IsDown(); got != want {
				t.Errorf("decides while no backend answers: %t, want %t", got, want)
			}
		})
	}
}

// One viewer's request that makes the backend fail passes nobody else on.
func TestBackend_OneViewersFailuresLeadNobodyElsePast(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]backends.Failure{
		"a status":  {Kind: backends.FailureStatus, Status: 503},
		"garbage":   {Kind: backends.FailureMalformed},
		"a reset":   {Kind: backends.FailureTransport, WasSent: true},
		"a timeout": {Kind: backends.FailureTimeout, WasSent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, other := backendtest.NewRequest("bad"), backendtest.NewRequest("123")
			bad.Address = netip.MustParseAddr("198.51.100.66")
			member := backends.BackendFunc(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
				if r.Address == bad.Address {
					return backends.Decision{}, &failure
				}
				return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, nil
			})
			c, chains := newChains(t, backends.PolicyAllow, nil, `{ rules: [{ backend: a, on_failure: pass }], default: allow }`, member)
			for range 100 {
				if d, err := c.Check(t.Context(), other); err != nil || d.Verdict != backends.Denied {
					t.Fatalf("got %s and error %v for another viewer, want the member's No", d.Verdict, err)
				}
				_, _ = c.Check(t.Context(), bad)
			}
			if chains[0].IsDown() {
				t.Error("one viewer opened the breaker")
			}
		})
	}
}

// A playing viewer keeps user and limit when only a local rule decides, and is re-checked soon.
func TestCheck_SkippedFailure_KeepsCurrentDecision(t *testing.T) {
	t.Parallel()
	b := newBackend(t, `{ rules: [{ backend: a, on_failure: pass }], default: allow }`, failingWith(backends.FailureTransport))
	for source, want := range map[backends.Source]backends.Source{
		backends.FromBackend: backends.FromCached, backends.FromCached: backends.FromCached,
		backends.FromFailOpen: backends.FromFailOpen, backends.FromTicket: backends.FromTicket,
	} {
		r := recheck(backends.Allowed)
		r.Current.Source = source
		expected := backends.Decision{Verdict: backends.Allowed, Source: want, Reason: "as before", UserID: "u1"}
		d, err := b.Check(t.Context(), r)
		if diff := cmp.Diff(expected, d); err != nil || diff != "" {
			t.Errorf("%s: error %v, decision (-want +got):\n%s", source, err, diff)
		}
	}
}

func TestBackend_NoOpinion(t *testing.T) {
	t.Parallel()
	c, _ := newChains(t, backends.PolicyAllow, nil, `{ rules: [{ backend: a }], default: pass }`, pendingBackend())
	if got, want := describeOutcome(c.Check(t.Context(), backendtest.NewRequest("1"))), "denied local default: pass"; got != want {
		t.Errorf("alone: got %s, want %s", got, want)
	}
	if got, want := describeOutcome(c.WithoutFailOpen().Check(t.Context(), backendtest.NewRequest("1"))), "pending local default: pass"; got != want {
		t.Errorf("joined: got %s, want %s", got, want)
	}
}

// OnSent is not called while a later rule's request may wait in our own queue.
func TestCheck_OnSentWithLastAskRule(t *testing.T) {
	t.Parallel()
	const queue = 300 * time.Millisecond // until b has a free slot
	tests := map[string]struct {
		config string
		first  backends.BackendFunc
		calls  int32
		out    time.Duration
	}{
		"the second is called, after its queue": {`rules: [{ backend: a }, { backend: b }]`, pendingBackend(), 1, queue},
		"the second could have been called":     {`rules: [{ backend: a }, { backend: b }]`, denyingBackend(), 0, 0},
		"the second does not match":             {`rules: [{ backend: a }, { channels: [x], backend: b }]`, denyingBackend(), 1, 0},
		"a rule ends it before the second":      {`rules: [{ backend: a }, { channels: [a*], action: deny }, { backend: b }]`, denyingBackend(), 1, 0},
		"a rule passes on before it":            {`rules: [{ backend: a }, { channels: [a*], action: pass }, { backend: b }]`, denyingBackend(), 0, 0},
		"no backend is called":                  {`rules: [{ channels: [a*], action: deny }, { backend: a }, { backend: b }]`, denyingBackend(), 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, chains := newChains(t, backends.PolicyAllow, func(cfg *chain.Config) {
					cfg.Bulkhead.MaxInFlight = 1
				}, tt.config, tt.first, delayed(queue, denyingBackend()))
				busy, leave := context.WithCancel(t.Context())
				go func() { _, _ = chains[1].Check(busy, backendtest.NewRequest("2")) }() // takes the only slot
				synctest.Wait()
				var calls atomic.Int32
				started, out := time.Now(), time.Duration(0)
				r := backendtest.NewRequest("1")
				r.OnSent = func() {
					calls.Add(1)
					out = time.Since(started)
				}
				_, _ = c.Check(t.Context(), r)
				leave()
				synctest.Wait()
				if calls.Load() != tt.calls || out != tt.out {
					t.Errorf("OnSent was called %d times, after %s; want %d after %s", calls.Load(), out, tt.calls, tt.out)
				}
			})
		})
	}
}

// delayed answers as next does, after a delay.
func delayed(delay time.Duration, next backends.BackendFunc) backends.BackendFunc {
	return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(delay):
			return next(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
}

func TestCheck_Concurrent(t *testing.T) {
	t.Parallel()
	known := func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.Query == "token=2" {
			return allowingBackend()(ctx, r)
		}
		return denyingBackend()(ctx, r)
	}
	c, _ := newChains(t, backends.PolicyAllow, nil,
		`rules: [{ tokens: [0], action: allow }, { tokens: [1], action: deny }, { backend: a }]`, backends.BackendFunc(known))
	want := []string{
		"allowed local rules[0]: allow", "denied local rules[1]: deny",
		"allowed backend a: backend answered 200", "denied backend a: backend answered 403",
	}
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			r := backendtest.NewRequest(fmt.Sprint(i % 4))
			r.OnSent = func() {}
			if got := describeOutcome(c.Check(t.Context(), r)); got != want[i%4] {
				t.Errorf("viewer %d: got %s, want %s", i, got, want[i%4])
			}
		})
	}
	group.Wait()
}
