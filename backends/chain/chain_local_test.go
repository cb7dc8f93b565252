package chain

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"

	"github.com/google/go-cmp/cmp"
)

// firstOf asks its members one after the other and takes the first answer: the least that joining can be.
func firstOf(members ...backends.Member) backends.Backend {
	return backends.BackendFunc(func(ctx context.Context, r *backends.Request) (d backends.Decision, err error) {
		for _, m := range members {
			if d, err = m.Backend.Check(ctx, r); err == nil && d.Verdict != backends.Pending {
				return d, nil
			}
		}
		return d, err
	})
}

// memberIn is a chain with a breaker in that state. It moves no further while its time stands still.
func memberIn(t *testing.T, name string, state backends.BreakerState) (*Chain, *switchable) {
	t.Helper()
	s := &switchable{now: yes}
	c := New(name, DefaultConfig(), s, Deps{Kind: "test"})
	if state != backends.BreakerClosed {
		openIt(t, c.Breaker, s)
	}
	if state == backends.BreakerHalfOpen {
		time.Sleep(DefaultBreakerConfig().OpenDuration + time.Second) // within the test's bubble
		c.Breaker.cb.State()
	}
	if c.State() != state {
		t.Fatalf("got state %s, want %s", c.State(), state)
	}
	return c, s
}

func joinedChain(policy backends.Policy, log *slog.Logger, members ...*Chain) *Chain {
	var joined []backends.Member
	for _, m := range members {
		joined = append(joined, backends.Member{Name: m.Name, Backend: m.WithoutFailOpen()})
	}
	return NewLocal("joint", policy, firstOf(joined...), members, Deps{Kind: "any", Log: log})
}

func TestTheStateOfAJointChainIsItsBestMembers(t *testing.T) {
	t.Parallel()
	const closed, half, open = backends.BreakerClosed, backends.BreakerHalfOpen, backends.BreakerOpen
	tests := map[string]struct {
		members []backends.BreakerState
		want    backends.BreakerState
	}{
		"nobody to ask":            {nil, closed},
		"all are asked":            {[]backends.BreakerState{closed, closed}, closed},
		"one is asked":             {[]backends.BreakerState{open, half, closed}, closed},
		"one is tried":             {[]backends.BreakerState{open, half}, half},
		"nobody is asked":          {[]backends.BreakerState{open, open}, open},
		"one alone that is tried":  {[]backends.BreakerState{half}, half},
		"one alone that is closed": {[]backends.BreakerState{closed}, closed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var members []*Chain
				for _, state := range []backends.BreakerState{half, open, closed} { // those that take time first
					for _, want := range tt.members {
						if want == state {
							c, _ := memberIn(t, "m", state)
							members = append(members, c)
						}
					}
				}
				c := joinedChain(backends.PolicyAllow, nil, members...)
				outer := joinedChain(backends.PolicyAllow, nil, c)
				for _, joint := range []*Chain{c, outer} {
					down := tt.want != closed
					if joint.State() != tt.want || joint.IsDown() != down || joint.FailOpen.IsDown() != down {
						t.Errorf("got state %s, down %t and %t; want %s, %t",
							joint.State(), joint.IsDown(), joint.FailOpen.IsDown(), tt.want, down)
					}
				}
			})
		})
	}
}

func TestALocalChainBesideAMemberKeepsTheJointChainUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away, _ := memberIn(t, "portal", backends.BreakerOpen)
		users := NewLocal("users", backends.PolicyFromPreset, answering(backends.Decision{Verdict: backends.Denied}), nil, Deps{})
		if c := joinedChain(backends.PolicyAllow, nil, users, away); c.IsDown() {
			t.Error("the joint chain is down although one of its members needs nobody")
		}
	})
}

// run runs the chains until the test ends.
func run(t *testing.T, chains ...*Chain) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, c := range chains {
		group.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("run %s: %v", c.Name, err)
			}
		})
	}
	synctest.Wait()
	return func() {
		cancel()
		group.Wait()
	}
}

// Wakes travel through a joint chain to one that joins that one.
func TestAJointChainPassesOnItsMembersWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, s := memberIn(t, "first", backends.BreakerClosed)
		second, s2 := memberIn(t, "second", backends.BreakerClosed)
		joint := joinedChain(backends.PolicyAllow, nil, first, second)
		outer := joinedChain(backends.PolicyAllow, nil, joint)
		stop := run(t, joint, outer)
		changed, done := outer.subscribe()
		defer done()
		woken := func() bool {
			synctest.Wait()
			select {
			case <-changed:
				return true
			default:
				return false
			}
		}
		if !woken() || woken() {
			t.Error("want one wake at the start, so that no state is lost")
		}
		openIt(t, first.Breaker, s)
		if !woken() || outer.State() != backends.BreakerClosed {
			t.Errorf("state %s: want a wake when a member opens, and the other's state", outer.State())
		}
		openIt(t, second.Breaker, s2)
		if !woken() || outer.State() != backends.BreakerOpen {
			t.Errorf("state %s: want a wake when the last member opens, and open", outer.State())
		}
		if woken() {
			t.Error("want no wake while nothing changes")
		}
		stop()
		if n := len(*joint.changes.subscribers.Load()) + len(*first.Breaker.changes.subscribers.Load()); n != 0 {
			t.Errorf("%d still listen after the end", n)
		}
	})
}

func TestAJointChainLogsOnceThatItIsAwayAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		first, s := memberIn(t, "first", backends.BreakerClosed)
		second, s2 := memberIn(t, "second", backends.BreakerClosed)
		joint := joinedChain(backends.PolicyKeep, slog.New(slog.NewTextHandler(&out, nil)), first, second)
		stop := run(t, first, second, joint)
		openIt(t, first.Breaker, s)
		synctest.Wait()
		if out.Len() > 0 {
			t.Errorf("one of two is away, and it says:\n%s", out.String())
		}
		openIt(t, second.Breaker, s2)
		synctest.Wait()
		time.Sleep(DefaultBreakerConfig().OpenDuration + 2*time.Second) // half-open is still away
		for i := range 5 {
			_, _ = joint.Check(t.Context(), from(i))
			synctest.Wait()
		}
		stop()
		log := out.String()
		if strings.Count(log, "msg=\"backend unavailable\" backend=joint on_failure=keep") != 1 ||
			strings.Count(log, "msg=\"backend recovered\" backend=joint") != 1 || strings.Count(log, "\n") != 2 {
			t.Errorf("want one line when joint becomes unavailable and one when it recovers, got:\n%s", log)
		}
	})
}

// Asking is called once: by who decides here at once, by who joins others when the first of them is asked.
func TestTheCallerHearsOnceThatTheQuestionGoesOut(t *testing.T) {
	t.Parallel()
	const queue = 300 * time.Millisecond
	no := answering(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend})
	slow := func(ctx context.Context, r *backends.Request) (backends.Decision, error) {
		select {
		case <-time.After(queue):
			return no(ctx, r)
		case <-ctx.Done():
			return backends.Decision{}, ctx.Err()
		}
	}
	tests := map[string]struct {
		make  func() (c *Chain, busy *Chain)
		calls int32
		after time.Duration
	}{
		"decided here": {func() (*Chain, *Chain) {
			return NewLocal("users", backends.PolicyFromPreset, no, nil, Deps{}), nil
		}, 1, 0},
		"two members are asked": {func() (*Chain, *Chain) {
			unsure := answering(backends.Decision{})
			return joinedChain(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, unsure), newTestChain(backends.PolicyAllow, unsure)), nil
		}, 1, 0},
		"a joint member is asked": {func() (*Chain, *Chain) {
			return joinedChain(backends.PolicyAllow, nil, joinedChain(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, no))), nil
		}, 1, 0},
		"the member has it in its queue first": {func() (*Chain, *Chain) {
			cfg := DefaultConfig()
			cfg.Bulkhead.MaxInFlight = 1
			m := New("portal", cfg, backends.BackendFunc(slow), Deps{})
			return joinedChain(backends.PolicyAllow, nil, m), m
		}, 1, queue},
		"no member is asked": {func() (*Chain, *Chain) {
			return NewLocal("joint", backends.PolicyAllow, no, []*Chain{newTestChain(backends.PolicyAllow, no)}, Deps{}), nil
		}, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, busy := tt.make()
				if busy != nil {
					go func() { _, _ = busy.Check(t.Context(), from(2)) }()
					synctest.Wait()
				}
				var calls atomic.Int32
				started, after := time.Now(), time.Duration(0)
				r := from(1)
				r.OnSent = func() {
					calls.Add(1)
					after = time.Since(started)
				}
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != backends.Denied {
					t.Fatalf("got %s, error %v; want a no", d.Verdict, err)
				}
				if calls.Load() != tt.calls || after != tt.after {
					t.Errorf("called %d times, after %s; want %d after %s", calls.Load(), after, tt.calls, tt.after)
				}
				r.OnSent = nil
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != backends.Denied {
					t.Errorf("got %s, error %v from one who does not want to know; want a no", d.Verdict, err)
				}
			})
		})
	}
}

// The members may be asked at once; the caller's hook need not be fit for that.
func TestMembersThatAreAskedAtOnceCallTheCallersHookOnce(t *testing.T) {
	t.Parallel()
	both := backends.BackendFunc(func(_ context.Context, r *backends.Request) (backends.Decision, error) {
		var group sync.WaitGroup
		for range 16 {
			group.Go(r.OnSent)
		}
		group.Wait()
		return backends.Decision{Verdict: backends.Denied}, nil
	})
	c := NewLocal("joint", backends.PolicyAllow, both, []*Chain{newTestChain(backends.PolicyAllow, backends.BackendFunc(yes))}, Deps{})
	calls, r := 0, from(1)
	r.OnSent = func() { calls++ }
	_, _ = c.Check(t.Context(), r)
	if calls != 1 {
		t.Errorf("called %d times, want once", calls)
	}
	if r.OnSent(); calls != 2 {
		t.Error("the caller's request was changed")
	}
}

// What has no opinion is a No at the end of the line, and stays what it is for who joins it.
func TestNoOpinionIsSettledOnlyAtTheEnd(t *testing.T) {
	t.Parallel()
	const none = "no rule speaks for the viewer"
	tests := map[string]struct {
		said, settled backends.Decision
	}{
		"nothing":           {backends.Decision{}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: none}},
		"a reason is kept":  {backends.Decision{Reason: "no token"}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: "no token"}},
		"a no is a no":      {backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}, backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}},
		"a yes is a yes":    {backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal}, backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal}},
		"the user is named": {backends.Decision{UserID: "u1"}, backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: none, UserID: "u1"}},
	}
	for name, tt := range tests {
		for _, policy := range []backends.Policy{backends.PolicyAllow, backends.PolicyKeep, backends.PolicyDeny} {
			t.Run(name+" under "+policy.String(), func(t *testing.T) {
				t.Parallel()
				c := NewLocal("users", policy, answering(tt.said), nil, Deps{})
				for _, r := range []*backends.Request{from(1), running(1)} {
					d, err := c.Check(t.Context(), r)
					if diff := cmp.Diff(tt.settled, d); err != nil || diff != "" {
						t.Errorf("alone: error %v, decision (-want +got):\n%s", err, diff)
					}
					d, err = c.WithoutFailOpen().Check(t.Context(), r)
					if diff := cmp.Diff(tt.said, d); err != nil || diff != "" {
						t.Errorf("joined: error %v, decision (-want +got):\n%s", err, diff)
					}
				}
			})
		}
	}
}

// The outage policy is for who joins: a member's own is not asked, and an error is not settled.
func TestAMembersOwnPolicyDoesNotCountWhereItIsJoined(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		member, joint backends.Policy
		kind          backends.FailureKind
		unknown       string
		watching      string
	}{
		"a member that allows, joined under deny":  {backends.PolicyAllow, backends.PolicyDeny, backends.FailureTransport, "denied fail-open", "denied fail-open"},
		"a member that denies, joined under allow": {backends.PolicyDeny, backends.PolicyAllow, backends.FailureTransport, "allowed fail-open", "allowed cached"},
		"a member that denies, joined under keep":  {backends.PolicyDeny, backends.PolicyKeep, backends.FailureTransport, "failure", "allowed cached"},
		"a failure that he may have caused":        {backends.PolicyAllow, backends.PolicyAllow, backends.FailureStatus, "failure", "allowed cached"},
		"a preset decides where nobody says":       {backends.PolicyDeny, backends.PolicyFromPreset, backends.FailureTransport, "allowed fail-open", "allowed cached"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := joinedChain(tt.joint, nil, newTestChain(tt.member, fails(tt.kind)))
			for want, r := range map[string]*backends.Request{tt.unknown: from(1), tt.watching: running(1)} {
				got := "failure"
				if d, err := c.Check(t.Context(), r); err == nil {
					got = d.Verdict.String() + " " + d.Source.String()
				} else if backends.AsFailure(err) == nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if _, err := c.WithoutFailOpen().Check(t.Context(), from(1)); backends.AsFailure(err) == nil {
				t.Errorf("joined: got %v, want the failure", err)
			}
		})
	}
}

func TestALocalChainPassesOnWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, want := range []error{context.Canceled, backends.NewOverload("backends.portal.max_in_flight", 1)} {
		refused := backends.BackendFunc(func(context.Context, *backends.Request) (backends.Decision, error) { return backends.Decision{}, want })
		c := NewLocal("joint", backends.PolicyAllow, refused, nil, Deps{})
		if d, err := c.Check(t.Context(), from(1)); !errors.Is(err, want) || d != (backends.Decision{}) {
			t.Errorf("got %s and error %v, want %v", d.Verdict, err, want)
		}
	}
}

func TestLocalConfigValidate(t *testing.T) {
	t.Parallel()
	cfg := DefaultLocalConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the defaults are invalid: %v", err)
	}
	cfg.AnswerDeadline = 0
	if got, want := errorText(cfg.Validate()), "answer_deadline: 0s must be above 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkLocalChain(b *testing.B) {
	decider := NewLocal("users", backends.PolicyAllow, backends.BackendFunc(yes), nil, Deps{})
	joint := joinedChain(backends.PolicyAllow, nil, newTestChain(backends.PolicyAllow, backends.BackendFunc(yes)))
	for name, c := range map[string]*Chain{"decides": decider, "joins": joint} {
		b.Run(name, func(b *testing.B) {
			r := from(1)
			r.OnSent = func() {}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Check(b.Context(), r)
			}
		})
	}
}
