package rules

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
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
		members []backends.Member
		chains  []*chain.Chain
	)
	for i, a := range adapters {
		cfg := chain.DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		c := chain.New(string(rune('a'+i)), cfg, a, chain.Deps{Kind: "test"})
		chains, members = append(chains, c), append(members, c.Member(time.Minute))
	}
	joined, err := New("gate", readConfig(t, config), members)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
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

// While backends do not answer, the list decides on those viewers about whom no answer can change what it says.
func TestBackend_DecideWithoutCall(t *testing.T) {
	t.Parallel()
	const policy = "denied fail-open backends.gate.on_failure=deny"
	for name, test := range map[string]struct {
		config    string
		isDown    []bool // a, b
		want      string
		wantOther string // of a viewer on channel x
	}{
		"its backend alone decides": {`rules: [{ backend: a }]`, []bool{true}, policy, policy},
		"a rule allows": {
			`rules: [{ channels: [x], action: allow }, { backend: a }]`,
			[]bool{true},
			policy, "allowed local rules[0]: allow",
		},
		"a rule denies": {
			`rules: [{ backend: a, on_failure: pass }, { channels: [x], action: deny }, { backend: b }]`,
			[]bool{true, true},
			policy, "denied fail-open rules[1]: deny; a did not answer",
		},
		"an outage denies": {
			`rules: [{ channels: [x], backend: a, on_failure: deny }, { backend: b }]`,
			[]bool{true, true},
			policy, "denied fail-open rules[0].on_failure=deny; a did not answer: breaker-open",
		},
		"a hang denies": {
			`rules: [{ channels: [x], backend: a, on_failure: deny }, { channels: [y], backend: b }]`,
			[]bool{false, false},
			"denied local default: deny", "denied fail-open rules[0].on_failure=deny; a did not answer: timeout",
		},
		"an outage passes on to the default": {
			`{ rules: [{ backend: a, on_failure: pass }], default: allow }`,
			[]bool{true},
			"allowed fail-open default: allow; a did not answer", "allowed fail-open default: allow; a did not answer",
		},
		"a hang does too": {
			`{ rules: [{ channels: [x], backend: a, on_failure: pass }], default: allow }`,
			[]bool{false},
			"allowed local default: allow", "allowed fail-open default: allow; a did not answer",
		},
		"either may hang": {
			`{ rules: [{ backend: a, on_failure: pass }, { channels: [x], backend: b, on_failure: pass }], default: allow }`,
			[]bool{false, false},
			"allowed fail-open default: allow; a did not answer", policy,
		},
		"one is down, and the other one hangs": {
			`{ rules: [{ backend: a, on_failure: pass }, { channels: [x], backend: b, on_failure: deny }], default: allow }`,
			[]bool{true, false},
			"allowed fail-open default: allow; a did not answer", "denied fail-open rules[1].on_failure=deny; b did not answer: timeout",
		},
		"nobody has an opinion": {
			`{ rules: [{ backend: a, on_failure: pass }], default: pass }`,
			[]bool{true},
			"denied fail-open default: pass; a did not answer", "denied fail-open default: pass; a did not answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, members := newChains(t, backends.PolicyDeny, nil, test.config, slices.Repeat([]backends.Backend{pendingBackend()}, len(test.isDown))...)
			for i, m := range members {
				if test.isDown[i] {
					forceOpen(t, m)
				}
			}
			other := backendtest.NewRequest("1")
			other.Channel = "x"
			for r, want := range map[*backends.Request]string{backendtest.NewRequest("1"): test.want, other: test.wantOther} {
				if got := describeOutcome(c.Fallback(r, nil)); got != want {
					t.Errorf("channel %q: got %s, want %s", r.Channel, got, want)
				}
			}
		})
	}
}

// An answer that was passed on is none that did not come: what follows it decides.
func TestBackend_Check_OutagePolicyAfterAnAnswer(t *testing.T) {
	t.Parallel()
	denies := decidingBackend(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend})
	c, _ := newChains(t, backends.PolicyAllow, nil, `rules: [{ backend: a, on_deny: pass, on_failure: deny }, { backend: b }]`,
		denies, failingBackend(&backends.Failure{Kind: backends.FailureTransport, Backend: "b"}))
	if got, want := describeOutcome(c.Check(t.Context(), backendtest.NewRequest("1"))), "allowed fail-open no answer: transport"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func forceOpen(t *testing.T, c *chain.Chain) {
	t.Helper()
	order := backends.ForcedBreaker{IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Version: 1}
	if err := c.Force(order); err != nil {
		t.Fatal(err)
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
