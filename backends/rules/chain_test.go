package rules

import (
	"context"
	"fmt"
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

// chained has the rules ask as the program does: each backend in a chain of its own, all in one without breaker and
// bulkhead.
func chained(t testing.TB, policy backends.Policy, change func(*chain.Config), config string,
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

func watching(standing backends.Verdict) *backends.Request {
	r := backendtest.NewRequest("123")
	r.Number = 1
	r.Current = backends.Decision{
		Verdict: standing, Source: backends.FromBackend, Reason: "as before", UserID: "u1", ValidFor: time.Hour,
	}
	return r
}

// on_failure of a rule says who decides when its backend is away: the outage policy, the next rules, or nobody.
func TestWhoDecidesInAnOutage(t *testing.T) {
	t.Parallel()
	const kept = "allowed cached as before"
	const keptNo = "denied cached as before"
	const refused = "denied fail-open backends.gate.on_failure=deny"
	tests := map[string]struct {
		config  string
		failure backends.FailureKind
		// want is what an unknown viewer is told, one who watches, and one who was denied, under each policy.
		allow, keep, deny [3]string
	}{
		"fail leaves it to the policy": {
			`{ rules: [{ backend: a }], default: allow }`, backends.FailureTransport,
			[3]string{"allowed fail-open nobody answered: transport", kept, keptNo},
			[3]string{"failure transport", kept, keptNo},
			[3]string{refused, refused, refused},
		},
		"fail by the viewer's own words": {
			`{ rules: [{ backend: a }], default: allow }`, backends.FailureStatus,
			[3]string{"failure status", kept, keptNo},
			[3]string{"failure status", kept, keptNo},
			[3]string{refused, refused, refused},
		},
		"pass leaves it to the next, who keep what is decided": {
			`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.FailureTransport,
			[3]string{"allowed fail-open default: allow; a did not answer", kept, keptNo},
			[3]string{"allowed fail-open default: allow; a did not answer", kept, keptNo},
			[3]string{"allowed fail-open default: allow; a did not answer", kept, keptNo},
		},
		"pass to a default that denies": {
			`{ rules: [{ backend: a, on_failure: pass }] }`, backends.FailureTransport,
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
			[3]string{"denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer", "denied fail-open default: deny; a did not answer"},
		},
		"pass by the viewer's own words is none": {
			`{ rules: [{ backend: a, on_failure: pass }], default: allow }`, backends.FailureMalformed,
			[3]string{"failure malformed", kept, keptNo},
			[3]string{"failure malformed", kept, keptNo},
			[3]string{refused, refused, refused},
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
				c, _ := chained(t, policy, nil, tt.config, failing(tt.failure))
				var got [3]string
				for i, r := range []*backends.Request{
					backendtest.NewRequest("123"), watching(backends.Allowed), watching(backends.Denied),
				} {
					got[i] = shown(c.Check(t.Context(), r))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("unknown, watching, denied (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// Who watches keeps his user and limit when only a rule's word is left, and is asked about again soon.
func TestAStopgapKeepsWhoWatches(t *testing.T) {
	t.Parallel()
	b := newBackend(t, `{ rules: [{ backend: a, on_failure: pass }], default: allow }`, failing(backends.FailureTransport))
	for source, want := range map[backends.Source]backends.Source{
		backends.FromBackend: backends.FromCached, backends.FromCached: backends.FromCached,
		backends.FromFailOpen: backends.FromFailOpen, backends.FromTicket: backends.FromTicket,
	} {
		r := watching(backends.Allowed)
		r.Current.Source = source
		expected := backends.Decision{Verdict: backends.Allowed, Source: want, Reason: "as before", UserID: "u1"}
		d, err := b.Check(t.Context(), r)
		if diff := cmp.Diff(expected, d); err != nil || diff != "" {
			t.Errorf("%s: error %v, decision (-want +got):\n%s", source, err, diff)
		}
	}
}

func TestNoOpinionIsANoOnlyWhereNobodyJoinsIt(t *testing.T) {
	t.Parallel()
	c, _ := chained(t, backends.PolicyAllow, nil, `{ rules: [{ backend: a }], default: pass }`, unsure())
	if got, want := shown(c.Check(t.Context(), backendtest.NewRequest("1"))), "denied local default: pass"; got != want {
		t.Errorf("alone: got %s, want %s", got, want)
	}
	if got, want := shown(c.WithoutFailOpen().Check(t.Context(), backendtest.NewRequest("1"))), "pending local default: pass"; got != want {
		t.Errorf("joined: got %s, want %s", got, want)
	}
}

// As long as a later rule may have the question in a queue of ours, the caller does not hear that it went out.
func TestTheQuestionIsOutWithTheLastRuleThatMayAsk(t *testing.T) {
	t.Parallel()
	const queue = 300 * time.Millisecond // until b has a free slot
	tests := map[string]struct {
		config string
		first  backends.BackendFunc
		calls  int32
		out    time.Duration
	}{
		"the second is asked, after its queue": {`rules: [{ backend: a }, { backend: b }]`, unsure(), 1, queue},
		"the second could have been asked":     {`rules: [{ backend: a }, { backend: b }]`, no(), 0, 0},
		"the second is not for him":            {`rules: [{ backend: a }, { channels: [x], backend: b }]`, no(), 1, 0},
		"a rule ends it before the second":     {`rules: [{ backend: a }, { channels: [a*], action: deny }, { backend: b }]`, no(), 1, 0},
		"a rule passes on before it":           {`rules: [{ backend: a }, { channels: [a*], action: pass }, { backend: b }]`, no(), 0, 0},
		"nobody is asked":                      {`rules: [{ channels: [a*], action: deny }, { backend: a }, { backend: b }]`, no(), 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, chains := chained(t, backends.PolicyAllow, func(cfg *chain.Config) {
					cfg.Bulkhead.MaxInFlight = 1
				}, tt.config, tt.first, after(queue, no()))
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
					t.Errorf("Asking was called %d times, after %s; want %d after %s", calls.Load(), out, tt.calls, tt.out)
				}
			})
		})
	}
}

// after answers as next does, later.
func after(delay time.Duration, next backends.BackendFunc) backends.BackendFunc {
	return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(delay):
			return next(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
}

func TestManyViewersAtOnceGetEachHisOwnAnswer(t *testing.T) {
	t.Parallel()
	known := func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		if r.Query == "token=2" {
			return yes()(ctx, r)
		}
		return no()(ctx, r)
	}
	c, _ := chained(t, backends.PolicyAllow, nil,
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
			if got := shown(c.Check(t.Context(), r)); got != want[i%4] {
				t.Errorf("viewer %d: got %s, want %s", i, got, want[i%4])
			}
		})
	}
	group.Wait()
}
