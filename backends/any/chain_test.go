package anyof

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
func newChains(t testing.TB, policy backends.Policy, change func(*chain.Config), adapters ...backends.Backend,
) (*chain.Chain, []*chain.Chain) {
	t.Helper()
	var (
		members []backends.Member
		chains  []*chain.Chain
		names   []string
	)
	for i, a := range adapters {
		cfg := chain.DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		c := chain.New(string(rune('a'+i)), cfg, a, chain.Deps{Kind: "test"})
		chains, members, names = append(chains, c), append(members, c.Member(time.Duration(i+1)*time.Minute)), append(names, c.Name)
	}
	joined, err := New("both", Config{Backends: names}, members)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	return chain.NewLocal("both", policy, joined, chains, chain.Deps{Kind: "any"}), chains
}

// ownMind is a backend that decides on each viewer without a call, if it has a verdict.
type ownMind struct {
	backends.Backend
	verdict backends.Verdict
}

func (o ownMind) DecideWithoutCall(*backends.Request) (backends.Decision, bool) {
	return backends.LocalDecision(o.verdict, "as ever"), o.verdict != backends.Pending
}

// TestBackend_DecideWithoutCall decides while not all members answer only if none of their answers could change that.
func TestBackend_DecideWithoutCall(t *testing.T) {
	t.Parallel()
	asks := failingWith(backends.FailureTransport)
	const policy = "allowed fail-open no answer: timeout"
	for name, test := range map[string]struct {
		members []backends.Backend
		want    string
	}{
		"one allows":               {[]backends.Backend{asks, ownMind{asks, backends.Allowed}}, "allowed local b: as ever"},
		"all deny":                 {[]backends.Backend{ownMind{asks, backends.Denied}, ownMind{asks, backends.Denied}}, "denied local a: as ever"},
		"one denies":               {[]backends.Backend{ownMind{asks, backends.Denied}, asks}, policy},
		"one decides on others":    {[]backends.Backend{ownMind{asks, backends.Pending}}, policy},
		"all must be asked":        {[]backends.Backend{asks, asks}, policy},
		"one alone, that denies":   {[]backends.Backend{ownMind{asks, backends.Denied}}, "denied local a: as ever"},
		"one denies, one allows":   {[]backends.Backend{ownMind{asks, backends.Denied}, ownMind{asks, backends.Allowed}}, "allowed local b: as ever"},
		"one in between is silent": {[]backends.Backend{ownMind{asks, backends.Denied}, asks, ownMind{asks, backends.Denied}}, policy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newChains(t, backends.PolicyAllow, nil, test.members...)
			d, err := c.Fallback(requestFrom(1), nil)
			if got := d.Verdict.String() + " " + d.Source.String() + " " + d.Reason; err != nil || got != test.want {
				t.Errorf("got %s and %v, want %s", got, err, test.want)
			}
		})
	}
}

func requestFrom(viewer int) *backends.Request {
	r := backendtest.NewRequest("123")
	r.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(viewer)})
	return r
}

func recheckFrom(viewer int, verdict backends.Verdict) *backends.Request {
	r := requestFrom(viewer)
	r.Number = 1
	r.Current = backends.Decision{Verdict: verdict, Source: backends.FromBackend, Reason: "as before", UserID: "u1"}
	return r
}

// The composite backend's outage policy decides on a member's failure, for every kind of viewer.
func TestBackend_OutagePolicy(t *testing.T) {
	t.Parallel()
	allowing, denying := backends.Backend(allowingBackend()), backends.Backend(denyingBackend("x", ""))
	network, status := backends.Backend(failingWith(backends.FailureTransport)), backends.Backend(failingWith(backends.FailureStatus))
	busy := backends.Backend(failingBackend(overloadError()))
	tests := map[string]struct {
		members []backends.Backend
		// The outcomes for an unknown, an allowed and a denied viewer, under each policy.
		allow, keep, deny [3]string
	}{
		"allowed beside a failure": {
			[]backends.Backend{network, allowing},
			[3]string{"allowed backend", "allowed backend", "allowed backend"},
			[3]string{"allowed backend", "allowed backend", "allowed backend"},
			[3]string{"allowed backend", "allowed backend", "allowed backend"},
		},
		"denied beside a network failure": {
			[]backends.Backend{denying, network},
			[3]string{"allowed fail-open", "allowed cached", "denied cached"},
			[3]string{"failure", "allowed cached", "denied cached"},
			[3]string{"denied fail-open", "denied fail-open", "denied fail-open"},
		},
		"denied beside a failure that the viewer may have caused": {
			[]backends.Backend{denying, status},
			[3]string{"failure", "allowed cached", "denied cached"},
			[3]string{"failure", "allowed cached", "denied cached"},
			[3]string{"denied fail-open", "denied fail-open", "denied fail-open"},
		},
		"a failure that the viewer may have caused beside a network failure": {
			[]backends.Backend{status, network},
			[3]string{"allowed fail-open", "allowed cached", "denied cached"},
			[3]string{"failure", "allowed cached", "denied cached"},
			[3]string{"denied fail-open", "denied fail-open", "denied fail-open"},
		},
		"an overload beside a failure": {
			[]backends.Backend{busy, network},
			[3]string{"overload", "overload", "overload"},
			[3]string{"overload", "overload", "overload"},
			[3]string{"overload", "overload", "overload"},
		},
		"an overload beside a denial": {
			[]backends.Backend{denying, busy},
			[3]string{"overload", "overload", "overload"},
			[3]string{"overload", "overload", "overload"},
			[3]string{"overload", "overload", "overload"},
		},
		"denied by all": {
			[]backends.Backend{denying, denying},
			[3]string{"denied backend", "denied backend", "denied backend"},
			[3]string{"denied backend", "denied backend", "denied backend"},
			[3]string{"denied backend", "denied backend", "denied backend"},
		},
		"no opinion from all": {
			[]backends.Backend{pendingBackend(), pendingBackend()},
			[3]string{"denied local", "denied local", "denied local"},
			[3]string{"denied local", "denied local", "denied local"},
			[3]string{"denied local", "denied local", "denied local"},
		},
	}
	for name, tt := range tests {
		for policy, want := range map[backends.Policy][3]string{
			backends.PolicyAllow: tt.allow, backends.PolicyKeep: tt.keep, backends.PolicyDeny: tt.deny,
		} {
			t.Run(name+" under "+policy.String(), func(t *testing.T) {
				t.Parallel()
				c, _ := newChains(t, policy, nil, tt.members...)
				var got [3]string
				for i, r := range []*backends.Request{
					requestFrom(1), recheckFrom(1, backends.Allowed), recheckFrom(1, backends.Denied),
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

func describeOutcome(d backends.Decision, err error) string {
	switch {
	case backends.IsOverload(err):
		return "overload"
	case backends.AsFailure(err) != nil:
		return "failure"
	case err != nil:
		return err.Error()
	default:
		return d.Verdict.String() + " " + d.Source.String()
	}
}

// TestBackend_OneViewersFailuresKeepBreakerClosed has a member fail for one viewer, whom the other one denies. What has no
// answer follows on_failure, for that viewer alone.
func TestBackend_OneViewersFailuresKeepBreakerClosed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		failure backends.Failure
		want    string
	}{
		"a status":  {backends.Failure{Kind: backends.FailureStatus, Status: 503}, "failure"},
		"garbage":   {backends.Failure{Kind: backends.FailureMalformed}, "failure"},
		"a reset":   {backends.Failure{Kind: backends.FailureTransport, WasSent: true}, "allowed fail-open"},
		"a timeout": {backends.Failure{Kind: backends.FailureTimeout, WasSent: true}, "allowed fail-open"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := requestFrom(1).Address
			failing := backends.BackendFunc(func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
				if r.Address == bad {
					return backends.Decision{}, &tt.failure
				}
				return denyingBackend("y", "")(ctx, r)
			})
			c, chains := newChains(t, backends.PolicyAllow, nil, denyingBackend("x", ""), failing)
			for range 100 {
				if got := describeOutcome(c.Check(t.Context(), requestFrom(2))); got != "denied backend" {
					t.Fatalf("got %s for another viewer, want both members' No", got)
				}
				if got := describeOutcome(c.Check(t.Context(), requestFrom(1))); got != tt.want {
					t.Fatalf("got %s, want %s", got, tt.want)
				}
			}
			if chains[1].IsDown() || c.IsDown() {
				t.Error("one viewer opened the breaker")
			}
		})
	}
}

// OnSent is not called while a member's request waits in our own queue: the caller would take the wait for a hanging
// backend, and allow viewers whose checks a flood delays.
func TestCheck_OnSentWhenNoMemberQueues(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		first backends.BackendFunc
		calls int32
		out   time.Duration
	}{
		"one hangs, one queues":         {delayed(time.Hour, allowingBackend()), 1, 300 * time.Millisecond},
		"one has denied, one queues":    {denyingBackend("x", ""), 1, 300 * time.Millisecond},
		"one allows, one queues":        {delayed(100*time.Millisecond, allowingBackend()), 0, 0},
		"one fails at once, one queues": {failingWith(backends.FailureTransport), 1, 300 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, chains := newChains(t, backends.PolicyAllow, func(cfg *chain.Config) {
					cfg.Bulkhead.MaxInFlight = 1
				}, tt.first, delayed(300*time.Millisecond, denyingBackend("y", "")))
				go func() { _, _ = chains[1].Check(t.Context(), requestFrom(2)) }() // takes the only slot
				synctest.Wait()
				var calls atomic.Int32
				started, out := time.Now(), time.Duration(0)
				r := requestFrom(1)
				r.OnSent = func() {
					calls.Add(1)
					out = time.Since(started)
				}
				_, _ = c.Check(t.Context(), r)
				synctest.Wait()
				if calls.Load() != tt.calls || out != tt.out {
					t.Errorf("OnSent was called %d times, after %s; want %d after %s", calls.Load(), out, tt.calls, tt.out)
				}
			})
		})
	}
}

// A member that decides by itself sends nothing. One that hangs beside it is told from a queue nevertheless, and once.
func TestCheck_OnSentBesideALocalMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := func(context.Context, *backends.Request) (backends.Decision, error) {
			return backends.LocalDecision(backends.Denied, "no account"), nil
		}
		hangs := func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			time.Sleep(time.Second)
			r.OnSent()
			return delayed(time.Second, allowingBackend())(ctx, r)
		}
		started, sent := time.Now(), []time.Duration(nil)
		r := requestFrom(1)
		r.OnSent = func() { sent = append(sent, time.Since(started)) }
		if got := describeOutcome(newBackend(t, backends.BackendFunc(local), backends.BackendFunc(hangs)).Check(t.Context(), r)); got != "allowed backend" {
			t.Errorf("got %s, want allowed", got)
		}
		if len(sent) != 1 || sent[0] != time.Second {
			t.Errorf("OnSent was called after %v, want once after a second", sent)
		}
	})
}

func TestCheck_AllMembersOverloaded_OnSentNotCalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := delayed(1500*time.Millisecond, denyingBackend("x", ""))
		c, chains := newChains(t, backends.PolicyAllow, func(cfg *chain.Config) {
			cfg.Bulkhead.MaxInFlight = 1
		}, hang, hang)
		for _, member := range chains {
			go func() { _, _ = member.Check(t.Context(), requestFrom(2)) }()
		}
		synctest.Wait()
		r := requestFrom(1)
		r.OnSent = func() { t.Error("OnSent was called") }
		if got := describeOutcome(c.Check(t.Context(), r)); got != "overload" {
			t.Errorf("got %s, want an overload", got)
		}
	})
}

// The other member's allowed decision cancels a hanging one, which neither opens its breaker nor keeps its slots.
func TestCheck_HangingMemberBesideAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, chains := newChains(t, backends.PolicyDeny, nil, delayed(time.Hour, allowingBackend()), delayed(time.Millisecond, allowingBackend()))
		started := time.Now()
		for i := range 1000 {
			if got := describeOutcome(c.Check(t.Context(), requestFrom(i))); got != "allowed backend" {
				t.Fatalf("got %s, want allowed", got)
			}
		}
		synctest.Wait()
		if slots, _ := chains[0].Bulkhead.InFlight(); slots != 0 || chains[0].IsDown() || time.Since(started) != time.Second {
			t.Errorf("got %d slots held, down %t, after %s; want none, false, 1s", slots, chains[0].IsDown(), time.Since(started))
		}
	})
}

func TestCheck_Concurrent(t *testing.T) {
	t.Parallel()
	by := func(answers string, d backends.BackendFunc) backends.BackendFunc {
		return func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
			if r.Query == answers {
				return d(ctx, r)
			}
			return denyingBackend("not mine", "")(ctx, r)
		}
	}
	c, _ := newChains(t, backends.PolicyAllow, nil, by("token=0", allowingBackend()), by("token=1", allowingBackend()), by("token=2", pendingBackend()))
	want := []string{"a: backend answered 200", "b: backend answered 200", "a: not mine", "a: not mine"}
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			r := backendtest.NewRequest(fmt.Sprint(i % 4))
			var sent atomic.Int32
			r.OnSent = func() { sent.Add(1) }
			d, err := c.Check(t.Context(), r)
			if err != nil || d.Reason != want[i%4] || sent.Load() > 1 {
				t.Errorf("viewer %d: got %q, error %v, sent %d times; want %q", i, d.Reason, err, sent.Load(), want[i%4])
			}
		})
	}
	group.Wait()
}

func TestSentNotifier_CallsOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	n := newSentNotifier(2, func() { calls++ })
	for i, step := range []struct {
		member int
		state  callState
		want   int
	}{{0, callSent, 0}, {1, callSent, 1}, {0, callDone, 1}, {1, callDone, 1}} {
		if n.setState(step.member, step.state); calls != step.want {
			t.Errorf("step %d: called %d times, want %d", i, calls, step.want)
		}
	}
}

// A call that outlives its check must not call the caller's OnSent.
func TestSentNotifier_StopsWithCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		late := func(_ context.Context, r *backends.Request) (backends.Decision, error) {
			<-release
			r.OnSent()
			return backends.Decision{}, nil
		}
		b := newBackend(t, backends.BackendFunc(late), allowingBackend())
		r := requestFrom(1)
		r.OnSent = func() { t.Error("OnSent was called after the check") }
		if got := describeOutcome(b.Check(t.Context(), r)); got != "allowed backend" {
			t.Errorf("got %s, want allowed", got)
		}
		close(release)
		synctest.Wait()
		if n := b.members[0].runningCalls.Load(); n != 0 {
			t.Errorf("%d calls still run", n)
		}
	})
}
