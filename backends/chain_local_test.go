package backends

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

	"github.com/google/go-cmp/cmp"
)

// firstOf asks its members one after the other and takes the first answer: the least that joining can be.
func firstOf(members ...Member) Backend {
	return BackendFunc(func(ctx context.Context, r *Request) (d Decision, err error) {
		for _, m := range members {
			if d, err = m.Backend.Check(ctx, r); err == nil && d.Verdict != Undecided {
				return d, nil
			}
		}
		return d, err
	})
}

// memberIn is a chain with a breaker in that state. It moves no further while its time stands still.
func memberIn(t *testing.T, name string, state BreakerState) (*Chain, *switchable) {
	t.Helper()
	s := &switchable{now: yes}
	c := NewChain(name, DefaultChainConfig(), s, ChainParts{Kind: "test"})
	if state != BreakerClosed {
		openIt(t, c.Breaker, s)
	}
	if state == BreakerHalfOpen {
		time.Sleep(DefaultBreakerConfig().OpenFor + time.Second) // within the test's bubble
		c.Breaker.cb.State()
	}
	if c.State() != state {
		t.Fatalf("got state %s, want %s", c.State(), state)
	}
	return c, s
}

func joinedChain(policy Policy, log *slog.Logger, members ...*Chain) *Chain {
	var joined []Member
	for _, m := range members {
		joined = append(joined, Member{Name: m.Name, Backend: m.Asking()})
	}
	return NewLocalChain("joint", policy, firstOf(joined...), members, ChainParts{Kind: "any", Log: log})
}

func TestTheStateOfAJointChainIsItsBestMembers(t *testing.T) {
	t.Parallel()
	const closed, half, open = BreakerClosed, BreakerHalfOpen, BreakerOpen
	tests := map[string]struct {
		members []BreakerState
		want    BreakerState
	}{
		"nobody to ask":            {nil, closed},
		"all are asked":            {[]BreakerState{closed, closed}, closed},
		"one is asked":             {[]BreakerState{open, half, closed}, closed},
		"one is tried":             {[]BreakerState{open, half}, half},
		"nobody is asked":          {[]BreakerState{open, open}, open},
		"one alone that is tried":  {[]BreakerState{half}, half},
		"one alone that is closed": {[]BreakerState{closed}, closed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var members []*Chain
				for _, state := range []BreakerState{half, open, closed} { // those that take time first
					for _, want := range tt.members {
						if want == state {
							c, _ := memberIn(t, "m", state)
							members = append(members, c)
						}
					}
				}
				c := joinedChain(PolicyAllow, nil, members...)
				outer := joinedChain(PolicyAllow, nil, c)
				for _, joint := range []*Chain{c, outer} {
					down := tt.want != closed
					if joint.State() != tt.want || joint.Down() != down || joint.FailOpen.Down() != down {
						t.Errorf("got state %s, down %t and %t; want %s, %t",
							joint.State(), joint.Down(), joint.FailOpen.Down(), tt.want, down)
					}
				}
			})
		})
	}
}

func TestALocalChainBesideAMemberKeepsTheJointChainUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away, _ := memberIn(t, "portal", BreakerOpen)
		users := NewLocalChain("users", PolicyOfPreset, answering(Decision{Verdict: Denied}), nil, ChainParts{})
		if c := joinedChain(PolicyAllow, nil, users, away); c.Down() {
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
		first, s := memberIn(t, "first", BreakerClosed)
		second, s2 := memberIn(t, "second", BreakerClosed)
		joint := joinedChain(PolicyAllow, nil, first, second)
		outer := joinedChain(PolicyAllow, nil, joint)
		stop := run(t, joint, outer)
		changed, done := outer.Changed()
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
		if !woken() || outer.State() != BreakerClosed {
			t.Errorf("state %s: want a wake when a member opens, and the other's state", outer.State())
		}
		openIt(t, second.Breaker, s2)
		if !woken() || outer.State() != BreakerOpen {
			t.Errorf("state %s: want a wake when the last member opens, and open", outer.State())
		}
		if woken() {
			t.Error("want no wake while nothing changes")
		}
		stop()
		if n := len(*joint.wakers.list.Load()) + len(*first.Breaker.wakers.list.Load()); n != 0 {
			t.Errorf("%d still listen after the end", n)
		}
	})
}

func TestAJointChainLogsOnceThatItIsAwayAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		first, s := memberIn(t, "first", BreakerClosed)
		second, s2 := memberIn(t, "second", BreakerClosed)
		joint := joinedChain(PolicyKeep, slog.New(slog.NewTextHandler(&out, nil)), first, second)
		stop := run(t, first, second, joint)
		openIt(t, first.Breaker, s)
		synctest.Wait()
		if out.Len() > 0 {
			t.Errorf("one of two is away, and it says:\n%s", out.String())
		}
		openIt(t, second.Breaker, s2)
		synctest.Wait()
		time.Sleep(DefaultBreakerConfig().OpenFor + 2*time.Second) // half-open is still away
		for i := range 5 {
			_, _ = joint.Check(t.Context(), from(i))
			synctest.Wait()
		}
		stop()
		log := out.String()
		if strings.Count(log, "msg=\"backend is away\" backend=joint on_failure=keep") != 1 ||
			strings.Count(log, "msg=\"backend is back\" backend=joint") != 1 || strings.Count(log, "\n") != 2 {
			t.Errorf("want it said once that joint is away and once that it is back, got:\n%s", log)
		}
	})
}

// Asking is called once: by who decides here at once, by who joins others when the first of them is asked.
func TestTheCallerHearsOnceThatTheQuestionGoesOut(t *testing.T) {
	t.Parallel()
	const queue = 300 * time.Millisecond
	no := answering(Decision{Verdict: Denied, Source: FromBackend})
	slow := func(ctx context.Context, r *Request) (Decision, error) {
		select {
		case <-time.After(queue):
			return no(ctx, r)
		case <-ctx.Done():
			return Decision{}, ctx.Err()
		}
	}
	tests := map[string]struct {
		make  func() (c *Chain, busy *Chain)
		calls int32
		after time.Duration
	}{
		"decided here": {func() (*Chain, *Chain) {
			return NewLocalChain("users", PolicyOfPreset, no, nil, ChainParts{}), nil
		}, 1, 0},
		"two members are asked": {func() (*Chain, *Chain) {
			unsure := answering(Decision{})
			return joinedChain(PolicyAllow, nil, newTestChain(PolicyAllow, unsure), newTestChain(PolicyAllow, unsure)), nil
		}, 1, 0},
		"a joint member is asked": {func() (*Chain, *Chain) {
			return joinedChain(PolicyAllow, nil, joinedChain(PolicyAllow, nil, newTestChain(PolicyAllow, no))), nil
		}, 1, 0},
		"the member has it in its queue first": {func() (*Chain, *Chain) {
			cfg := DefaultChainConfig()
			cfg.Bulkhead.MaxInFlight = 1
			m := NewChain("portal", cfg, BackendFunc(slow), ChainParts{})
			return joinedChain(PolicyAllow, nil, m), m
		}, 1, queue},
		"no member is asked": {func() (*Chain, *Chain) {
			return NewLocalChain("joint", PolicyAllow, no, []*Chain{newTestChain(PolicyAllow, no)}, ChainParts{}), nil
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
				r.Asking = func() {
					calls.Add(1)
					after = time.Since(started)
				}
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != Denied {
					t.Fatalf("got %s, error %v; want a no", d.Verdict, err)
				}
				if calls.Load() != tt.calls || after != tt.after {
					t.Errorf("called %d times, after %s; want %d after %s", calls.Load(), after, tt.calls, tt.after)
				}
				r.Asking = nil
				if d, err := c.Check(t.Context(), r); err != nil || d.Verdict != Denied {
					t.Errorf("got %s, error %v from one who does not want to know; want a no", d.Verdict, err)
				}
			})
		})
	}
}

// The members may be asked at once; the caller's hook need not be fit for that.
func TestMembersThatAreAskedAtOnceCallTheCallersHookOnce(t *testing.T) {
	t.Parallel()
	both := BackendFunc(func(_ context.Context, r *Request) (Decision, error) {
		var group sync.WaitGroup
		for range 16 {
			group.Go(r.Asking)
		}
		group.Wait()
		return Decision{Verdict: Denied}, nil
	})
	c := NewLocalChain("joint", PolicyAllow, both, []*Chain{newTestChain(PolicyAllow, BackendFunc(yes))}, ChainParts{})
	calls, r := 0, from(1)
	r.Asking = func() { calls++ }
	_, _ = c.Check(t.Context(), r)
	if calls != 1 {
		t.Errorf("called %d times, want once", calls)
	}
	if r.Asking(); calls != 2 {
		t.Error("the caller's request was changed")
	}
}

// What has no opinion is a No at the end of the line, and stays what it is for who joins it.
func TestNoOpinionIsSettledOnlyAtTheEnd(t *testing.T) {
	t.Parallel()
	const none = "no rule speaks for the viewer"
	tests := map[string]struct {
		said, settled Decision
	}{
		"nothing":           {Decision{}, Decision{Verdict: Denied, Source: FromRule, Reason: none}},
		"a reason is kept":  {Decision{Reason: "no token"}, Decision{Verdict: Denied, Source: FromRule, Reason: "no token"}},
		"a no is a no":      {Decision{Verdict: Denied, Source: FromBackend}, Decision{Verdict: Denied, Source: FromBackend}},
		"a yes is a yes":    {Decision{Verdict: Allowed, Source: FromRule}, Decision{Verdict: Allowed, Source: FromRule}},
		"the user is named": {Decision{UserID: "u1"}, Decision{Verdict: Denied, Source: FromRule, Reason: none, UserID: "u1"}},
	}
	for name, tt := range tests {
		for _, policy := range []Policy{PolicyAllow, PolicyKeep, PolicyDeny} {
			t.Run(name+" under "+policy.String(), func(t *testing.T) {
				t.Parallel()
				c := NewLocalChain("users", policy, answering(tt.said), nil, ChainParts{})
				for _, r := range []*Request{from(1), running(1)} {
					d, err := c.Check(t.Context(), r)
					if diff := cmp.Diff(tt.settled, d); err != nil || diff != "" {
						t.Errorf("alone: error %v, decision (-want +got):\n%s", err, diff)
					}
					d, err = c.Asking().Check(t.Context(), r)
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
		member, joint Policy
		kind          FailureKind
		unknown       string
		watching      string
	}{
		"a member that allows, joined under deny":  {PolicyAllow, PolicyDeny, FailureTransport, "denied fail-open", "denied fail-open"},
		"a member that denies, joined under allow": {PolicyDeny, PolicyAllow, FailureTransport, "allowed fail-open", "allowed last-known"},
		"a member that denies, joined under keep":  {PolicyDeny, PolicyKeep, FailureTransport, "failure", "allowed last-known"},
		"a failure that he may have caused":        {PolicyAllow, PolicyAllow, FailureStatus, "failure", "allowed last-known"},
		"a preset decides where nobody says":       {PolicyDeny, PolicyOfPreset, FailureTransport, "allowed fail-open", "allowed last-known"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := joinedChain(tt.joint, nil, newTestChain(tt.member, fails(tt.kind)))
			for want, r := range map[string]*Request{tt.unknown: from(1), tt.watching: running(1)} {
				got := "failure"
				if d, err := c.Check(t.Context(), r); err == nil {
					got = d.Verdict.String() + " " + d.Source.String()
				} else if AsFailure(err) == nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if _, err := c.Asking().Check(t.Context(), from(1)); AsFailure(err) == nil {
				t.Errorf("joined: got %v, want the failure", err)
			}
		})
	}
}

func TestALocalChainPassesOnWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, want := range []error{context.Canceled, &Overload{Setting: "backends.portal.max_in_flight", Value: 1}} {
		refused := BackendFunc(func(context.Context, *Request) (Decision, error) { return Decision{}, want })
		c := NewLocalChain("joint", PolicyAllow, refused, nil, ChainParts{})
		if d, err := c.Check(t.Context(), from(1)); !errors.Is(err, want) || d != (Decision{}) {
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
	decider := NewLocalChain("users", PolicyAllow, BackendFunc(yes), nil, ChainParts{})
	joint := joinedChain(PolicyAllow, nil, newTestChain(PolicyAllow, BackendFunc(yes)))
	for name, c := range map[string]*Chain{"decides": decider, "joins": joint} {
		b.Run(name, func(b *testing.B) {
			r := from(1)
			r.Asking = func() {}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Check(b.Context(), r)
			}
		})
	}
}
